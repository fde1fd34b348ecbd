import keras
import numpy as np
import pytest
from keras import layers

import keras_attention as ka
from keras_attention.models import ResNet
from support.arrays import numpy
from support.surgery import gate
from support.surgery import image
from support.surgery import small_resnet


@pytest.mark.parametrize("preserve_outputs", [False, True])
@pytest.mark.parametrize("at", ["residual", "stage", "conv"])
def test_gives_back_the_original(at, preserve_outputs):
    model = small_resnet()
    gated = ka.insert_attention(model, gate, at, preserve_outputs)
    plain = ka.remove_attention(gated)
    assert [layer.name for layer in plain.layers] == [
        layer.name for layer in model.layers
    ]
    x = image()
    np.testing.assert_array_equal(numpy(plain(x)), numpy(model(x)))
    assert len(gated.layers) > len(model.layers)  # Untouched.


def test_layers_of_another_library_after_loading(tmp_path):
    model = small_resnet()
    gated = ka.insert_attention(model, layers.LayerNormalization, "stage")
    gated = ka.insert_attention(gated, layers.UnitNormalization, "stage")
    gated.save(tmp_path / "model.keras")
    plain = ka.remove_attention(
        keras.saving.load_model(tmp_path / "model.keras")
    )
    x = image()
    np.testing.assert_array_equal(numpy(plain(x)), numpy(model(x)))


def test_nested_and_sequential():
    chain = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            ka.SqueezeExcite(ratio=2),
            layers.Conv2D(4, 3, name="conv"),
            ka.SqueezeExcite(ratio=2),
        ],
        name="chain",
    )
    inputs = keras.Input((8, 8, 4))
    plain = ka.remove_attention(keras.Model(inputs, chain(inputs)))
    inner = plain.get_layer("chain")
    assert [layer.name for layer in inner.layers] == ["conv"]
    x = image((2, 8, 8, 4))
    np.testing.assert_array_equal(
        numpy(plain(x)), numpy(chain.get_layer("conv")(x))
    )


@pytest.mark.slow
def test_own_networks():
    gated = ResNet(18, "squeeze_excite", input_shape=(32, 32, 3), classes=2)
    plain = ka.remove_attention(gated)
    same = ResNet(18, input_shape=(32, 32, 3), classes=2)
    assert [layer.name for layer in plain.layers] == [
        layer.name for layer in same.layers
    ]
    assert plain.count_params() == same.count_params()


def test_other_layers_stay():
    """Neither a name alone nor a change of shape is taken for an insertion."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    x = layers.ReLU(name="self_attention")(x)
    x = layers.Conv2D(6, 1, name="self_attention_attention")(x)
    model = keras.Model(inputs, x)
    with pytest.raises(ValueError, match="no attention to remove"):
        ka.remove_attention(model)


def test_attention_of_each_frame_is_removed():
    """In a wrapper; what stays inside another layer is named."""
    inputs = keras.Input((5, 7, 9, 4))
    x = layers.TimeDistributed(ka.SqueezeExcite(ratio=2))(inputs)
    plain = ka.remove_attention(keras.Model(inputs, layers.ReLU()(x)))
    assert plain.count_params() == 0
    frame = keras.Sequential(
        [keras.Input((7, 9, 4)), ka.SqueezeExcite(ratio=2, name="gate")],
        name="frame",
    )
    x = layers.TimeDistributed(frame, name="frames")(x)
    with pytest.warns(UserWarning, match="stays inside.*'frames/frame/gate'"):
        plain = ka.remove_attention(keras.Model(inputs, x))
    assert plain.count_params() == frame.count_params()
    with pytest.raises(ValueError, match="in its graph.*'frames/frame/gate'"):
        ka.remove_attention(plain)
