import keras
import numpy as np
import pytest
from keras import layers

import keras_attention as ka
from keras_attention import inspection
from keras_attention.inspection import attention_layers
from keras_attention.models import TransformerLanguageModel
from keras_attention.models import WideResNet


def backbone():
    inputs = keras.Input((8, 8, 6))
    x = layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    x = ka.CBAM(2, name="cbam")(x)
    return keras.Model(inputs, layers.Add(name="sum")([inputs, x]), name="body")


def outer(inner):
    inputs = keras.Input((8, 8, 6))
    x = layers.Conv2D(6, 1, name="head")(inner(inputs))
    return keras.Model(inputs, x, name="outer")


def names(model):
    return [layer.name for layer in attention_layers(model)]


def test_at_every_depth_and_without_their_parts():
    deepest = outer(outer(backbone()))
    assert names(backbone()) == ["cbam"]
    assert names(deepest) == ["cbam"]


def test_inserted_layers_of_any_class():
    model = outer(backbone())
    gated = ka.insert_attention(
        model, layers.LayerNormalization, ["body/sum"], preserve_outputs=False
    )
    gated = ka.insert_attention(
        gated, "eca", ["body/conv"], preserve_outputs=True
    )
    assert names(gated) == ["conv_attention", "cbam", "sum_attention"]
    assert isinstance(attention_layers(gated)[0], ka.BlendIn)


def test_shared_layers_once_and_derived_classes():
    class Mine(ka.SqueezeExcite):
        pass

    gate = Mine(2, name="mine")
    inputs = keras.Input((8, 8, 6))
    model = keras.Model(inputs, gate(gate(inputs)))
    assert attention_layers(model) == [gate]


def test_subclassed_and_sequence_models():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = backbone()

        def call(self, x):
            return self.body(x)

    assert names(Net()) == ["cbam"]
    model = TransformerLanguageModel(
        9, width=6, num_blocks=2, num_heads=3, feed_forward_dim=8
    )
    model(np.ones((1, 4), "int32"))
    found = attention_layers(model)
    assert len(found) == 2
    assert all(isinstance(layer, ka.MultiHeadAttention) for layer in found)


@pytest.mark.parametrize("wrong", [None, "model.keras", keras.Model, [1]])
@pytest.mark.parametrize(
    "function",
    [
        attention_layers,
        inspection.list_layers,
        inspection.stages,
        inspection.residual_blocks,
        inspection.layer_outputs,
        lambda model: list(inspection.walk_layers(model)),
        lambda model: inspection.find_layer(model, "conv"),
    ],
)
def test_what_is_no_model_is_refused(function, wrong):
    with pytest.raises(TypeError, match="must be a Keras model"):
        function(wrong)


def test_none():
    assert attention_layers(WideResNet(10, 1, input_shape=(8, 8, 3))) == []
