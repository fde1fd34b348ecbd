import keras
import numpy as np
import pytest

from keras_attention.ops.attention.masks import causal_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import padding_mask
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.masks import positions_in_use
from keras_attention.ops.attention.masks import query_positions
from keras_attention.ops.attention.masks import to_boolean_mask


def rows(mask):
    mask = keras.ops.convert_to_numpy(mask).astype(int)
    return ["".join(map(str, row)) for row in mask]


def test_causal_mask_is_aligned_at_the_last_key():
    assert rows(causal_mask(3, 3)) == ["100", "110", "111"]
    assert rows(causal_mask(2, 5)) == ["11110", "11111"]
    assert rows(causal_mask(4, 2)) == ["00", "00", "10", "11"]


def test_causal_window_holds_the_last_keys():
    assert rows(causal_mask(4, 4, window=2)) == ["1000", "1100", "0110", "0011"]


def test_window_reaches_both_ways_if_not_causal():
    places = np.arange(4, dtype="int32")
    mask = position_mask(places, places, window=2)
    assert rows(mask) == ["1100", "1110", "0111", "0011"]


def test_positions_of_each_row_of_a_batch():
    places = np.array([[0], [2]], "int32")
    mask = position_mask(places, np.arange(3, dtype="int32"), causal=True)
    assert rows(keras.ops.convert_to_numpy(mask)[:, 0]) == ["100", "111"]


def test_no_restriction_is_no_mask():
    assert position_mask(np.arange(3), np.arange(3)) is None
    assert combine_masks(None, None) is None


def test_query_positions():
    np.testing.assert_array_equal(query_positions(2, 5), [3, 4])


def test_masks_combine_to_what_all_allow():
    keys = padding_mask(np.array([[True, False], [True, True]]))
    combined = combine_masks(
        None, keys, np.array([[True, True], [False, True]])
    )
    combined = keras.ops.convert_to_numpy(combined)
    assert combined.shape == (2, 1, 2, 2)
    assert rows(combined[0, 0]) == ["10", "00"]
    assert rows(combined[1, 0]) == ["11", "01"]


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((5, 7), (1, 1, 5, 7)),
        ((1, 7), (1, 1, 1, 7)),
        ((2, 5, 7), (2, 1, 5, 7)),
        ((2, 1, 7), (2, 1, 1, 7)),
        ((2, 3, 5, 7), (2, 3, 5, 7)),
    ],
)
def test_axes_are_told_by_the_rank(shape, expected):
    mask = expand_to_heads("mask", np.ones(shape, bool), (None, 3, 5, 7))
    assert tuple(mask.shape) == expected


@pytest.mark.parametrize("shape", [(7,), (7, 5), (3, 5, 7), (2, 2, 5, 7)])
def test_shapes_that_do_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"\(2, 3, 5, 7\).*Received: mask of"):
        expand_to_heads("mask", np.ones(shape, bool), (2, 3, 5, 7))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_of_floats_are_refused(dtype):
    with pytest.raises(TypeError, match=f"dtype {dtype}.*is a bias.*mask > 0"):
        to_boolean_mask("mask", np.ones((2, 2), dtype))
    with pytest.raises(TypeError, match="is a bias"):
        to_boolean_mask("mask", [[1.0, 0.0]])


@pytest.mark.parametrize(
    "mask",
    [
        [[True, False], [False, True]],
        [[1, 0], [0, 1]],
        np.eye(2, dtype="int64"),
        keras.ops.convert_to_tensor(np.eye(2, dtype="int32")),
    ],
)
def test_lists_and_integers_are_masks(mask):
    assert rows(to_boolean_mask("mask", mask)) == ["10", "01"]


@pytest.mark.parametrize(
    "mask, error, message",
    [
        ([[0, -9]], ValueError, "values from -9 to 0"),
        (np.array([[0, 2]]), ValueError, "values from 0 to 2.*mask != 0"),
        (keras.ops.convert_to_tensor([[0, 2]]), ValueError, "from 0 to 2"),
        ([[True], [True, False]], ValueError, "rows of one length"),
        ("left", TypeError, "dtype <U4"),
        ({"a": 1}, TypeError, "of type dict"),
    ],
)
def test_what_is_no_mask(mask, error, message):
    with pytest.raises(error, match=f"`mask`.*{message}"):
        to_boolean_mask("mask", mask)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 1, 2, 5])
@pytest.mark.parametrize("queries, keys", [(5, 5), (2, 5), (5, 2), (1, 4)])
def test_positions_in_use(queries, keys, causal, window):
    """As told by the full mask of every query and key."""
    by_position = position_mask(
        query_positions(queries, keys),
        np.arange(keys, dtype="int32"),
        causal,
        window,
    )
    if by_position is None:
        by_position = np.ones((queries, keys), bool)
    generator = np.random.default_rng(queries)
    for shape in (
        (2, 3, queries, keys),
        (2, 1, 1, keys),
        (1, 1, queries, 1),
        (1, 1, 1, 1),
    ):
        mask = generator.random(shape) < 0.5
        full = mask & keras.ops.convert_to_numpy(by_position)
        found = positions_in_use(mask, queries, keys, causal, window)
        for one, other in zip(found, (full.any(3), full.any(2)), strict=True):
            one, other = np.broadcast_arrays(
                keras.ops.convert_to_numpy(one), other
            )
            if shape[2] != 1:
                np.testing.assert_array_equal(one, other)
            else:
                # What a query or key alone lets through.
                np.testing.assert_array_equal(one & other, other)
    mask = generator.random((2, 1, 1, keys)) < 0.5
    full = mask & keras.ops.convert_to_numpy(by_position)
    of_queries, of_keys = positions_in_use(mask, queries, keys, causal, window)
    np.testing.assert_array_equal(
        *np.broadcast_arrays(
            keras.ops.convert_to_numpy(of_queries), full.any(3)
        )
    )
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(of_keys), full.any(2)
    )
