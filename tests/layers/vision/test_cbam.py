import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from layers.vision.test_channel_attention import reference_gate as channel_gate
from layers.vision.test_spatial_attention import reference_gate as spatial_gate
from support.arrays import numpy
from support.vision import build
from support.vision import draw_weights
from support.vision import image

SHAPE = (3, 7, 5, 11)


def reference(x, layer, training=False):
    """Equation 1 of arXiv:1807.06521: first the channels, then positions."""
    x = x.astype("float64")
    x = x * channel_gate(x, layer.channel_attention)
    if not layer.use_spatial:
        return x
    return x * spatial_gate(x, layer.spatial_attention, training)


VARIANTS = {
    "paper": {},
    "pools": {"pool_types": ("lp", "lse")},
    "kernel": {"kernel_size": 3},
    "channel": {"use_spatial": False},
}
variants = pytest.mark.parametrize("variant", VARIANTS)


@variants
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(variant, training):
    x = image(SHAPE)
    layer = build(ka.CBAM(3, **VARIANTS[variant]), SHAPE)
    expected = reference(x, layer, training)
    np.testing.assert_allclose(
        numpy(layer(x, training=training)), expected, rtol=1e-5, atol=1e-5
    )


def test_options_reach_the_sublayers():
    layer = ka.CBAM(
        3,
        ("max", "lse"),
        5,
        gamma_initializer="ones",
        kernel_initializer=keras.initializers.HeUniform(),
        kernel_regularizer="l2",
        data_format="channels_first",
    )
    layer.build((None, 11, 7, 5))
    channel, spatial = layer.channel_attention, layer.spatial_attention
    assert (channel.ratio, channel.pool_types) == (3, ("max", "lse"))
    assert spatial.kernel_size == 5
    assert numpy(spatial.norm.gamma) == 1
    for part in (channel, spatial):
        assert part.data_format == "channels_first"
        assert isinstance(part.kernel_initializer, keras.initializers.HeUniform)
        assert isinstance(part.kernel_regularizer, keras.regularizers.L2)
    assert len(layer.losses) == 3


def test_without_the_spatial_gate_there_is_no_weight_for_it():
    layer = ka.CBAM(3, use_spatial=False)
    layer.build(SHAPE)
    assert not hasattr(layer, "spatial_attention")
    assert len(layer.weights) == 4
    assert layer.compute_gate(image(SHAPE)).shape == (3, 1, 1, 11)


def test_gates_of_both_kinds_can_be_tapped():
    inputs = keras.Input((7, 5, 11))
    layer = ka.CBAM(3, name="cbam")
    model = keras.Model(inputs, layer(inputs))
    draw_weights(layer)
    x = image(SHAPE)
    taps = ["cbam:gate"] + [
        f"cbam/{part}_attention:gate" for part in ("channel", "spatial")
    ]
    y, values = read_outputs(model, x, taps)
    whole, channel, spatial = (numpy(values[tap]) for tap in taps)
    assert channel.shape == (3, 1, 1, 11) and spatial.shape == (3, 7, 5, 1)
    np.testing.assert_allclose(channel * spatial, whole, rtol=1e-6)
    np.testing.assert_allclose(numpy(y), x * whole, rtol=1e-5, atol=1e-6)
    _, parts = read_outputs(model, x, taps[1:])
    for tap, expected in zip(taps[1:], (channel, spatial), strict=True):
        np.testing.assert_allclose(numpy(parts[tap]), expected, rtol=1e-6)


@pytest.mark.parametrize(("channels", "count"), [(256, 8_564), (64, 680)])
def test_number_of_parameters(channels, count):
    layer = ka.CBAM()
    layer.build((None, None, None, channels))
    trainable = [w.shape for w in layer.trainable_weights]
    assert sum(map(np.prod, trainable)) == count


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ratio": 0}, ValueError),
        ({"ratio": 2.0}, TypeError),
        ({"pool_types": "max"}, TypeError),
        ({"pool_types": ("mean",)}, ValueError),
        ({"kernel_size": 6}, ValueError),
        ({"use_spatial": 1}, TypeError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.CBAM(**arguments)
