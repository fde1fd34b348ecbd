import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.ops.image.linear_resize import linear_resize
from support.arrays import numpy
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image
from support.vision import normalize
from support.vision import numeric_gradient
from support.vision import relu
from support.vision import sigmoid
from support.vision import vjp


def resize(x, sizes):
    """Linear interpolation of one axis after the other, by NumPy's own."""
    for axis, size in enumerate(sizes, 1):
        number = x.shape[axis]
        at = (np.arange(size) + 0.5) * number / size - 0.5
        x = np.apply_along_axis(
            lambda line, at=at, number=number: np.interp(
                at, np.arange(number), line
            ),
            axis,
            x,
        )
    return x


def patches(x, layer, size):
    """A convolution with strides of its size: a product for each patch."""
    kernel = numpy(layer.kernel)
    rank = x.ndim - 2
    counts = [n // size for n in x.shape[1:-1]]
    y = np.zeros((len(x), *counts, kernel.shape[-1]))
    for index in np.ndindex(*counts):
        window = tuple(slice(i * size, (i + 1) * size) for i in index)
        axes = tuple(range(1, rank + 2)), tuple(range(rank + 1))
        y[(slice(None), *index)] = np.tensordot(
            x[(slice(None), *window)], kernel, axes
        )
    return y


def reference(x, gating, layer):
    """Equations 1 and 2, then W and the normalization; channels last."""
    x, gating = x.astype("float64"), gating.astype("float64")
    features = patches(x, layer.skip, layer.sub_sampling)
    signal = resize(dense(gating, layer.gating), features.shape[1:-1])
    gate = sigmoid(dense(relu(features + signal), layer.score))
    y = x * resize(gate, x.shape[1:-1])
    if not layer.use_projection:
        return y
    return normalize(dense(y, layer.projection), layer.norm)


CASES = [
    # The sizes of a U-Net, odd ones, a finer signal, one position, a volume.
    ({}, (2, 8, 12, 6), (2, 4, 6, 10)),
    ({"units": 3}, (1, 7, 5, 4), (1, 2, 3, 5)),
    ({"sub_sampling": 3}, (2, 7, 11, 3), (2, 13, 5, 2)),
    ({"sub_sampling": 1, "use_projection": False}, (3, 1, 1, 2), (3, 1, 1, 4)),
    ({"units": 2}, (2, 3, 5, 4, 3), (2, 2, 1, 3, 5)),
]


@pytest.mark.parametrize(("arguments", "shape", "of_gating"), CASES)
def test_equals_the_paper(arguments, shape, of_gating):
    x, gating = image(shape), image(of_gating, seed=1)
    layer = build(ka.AttentionGate(**arguments), [shape, of_gating])
    expected = reference(x, gating, layer)
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    y = layer([x, gating])
    np.testing.assert_allclose(numpy(y), expected, **tolerance)
    layer_first = ka.AttentionGate(**arguments, data_format="channels_first")
    pair = [first(x), first(gating)]
    layer_first.build([x.shape for x in pair])
    layer_first.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(layer_first(pair)), first(expected), **tolerance
    )


def test_resizing_is_that_of_images():
    """`keras.ops.image.resize` for images whose sizes are known."""
    x = image((2, 3, 5, 4))
    for sizes in ((7, 11), (6, 10), (2, 3), (3, 5), (1, 1)):
        expected = keras.ops.image.resize(
            x, sizes, "bilinear", data_format="channels_last"
        )
        found = linear_resize(keras.ops.convert_to_tensor(x), sizes)
        np.testing.assert_allclose(numpy(found), numpy(expected), atol=1e-5)


def test_gate_of_one_value_by_hand():
    """ψ · relu(2 * 3 + 1 - 4) = 3: the sigmoid of 3 scales the image."""
    layer = ka.AttentionGate(sub_sampling=1, use_projection=False)
    x, gating = (np.full((1, 2, 2, 1), v, "float32") for v in (3.0, 1.0))
    layer.build([x.shape, gating.shape])
    layer.skip.kernel.assign([[[[2.0]]]])
    layer.gating.kernel.assign([[1.0]])
    layer.gating.bias.assign([-4.0])
    layer.score.kernel.assign([[1.0]])
    np.testing.assert_allclose(
        numpy(layer([x, gating])), 3 * sigmoid(3.0), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 4 * 64 * 64 + 129 * 64 + 65 + 65 * 64 + 2 * 64),
        ({"units": 32}, 4 * 64 * 32 + 129 * 32 + 33 + 65 * 64 + 2 * 64),
        ({"use_projection": False}, 4 * 64 * 64 + 129 * 64 + 65),
    ],
)
def test_parameters(arguments, expected):
    """Of 64 and 128 channels."""
    layer = ka.AttentionGate(**arguments)
    layer.build([(None, None, None, 64), (None, None, None, 128)])
    assert expected == sum(
        np.prod(weight.shape) for weight in layer.trainable_weights
    )


def test_gradient_to_both():
    x, gating = image((2, 4, 5, 3)), image((2, 2, 3, 4), seed=1)
    dy = image(x.shape, seed=5)
    layer = build(ka.AttentionGate(), [x.shape, gating.shape])
    np.testing.assert_allclose(
        numpy(vjp(lambda x: layer([x, gating]), x, dy)),
        numeric_gradient(lambda x: reference(x, gating, layer), x, dy),
        rtol=1e-3,
        atol=1e-4,
    )
    np.testing.assert_allclose(
        numpy(vjp(lambda gating: layer([x, gating]), gating, dy)),
        numeric_gradient(lambda g: reference(x, g, layer), gating, dy),
        rtol=1e-3,
        atol=1e-4,
    )


def u_net():
    """One level of a U-Net, its skip connection gated by the decoder."""
    inputs = keras.Input((None, None, 3))
    skip = keras.layers.Conv2D(6, 3, padding="same")(inputs)
    deep = keras.layers.MaxPooling2D()(skip)
    deep = keras.layers.Conv2D(10, 3, padding="same", activation="relu")(deep)
    gated = ka.AttentionGate(name="gate")([skip, deep])
    up = keras.layers.UpSampling2D()(deep)
    merged = keras.layers.Concatenate()([gated, up])
    outputs = keras.layers.Conv2D(1, 1, activation="sigmoid")(merged)
    return keras.Model(inputs, outputs)


def test_in_a_u_net(tmp_path):
    """Of open sizes: it trains, is saved and loaded, and shows its gate."""
    model, x = u_net(), image((2, 12, 8, 3))
    model.compile("sgd", "binary_crossentropy")
    before = [numpy(w) for w in model.get_layer("gate").trainable_weights]
    model.train_on_batch(x, np.ones((2, 12, 8, 1)))
    after = [numpy(w) for w in model.get_layer("gate").trainable_weights]
    assert sum((a != b).any() for a, b in zip(after, before, strict=True)) > 3
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = numpy(model(x))
    np.testing.assert_allclose(numpy(loaded(x)), expected, rtol=1e-5)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(numpy(clone(x)), expected, rtol=1e-5)
    with ka.inspection.record_outputs(model, ["gate:gate"]) as values:
        model(x)
    gate = numpy(values["gate:gate"])
    assert gate.shape == (2, 12, 8, 1)
    assert 0 < gate.min() < gate.max() < 1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    x, gating = image((2, 8, 6, 4)), image((2, 4, 3, 5), seed=1)
    layer = ka.AttentionGate(dtype=policy)
    build(layer, [x.shape, gating.shape])
    y = layer([x, gating])
    assert keras.backend.standardize_dtype(y.dtype) == policy[len("mixed_") :]
    expected = reference(x, gating, layer)
    error = np.abs(numpy(y) - expected).max() / np.abs(expected).max()
    assert error < (5e-3 if policy == "mixed_float16" else 4e-2)


def test_masks_of_the_inputs():
    layer = ka.AttentionGate()
    assert layer.compute_mask(None, ["of x", None]) == "of x"


def test_shapes_of_the_backend():
    """TensorFlow's are no tuples."""
    pair = [
        keras.ops.convert_to_tensor(image(shape))
        for shape in ((2, 4, 6, 3), (2, 2, 3, 5))
    ]
    layer = ka.AttentionGate()
    layer.build([x.shape for x in pair])
    assert layer(pair).shape == pair[0].shape
    assert len(layer.input_spec) == 2


def test_one_image_gates_itself():
    x = image((2, 4, 6, 3))
    layer = build(ka.AttentionGate(), x.shape)
    np.testing.assert_allclose(
        numpy(layer(x)), reference(x, x, layer), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([(1, 4, 4, 3)] * 3, "list of two.*3 inputs.*'gate'"),
        ([(1, 4, 4, 3), (1, 4, 4, 4, 3)], "both images or both volumes"),
        ([(1, 4, 4, 3), (1, 4, 3)], "an image or a volume"),
        ([(1, 4, 4, 3), (1, 4, 4, None)], "defined number of channels"),
        ((1, 4, 1, 3), "at least `sub_sampling`.*'gate'.*sub_sampling=2"),
    ],
)
def test_shapes_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        ka.AttentionGate(name="gate").build(shape)


def test_an_image_that_is_smaller_than_it_was_built_for():
    layer = build(ka.AttentionGate(), (None, None, None, 3))
    with pytest.raises(ValueError, match="at least `sub_sampling`"):
        layer(image((1, 1, 4, 3)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"units": 0}, ValueError),
        ({"sub_sampling": 2.0}, TypeError),
        ({"use_projection": 1}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.AttentionGate(**arguments)
