"""A layer is what its arguments and its configuration say, all of them."""

import contextlib
import inspect
import itertools
import json
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from conformance.harness import make_layer
from conformance.harness import random_input
from conformance.harness import randomize_all
from conformance.rows import EVERY_ARGUMENT
from conformance.rows import ROWS
from conformance.rows import Row
from conformance.rows import constructor_arguments
from conformance.rows import regularizer
from support.arrays import numpy
from support.seeds import seed_keras

LAYERS = sorted({row.layer for row in ROWS}, key=lambda layer: layer.__name__)
TABLE = ROWS + EVERY_ARGUMENT
rows = pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
layers = pytest.mark.parametrize("layer", LAYERS, ids=lambda x: x.__name__)
REQUIRED = inspect.Parameter.empty
# A name, and which of several ways to one result is taken.
WITHOUT_EFFECT = {"flash_attention", "name"}


def behavior(row: Row, make) -> Iterator[tuple[str, Any]]:
    """Yield everything of a layer that can be observed from outside.

    What is quickly observed comes first. The weights are those of the
    initializers, to compare their draws, and are then set to other ones,
    since zeros would hide what is behind them.
    """
    seed_keras(7)
    layer = make()
    x = random_input(row, layer=layer)
    yield "trainable", layer.trainable
    # Keras leaves the losses of frozen weights out.
    layer.trainable = True
    seed_keras(7)
    layer.build(x.shape)
    yield "policy", layer.dtype_policy.name
    yield "data format", getattr(layer, "data_format", None)
    yield "weights", [numpy(weight) for weight in layer.weights]
    yield "dtypes", [weight.dtype for weight in layer.weights]
    yield "are trainable", [weight.trainable for weight in layer.weights]
    yield "constraints", [type(weight.constraint) for weight in layer.weights]
    yield "losses", list(map(numpy, layer.losses))
    yield (
        "policies",
        [
            (sublayer.name, sublayer.dtype_policy.name)
            for sublayer in layer._flatten_layers(include_self=False)
        ],
    )
    randomize_all(layer)
    seed_keras(7)
    output = layer(x)
    yield "dtype", keras.backend.standardize_dtype(output.dtype)
    yield "output", numpy(output)
    yield "losses of a call", list(map(numpy, layer.losses))
    if layer._call_has_training_arg:
        seed_keras(7)
        yield "in training", numpy(layer(x, training=True))
        yield "after training", [numpy(weight) for weight in layer.weights]


def is_equal(one, other) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and np.allclose(
            one, other, rtol=1e-5, atol=1e-6
        )
    return one == other


class Observed:
    """The behavior of a row's layer, observed as far as it is asked for."""

    def __init__(self, row: Row):
        self._rest = behavior(row, lambda: make_layer(row))
        self._known = []

    def __iter__(self):
        yield from self._known
        for part in self._rest:
            self._known.append(part)
            yield part


def difference(expected: Iterable, found: Iterable) -> str | None:
    """Return the first part of the behavior in which two layers differ."""
    for (name, one), (_, two) in zip(expected, found, strict=True):
        if not is_equal(one, two):
            return name
    return None


@layers
def test_every_argument_is_set_in_some_row(layer):
    arguments = constructor_arguments(layer)
    table = [row for row in TABLE if row.layer is layer]
    missing = {
        name
        for name, default in arguments.items()
        if default is not REQUIRED
        and all(row.arguments.get(name, default) == default for row in table)
    }
    assert not missing, "add them to a row of the table"
    assert {name for row in table for name in row.arguments} <= set(arguments)


@rows
def test_configuration_names_every_argument(row):
    config = make_layer(row).get_config()
    # Keras leaves it out where there is none.
    optional = {"activity_regularizer"} - set(row.arguments)
    assert set(constructor_arguments(row.layer)) - optional <= set(config)


@rows
def test_configuration_says_what_was_given(row):
    """An argument that is not the default changes its entry."""
    config, arguments = make_layer(row).get_config(), row.arguments
    for name, default in constructor_arguments(row.layer).items():
        if default is REQUIRED or arguments.get(name, default) == default:
            continue
        # The other arguments may not go with the default.
        with contextlib.suppress(ValueError):
            plain = make_layer(row.without(name)).get_config()
            assert config.get(name) != plain.get(name), name


@rows
def test_rebuilt_from_its_configuration_alone(row):
    """Through JSON, as a file holds it."""
    config = make_layer(row).get_config()
    text = json.dumps(config, sort_keys=True)
    given = json.loads(text)
    rebuilt = row.layer.from_config(given)
    assert given == json.loads(text), "from_config changes what it is given"
    assert json.dumps(rebuilt.get_config(), sort_keys=True) == text
    found = behavior(row, lambda: row.layer.from_config(json.loads(text)))
    assert not difference(Observed(row), found)


@layers
def test_every_argument_has_an_effect(layer):
    """Reset to its default, each changes the layer in some row."""
    observed = {row.name: Observed(row) for row in TABLE if row.layer is layer}
    without = [
        name
        for name, default in constructor_arguments(layer).items()
        if default is not REQUIRED
        and name not in WITHOUT_EFFECT
        and not shows_effect(layer, name, observed)
    ]
    assert not without, "no row shows that they do anything"


def shows_effect(layer, name, observed=None):
    default = constructor_arguments(layer)[name]
    return any(
        has_effect(row, name, (observed or {}).get(row.name) or Observed(row))
        for row in TABLE
        if row.layer is layer and row.arguments.get(name, default) != default
    )


def has_effect(row, name, observed):
    try:
        return difference(observed, Observed(row.without(name)))
    except ValueError:
        return True  # The other arguments do not go with the default.


@rows
def test_name(row):
    assert make_layer(row, name="chosen").name == "chosen"
    assert make_layer(row, name="chosen").get_config()["name"] == "chosen"


@rows
def test_dtype_policy(row):
    policy = make_layer(row, dtype="mixed_bfloat16").dtype_policy
    assert policy.name == "mixed_bfloat16"


# Weights that a kernel's regularizer is for, by another name; its initializer
# is for them too, but for the short convolution, which has the authors' own.
KERNELS = {
    "AdditiveAttention": "scale",
    "AttentionPooling1D": "query",
    "GatedDeltaNet": "convolution",
    "LuongAttention": "scale",
    "PoolingByMultiheadAttention": "seeds",
}
# A table of positions and the offset of a step are no biases of a layer.
OTHERS = {"relative_bias", "step_bias"}
# A factor of each kind, so that one is not taken for the other.
REGULARIZED = {"kernel": 1.0, "bias": 3.0}


def word_of(weight, row) -> str:
    """Return the kind of a weight, its name's last word: kernel, bias, ..."""
    if weight.name == KERNELS.get(row.layer.__name__):
        return "kernel"
    return "" if weight.name in OTHERS else weight.name.split("_")[-1]


@rows
def test_regularizers_reach_every_weight_of_their_kind(row):
    """Sublayers' too: one that is left out is seen by its missing loss."""
    words = [
        word
        for word in REGULARIZED
        if f"{word}_regularizer" in constructor_arguments(row.layer)
    ]
    none = dict.fromkeys(n for n in row.arguments if n.endswith("_regularizer"))
    own = {
        f"{word}_regularizer": regularizer("L2", l2=REGULARIZED[word])
        for word in words
    }
    layer = make_layer(row, **{**none, **own, "trainable": True})
    layer.build(random_input(row, layer=layer).shape)
    randomize_all(layer)
    expected = [
        REGULARIZED[word_of(weight, row)] * np.sum(numpy(weight) ** 2)
        for weight in layer.trainable_weights
        if word_of(weight, row) in words
    ]
    found = [float(numpy(loss)) for loss in layer.losses]
    np.testing.assert_allclose(sorted(found), sorted(expected), rtol=1e-5)


@rows
def test_initializers_reach_every_weight_of_their_kind(row):
    """None is left at the default of a sublayer."""
    words = [
        name.removesuffix("_initializer")
        for name in constructor_arguments(row.layer)
        if name.endswith("_initializer")
    ]
    value = keras.initializers.Constant(0.625)
    layer = make_layer(row, **{f"{word}_initializer": value for word in words})
    layer.build(random_input(row, layer=layer).shape)
    for weight in layer.weights:
        if word_of(weight, row) in words and weight.name != "convolution":
            assert (numpy(weight) == 0.625).all(), weight.path


@layers
def test_draws_differ(layer):
    """Two weights of one shape do not begin with the same random values."""
    for row in ROWS:
        if row.layer is not layer:
            continue
        made = make_layer(row)
        made.build(row.shape)
        drawn = [numpy(weight) for weight in made.weights]
        drawn = [value for value in drawn if np.ptp(value) > 0]
        for one, other in itertools.combinations(drawn, 2):
            assert not np.array_equal(one, other), row.name


@layers
def test_statistics_move_in_training_alone(layer):
    """Every moving mean and variance, of sublayers as well."""
    for row in ROWS:
        if row.layer is not layer:
            continue
        made, x = make_layer(row), random_input(row)
        made.build(row.shape)
        moving = [w for w in made.weights if w.name.startswith("moving_")]
        if not moving:
            continue
        before = [numpy(weight) for weight in moving]
        made(x, training=False)
        for weight, value in zip(moving, before, strict=True):
            np.testing.assert_array_equal(numpy(weight), value, weight.path)
        made(x, training=True)
        for weight, value in zip(moving, before, strict=True):
            assert not np.array_equal(numpy(weight), value), weight.path
