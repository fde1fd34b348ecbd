"""Attention transfer between models of KerasHub."""

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def keras_hub():
    return pytest.importorskip(
        "keras_hub", reason="needs the extra 'keras-hub'"
    )


def test_backbones_of_images(keras_hub):
    def classifier(filters, blocks):
        body = keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[3],
            stackwise_num_filters=[64, filters],
            stackwise_num_blocks=[blocks, blocks],
            stackwise_num_strides=[1, 2],
            block_type="basic_block",
            image_shape=(32, 32, 3),
        )
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.GlobalAveragePooling2D()(body(inputs))
        x = keras.layers.Dense(5, activation="softmax")(x)
        return keras.Model(inputs, x)

    model = AttentionTransferModel(
        classifier(30, 1), classifier(50, 2), alpha=0.5
    )
    assert [pair.student_size for pair in model.pairs] == [(8, 8), (4, 4)]
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 3))
    history = model.fit(x, np.arange(4), verbose=0).history
    assert history["attention_loss"][0] > 0
    assert history["distillation_loss"][0] > 0


# Without labels, nothing after the last scores has a gradient, as Keras says.
@pytest.mark.filterwarnings(r"ignore:(.|\n)*Gradients do not exist:UserWarning")
def test_heads_of_text_encoders(keras_hub):
    def encoder(width):
        return keras_hub.models.BertBackbone(
            vocabulary_size=20,
            num_layers=2,
            num_heads=2,
            hidden_dim=width,
            intermediate_dim=13,
            max_sequence_length=7,
        )

    model = AttentionTransferModel(encoder(6), encoder(10), pairs="scores")
    assert [pair.student for pair in model.pairs] == [
        f"transformer_layer_{n}/self_attention_layer:scores" for n in range(2)
    ]
    model.compile("sgd", run_eagerly=True)
    tokens = np.ones((3, 7), "int32")
    x = {
        "token_ids": tokens,
        "segment_ids": 0 * tokens,
        "padding_mask": tokens,
    }
    history = model.fit(x, verbose=0).history
    assert history["attention_loss"][0] > 0
