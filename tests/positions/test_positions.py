"""Positions as objects: saved with a layer, given per call."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention import positions
from support.arrays import numpy
from support.attention import draw

OBJECTS = {
    "rotary": positions.Rotary(
        "half", 0.5, 30.0, positions.YaRNScaling(2.0, 32)
    ),
    "llama": positions.Rotary(scaling=positions.Llama3Scaling()),
    "alibi": positions.ALiBi(4.0),
    "relative": positions.RelativeBias(6, 9),
}
objects = pytest.mark.parametrize("name", OBJECTS)


def tokens(*shape, seed=0):
    return draw(*shape, 16, seed=seed, dtype="float32")


def make(name, **arguments):
    layer = ka.MultiHeadAttention(
        2, positions=OBJECTS.get(name, name), **arguments
    )
    layer.build((None, None, 16))
    for seed, variable in enumerate(layer.trainable_variables):
        variable.assign(draw(*variable.shape, seed=seed) / 3)
    return layer


@objects
def test_come_back_from_a_configuration(name):
    made = OBJECTS[name]
    assert positions.get(positions.serialize(made)) == made
    assert positions.get(made) is made
    config = make(name).get_config()
    assert ka.MultiHeadAttention.from_config(config).positions == made


@pytest.mark.parametrize("short", ["rotary", "alibi", "relative"])
def test_short_strings_are_the_defaults(short):
    (kind,) = {
        "rotary": [positions.Rotary],
        "alibi": [positions.ALiBi],
        "relative": [positions.RelativeBias],
    }[short]
    assert ka.MultiHeadAttention(2, positions=short).positions == kind()


def test_alibi_slopes_of_another_bias():
    """2^(-b/N), 2^(-2b/N), ..., 2^-b."""
    bias = numpy(positions.ALiBi(4.0).bias(np.array([-3, 0, 2]), 2))
    np.testing.assert_allclose(bias, -np.outer([2**-2, 2**-4], [3, 0, 2]))


@objects
def test_given_positions_are_those_of_their_places(name):
    layer, x = make(name, causal=True), tokens(2, 5)
    expected = numpy(layer(x))
    for given in (np.arange(5), np.tile(np.arange(5), (2, 1))):
        np.testing.assert_allclose(
            numpy(layer(x, query_positions=given)),
            expected,
            rtol=1e-5,
            atol=1e-5,
        )
    # Only differences count.
    moved = numpy(layer(x, query_positions=np.arange(5) + 3))
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-4)
    other = numpy(layer(x, query_positions=2 * np.arange(5)))
    assert not np.allclose(other, expected, atol=1e-3)


@objects
def test_two_texts_in_one_row(name):
    """Each has positions of its own, and a mask keeps them apart."""
    layer, x = make(name), tokens(1, 7)
    text = np.array([0, 0, 0, 1, 1, 1, 1])
    together = layer(
        x,
        attention_mask=text[:, None] == text,
        query_positions=np.array([0, 1, 2, 0, 1, 2, 3]),
    )
    for part in (slice(3), slice(3, 7)):
        np.testing.assert_allclose(
            numpy(together)[:, part],
            numpy(layer(x[:, part])),
            rtol=1e-4,
            atol=1e-5,
        )


def test_positions_of_other_keys():
    """Of keys 1, 3 and 5 of a sequence, attended to by its last two."""
    layer, x = make("alibi"), tokens(2, 6)
    mask = np.array([0, 1, 0, 1, 0, 1], bool)
    expected = numpy(layer(x[:, 4:], x, value_mask=np.tile(mask, (2, 1))))
    found = layer(
        x[:, 4:],
        x[:, mask],
        query_positions=np.array([4, 5]),
        key_positions=np.array([1, 3, 5]),
    )
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_given_rotary_positions_while_decoding():
    layer, x = make("rotary", causal=True), tokens(2, 6)
    given = np.array([[0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 3]])
    expected = numpy(layer(x, query_positions=given))
    cache, found = layer.initial_cache(2, 6), []
    for part in (slice(3), slice(3, 4), slice(4, 6)):
        y, cache = layer(
            x[:, part], cache=cache, query_positions=given[:, part]
        )
        found.append(numpy(y))
    np.testing.assert_allclose(
        np.concatenate(found, axis=1), expected, rtol=1e-4, atol=1e-5
    )


def test_functional_model_with_given_positions():
    inputs = keras.Input((None, 16))
    given = keras.Input((None,), dtype="int32")
    layer = make("rotary")
    model = keras.Model([inputs, given], layer(inputs, query_positions=given))
    x, places = tokens(2, 5), np.tile(np.arange(5), (2, 1))
    np.testing.assert_allclose(
        numpy(model([x, places])), numpy(layer(x)), rtol=1e-5, atol=1e-5
    )


def test_what_cannot_be_used_is_refused():
    x, given = tokens(2, 5), np.arange(5)
    with pytest.raises(ValueError, match="no use for.*positions=None"):
        make(None)(x, query_positions=given)
    with pytest.raises(ValueError, match="only rotary positions"):
        layer = make("alibi", causal=True)
        layer(x, query_positions=given, cache=layer.initial_cache(2, 5))
    layer = make("rotary")
    with pytest.raises(ValueError, match="must both be given"):
        layer(x, x, query_positions=given)
    with pytest.raises(ValueError, match="must both be given"):
        layer(x, key_positions=given)
    with pytest.raises(TypeError, match="must be integers.*float"):
        layer(x, query_positions=np.arange(5.0))
    for symbolic in (x, keras.KerasTensor(x.shape)):
        with pytest.raises(ValueError, match=r"of shape \(4,\)"):
            layer(symbolic, query_positions=np.arange(4))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: positions.ALiBi(0.0), ValueError, "max_bias=0.0"),
        (lambda: positions.RelativeBias(3), ValueError, "num_buckets=3"),
        (
            lambda: positions.RelativeBias(32, 16),
            ValueError,
            "max_distance=16, num_buckets=32",
        ),
        (lambda: positions.get("alibbi"), ValueError, "Did you mean 'alibi'"),
        (lambda: positions.get(1.0), TypeError, "positions=1.0"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
