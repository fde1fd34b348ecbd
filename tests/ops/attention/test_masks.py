import keras
import numpy as np
import pytest

from keras_attention.ops.attention.masks import causal_mask
from keras_attention.ops.attention.masks import check_boolean_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import expand_to_heads
from keras_attention.ops.attention.masks import padding_mask
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.masks import query_positions


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


@pytest.mark.parametrize(
    "dtype, advice", [("float32", "is a bias"), ("int32", "mask > 0")]
)
def test_masks_are_boolean(dtype, advice):
    with pytest.raises(TypeError, match=f"dtype {dtype}.*{advice}"):
        check_boolean_mask("mask", np.ones((2, 2), dtype))
