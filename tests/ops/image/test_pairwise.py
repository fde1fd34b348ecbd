import keras
import numpy as np
import pytest

from keras_attention.ops.image import pairwise
from support.arrays import numpy
from support.vision import image
from support.vision import relu


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def tensors(dtype="float32"):
    shapes = (2, 5, 3), (2, 7, 3)
    return [
        keras.ops.cast(image(shape, seed), dtype)
        for seed, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_scores(dtype):
    query, key = tensors(dtype)
    products = 0.5 * numpy(query) @ numpy(key).swapaxes(1, 2)
    found = [
        pairwise.softmax_scores(query, key, 0.5),
        pairwise.product_scores(query, key, 0.5),
    ]
    expected = [softmax(products), products / 7]
    for ours, theirs in zip(found, expected, strict=True):
        assert keras.backend.standardize_dtype(ours.dtype) == "float32"
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-4, atol=1e-6)


def test_sum_scores():
    query, key = image((2, 5, 1)), image((2, 7, 1), seed=1)
    expected = relu(query + key.swapaxes(1, 2)) / 7
    np.testing.assert_allclose(
        numpy(pairwise.sum_scores(*map(keras.ops.array, (query, key)))),
        expected,
        rtol=1e-5,
    )


def test_weighted_values():
    scores, value = image((2, 5, 7)), image((2, 7, 3), seed=1)
    np.testing.assert_allclose(
        numpy(pairwise.weighted_values(scores, value)),
        scores @ value,
        rtol=1e-4,
        atol=1e-5,
    )


def test_softmax_pool():
    x, logits = image((2, 3, 5, 4)), image((2, 3, 5), seed=1)
    context, weights = pairwise.softmax_pool(x, logits)
    expected = softmax(logits.reshape(2, 15)).reshape(2, 3, 5)
    np.testing.assert_allclose(numpy(weights), expected, rtol=1e-5)
    np.testing.assert_allclose(
        numpy(context),
        (expected[..., None] * x).sum((1, 2)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_one_position():
    x = image((2, 1, 1, 4))
    context, weights = pairwise.softmax_pool(x, image((2, 1, 1), seed=1))
    np.testing.assert_array_equal(numpy(weights), 1)
    np.testing.assert_allclose(numpy(context), x[:, 0, 0], rtol=1e-6)
