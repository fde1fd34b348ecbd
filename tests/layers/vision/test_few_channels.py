"""Few channels, gates that are asked for early, and other dtypes."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.layers.registry import ATTENTION_LAYERS
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.weighted_layer import bottleneck_width
from support.arrays import numpy

BOTTLENECKS = {
    ka.BAM: {},
    ka.CBAM: {},
    ka.ChannelAttention: {},
    ka.ConcurrentSqueezeExcite: {},
    ka.ContextualTransformer: {"groups": 1, "shared_channels": 1},
    ka.CoordinateAttention: {"min_units": 1},
    ka.FrequencyChannelAttention: {"frequencies": 1},
    ka.GatherExcite: {"learned_excite": True},
    ka.GlobalContext: {},
    ka.Involution: {"group_channels": 1},
    ka.PyramidSqueezeAttention: {
        "kernel_sizes": (1, 3, 5),
        "groups": (1, 1, 1),
    },
    ka.SelectiveKernel: {"min_units": 1, "groups": 1},
    ka.SplitAttention: {"min_units": 1, "radix": 3},
    ka.SqueezeExcite: {},
}
GATES = sorted(
    {c for c in ATTENTION_LAYERS.values() if issubclass(c, BaseGate)},
    key=lambda c: c.__name__,
)


def image(channels):
    generator = np.random.default_rng(0)
    return generator.normal(size=(2, 9, 7, channels)).astype("float32")


def test_every_layer_with_a_ratio_is_here():
    layers = set(ATTENTION_LAYERS.values())
    assert {c for c in layers if "ratio" in c().get_config()} == set(
        BOTTLENECKS
    )


@pytest.mark.parametrize("layer", BOTTLENECKS, ids=lambda c: c.__name__)
def test_a_ratio_above_the_channels_leaves_a_unit(layer):
    x = image(3)
    made = layer(ratio=16, **BOTTLENECKS[layer])
    y = numpy(made(x))
    assert np.isfinite(y).all()
    assert all(0 not in weight.shape for weight in made.weights)


def test_the_paper_is_kept_where_it_has_a_width():
    widths = [bottleneck_width(channels, 16) for channels in (64, 31, 16, 8)]
    assert widths == [4, 1, 1, 1]
    assert bottleneck_width(16, 16, minimum=2) == 2
    layer = ka.SqueezeExcite(16)
    layer.build((None, None, None, 64))
    assert layer.reduce.units == 4


@pytest.mark.parametrize("gate", GATES, ids=lambda c: c.__name__)
def test_the_gate_of_a_layer_that_is_not_built(gate):
    x = image(64)  # The groups of some defaults divide them.
    layer = gate()
    y = layer.compute_gate(x)
    assert layer.built
    assert np.broadcast_shapes(tuple(y.shape), x.shape) == x.shape
    np.testing.assert_array_equal(numpy(y), numpy(layer.compute_gate(x)))


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16"])
@pytest.mark.parametrize("gate", GATES, ids=lambda c: c.__name__)
def test_the_gate_of_an_image_of_another_dtype(gate, dtype):
    """It is cast as `call` casts it."""
    layer, x = gate(dtype=dtype), image(64)
    y = layer.compute_gate(x)
    cast = keras.ops.cast(x, layer.compute_dtype)
    np.testing.assert_array_equal(numpy(y), numpy(layer.compute_gate(cast)))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [("float32", "mixed_float16"), ("mixed_bfloat16", "float32")],
)
def test_blend_in_of_another_dtype(outer, inner):
    layer = ka.BlendIn(ka.SqueezeExcite(4, dtype=inner), dtype=outer)
    x = image(8)
    y = layer(x)
    compute = keras.dtype_policies.get(outer).compute_dtype
    assert keras.backend.standardize_dtype(y.dtype) == compute
    layer.alpha.assign(1.0)
    expected = numpy(ka.SqueezeExcite.call(layer.layer, x))
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=2e-2)
