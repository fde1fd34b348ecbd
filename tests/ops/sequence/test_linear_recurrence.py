"""Linear recurrences: three forms, the papers' steps, masks, extremes."""

import keras
import numpy as np
import pytest

from keras_attention import ops
from keras_attention.ops.sequence.linear_recurrence import FORMS
from support.arrays import numpy
from support.networks import first_of
from support.vision import vjp

BATCH, HEADS, WIDTH, VALUES = 2, 3, 6, 5
forms = pytest.mark.parametrize("form", FORMS)


def draw(length, seed=0):
    """Query, key, value, log decays of features, and β, in float32."""
    generator = np.random.default_rng(seed)
    query, key, gates = generator.normal(size=(3, BATCH, length, HEADS, WIDTH))
    value = generator.normal(size=(BATCH, length, HEADS, VALUES))
    beta = generator.uniform(size=(BATCH, length, HEADS))
    tensors = query, key, value, -np.exp(gates), beta
    return [x.astype("float32") for x in tensors]


def unit(key):
    return key / np.linalg.norm(key, axis=-1, keepdims=True)


def call(name, tensors, **arguments):
    query, key, value, gates, beta = tensors
    if name == "linear":
        return ops.linear_attention(query, key, value, causal=True, **arguments)
    if name == "retention":
        return ops.retention(query, key, value, **arguments)
    if name == "gated":
        return ops.gated_linear_attention(query, key, value, gates, **arguments)
    return ops.gated_delta_rule(
        query, unit(key), value, gates[..., 0], beta, **arguments
    )


NAMES = ("linear", "retention", "gated", "delta")
names = pytest.mark.parametrize("name", NAMES)


def phi(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def steps(name, tensors, mask=None):
    """The papers' recurrences, token by token, in float64.

    Returns output and last state.
    """
    query, key, value, gates, beta = (x.astype("float64") for x in tensors)
    batch, length = query.shape[:2]
    output = np.zeros((batch, length, HEADS, VALUES))
    last = np.zeros((batch, HEADS, WIDTH, VALUES + (name == "linear")))
    for b, h in np.ndindex(batch, HEADS):
        state = np.zeros((WIDTH, VALUES))
        total = np.zeros(WIDTH)
        for t in range(length):
            if mask is not None and not mask[b, t]:
                continue
            q, k, v = query[b, t, h], key[b, t, h], value[b, t, h]
            scale = WIDTH**-0.5
            if name == "linear":
                q, k, scale = phi(q), phi(k), 1
                total += k
                scale = 1 / (q @ total)
            elif name == "retention":
                state *= 1 - 2.0 ** (-5 - h)
            elif name == "gated":
                state *= np.exp(gates[b, t, h])[:, None]
            else:
                k = k / np.linalg.norm(k)
                rate = beta[b, t, h]
                # As in the paper, whose state is the transposed one.
                forgotten = np.eye(WIDTH) - rate * np.outer(k, k)
                state = np.exp(gates[b, t, h, 0]) * forgotten @ state
                v = rate * v
            state = state + np.outer(k, v)
            output[b, t, h] = scale * q @ state
        last[b, h, :, :VALUES] = state
        if name == "linear":
            last[b, h, :, VALUES] = total
    return output, last


@names
@forms
@pytest.mark.parametrize("length", [1, 19])
def test_equals_the_steps_of_the_paper(name, form, length):
    tensors = draw(length)
    found = call(name, tensors, form=form, chunk_size=8)
    for ours, expected in zip(found, steps(name, tensors), strict=True):
        np.testing.assert_allclose(numpy(ours), expected, rtol=1e-3, atol=2e-5)


@names
@forms
@pytest.mark.parametrize("kind", ["left", "right", "scattered"])
def test_masked_tokens_are_as_if_they_were_not_there(name, form, kind):
    """Of which the steps skip the masked ones."""
    tensors = draw(11)
    mask = np.random.default_rng(1).uniform(size=(BATCH, 11)) > 0.4
    if kind != "scattered":
        mask[0] = np.arange(11) >= 5 if kind == "left" else np.arange(11) < 5
        mask[1] = kind == "left"
    noise = [x.copy() for x in tensors]
    for x in noise:
        x[~mask] = np.nan
    y, state = call(name, noise, mask=mask, form=form, chunk_size=4)
    expected, last = steps(name, tensors, mask)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(numpy(state), last, rtol=1e-3, atol=2e-5)
    assert (numpy(y)[~mask] == 0).all()


@names
@forms
def test_goes_on_from_a_state(name, form):
    tensors = draw(13)
    whole, last = steps(name, tensors)
    state, found = None, []
    for piece in (slice(0, 5), slice(5, 6), slice(6, 13)):
        y, state = call(
            name,
            [x[:, piece] for x in tensors],
            initial_state=state,
            form=form,
            chunk_size=4,
        )
        found.append(numpy(y))
    np.testing.assert_allclose(
        np.concatenate(found, axis=1), whole, rtol=1e-3, atol=2e-5
    )
    np.testing.assert_allclose(numpy(state), last, rtol=1e-3, atol=2e-5)


@names
def test_gradients_of_the_forms_are_equal(name):
    """To queries, keys, values, gates and β, in one tensor."""
    tensors = draw(11)
    tensors[4] = tensors[4][..., None]
    widths = np.cumsum([x.shape[-1] for x in tensors])[:-1].tolist()
    generator = np.random.default_rng(2)
    upstream = generator.normal(size=(BATCH, 11, HEADS, VALUES))

    def run(x, form):
        parts = keras.ops.split(x, widths, axis=-1)
        query, key, value, gates, beta = parts
        arguments = {"form": form, "chunk_size": 4}
        if name == "delta":
            return ops.gated_delta_rule(
                query,
                0.4 * key,
                value,
                gates[..., 0],
                beta[..., 0],
                **arguments,
            )[0]
        return call(name, parts, **arguments)[0]

    expected, *found = (
        numpy(
            vjp(
                lambda x, form=form: run(x, form),
                np.concatenate(tensors, axis=-1),
                upstream.astype("float32"),
            )
        )
        for form in FORMS
    )
    assert np.abs(expected).max() > 0
    for gradient in found:
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_linear_attention_of_all_tokens(masked):
    """Equation 4 of the paper: every query reads every key."""
    query, key, value, *_ = draw(11)
    mask = np.ones((BATCH, 11), bool)
    if masked:
        mask[0, 7:], mask[1, :3] = False, False
    noise = [np.where(mask[..., None, None], x, np.nan) for x in (query, key)]
    y, _ = ops.linear_attention(*noise, value, mask=mask if masked else None)
    weights = np.einsum("btnd,bsnd->bnts", phi(query), phi(key))
    weights = weights * mask[:, None, None]
    weights = weights / weights.sum(-1, keepdims=True)
    expected = np.einsum("bnts,bsne->btne", weights, value)
    expected = np.where(mask[..., None, None], expected, 0)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-5)


@forms
def test_a_value_is_replaced_by_hand(form):
    """One key: 3 is stored, half of it taken out for 5, then all cleared."""
    key = np.zeros((1, 3, 1, 2), "float32")
    key[..., 0] = 1
    value = np.array([3.0, 5.0, 7.0], "float32").reshape(1, 3, 1, 1)
    beta = np.array([1.0, 0.5, 0.5], "float32").reshape(1, 3, 1)
    log_decay = np.array([0.0, 0.0, -np.inf], "float32").reshape(1, 3, 1)
    y, _ = ops.gated_delta_rule(
        key, key, value, log_decay, beta, scale=1.0, form=form
    )
    np.testing.assert_allclose(numpy(y).ravel(), [3, 4, 3.5], rtol=1e-6)


# Extremes.


@names
@pytest.mark.parametrize("form", ["chunked", "parallel"])
@pytest.mark.parametrize("gate", [-1e4, -88.0, -1e-8])
def test_extreme_gates(name, form, gate):
    """Sums of 130 gates, whose exponentials neither float16 nor 32 holds."""
    tensors = draw(130)
    tensors[3] = np.full_like(tensors[3], gate)
    y, state = call(name, tensors, form=form)
    expected, last = steps(name, tensors)
    np.testing.assert_allclose(numpy(y), expected, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(numpy(state), last, rtol=2e-3, atol=1e-4)


@names
def test_equal_keys_are_no_difficulty(name):
    """The matrix that the delta rule inverts is then as bad as it gets."""
    tensors = draw(130)
    tensors[1][:] = tensors[1][:, :1]
    tensors[3][:] = -1e-3
    tensors[4][:] = 1
    y, _ = call(name, tensors)
    np.testing.assert_allclose(
        numpy(y), steps(name, tensors)[0], rtol=1e-3, atol=1e-3
    )


@names
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes(name, dtype):
    tensors = draw(70)
    given = [keras.ops.cast(x, dtype) for x in tensors]
    if name == "delta":
        query, key, value, gates, beta = given
        key = keras.ops.cast(unit(tensors[1]), dtype)
        y, state = ops.gated_delta_rule(query, key, value, gates[..., 0], beta)
    else:
        y, state = call(name, given)
    # JAX computes in float64 only where it is told to.
    is_narrowed = dtype == "float64" and keras.backend.backend() == "jax"
    found = keras.backend.standardize_dtype(y.dtype)
    assert found == ("float32" if is_narrowed else dtype)
    wide = "float64" if dtype == "float64" else "float32"
    found = keras.backend.standardize_dtype(state.dtype)
    assert found == ("float32" if is_narrowed else wide)
    expected, _ = steps(name, tensors)
    scale = np.abs(expected).max()
    error = np.abs(numpy(y) - expected).max() / scale
    assert error < {"float16": 5e-3, "bfloat16": 4e-2, "float64": 1e-5}[dtype]


def test_sums_are_in_float32():
    """4,096 ones: in float16, 2,048 + 1 is 2,048."""
    ones = np.ones((1, 4096, 1, 1), "float16")
    y, state = ops.retention(ones, ones, ones, decay=[1.0], scale=1 / 64)
    assert numpy(state).item() == 4096
    np.testing.assert_allclose(numpy(y)[0, -1, 0, 0], 64)


@names
@forms
def test_no_tokens(name, form):
    y, state = call(name, draw(0), form=form)
    assert tuple(y.shape) == (BATCH, 0, HEADS, VALUES)
    assert (numpy(state) == 0).all()


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", first_of(NAMES, 1))
def test_unknown_sizes_in_a_graph(name):
    import tensorflow as tf

    tensors = draw(70)
    tensors[1] = unit(tensors[1])
    spec = [tf.TensorSpec((None, None, *x.shape[2:])) for x in tensors]

    def run(query, key, value, gates, beta):
        if name == "delta":
            return ops.gated_delta_rule(query, key, value, gates[..., 0], beta)[
                0
            ]
        return call(name, (query, key, value, gates, beta))[0]

    found = tf.function(run, input_signature=spec)(*tensors)
    expected, _ = steps(name, tensors)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-3, atol=2e-5)


# Wrong arguments.


def zeros(*shape):
    return np.zeros(shape, "float32")


@pytest.mark.parametrize(
    "match, arguments",
    [
        ("`form` must be one of", {"form": "chunks"}),
        ("power of two", {"chunk_size": 48}),
        ("`key` must have the shape", {"key": zeros(2, 4, 3, 5)}),
        ("`value` must have the shape", {"value": zeros(2, 4, 2, 6)}),
        ("`mask` must have the shape", {"mask": np.ones((2, 3), bool)}),
        ("`initial_state` must", {"initial_state": zeros(2, 3, 5, 6)}),
        ("`decay` must have a number", {"decay": [0.5, 0.5]}),
        ("`decay` must have a number", {"decay": [0.5, 0.5, 1.5]}),
    ],
)
def test_wrong_arguments(match, arguments):
    tensors = {name: zeros(2, 4, 3, 6) for name in ("query", "key", "value")}
    with pytest.raises(ValueError, match=match):
        ops.retention(**{**tensors, **arguments})


def test_wrong_gates():
    x = zeros(2, 4, 3, 6)
    with pytest.raises(ValueError, match="`log_decay` must have the shape"):
        ops.gated_linear_attention(x, x, x, x[..., 0])
    with pytest.raises(ValueError, match="`beta` must have the shape"):
        ops.gated_delta_rule(x, x, x, x[..., 0], x)
