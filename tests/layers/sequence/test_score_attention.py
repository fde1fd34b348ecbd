"""Additive attention and Luong's scores."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import attention_layers
from keras_attention.inspection import read_outputs
from support.arrays import numpy
from support.vision import build
from support.vision import draw_weights

LAYERS = {
    "additive": lambda **kwargs: ka.AdditiveAttention(**kwargs),
    "units": lambda **kwargs: ka.AdditiveAttention(units=5, **kwargs),
    "dot": lambda **kwargs: ka.LuongAttention(**kwargs),
    "general": lambda **kwargs: ka.LuongAttention("general", **kwargs),
    "concat": lambda **kwargs: ka.LuongAttention("concat", **kwargs),
}
layers = pytest.mark.parametrize("name", LAYERS)


def draw(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype("float32")


def inputs():
    """Query, value and key of different lengths and widths of values."""
    return draw(2, 3, 7), draw(2, 5, 4, seed=1), draw(2, 5, 7, seed=2)


def weights_of(layer):
    return {
        weight.path.rpartition(layer.name)[2].strip("/"): numpy(weight)
        for weight in layer.weights
    }


def score(name, layer, q, k):
    """The papers' formulas, for one query and one key."""
    w = weights_of(layer)
    if name == "additive":
        return w["scale"] @ np.tanh(q + k)
    if name in ("units", "concat"):
        # One matrix times the two vectors, one after the other.
        both = np.concatenate([w["query/kernel"], w["key/kernel"]])
        return w["scale"] @ np.tanh(np.concatenate([q, k]) @ both)
    return q @ w["query/kernel"] @ k if name == "general" else q @ k


def reference(name, layer, query, value, key, allowed):
    query, value, key = (x.astype("float64") for x in (query, value, key))
    output = np.zeros((*query.shape[:2], value.shape[2]))
    scores = np.zeros((*query.shape[:2], key.shape[1]))
    for b, t in np.ndindex(query.shape[:2]):
        keys = np.flatnonzero(allowed[b, t])
        if not len(keys):
            continue
        logits = np.array(
            [score(name, layer, query[b, t], key[b, s]) for s in keys]
        )
        weights = np.exp(logits - logits.max())
        scores[b, t, keys] = weights / weights.sum()
        output[b, t] = scores[b, t] @ value[b]
    return output, scores


@layers
@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_formula(name, causal):
    layer, (query, value, key) = LAYERS[name](), inputs()
    build(layer, [query.shape, value.shape, key.shape])
    query_mask = np.array([[1, 1, 0], [1, 1, 1]], bool)
    value_mask = np.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0]], bool)
    allowed = query_mask[:, :, None] & value_mask[:, None]
    if causal:
        allowed = allowed & np.tri(3, 5, dtype=bool)
    expected = reference(name, layer, query, value, key, allowed)
    query[~query_mask] = np.nan
    value[~value_mask], key[~value_mask] = np.inf, np.nan
    found = layer(
        [query, value, key],
        mask=[query_mask, value_mask],
        use_causal_mask=causal,
        return_attention_scores=True,
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-5, atol=1e-6)
    apart = layer(
        query,
        value,
        key,
        query_mask=query_mask,
        value_mask=value_mask,
        use_causal_mask=causal,
    )
    np.testing.assert_array_equal(numpy(apart), numpy(found[0]))


def test_by_hand():
    """Scores log 3 and 0: weights 3/4 and 1/4."""
    layer = ka.LuongAttention()
    key = np.array([[[np.log(3.0)], [0.0]]], "float32")
    value = np.array([[[4.0, 0.0], [0.0, 4.0]]], "float32")
    y = layer([np.ones((1, 1, 1), "float32"), value, key])
    np.testing.assert_allclose(numpy(y), [[[3.0, 1.0]]], rtol=1e-6)


# Keras' layer.


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_layer_of_keras(use_scale, causal):
    theirs = keras.layers.AdditiveAttention(use_scale=use_scale, dropout=0.1)
    query, value, key = inputs()
    theirs.build([query.shape, value.shape, key.shape])
    draw_weights(theirs)
    ours = ka.AdditiveAttention.from_config(theirs.get_config())
    assert ours.use_scale == use_scale
    assert ours.dropout == theirs.dropout
    ours.build([query.shape, value.shape, key.shape])
    ours.set_weights(theirs.get_weights())
    query_mask = np.array([[1, 1, 0], [1, 1, 1]], bool)
    value_mask = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 1, 0]], bool)
    arguments = {
        "mask": [query_mask, value_mask],
        "use_causal_mask": causal,
        "return_attention_scores": True,
    }
    found = ours([query, value, key], **arguments)
    expected = theirs([query, value, key], **arguments)
    np.testing.assert_allclose(
        numpy(found[0]), numpy(expected[0]), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        numpy(found[1])[query_mask],
        numpy(expected[1])[query_mask],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_keras_load(suffix, tmp_path):
    def model(layer):
        shapes = [keras.Input(x.shape[1:]) for x in inputs()]
        return keras.Model(shapes, layer(shapes))

    theirs = model(keras.layers.AdditiveAttention(name="attention"))
    draw_weights(theirs)
    path = str(tmp_path / f"model{suffix}")
    if suffix == ".keras":
        theirs.save(path)
        ours = keras.models.clone_model(
            keras.saving.load_model(path),
            clone_function=lambda layer: (
                ka.AdditiveAttention.from_config(layer.get_config())
                if isinstance(layer, keras.layers.AdditiveAttention)
                else type(layer).from_config(layer.get_config())
            ),
        )
        ours.set_weights(theirs.get_weights())
    else:
        theirs.save_weights(path)
        ours = model(ka.AdditiveAttention(name="attention"))
        ours.load_weights(path)
    found, expected = ours(list(inputs())), theirs(list(inputs()))
    np.testing.assert_allclose(numpy(found), numpy(expected), rtol=1e-5)


# Masks that the inputs carry.


@layers
@pytest.mark.parametrize("as_list", [True, False])
def test_masks_of_an_embedding_and_an_lstm(name, as_list):
    tokens = np.array([[3, 4, 0, 0], [5, 6, 7, 1]])
    embedding = keras.layers.Embedding(9, 6, mask_zero=True)
    states = keras.layers.LSTM(6, return_sequences=True)(embedding(tokens))
    query = embedding(np.array([[1, 0], [2, 3]]))
    layer = LAYERS[name]()
    given = ([query, states],) if as_list else (query, states)
    output, scores = layer(*given, return_attention_scores=True)
    scores = numpy(scores)
    assert (scores[0, :, 2:] == 0).all()
    assert (scores[0, 1] == 0).all()
    np.testing.assert_allclose(scores[0, 0].sum(), 1, rtol=1e-6)
    mask = numpy(output._keras_mask)
    np.testing.assert_array_equal(mask, [[1, 0], [1, 1]])


def test_functional_model_and_inspection():
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 6, mask_zero=True)(tokens)
    states, last, _ = keras.layers.LSTM(
        6, return_sequences=True, return_state=True
    )(x)
    query = keras.layers.Reshape((1, 6))(last)
    layer = ka.AdditiveAttention(units=4, name="attention")
    context = keras.layers.Flatten()(layer([query, states]))
    model = keras.Model(tokens, keras.layers.Dense(2)(context))
    assert attention_layers(model) == [layer]
    given = np.array([[3, 4, 0, 0], [5, 6, 7, 1]])
    _, values = read_outputs(model, given, ["attention:scores"])
    scores = numpy(values["attention:scores"])
    assert scores.shape == (2, 1, 4)
    assert (scores[0, 0, 2:] == 0).all()
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-6)


# Edges.


@layers
def test_keys_that_come_after_the_last_query_may_hold_anything(name):
    query, value, key = inputs()
    layer = LAYERS[name]()
    expected = numpy(layer(query, value, key, use_causal_mask=True))
    value[:, 3:], key[:, 3:] = np.inf, np.nan
    found = layer(query, value, key, use_causal_mask=True)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-5, atol=1e-6)


@layers
@pytest.mark.parametrize("lengths", [(0, 3), (3, 0), (1, 1)])
def test_few_tokens(name, lengths):
    query, key = draw(2, lengths[0], 6), draw(2, lengths[1], 6)
    output, scores = LAYERS[name]()([query, key], return_attention_scores=True)
    assert tuple(output.shape) == query.shape
    assert tuple(scores.shape) == (2, *lengths)
    assert np.isfinite(numpy(output)).all()


def test_large_values_in_half_precision():
    """Products of 3.2e5, which float16 does not hold."""
    layer = ka.LuongAttention(dtype="mixed_float16")
    x = np.full((1, 2, 8), 200.0, "float32")
    np.testing.assert_allclose(numpy(layer(x)), x)


@layers
def test_dropout_is_of_the_scores_in_training(name):
    layer = LAYERS[name](dropout=0.5, seed=1)
    x = draw(2, 9, 6)
    plain, scores = layer(x, return_attention_scores=True)
    dropped, same = layer(x, return_attention_scores=True, training=True)
    np.testing.assert_allclose(numpy(same), numpy(scores), rtol=1e-6)
    assert np.abs(numpy(dropped) - numpy(plain)).max() > 1e-2


@layers
def test_symbolic_shapes(name):
    query = keras.KerasTensor((None, None, 6))
    value = keras.KerasTensor((None, None, 6))
    output, scores = LAYERS[name]()(
        [query, value], return_attention_scores=True
    )
    assert output.shape == (None, None, 6)
    assert scores.shape == (None, None, None)


@pytest.mark.parametrize(
    "error, match, call",
    [
        (ValueError, "Did you mean", lambda: ka.LuongAttention("generl")),
        (TypeError, "`units`", lambda: ka.LuongAttention("concat", 2.5)),
        (ValueError, "`units`", lambda: ka.AdditiveAttention(units=0)),
        (TypeError, "`use_scale`", lambda: ka.AdditiveAttention(1)),
        (ValueError, "`dropout`", lambda: ka.AdditiveAttention(dropout=1)),
        (
            ValueError,
            'score="general"',
            lambda: ka.LuongAttention()([draw(2, 3, 4), draw(2, 3, 5)]),
        ),
        (
            ValueError,
            "Give `units`",
            lambda: ka.AdditiveAttention()([draw(2, 3, 4), draw(2, 3, 5)]),
        ),
        (
            ValueError,
            "list of 1",
            lambda: ka.AdditiveAttention()([draw(2, 3, 4)]),
        ),
        (ValueError, "rank 3", lambda: ka.AdditiveAttention()(draw(2, 3))),
        (
            ValueError,
            "key without value",
            lambda: ka.LuongAttention()(draw(2, 3, 4), key=draw(2, 3, 4)),
        ),
        (
            ValueError,
            "same length",
            lambda: ka.LuongAttention()(
                [draw(2, 3, 4), draw(2, 3, 4), draw(2, 5, 4)]
            ),
        ),
        (
            TypeError,
            "boolean",
            lambda: ka.LuongAttention()(
                draw(2, 3, 4), mask=np.ones((2, 3), "float32")
            ),
        ),
        (
            ValueError,
            "value_mask",
            lambda: ka.LuongAttention()(
                [draw(2, 3, 4), draw(2, 5, 4)],
                mask=[None, np.ones((2, 3), bool)],
            ),
        ),
    ],
)
def test_wrong_arguments(error, match, call):
    with pytest.raises(error, match=match):
        call()


def test_widths_of_another_call():
    layer = ka.AdditiveAttention()
    layer(draw(2, 3, 4))
    with pytest.raises(ValueError, match="was built"):
        layer(draw(2, 3, 5))
