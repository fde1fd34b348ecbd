"""Chunked attention equals the plain one, on every backend."""

import keras
import numpy as np
import pytest

from conformance.harness import BACKEND
from keras_attention.ops.attention.scaled_dot_product import (
    scaled_dot_product_attention,
)
from support.arrays import numpy

OPTIONS = {
    "plain": {},
    "causal": {"causal": True, "logit_soft_cap": 2.0},
    "window": {"causal": True, "window": 5},
    "both-sides": {"window": 3},
    "mask": {"mask": np.random.default_rng(0).random((2, 1, 1, 11)) < 0.7},
}


def gradients(function, arrays):
    """Of the summed squared output to each of the inputs."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        values = [tf.constant(x) for x in arrays]
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(function(*values) ** 2)
        return tape.gradient(total, values)
    if BACKEND == "jax":
        import jax

        return jax.grad(lambda values: (function(*values) ** 2).sum())(
            [jax.numpy.asarray(x) for x in arrays]
        )
    values = [
        keras.ops.convert_to_tensor(x).detach().requires_grad_() for x in arrays
    ]
    (function(*values) ** 2).sum().backward()
    return [value.grad for value in values]


@pytest.mark.parametrize("name", OPTIONS)
def test_chunked_equals_plain(name, monkeypatch):
    monkeypatch.setattr(
        "keras_attention.ops.attention.chunk_plan.QUERIES_PER_CHUNK",
        (4, 4),
    )
    generator = np.random.default_rng(1)
    shapes = [(2, 9, 4, 3), (2, 11, 2, 3), (2, 11, 2, 5), (4, 19)]
    arrays = [generator.normal(size=s).astype("float32") for s in shapes]
    results = []
    for way in ("plain", "chunked"):

        def attend(query, key, value, by_distance, way=way):
            return scaled_dot_product_attention(
                query,
                key,
                value,
                distance_bias=by_distance,
                **OPTIONS[name],
                implementation=way,
            )

        results.append([attend(*arrays), *gradients(attend, arrays)])
    for one, other in zip(*results, strict=True):
        one, other = (
            numpy(x.detach() if BACKEND == "torch" else x) for x in (one, other)
        )
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_dropout_is_drawn_anew_for_each_chunk(monkeypatch):
    monkeypatch.setattr(
        "keras_attention.ops.attention.chunk_plan.QUERIES_PER_CHUNK",
        (4, 4),
    )
    x = np.ones((1, 8, 1, 2), "float32")
    values = np.eye(8, dtype="float32")[None, :, None]
    for way in ("plain", "chunked"):
        weights = [
            numpy(
                scaled_dot_product_attention(
                    x, x, values, dropout=0.5, seed=3, implementation=way
                )
            )[0, :, 0]
            for _ in range(2)
        ]
        np.testing.assert_array_equal(*weights)
        assert set(weights[0].round(6).ravel()) == {0.0, 0.25}
        assert (weights[0][:4] != weights[0][4:]).any()
