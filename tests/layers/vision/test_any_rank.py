"""Layers that take sequences and volumes as well as images."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import record_outputs
from support.arrays import numpy
from support.vision import vjp

GENERATOR = np.random.default_rng(0)
# The arrangement of the positions is nothing to these.
POINTWISE = [
    ka.SqueezeExcite,
    ka.EffectiveSqueezeExcite,
    ka.EfficientChannelAttention,
    ka.SpatialSqueezeExcite,
    ka.ConcurrentSqueezeExcite,
    ka.GatedChannelTransformation,
    ka.SimAM,
    ka.ChannelAttention,
    lambda **kwargs: ka.GlobalContext(ratio=2, **kwargs),
    lambda **kwargs: ka.NonLocal(sub_sample=False, **kwargs),
]
pointwise = pytest.mark.parametrize(
    "make", POINTWISE, ids=lambda make: getattr(make, "__name__", "other")
)
SEQUENCES = [*POINTWISE, lambda: ka.CBAM(gamma_initializer="ones"), ka.NonLocal]


def draw(shape):
    return GENERATOR.normal(size=shape).astype("float32")


def copy_weights(layer, other):
    """Draw the weights of one, and give the other the same."""
    for variable, of_other in zip(layer.weights, other.weights, strict=True):
        value = np.abs(draw(variable.shape)) + 0.1
        variable.assign(value)
        of_other.assign(value.reshape(of_other.shape))


@pointwise
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("sizes", [(11,), (3, 5, 7), (13, 1, 1)], ids=str)
def test_it_is_the_image_of_the_same_positions(make, sizes, first):
    data_format = "channels_first" if first else "channels_last"
    layer, of_image = (make(data_format=data_format) for _ in range(2))
    x = draw((2, *((12, *sizes) if first else (*sizes, 12))))
    height = (sizes[0], int(np.prod(sizes[1:])))
    image = x.reshape(2, *((12, *height) if first else (*height, 12)))
    layer.build(x.shape)
    of_image.build(image.shape)
    copy_weights(layer, of_image)
    y = numpy(layer(x))
    assert y.shape == x.shape
    expected = numpy(of_image(image)).reshape(x.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    upstream = draw(x.shape)
    expected = numpy(vjp(of_image, image, upstream.reshape(image.shape)))
    found = numpy(vjp(layer, x, upstream))
    np.testing.assert_allclose(
        found, expected.reshape(x.shape), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("sizes", [(9,), (3, 5, 4)], ids=str)
def test_spatial_gate_of_cbam(sizes):
    """A convolution over as many axes as there are, against NumPy."""
    layer = ka.SpatialAttention(kernel_size=3, gamma_initializer="ones")
    x = draw((2, *sizes, 6))
    layer.build(x.shape)
    kernel = draw((*(3 for _ in sizes), 2, 1))
    layer.convolution.kernel.assign(kernel)
    pooled = np.stack([x.max(-1), x.mean(-1)], axis=-1).astype("float64")
    padded = np.pad(pooled, [(0, 0), *((1, 1) for _ in sizes), (0, 0)])
    logits = np.zeros((2, *sizes))
    for tap in np.ndindex(*(3 for _ in sizes)):
        part = padded[
            (
                slice(None),
                *(slice(t, t + s) for t, s in zip(tap, sizes, strict=True)),
            )
        ]
        logits += (part * kernel[tap][:, 0]).sum(-1)
    expected = 1 / (1 + np.exp(-logits / np.sqrt(1 + 1e-5)))
    gate = numpy(layer.compute_gate(x))
    np.testing.assert_allclose(gate[..., 0], expected, rtol=1e-5)
    np.testing.assert_allclose(numpy(layer(x)), x * gate, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(7,), (5, 2, 1)], ids=str)
def test_pairs_that_non_local_attends_to(sizes):
    layer = ka.NonLocal(mode="gaussian")
    x = draw((2, *sizes, 4))
    _, scores = layer(x, return_attention_scores=True)
    pooled = x
    for axis, size in enumerate(sizes, 1):
        even = np.take(pooled, range(0, max(size // 2 * 2, 1), 2), axis)
        odd = np.take(pooled, range(min(1, size - 1), size, 2), axis)
        pooled = np.maximum(even, odd[tuple(map(slice, even.shape))])
    keys, queries = pooled.reshape(2, -1, 4), x.reshape(2, -1, 4)
    logits = np.exp(np.einsum("bnc,bmc->bnm", queries, keys))
    expected = logits / logits.sum(-1, keepdims=True)
    np.testing.assert_allclose(numpy(scores), expected, rtol=1e-4, atol=1e-6)
    spec = layer.compute_output_spec(
        keras.KerasTensor(x.shape), return_attention_scores=True
    )
    assert tuple(spec[1].shape) == expected.shape


def test_masked_pairs_have_no_score():
    layer = ka.NonLocal()
    x = draw((2, 7, 4))
    mask = np.ones((2, 7), bool)
    mask[0, 2:4] = mask[1, 3:] = False
    x[~mask] = np.nan
    y, scores = layer(x, mask=mask, return_attention_scores=True)
    assert np.isfinite(numpy(y)).all()
    is_zero = numpy(scores)[:, 0] == 0
    np.testing.assert_array_equal(
        is_zero, [[False, True, False], [False, False, True]]
    )
    np.testing.assert_allclose(numpy(scores).sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "make", SEQUENCES, ids=lambda make: getattr(make, "__name__", "other")
)
def test_padding_has_no_part_in_training(make):
    """Not in outputs, and not in the moving statistics."""
    padded, plain = make(), make()
    x = draw((2, 12, 8))
    mask = np.zeros((2, 12), bool)
    mask[:, :8] = True
    padded.build(x.shape)
    plain.build(x.shape)
    copy_weights(padded, plain)
    given = np.where(mask[..., None], x, np.float32(np.nan))
    y = numpy(padded(given, mask=mask, training=True))[:, :8]
    expected = numpy(plain(x[:, :8], training=True))
    # Keras adds its epsilon to the number of positions.
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(padded.weights, plain.weights, strict=True):
        np.testing.assert_allclose(
            numpy(ours), numpy(theirs), rtol=1e-4, atol=1e-5
        )


def test_a_recorded_gate_knows_the_mask():
    tokens = np.array([[1, 2, 3, 0, 0], [3, 1, 2, 2, 1]])
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(4, 6, mask_zero=True),
            ka.SqueezeExcite(2, name="gate"),
        ]
    )
    with record_outputs(model, ["gate:gate"]) as values:
        model(tokens)
    short = model.layers[0](tokens[:1, :3])
    expected = model.layers[1].compute_gate(short)
    np.testing.assert_allclose(
        numpy(values["gate:gate"])[:1], numpy(expected), rtol=1e-5
    )


def test_blend_in_of_a_masked_sequence():
    """What is masked does not reach its alpha, which is trained first."""
    layer = ka.BlendIn(ka.SqueezeExcite(2))
    x = draw((2, 5, 4))
    mask = np.ones((2, 5), bool)
    mask[:, 3:] = False
    layer.build(x.shape)
    layer.alpha.assign(0.5)
    expected = numpy(layer(x, mask=mask))[mask]
    x[~mask] = np.nan
    y = numpy(layer(x, mask=mask))
    np.testing.assert_allclose(y[mask], expected, rtol=1e-5)
    upstream = np.where(mask[..., None], np.ones_like(x), 0)
    assert np.isfinite(numpy(vjp(lambda x: layer(x, mask=mask), x, upstream)))[
        mask
    ].all()


@pytest.mark.parametrize("make", [ka.SqueezeExcite, ka.CBAM, ka.GlobalContext])
@pytest.mark.parametrize("length", [1, 2])
def test_short_sequences(make, length):
    layer = make()
    assert np.isfinite(numpy(layer(draw((1, length, 4))))).all()
    mask = np.zeros((1, length), bool)
    y = layer(np.full((1, length, 4), np.nan, "float32"), mask=mask)
    assert np.isfinite(numpy(y)).all()


def test_wrong_inputs():
    for shape in ((2, 4), (2, 3, 3, 3, 3, 4)):
        with pytest.raises(ValueError, match="rank 3, 4 or 5"):
            ka.SqueezeExcite().build(shape)
    layer = ka.SqueezeExcite()
    layer(draw((2, 3, 4)))
    with pytest.raises(ValueError, match="expected ndim=3"):
        layer(draw((2, 3, 3, 4)))
    for mask in (np.ones((2, 4), bool), np.ones((2, 3, 1), bool)):
        with pytest.raises(ValueError, match="`mask` must .* layer 'squeeze"):
            layer(draw((2, 3, 4)), mask=mask)
