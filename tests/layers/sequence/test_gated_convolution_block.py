import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.convolutions import convolve
from support.convolutions import decode
from support.convolutions import decode_after_prompts
from support.convolutions import randomize
from support.convolutions import sequence

SHAPE = (2, 11, 15)


def build(**arguments):
    layer = ka.GatedConvolutionBlock(3, 5, **arguments)
    layer.build((None, None, 15))
    return randomize(layer)


def reference(layer, x, mask, causal=False):
    """Figure 2 of arXiv:1901.10430."""
    w1, b1 = map(numpy, layer.expand.weights)
    w2, b2 = map(numpy, layer.project.weights)
    (filters,) = map(numpy, layer.mixer.weights)
    z = x.astype("float64") @ w1 + b1
    if layer.glu:
        z = z[..., :15] / (1 + np.exp(-z[..., 15:]))
    if layer.convolution == "dynamic":
        filters = (z @ filters).reshape(*x.shape[:2], 3, 5)
    return convolve(z, filters, causal, mask) @ w2 + b2


@pytest.mark.parametrize("convolution", ["lightweight", "dynamic"])
@pytest.mark.parametrize("glu", [True, False])
def test_equals_the_paper(glu, convolution):
    x = sequence(*SHAPE)
    mask = np.arange(11) < np.array([[8], [11]])
    layer = build(glu=glu, convolution=convolution)
    np.testing.assert_allclose(
        numpy(layer(x, mask=mask))[mask],
        reference(layer, x, mask)[mask],
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize(
    "convolution, glu, count",
    [
        ("lightweight", True, 3_149_296),
        ("lightweight", False, 2_099_696),
        ("dynamic", True, 3_656_704),
        ("dynamic", False, 2_607_104),
    ],
)
def test_number_of_parameters(convolution, glu, count):
    block = ka.GatedConvolutionBlock(16, 31, convolution, glu)
    block.build((None, None, 1024))
    assert block.count_params() == count


@pytest.mark.parametrize("convolution", ["lightweight", "dynamic"])
def test_decoding_equals_the_full_pass(convolution):
    x = sequence(3, 11, 15)
    layer = build(convolution=convolution, causal=True)
    full = numpy(layer(x))
    np.testing.assert_allclose(
        decode(layer, x, [3, 1, 7]), full, rtol=1e-4, atol=1e-4
    )
    lengths = (5, 2, 4)
    rows = decode_after_prompts(layer, x, lengths, tokens=4)
    for row, length, expected in zip(rows, lengths, full, strict=True):
        np.testing.assert_allclose(
            row, expected[: length + 4], rtol=1e-4, atol=1e-4
        )


def test_options_reach_the_convolution():
    default = build(convolution="dynamic").mixer
    assert not default.shared_dropout
    arguments = {
        "causal": True,
        "weight_softmax": True,
        "weight_dropout": 0.25,
        "shared_dropout": False,
        "renormalize_padding": True,
    }
    mixer = build(**arguments).mixer
    assert {name: getattr(mixer, name) for name in arguments} == arguments
    assert not build(weight_softmax=False).mixer.weight_softmax


def test_dropouts():
    """All inputs dropped leave the biases; so do all outputs, and zeros."""
    x = np.ones((2, 500, 15), "float32")
    for name in ("input_dropout", "dropout"):
        layer = build(**{name: 0.5}, seed=3)
        y = [numpy(layer(x, training=True)) for _ in range(2)]
        assert (y[0] != y[1]).any()
        share = (y[0] == 0).mean()
        assert (0.4 < share < 0.6) if name == "dropout" else share == 0
        np.testing.assert_array_equal(numpy(layer(x)), numpy(layer(x)))


def test_bad_arguments():
    for name in ("input_dropout", "dropout"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            ka.GatedConvolutionBlock(3, 5, **{name: 1.0})
    with pytest.raises(ValueError, match="Did you mean 'dynamic'"):
        ka.GatedConvolutionBlock(3, 5, convolution="dynamics")
    with pytest.raises(TypeError, match="`glu`"):
        ka.GatedConvolutionBlock(3, 5, glu=1)


@pytest.mark.parametrize("convolution", ["lightweight", "dynamic"])
def test_a_mask_in_a_functional_model(convolution):
    x, mask = keras.Input((7, 8)), keras.Input((7,), dtype="bool")
    layer = ka.GatedConvolutionBlock(2, 3, convolution)
    assert tuple(layer(x, mask=mask).shape) == (None, 7, 8)
