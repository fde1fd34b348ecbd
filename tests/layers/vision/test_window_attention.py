import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.ops.image.windows import relative_index
from support.arrays import numpy
from support.vision import assert_graph_takes
from support.vision import build
from support.vision import dense
from support.vision import first
from support.vision import image


def reference(x, layer, heads):
    """Equation 4, one position after the other; nothing is shifted.

    A shifted window that the image's border cuts is a smaller one: positions
    attend to each other if their windows are one, counted from the shift.
    """
    x = x.astype("float64")
    size, window, shift = (
        np.array(sizes)
        for sizes in (x.shape[1:3], layer.window_size, layer.shift_size)
    )
    shift = np.where(size > window, shift, 0)
    padded = -(-size // window) * window
    real = np.zeros((x.shape[0], *padded, x.shape[-1]))
    real[:, : size[0], : size[1]] = x
    width = x.shape[-1] // heads
    qkv = real @ numpy(layer.qkv.kernel)
    if layer.use_bias:
        qkv = qkv + numpy(layer.qkv.bias)
    query, key, value = np.split(qkv, 3, axis=-1)
    table = numpy(layer.relative_bias)
    table = table.reshape(*(2 * window - 1), heads)
    mixed = np.zeros_like(x)
    keys = [
        np.array(place)
        for place in np.ndindex(*padded)
        if not layer.mask_padding or (np.array(place) < size).all()
    ]
    for place in np.ndindex(*size):
        here = (np.array(place) - shift) // window
        mine = [k for k in keys if ((k - shift) // window == here).all()]
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = [
                query[:, *place, part] * key[:, *k, part] / np.sqrt(width)
                for k in mine
            ]
            logits = np.array(logits).sum(-1)  # [keys, B]
            logits += [
                [table[*(np.array(place) - k + window - 1), head]] for k in mine
            ]
            scores = np.exp(logits - logits.max(0))
            scores /= scores.sum(0)
            values = np.array([value[:, *k, part] for k in mine])
            mixed[:, *place, part] = (scores[..., None] * values).sum(0)
    return dense(mixed, layer.project)


@pytest.mark.parametrize(
    ("shape", "arguments", "heads"),
    [
        # Divided by the windows, and not; half a window and other shifts.
        ((2, 6, 9, 8), {"window_size": 3, "num_heads": 4}, 4),
        ((1, 6, 9, 6), {"window_size": 3, "shift_size": 1}, 1),
        ((2, 7, 5, 6), {"window_size": 3, "shift_size": 2, "num_heads": 2}, 2),
        ((1, 11, 5, 4), {"window_size": (4, 3), "shift_size": (2, 1)}, 1),
        ((1, 11, 5, 4), {"window_size": (2, 5), "shift_size": (1, 3)}, 1),
        ((1, 5, 7, 4), {"window_size": 4, "mask_padding": False}, 1),
        (
            (1, 5, 7, 4),
            {"window_size": 4, "shift_size": 2, "mask_padding": False},
            1,
        ),
        # A window of the image's size and a larger one, and of one position.
        ((2, 3, 7, 4), {"window_size": 3, "shift_size": 1}, 1),
        ((1, 1, 1, 5), {"shift_size": 3}, 1),
        ((1, 3, 2, 5), {"window_size": 1, "use_bias": False}, 1),
    ],
)
def test_equals_the_paper(shape, arguments, heads):
    x = image(shape)
    layer = build(ka.WindowAttention(**arguments), shape)
    expected = reference(x, layer, heads)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-4)
    other = ka.WindowAttention(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    y, scores = other(first(x), return_attention_scores=True)
    np.testing.assert_allclose(numpy(y), first(expected), rtol=1e-4, atol=1e-4)
    assert tuple(scores.shape) == other.compute_scores_shape(first(x).shape)


def test_worked_by_hand():
    """Windows of two with a table: a position takes its left neighbor."""
    layer = ka.WindowAttention((1, 2), use_bias=False)
    x = np.arange(1, 6, dtype="float32").reshape(1, 1, 5, 1)
    layer.build(x.shape)
    layer.qkv.kernel.assign([[0, 0, 1]])
    layer.project.kernel.assign([[1]])
    # By the query's column minus the key's: -1, 0, 1.
    layer.relative_bias.assign([[-100], [0], [100]])
    y, scores = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(y).ravel(), [1, 1, 3, 3, 5], atol=1e-5)
    np.testing.assert_allclose(
        numpy(scores)[0, :, 0], [[[1, 0], [1, 0]]] * 3, atol=1e-5
    )
    shifted = ka.WindowAttention((1, 2), (0, 1), use_bias=False)
    shifted.build(x.shape)
    shifted.set_weights(layer.get_weights())
    y = numpy(shifted(x)).ravel()
    np.testing.assert_allclose(y, [1, 2, 2, 4, 4], atol=1e-5)


def test_index_of_offsets():
    index = relative_index(2, 2)
    assert index.tolist() == [
        [4, 3, 1, 0],
        [5, 4, 2, 1],
        [7, 6, 4, 3],
        [8, 7, 5, 4],
    ]


@pytest.mark.tensorflow
def test_one_graph_takes_every_size():
    """With windows that divide it, that are padded, and that are larger."""
    layer = build(ka.WindowAttention(4, 1), (None, None, None, 6))
    assert_graph_takes(layer, 6, [(7, 5), (4, 8), (3, 2), (9, 4)])


def test_padding_and_cut_windows_have_no_weight():
    x = image((1, 5, 7, 4))
    layer = build(ka.WindowAttention(3, 1), x.shape)
    scores = numpy(layer(x, return_attention_scores=True)[1])[0, :, 0]
    sums = scores.sum(-1)
    # 6 x 9 positions in windows, of which 5 x 7 are of the image.
    np.testing.assert_allclose(np.sort(sums.ravel())[-35:], 1, rtol=1e-5)
    assert ((abs(sums - 1) < 1e-5) | (sums == 0)).all()
    # Of the last window, the image has two corners, which are apart in it.
    assert ((scores[-1] > 0).sum(-1) <= 1).all()


@pytest.mark.parametrize(
    ("channels", "window", "heads"), [(96, 7, 3), (128, 12, 4), (48, 7, 1)]
)
def test_parameters(channels, window, heads):
    """4 C² + 4 C of the projections, and a table of offsets by head."""
    layer = ka.WindowAttention(window)
    layer.build((None, None, None, channels))
    table = (2 * window - 1) ** 2 * heads
    assert layer.count_params() == 4 * channels * (channels + 1) + table


@pytest.mark.parametrize(
    ("channels", "heads"), [(64, 2), (48, 1), (80, 2), (11, 1), (70, 2)]
)
def test_heads_divide_the_channels(channels, heads):
    layer = ka.WindowAttention(2)
    shape = (None, None, None, channels)
    layer.build(shape)
    assert layer.compute_scores_shape(shape) == (None, None, heads, 4, 4)


def test_float16_products_do_not_overflow():
    x = np.full((1, 13, 11, 32), 3_000.0, "float16")
    x[:, 5:] *= -1
    layer = ka.WindowAttention(4, 2, use_bias=False, dtype="mixed_float16")
    layer.build(x.shape)
    layer.qkv.kernel.assign(np.tile(np.eye(32), 3))
    layer.project.kernel.assign(np.eye(32))
    np.testing.assert_allclose(numpy(layer(x)), x, rtol=2e-3)


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    x = image((2, 9, 9, 3))
    found = ka.insert_attention(model, "swin", ["conv"], preserve_outputs=True)
    np.testing.assert_array_equal(numpy(found(x)), numpy(model(x)))
    name = "conv_attention/attention:scores"
    _, values = read_outputs(found, x, [name])
    assert tuple(values[name].shape) == (2, 1, 1, 49, 49)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"window_size": 0}, ValueError),
        ({"window_size": 7.0}, TypeError),
        ({"window_size": (7, 7, 7)}, ValueError),
        ({"shift_size": 7}, ValueError),
        ({"shift_size": -1}, ValueError),
        ({"shift_size": (0, 8)}, ValueError),
        ({"num_heads": 0}, ValueError),
        ({"use_bias": 1}, TypeError),
        ({"mask_padding": None}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, _),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.WindowAttention(**arguments)


def test_heads_that_do_not_divide():
    layer = ka.WindowAttention(num_heads=5, name="swin")
    with pytest.raises(ValueError, match="num_heads=5 for 8 channels.*'swin'"):
        layer.build((None, 7, 7, 8))
