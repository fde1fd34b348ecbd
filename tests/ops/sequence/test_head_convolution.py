"""Every way of the two convolutions gives what the equation says."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from conformance.harness import BACKEND
from conformance.harness import float64_mode
from keras_attention.ops.sequence import head_convolution as hc
from support.arrays import numpy

WAYS = {
    "chosen": lambda x, f, padding: (
        hc.lightweight_convolution(x, f, padding)
        if len(f.shape) == 2
        else hc.dynamic_convolution(x, f, padding)
    ),
    "shifted": hc.shifted_convolution,
    "blocks": lambda x, f, padding: hc._blocks(x, f, pads(f, padding)),
}


def pads(filters, padding):
    return hc.pad_widths(filters.shape[-1], padding)


def reference(x, filters, padding="same"):
    """The sum of the paper, one product at a time."""
    taps, heads = filters.shape[-1], filters.shape[-2]
    left = {"same": (taps - 1) // 2, "causal": taps - 1, "valid": 0}[padding]
    length = x.shape[1] - (taps - 1 if padding == "valid" else 0)
    y = np.zeros((x.shape[0], length, x.shape[2]))
    for b, t, c in np.ndindex(y.shape):
        head = c * heads // x.shape[2]
        row = filters[head] if filters.ndim == 2 else filters[b, t, head]
        for j in range(taps):
            if 0 <= t + j - left < x.shape[1]:
                y[b, t, c] += row[j] * x[b, t + j - left, c]
    return y


def reference_gradients(x, filters, dy, padding):
    """What each product adds, to its x and to its filter."""
    taps, heads = filters.shape[-1], filters.shape[-2]
    left = {"same": (taps - 1) // 2, "causal": taps - 1, "valid": 0}[padding]
    dx, df = np.zeros(x.shape), np.zeros(filters.shape)
    for b, t, c in np.ndindex(dy.shape):
        head = c * heads // x.shape[2]
        at = (head,) if filters.ndim == 2 else (b, t, head)
        for j in range(taps):
            u = t + j - left
            if 0 <= u < x.shape[1]:
                dx[b, u, c] += filters[(*at, j)] * dy[b, t, c]
                df[(*at, j)] += x[b, u, c] * dy[b, t, c]
    return dx, df


def draw(kind, batch, length, heads, size, taps, padding, seed=0):
    generator = np.random.default_rng(seed)
    if padding == "valid":
        length += taps - 1
    x = generator.normal(size=(batch, length, heads * size))
    length -= taps - 1 if padding == "valid" else 0
    shape = (heads, taps)
    if kind == "dynamic":
        shape = (batch, length, *shape)
    dy = generator.normal(size=(batch, length, heads * size))
    return x, generator.normal(size=shape), dy


def gradients(function, x, filters, dy, jit=False):
    """The output, and the gradients of `sum(dy * y)`."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def compute(x, filters, dy):
            with tf.GradientTape() as tape:
                tape.watch([x, filters])
                y = function(x, filters)
            return y, *tape.gradient(y, [x, filters], dy)

        if jit:
            compute = tf.function(compute, jit_compile=True, autograph=False)
        return compute(*map(tf.convert_to_tensor, (x, filters, dy)))
    if BACKEND == "jax":
        import jax

        @jax.jit
        def compute(x, filters, dy):
            y, pullback = jax.vjp(function, x, filters)
            return y, *pullback(dy)

        return compute(x, filters, dy)
    x, filters, dy = map(keras.ops.convert_to_tensor, (x, filters, dy))
    x.requires_grad_(), filters.requires_grad_()
    y = function(x, filters)
    y.backward(dy)
    return y.detach(), x.grad, filters.grad


def check(way, kind, padding, *sizes, jit=False):
    x, filters, dy = draw(kind, *sizes, padding)
    expected = reference(x, filters, padding)
    expected = expected, *reference_gradients(x, filters, dy, padding)
    with float64_mode():
        found = gradients(
            lambda x, f: WAYS[way](x, f, padding), x, filters, dy, jit
        )
        for value, wanted in zip(found, expected, strict=True):
            assert tuple(value.shape) == wanted.shape
            np.testing.assert_allclose(numpy(value), wanted, atol=1e-11)


CASES = [
    # batch, length, heads, channels of a head, taps, padding
    (2, 11, 3, 5, 7, "same"),
    (2, 11, 3, 5, 7, "causal"),
    (2, 11, 3, 5, 7, "valid"),
    (2, 67, 2, 3, 5, "same"),  # not a multiple of the block
    (1, 64, 2, 3, 4, "same"),  # a multiple, an even number of taps
    (1, 33, 2, 3, 4, "valid"),
    (1, 5, 2, 3, 13, "same"),  # fewer positions than taps
    (1, 5, 2, 3, 13, "causal"),
    (2, 1, 2, 3, 5, "same"),  # one position
    (2, 1, 2, 3, 5, "valid"),
    (1, 45, 1, 2, 41, "same"),  # a filter longer than a block
    (1, 37, 2, 1, 71, "causal"),  # than two, and too long for shifts
    (2, 7, 2, 3, 1, "same"),
    (2, 7, 5, 1, 2, "same"),
    (2, 7, 1, 5, 3, "causal"),
]
kinds = pytest.mark.parametrize("kind", ["lightweight", "dynamic"])


@pytest.mark.parametrize("case", CASES, ids=str)
@kinds
@pytest.mark.parametrize("way", WAYS)
def test_equals_the_sum(way, kind, case):
    *sizes, padding = case
    check(way, kind, padding, *sizes)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "sizes, padding",
    [
        ((2, 37, 3, 2, 4), "same"),
        ((1, 5, 2, 3, 9), "causal"),
        ((2, 1, 2, 3, 3), "valid"),
        ((1, 37, 2, 1, 71), "same"),
    ],
)
@kinds
def test_equals_the_sum_under_xla(kind, sizes, padding):
    check("chosen", kind, padding, *sizes, jit=True)


@settings(
    # JAX compiles each drawn shape anew.
    max_examples=5 if BACKEND == "jax" else 25,
    deadline=None,
    derandomize=True,
)
@given(
    st.sampled_from(["lightweight", "dynamic"]),
    st.sampled_from(hc.PADDINGS),
    st.integers(1, 2),
    st.integers(1, 70),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 40),
)
def test_drawn_sizes(kind, padding, batch, length, heads, size, taps):
    x, filters, dy = draw(kind, batch, length, heads, size, taps, padding)
    with float64_mode():
        plain = gradients(
            lambda x, f: hc.shifted_convolution(x, f, padding), x, filters, dy
        )
        fast = gradients(
            lambda x, f: WAYS["chosen"](x, f, padding), x, filters, dy
        )
        for value, wanted in zip(fast, plain, strict=True):
            np.testing.assert_allclose(
                numpy(value), numpy(wanted), rtol=1e-10, atol=1e-10
            )


@pytest.mark.tensorflow
@kinds
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_unknown_batch_and_length(kind, jit):
    import tensorflow as tf

    shape = (None, None, 2, 5) if kind == "dynamic" else (2, 5)
    length = []

    @tf.function(
        jit_compile=jit,
        autograph=False,
        input_signature=[
            tf.TensorSpec((None, None, 6), tf.float64),
            tf.TensorSpec(shape, tf.float64),
        ],
    )
    def compute(x, filters):
        length.append(x.shape[1])
        with tf.GradientTape() as tape:
            tape.watch([x, filters])
            y = WAYS["chosen"](x, filters, "causal")
        return y, *tape.gradient(y, [x, filters], tf.cos(y))

    for batch, steps in ((2, 1), (1, 3), (3, 32), (1, 75)):
        x, filters, _ = draw(kind, batch, steps, 2, 3, 5, "causal")
        y = reference(x, filters, "causal")
        expected = reference_gradients(x, filters, np.cos(y), "causal")
        for value, wanted in zip(
            compute(x, filters), (y, *expected), strict=True
        ):
            np.testing.assert_allclose(value, wanted, atol=1e-11)
    assert length == [None]


@pytest.mark.tensorflow
def test_the_way_depends_on_the_mode():
    """A convolution op, which XLA has no good one for, or shifted products."""
    import tensorflow as tf

    found = {}
    for jit in (False, True):

        @tf.function(jit_compile=jit, autograph=False)
        def light(x, filters):
            return hc.lightweight_convolution(x, filters)

        @tf.function(jit_compile=jit, autograph=False)
        def outer(x, filters, inner=light):
            return inner(x, filters)

        for function in (light, outer):
            graph = function.get_concrete_function(
                tf.zeros((1, 7, 4)), tf.zeros((2, 5))
            ).graph
            definition = str(graph.as_graph_def())
            found[jit, function is outer] = "DepthwiseConv2d" in definition
    assert found == {
        (False, False): True,
        (False, True): True,
        (True, False): False,
        (True, True): False,
    }


@kinds
def test_second_order(kind):
    """Gradient of the squared gradient, against the plain way's."""
    x, filters, dy = draw(kind, 2, 35, 2, 2, 5, "same")
    x, filters, dy = x / 4, filters / 4, dy / 4
    with float64_mode():
        fast, plain = [
            second_order(
                lambda x, f, way=way: WAYS[way](x, f, "same"), x, filters
            )
            for way in ("chosen", "shifted")
        ]
        for value, wanted in zip(fast, plain, strict=True):
            assert np.abs(numpy(wanted)).max() > 1e-3
            np.testing.assert_allclose(
                numpy(value), numpy(wanted), rtol=1e-9, atol=1e-10
            )


@pytest.mark.tensorflow
@kinds
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_second_order_in_a_graph(kind, jit):
    import tensorflow as tf

    x, filters, _ = draw(kind, 2, 35, 2, 2, 5, "same")
    x, filters = x / 4, filters / 4
    compiled = tf.function(
        lambda x, f: second_order(
            lambda x, f: WAYS["chosen"](x, f, "same"), x, f
        ),
        jit_compile=jit,
        autograph=False,
    )
    plain = second_order(hc.shifted_convolution, x, filters)
    found = compiled(tf.constant(x), tf.constant(filters))
    for value, wanted in zip(found, plain, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-10)


def second_order(function, x, filters):
    """Gradients of the squared gradients of `sum(y ** 3)`."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x, filters = tf.convert_to_tensor(x), tf.convert_to_tensor(filters)
        with tf.GradientTape() as outer:
            outer.watch([x, filters])
            with tf.GradientTape() as inner:
                inner.watch([x, filters])
                total = tf.reduce_sum(function(x, filters) ** 3)
            first = inner.gradient(total, [x, filters])
            norm = sum(tf.reduce_sum(g**2) for g in first)
        return outer.gradient(norm, [x, filters])
    if BACKEND == "jax":
        import jax

        def norm(x, filters):
            first = jax.grad(
                lambda x, f: (function(x, f) ** 3).sum(), argnums=(0, 1)
            )(x, filters)
            return sum((g**2).sum() for g in first)

        return jax.jit(jax.grad(norm, argnums=(0, 1)))(x, filters)
    import torch

    x, filters = torch.tensor(x), torch.tensor(filters)
    x.requires_grad_(), filters.requires_grad_()
    total = (function(x, filters) ** 3).sum()
    first = torch.autograd.grad(total, [x, filters], create_graph=True)
    norm = sum((g**2).sum() for g in first)
    return [g.detach() for g in torch.autograd.grad(norm, [x, filters])]


@kinds
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(kind, dtype):
    x, filters, dy = draw(kind, 2, 67, 2, 3, 7, "same")
    filters = np.exp(filters) / np.exp(filters).sum(-1, keepdims=True)
    x, filters, dy = [
        keras.ops.cast(a.astype("float32"), dtype) for a in (x, filters, dy)
    ]
    y = WAYS["chosen"](x, filters, "same")
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    precision = {"float16": 2e-3, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(
        numpy(y), reference(numpy(x), numpy(filters)), atol=precision
    )


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "xla"])
@kinds
def test_half_precision_gradients(kind, jit):
    x, filters, dy = draw(kind, 2, 67, 2, 3, 7, "same")
    filters = np.exp(filters) / np.exp(filters).sum(-1, keepdims=True)
    half = [a.astype("float16") for a in (x, filters, dy)]
    found = gradients(lambda x, f: WAYS["chosen"](x, f, "same"), *half, jit=jit)
    exact = [a.astype("float64") for a in half]
    for value, wanted in zip(
        found[1:], reference_gradients(*exact, "same"), strict=True
    ):
        assert keras.backend.standardize_dtype(value.dtype) == "float16"
        scale = np.abs(wanted).max()
        assert np.abs(numpy(value) - wanted).max() < 3e-3 * scale


def test_worked_by_hand():
    """Two heads of one channel: one looks ahead, one looks back."""
    x = np.array([[[1, 10], [2, 20], [3, 30]]], "float32")
    filters = np.array([[0, 0, 1], [1, 0, 0]], "float32")
    y = numpy(hc.lightweight_convolution(x, filters))
    np.testing.assert_array_equal(y[0], [[2, 0], [3, 10], [0, 20]])
    causal = numpy(hc.lightweight_convolution(x, filters, "causal"))
    np.testing.assert_array_equal(causal[0], [[1, 0], [2, 0], [3, 10]])
    per_position = np.broadcast_to(filters, (1, 3, 2, 3)).copy()
    per_position[0, 1, 0] = [5, 0, 0]
    y = numpy(hc.dynamic_convolution(x, per_position))
    np.testing.assert_array_equal(y[0], [[2, 0], [5, 10], [0, 20]])


def test_pad_widths():
    widths = {
        (5, "same"): (2, 2),
        (4, "same"): (1, 2),
        (1, "same"): (0, 0),
        (4, "causal"): (3, 0),
        (4, "valid"): (0, 0),
    }
    for (taps, padding), expected in widths.items():
        assert hc.pad_widths(taps, padding) == expected
