"""Numbers and properties that other libraries' own tests state.

Those of Equinox 0.13 (`tests/test_nn.py`) were worked out there by hand for
given weights; those of Flax 0.12 (`tests/linen/linen_attention_test.py`) say
which inputs a causal position depends on, and that steps equal one pass.
"""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.ops import scaled_dot_product_attention
from keras_attention.ops.gradients import value_and_input_gradient
from support.arrays import numpy


def test_equinox_dot_product_attention():
    """A softmax of 0 and 1: the second key has e times the weight."""
    query = np.array([0.0, 2**0.5], "float32").reshape(1, 1, 1, 2)
    key = np.eye(2, dtype="float32").reshape(1, 2, 1, 2)
    value = np.array([1.0, 0.0], "float32").reshape(1, 2, 1, 1)
    y = scaled_dot_product_attention(query, key, value)
    np.testing.assert_allclose(numpy(y), [[[[1 / (1 + np.e)]]]], rtol=1e-6)
    mask = np.array([True, False]).reshape(1, 1, 1, 2)
    y = scaled_dot_product_attention(query, key, value, mask=mask)
    assert numpy(y) == 1


def test_equinox_weights_of_half_precision_stay_below_one():
    layer = ka.ScaledDotProductAttention(dtype="float16")
    query = np.ones((1, 1, 1), "float16")
    key = np.array([[[9.0], [1.0]]], "float16")
    _, scores = layer(query, key, return_attention_scores=True)
    assert keras.backend.standardize_dtype(scores.dtype) == "float16"
    assert numpy(scores).max() < 1


@pytest.mark.parametrize("mask", [None, (1, 3, 3), (2, 3, 3)])
def test_equinox_multi_head_attention(mask):
    """All four projections have the weights 0 to 15, inputs are 1 to 12.

    The first token's values are 20, 60, 100 and 140, its output is the
    weights' product with them. With a mask of all other keys, every query
    has it.
    """
    layer = ka.MultiHeadAttention(2, key_dim=2, use_bias=False)
    layer.build((None, None, 4))
    weights = np.arange(16.0).reshape(4, 4)
    assert len(layer.weights) == 4
    for weight in layer.weights:
        weight.assign(weights.T.reshape(weight.shape))
    expected = np.array([680.0, 1960.0, 3240.0, 4520.0])
    if mask is None:
        x = np.array([[[1.0, 2.0, 3.0, 4.0]]], "float32")
        np.testing.assert_allclose(numpy(layer(x))[0, 0], expected)
        return
    x = np.arange(1, 13, dtype="float32").reshape(1, 3, 4)
    mask = np.broadcast_to([True, False, False], (1, *mask[-3:]))
    if mask.shape[1] == 1:
        mask = mask[:, 0]
    y = numpy(layer(x, attention_mask=mask))
    np.testing.assert_allclose(y[0], np.tile(expected, (3, 1)))


def test_flax_receptive_field_of_causal_attention():
    x = np.random.default_rng(0).normal(size=(1, 10, 1)).astype("float32")
    layer = ka.MultiHeadAttention(
        1, key_dim=1, causal=True, kernel_initializer="ones"
    )
    layer(x)
    for position in range(10):

        def output(x, position=position):
            return keras.ops.sum(layer(x)[:, position]), None

        gradient, _ = value_and_input_gradient(
            output, keras.ops.convert_to_tensor(x)
        )
        depends = np.abs(numpy(gradient))[0, :, 0] > 1e-5
        assert depends[: position + 1].all()
        assert not depends[position + 1 :].any()


def test_flax_decoding_over_one_axis_of_two():
    """Inputs `(B, 6, 5, C)` that attend along the second of the two axes."""
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 12)).astype("float32")
    layer = ka.MultiHeadAttention(3, key_dim=4, attention_axes=(2,))
    whole = numpy(layer(x, use_causal_mask=True))
    for count in range(1, 6):
        part = numpy(layer(x[:, :, :count], use_causal_mask=True))
        np.testing.assert_allclose(
            part[:, :, -1], whole[:, :, count - 1], atol=1e-5
        )
