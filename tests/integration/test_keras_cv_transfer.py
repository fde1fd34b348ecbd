"""Attention transfer from KerasCV's backbones, in a classifier or bare."""

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from support.distillation import assert_same
from support.distillation import weights

pytestmark = pytest.mark.tensorflow


def backbone(filters, blocks, seed):
    import keras_cv

    keras.utils.set_random_seed(seed)
    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, filters],
        stackwise_blocks=[blocks, blocks],
        stackwise_strides=[1, 2],
        input_shape=(32, 32, 3),
        block_type="basic_block",
        include_rescaling=False,
    )


def classifier(body):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(body(inputs))
    return keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x))


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
def test_student_learns_from_a_backbone(wrapped):
    student, teacher = backbone(6, 1, seed=0), backbone(8, 2, seed=1)
    before, extra = weights(teacher), {}
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 3))
    data = [x.astype("float32")]
    if wrapped:
        student, teacher = classifier(student), classifier(teacher)
        before = weights(teacher)
        data.append(np.arange(4))
        extra = {"loss": "sparse_categorical_crossentropy"}
    model = AttentionTransferModel(
        student, teacher, alpha=0.5 if wrapped else 0.0
    )
    assert [pair.student_size for pair in model.pairs] == [(8, 8), (4, 4)]
    model.compile(keras.optimizers.SGD(1e-4), **extra, run_eagerly=True)
    history = model.fit(*data, epochs=3, verbose=0, shuffle=False).history
    losses = history["attention_loss"]
    assert losses[-1] < losses[0]
    assert_same(weights(teacher), before)
