import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.ops.image.windows import WindowedAxis
from keras_attention.ops.image.windows import halo_mask
from keras_attention.ops.image.windows import split_halos
from support.arrays import numpy
from support.vision import assert_graph_takes
from support.vision import build
from support.vision import first
from support.vision import image
from support.vision import numeric_gradient
from support.vision import vjp


def reference(x, layer):
    """Figure 1 of arXiv:2103.12731, one position after the other.

    A position has the keys from `halo` before its block to `halo` after it.
    Nothing is cut or padded: outside of the image there is no key, or, not
    masked, one of zeros.
    """
    x = x.astype("float64")
    size = np.array(x.shape[1:3])
    block, halo = np.array(layer.block_size), np.array(layer.halo_size)
    query, key, value = (
        x @ numpy(d.kernel) + (numpy(d.bias) if layer.use_bias else 0)
        for d in (layer.query, layer.key, layer.value)
    )
    rows, columns = numpy(layer.row_positions), numpy(layer.column_positions)
    parts = []
    for q, k, v in zip(
        *(np.split(z, layer.num_heads, -1) for z in (query, key, value)),
        strict=True,
    ):
        y = np.zeros(v.shape)
        for place in np.ndindex(*size):
            begin = np.array(place) // block * block - halo
            logits, values = [], []
            for offset in np.ndindex(*(block + 2 * halo)):
                there = begin + offset
                is_image = (there >= 0).all() and (there < size).all()
                if layer.mask_padding and not is_image:
                    continue
                down, right = there - place + block + halo - 1
                position = rows[down] + columns[right]
                content = k[:, *there] if is_image else 0 * k[:, 0, 0]
                logits.append((q[:, *place] * (content + position)).sum(-1))
                values.append(v[:, *there] if is_image else 0 * v[:, 0, 0])
            logits = np.array(logits) / np.sqrt(q.shape[-1])  # [keys, B]
            scores = np.exp(logits - logits.max(0))
            scores /= scores.sum(0)
            y[:, *place] = (scores[..., None] * np.array(values)).sum(0)
        parts.append(y)
    return np.concatenate(parts, axis=-1)


CASES = [
    # Divided by the blocks, and not; along one axis, and along both.
    ((2, 6, 9, 8), {"block_size": 3, "halo_size": 1, "num_heads": 4}),
    ((1, 7, 6, 6), {"block_size": 3, "halo_size": 2, "num_heads": 2}),
    ((2, 7, 5, 6), {"block_size": 2, "halo_size": 1, "num_heads": 3}),
    (
        (1, 11, 5, 7),
        {"block_size": (4, 3), "halo_size": (1, 2), "num_heads": 1},
    ),
    # Other widths of outputs and of queries, and biases.
    (
        (2, 5, 7, 3),
        {
            "filters": 10,
            "block_size": (2, 3),
            "halo_size": (2, 1),
            "num_heads": 2,
            "key_dim": 3,
            "use_bias": True,
        },
    ),
    # Zeros around the image, which count.
    (
        (1, 5, 7, 3),
        {
            "filters": 4,
            "block_size": (3, 2),
            "halo_size": (1, 2),
            "num_heads": 2,
            "use_bias": True,
            "mask_padding": False,
        },
    ),
    # No halo; one wider than the block, along one axis and along both.
    ((2, 4, 6, 4), {"block_size": 2, "halo_size": 0, "num_heads": 2}),
    ((1, 3, 5, 4), {"block_size": 2, "halo_size": 0, "num_heads": 2}),
    (
        (1, 7, 5, 2),
        {"block_size": (1, 2), "halo_size": (0, 5), "num_heads": 1},
    ),
    ((1, 5, 3, 2), {"block_size": 1, "halo_size": 2, "num_heads": 1}),
    # A block that is larger than the image, and one position.
    ((1, 5, 3, 8), {}),
    ((1, 1, 1, 8), {}),
]


@pytest.mark.parametrize(("shape", "arguments"), CASES)
def test_equals_the_paper(shape, arguments):
    x = image(shape)
    layer = build(ka.HaloAttention(**arguments), shape)
    expected = reference(x, layer)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-4)
    assert layer.compute_output_shape(shape) == expected.shape
    other = ka.HaloAttention(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    y, scores = other(first(x), return_attention_scores=True)
    np.testing.assert_allclose(numpy(y), first(expected), rtol=1e-4, atol=1e-4)
    assert other.compute_output_shape(first(x).shape) == first(expected).shape
    assert tuple(scores.shape) == other.compute_scores_shape(first(x).shape)


def test_worked_by_hand():
    """By positions alone: each takes the pixel two to the left, if it can.

    Of the blocks 1 2 | 3 4 | 5 with a halo of one, the keys are 1 2 3, 2 to 5
    and 4 5. Of the distances -2 to 2, -2 has a logit of 100, -1 of 50, and 0
    of 25.
    """
    arguments = {"block_size": (1, 2), "halo_size": (0, 1), "num_heads": 1}
    layer = ka.HaloAttention(**arguments)
    x = np.arange(1, 6, dtype="float32").reshape(1, 1, 5, 1)
    layer.build(x.shape)
    assert tuple(layer.row_positions.shape) == (1, 1)
    layer.query.kernel.assign([[0]])
    layer.key.kernel.assign([[0]])
    layer.value.kernel.assign([[1]])
    # Of a query of zeros, the mean of the keys that exist.
    y = numpy(layer(x)).ravel()
    np.testing.assert_allclose(y, [2, 2, 3.5, 3.5, 4.5], rtol=1e-5)
    zeros = ka.HaloAttention(**arguments, mask_padding=False)
    zeros.build(x.shape)
    zeros.set_weights(layer.get_weights())
    y = numpy(zeros(x)).ravel()
    np.testing.assert_allclose(y, [1.5, 1.5, 3.5, 3.5, 2.25], rtol=1e-5)

    biased = ka.HaloAttention(**arguments, use_bias=True)
    biased.build(x.shape)
    for dense, kernel, bias in (
        (biased.query, 0, 1),
        (biased.key, 0, 0),
        (biased.value, 1, 0),
    ):
        dense.kernel.assign([[kernel]])
        dense.bias.assign([bias])
    biased.row_positions.assign([[0]])
    biased.column_positions.assign([[100], [50], [25], [0], [0]])
    y, scores = biased(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(y).ravel(), [1, 1, 2, 2, 4], atol=1e-5)
    np.testing.assert_allclose(
        numpy(scores)[0, :, 0],
        [
            # Its own, since nothing is to the left; then its left neighbor.
            [[0, 1, 0, 0], [0, 1, 0, 0]],
            # The left neighbor; then the one two to the left.
            [[1, 0, 0, 0], [1, 0, 0, 0]],
            # The left neighbor; then padding, whose query is zero.
            [[1, 0, 0, 0], [0.5, 0.5, 0, 0]],
        ],
        atol=1e-5,
    )


def test_windows_with_their_halos():
    """Of blocks of two rows and three columns with one row of halo."""
    x = np.arange(1, 13, dtype="float32").reshape(1, 3, 4, 1)
    rows, columns = WindowedAxis(3, 2, 0), WindowedAxis(4, 3, 0)
    found = numpy(split_halos(x, rows, columns, (1, 0)))[..., 0]
    expected = [
        [[0, 0, 0], [1, 2, 3], [5, 6, 7], [9, 10, 11]],
        [[0, 0, 0], [4, 0, 0], [8, 0, 0], [12, 0, 0]],
        [[5, 6, 7], [9, 10, 11], [0, 0, 0], [0, 0, 0]],
        [[8, 0, 0], [12, 0, 0], [0, 0, 0], [0, 0, 0]],
    ]
    np.testing.assert_array_equal(found.reshape(4, 4, 3), expected)
    mask = numpy(halo_mask(rows, columns, (1, 0)))
    np.testing.assert_array_equal(mask, found > 0)
    divided = WindowedAxis(4, 2, 0)
    assert halo_mask(divided, divided, (0, 0)) is None


@pytest.mark.parametrize("block_size", [7, (8, 6)])
def test_a_block_of_the_image_is_bottleneck_attention(block_size):
    """Global attention, as the paper says: with the middle of the vectors."""
    shape = (2, 7, 5, 8)
    x = image(shape)
    layer = build(ka.HaloAttention(block_size=block_size, num_heads=2), shape)
    other = ka.BottleneckAttention(num_heads=2)
    other.build(shape)
    rows, columns, *kernels = layer.get_weights()
    middle = (
        weight[(len(weight) - 2 * size + 1) // 2 :][: 2 * size - 1]
        for weight, size in ((rows, 7), (columns, 5))
    )
    other.set_weights([*middle, *kernels])
    np.testing.assert_allclose(
        numpy(layer(x)), numpy(other(x)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize("halo_size", [0, 1, 5])
def test_one_graph_takes_every_size(halo_size):
    """With blocks that divide it, that are padded, and that are larger."""
    layer = build(
        ka.HaloAttention(None, 4, halo_size, 2), (None, None, None, 6)
    )
    assert_graph_takes(layer, 6, [(7, 5), (4, 8), (3, 2), (9, 4)])


def test_scores_of_padding_are_zero():
    x = image((1, 7, 5, 4))
    layer = build(ka.HaloAttention(None, 3, 2, 1), x.shape)
    scores = numpy(layer(x, return_attention_scores=True)[1])[0, :, 0]
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-5)
    scores = scores.reshape(3, 2, 9, 7, 7)
    # Above the image and to its left, then from row 7 and column 5 on.
    assert (scores[0, :, :, :2] == 0).all()
    assert (scores[:, 0, :, :, :2] == 0).all()
    assert (scores[2, :, :, 3:] == 0).all()
    assert (scores[:, 1, :, :, 4:] == 0).all()
    assert (scores[1, 0, :, :6, 2:] > 0).all()
    assert (scores[1, 0, :, 6] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "channels", "expected"),
    [
        # 3 C², and a head's width for each of 2 (2 b + 2 h - 1) distances.
        ({}, 64, 3 * 64**2 + 2 * 21 * 8),
        ({"block_size": (4, 3), "halo_size": (1, 2)}, 8, 3 * 64 + 18),
        (
            {"filters": 12, "num_heads": 2, "key_dim": 5, "use_bias": True},
            7,
            8 * (10 + 10 + 12) + 2 * 21 * 5,
        ),
    ],
)
def test_parameters(arguments, channels, expected):
    layer = ka.HaloAttention(**arguments)
    layer.build((None, None, None, channels))
    assert layer.count_params() == expected


def test_positions_start_as_those_of_published_networks():
    layer = ka.HaloAttention(block_size=17, num_heads=2)
    layer.build((None, None, None, 128))
    for weight in (layer.row_positions, layer.column_positions):
        np.testing.assert_allclose(numpy(weight).std(), 1 / 8, rtol=0.1)


@pytest.mark.parametrize("mask_padding", [True, False])
def test_gradient(mask_padding):
    x, dy = image((1, 3, 4, 4)), image((1, 3, 4, 4), seed=5)
    layer = ka.HaloAttention(None, 2, 1, 2, mask_padding=mask_padding)
    build(layer, x.shape)
    np.testing.assert_allclose(
        numpy(vjp(layer, x, dy)),
        numeric_gradient(lambda x: reference(x, layer), x, dy),
        rtol=1e-3,
        atol=1e-3,
    )


def test_float16_products_do_not_overflow():
    x = np.full((1, 13, 11, 4), 3_000.0, "float16")
    x[:, 6:] *= -1
    layer = ka.HaloAttention(None, 4, 2, 1, dtype="mixed_float16")
    layer.build(x.shape)
    for dense in (layer.query, layer.key, layer.value):
        dense.kernel.assign(np.eye(4))
    np.testing.assert_allclose(numpy(layer(x)), x, rtol=2e-3)


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    found = ka.insert_attention(model, "halo", ["conv"], preserve_outputs=True)
    x = image((2, 9, 9, 3))
    np.testing.assert_array_equal(numpy(found(x)), numpy(model(x)))
    name = "conv_attention/attention:scores"
    _, values = read_outputs(found, x, [name])
    assert tuple(values[name].shape) == (2, 1, 8, 64, 196)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"filters": 0}, ValueError),
        ({"block_size": 0}, ValueError),
        ({"block_size": 8.0}, TypeError),
        ({"block_size": (8, 8, 8)}, ValueError),
        ({"halo_size": -1}, ValueError),
        ({"halo_size": (3, None)}, TypeError),
        ({"num_heads": 0}, ValueError),
        ({"key_dim": 0}, ValueError),
        ({"use_bias": 1}, TypeError),
        ({"mask_padding": None}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, _),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.HaloAttention(**arguments)


def test_heads_that_do_not_divide():
    layer = ka.HaloAttention(name="halo")
    with pytest.raises(ValueError, match="num_heads=8 for 6 filters.*'halo'"):
        layer.build((None, 7, 7, 6))
