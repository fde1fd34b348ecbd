import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import image
from support.vision import normalize
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import vjp

SHAPE = (3, 7, 5, 11)
MODES = ["embedded_gaussian", "gaussian", "dot_product", "concatenation"]


def max_pool(x):
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * height, : 2 * width]
    x = x.reshape(x.shape[0], height, 2, width, 2, x.shape[-1])
    return x.max((2, 4))


def reference(x, layer, training=False):
    """Equations 1 to 6 of arXiv:1711.07971."""
    x = x.astype("float64")
    batch, _, _, channels = x.shape
    attended = max_pool(x) if layer.sub_sample else x
    positions = x.reshape(batch, -1, channels)
    attended = attended.reshape(batch, -1, channels)
    query, key = positions, attended
    if layer.mode != "gaussian":
        query = dense(positions, layer.query)
        key = attended @ numpy(layer.key.kernel)
        if layer.key.use_bias:
            key = key + numpy(layer.key.bias)
    if layer.mode == "concatenation":
        # The weights of a pair's two halves, each on its side of the sum.
        halves = [layer.query_logit.kernel, layer.key_logit.kernel]
        of_query, of_key = (numpy(half)[:, 0] for half in halves)
        f = relu((query @ of_query)[:, :, None] + (key @ of_key)[:, None])
    else:
        f = np.einsum("bid,bjd->bij", query, key)
    scaled = layer.use_scale
    if scaled is None:
        scaled = layer.mode == "embedded_gaussian"
    if scaled:
        f = f / np.sqrt(query.shape[-1])
    if layer.mode.endswith("gaussian"):
        f = np.exp(f)
        scores = f / f.sum(-1, keepdims=True)
    else:
        scores = f / key.shape[1]
    y = dense(scores @ dense(attended, layer.value), layer.project)
    y = normalize(y, layer.norm, training).reshape(x.shape)
    return x + y, scores


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_paper(mode, sub_sample, training):
    x = image(SHAPE)
    layer = build(ka.NonLocal(mode=mode, sub_sample=sub_sample), SHAPE)
    expected = reference(x, layer, training)
    found = layer(x, training=training, return_attention_scores=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-4, atol=1e-4)
    assert tuple(found[1].shape) == (3, 35, 6 if sub_sample else 35)


@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("use_scale", [False, True])
def test_scale(mode, use_scale):
    x = image((2, 3, 5, 7))
    layer = build(ka.NonLocal(3, mode, use_scale), x.shape)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, layer)[0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("mode", MODES)
def test_one_position_and_one_channel(mode):
    for shape in [(2, 1, 1, 5), (2, 3, 1, 1)]:
        x = image(shape)
        layer = build(ka.NonLocal(mode=mode, sub_sample=False), shape)
        np.testing.assert_allclose(
            numpy(layer(x)), reference(x, layer)[0], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("mode", MODES)
def test_starts_as_the_identity_and_learns(mode):
    x = image(SHAPE)
    layer = ka.NonLocal(mode=mode)
    np.testing.assert_array_equal(numpy(layer(x, training=True)), x)
    layer = ka.NonLocal(mode=mode, gamma_initializer="ones")
    assert (numpy(layer(x, training=True)) != x).any()


def test_worked_by_hand():
    """Orthogonal pixels attend to themselves, and get themselves added."""
    layer = ka.NonLocal(
        2, "gaussian", sub_sample=False, gamma_initializer="ones"
    )
    x = np.array([[[[10, 0], [0, 10]]]], "float32")
    layer.build(x.shape)
    layer.value.kernel.assign(np.eye(2))
    layer.project.kernel.assign(np.eye(2))
    layer.norm.moving_variance.assign([1 - 1e-5] * 2)
    y, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(scores)[0], np.eye(2), atol=1e-6)
    np.testing.assert_allclose(numpy(y), 2 * x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_gradient(mode):
    x, dy = image((1, 3, 5, 4)), image((1, 3, 5, 4), seed=5)
    layer = build(ka.NonLocal(mode=mode, sub_sample=False), x.shape)
    expected = numeric_gradient(lambda x: reference(x, layer)[0], x, dy)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("arguments", "width", "kernels", "biases"),
    [
        ({}, 16, 4, 2),
        ({"reduced_channels": 5}, 5, 4, 2),
        ({"mode": "gaussian"}, 16, 2, 1),
        ({"mode": "dot_product"}, 16, 4, 3),
        # Two more logits, without biases.
        ({"mode": "concatenation"}, 16, 4, 3 + 2),
    ],
)
def test_number_of_parameters(arguments, width, kernels, biases):
    """By kernels of width·C and biases of width; one bias of C, BN's 2·C."""
    layer = ka.NonLocal(**arguments)
    layer.build((None, None, None, 33))
    count = sum(np.prod(w.shape) for w in layer.trainable_weights)
    assert count == kernels * width * 33 + biases * width + 3 * 33


@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian"])
def test_float16_products_do_not_overflow(mode):
    layer = ka.NonLocal(
        8,
        mode,
        sub_sample=False,
        gamma_initializer="ones",
        dtype="mixed_float16",
    )
    x = np.full((1, 13, 11, 8), 3_000.0, "float16")
    x[:, 5:] *= -1
    layer.build(x.shape)
    for dense_layer in (layer.value, layer.project):
        dense_layer.kernel.assign(np.eye(8))
    if mode != "gaussian":
        layer.query.kernel.assign(np.eye(8))
        layer.key.kernel.assign(np.eye(8))
    y, scores = layer(x, return_attention_scores=True)
    assert np.isfinite(numpy(y)).all()
    np.testing.assert_allclose(numpy(scores).sum(-1), 1, rtol=2e-3)
    np.testing.assert_allclose(numpy(y), 2 * x, rtol=2e-3)


def test_scores_are_tapped_and_known_without_running():
    inputs = keras.Input((7, 5, 11))
    layer = ka.NonLocal(name="nl")
    y, scores = layer(inputs, return_attention_scores=True)
    assert scores.shape == (None, 35, 6)
    assert layer.compute_scores_shape((2, None, 5, 11)) == (2, None, None)
    model = keras.Model(inputs, layer(inputs))
    x = image(SHAPE)
    _, taps = read_outputs(model, x, ["nl:scores"])
    np.testing.assert_allclose(
        numpy(taps["nl:scores"]), reference(x, layer)[1], rtol=1e-4, atol=1e-6
    )
    both = keras.Model(inputs, [y, scores])
    assert [tuple(t.shape) for t in both(x)] == [SHAPE, (3, 35, 6)]


def test_initializers_and_regularizers_reach_the_layers():
    layer = ka.NonLocal(
        2,
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer.build((None, None, None, 6))
    denses = [layer.query, layer.key, layer.value, layer.project]
    squares = sum((numpy(d.kernel) ** 2).sum() for d in denses)
    np.testing.assert_allclose(
        numpy(sum(layer.losses)), 0.5 * squares + 0.25 * 10, rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(2, 1, 9, 6), (2, 9, 1, 6), (2, 1, 1, 6)])
def test_an_axis_of_one_is_not_pooled(shape):
    """Of a known size, and of one that is known when the image comes."""
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer = ka.NonLocal(gamma_initializer="ones")
    expected, scores = layer(x, return_attention_scores=True)
    attended = max(1, shape[1] // 2) * max(1, shape[2] // 2)
    assert tuple(scores.shape) == (2, shape[1] * shape[2], attended)
    assert layer.compute_scores_shape(shape) == tuple(scores.shape)
    inputs = keras.Input((None, None, 6))
    model = keras.Model(inputs, layer(inputs))
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(y, numpy(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reduced_channels": 0}, ValueError),
        ({"reduced_channels": 2.0}, TypeError),
        ({"mode": "dot"}, ValueError),
        ({"use_scale": 1}, TypeError),
        ({"sub_sample": 2}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.NonLocal(**arguments)


@pytest.mark.parametrize("use_scale", [True, False])
def test_scale_of_a_concatenation(use_scale):
    with pytest.raises(ValueError, match=f"Received: use_scale={use_scale}"):
        ka.NonLocal(mode="concatenation", use_scale=use_scale)
