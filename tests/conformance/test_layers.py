"""What every public layer must pass, one row of the table at a time."""

import keras
import numpy as np
import pytest

import keras_attention
from conformance.harness import BACKEND
from conformance.harness import dynamic_shape
from conformance.harness import float64_mode
from conformance.harness import gradients
from conformance.harness import make_layer
from conformance.harness import make_model
from conformance.harness import random_input
from conformance.harness import randomize
from conformance.harness import variants_slow
from conformance.rows import OUTPUTS
from conformance.rows import ROWS
from keras_attention.inspection import record_outputs
from keras_attention.layers.vision.base_gate import BaseGate
from support.arrays import assert_close
from support.arrays import numpy
from support.seeds import seed_keras
from support.vision import vjp

rows = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
image_rows = pytest.mark.parametrize(
    "row", [r for r in ROWS if r.is_image], ids=lambda row: row.name
)
gate_rows = pytest.mark.parametrize(
    "row",
    [r for r in ROWS if issubclass(r.layer, BaseGate) and r.output_of_gate],
    ids=lambda row: row.name,
)
first_rows = pytest.mark.parametrize(
    "row", [r for r in ROWS if not r.variant], ids=lambda row: row.name
)
sequence_rows = pytest.mark.parametrize(
    "row", [r for r in ROWS if r.is_sequence], ids=lambda row: row.name
)


def public_layers():
    return {
        name
        for name, value in vars(keras_attention.layers).items()
        if isinstance(value, type) and issubclass(value, keras.layers.Layer)
    }


def test_every_public_layer_has_a_row():
    assert public_layers() == {row.layer.__name__ for row in ROWS}


def test_every_public_layer_is_at_the_top_level():
    missing = {n for n in public_layers() if not hasattr(keras_attention, n)}
    assert not missing


def test_names_of_rows_are_unique():
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))


@rows
def test_output_is_the_recorded_one(row):
    """Whatever changes what a layer computes is seen here.

    That it computes the right thing is proved in the layer's own test.
    """
    y = numpy(make_model(row)(random_input(row)))
    direction = np.random.default_rng(5).normal(size=y.shape)
    found = np.vdot(direction, y) / np.sqrt(y.size)
    np.testing.assert_allclose(
        found,
        OUTPUTS[row.name],
        rtol=2e-4,
        atol=2e-5,
        err_msg="if it is right, OUTPUTS of the table is to be changed",
    )


@rows
def test_gradient_equals_differences(row):
    """To the input, along a direction.

    In float64 but on torch, which has some of its convolutions in float32
    alone. On JAX, means by Keras are of the precision of float32.
    """
    dtype, step, tolerance = "float64", 1e-6, 1e-5
    if BACKEND == "jax":
        step, tolerance = 1e-3, 2e-3
    if BACKEND == "torch":
        dtype, step, tolerance = "float32", 1e-3, 1e-2
    x = random_input(row, dtype)
    generator = np.random.default_rng(6)
    direction = generator.normal(size=x.shape).astype(dtype)
    with float64_mode():
        model = make_model(row, dtype=dtype, input_dtype=dtype)
        dy = generator.normal(size=model(x).shape).astype(dtype)
        gradient = numpy(vjp(model, x, dy))
        ahead, behind = (
            (numpy(model(x + change * direction)) * dy).sum()
            for change in (step, -step)
        )
    expected = (ahead - behind) / (2 * step)
    found = (gradient * direction).sum()
    scale = np.abs(gradient * direction).sum()
    np.testing.assert_allclose(found, expected, atol=tolerance * scale)


@rows
def test_config_does_not_change_when_built(row):
    layer = make_layer(row, name="layer")
    before = layer.get_config()
    layer.build(row.shape)
    assert layer.get_config() == before
    registered = keras.saving.get_registered_name(type(layer))
    assert registered == f"keras_attention>{type(layer).__name__}"
    rebuilt = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert rebuilt.get_config() == before


@rows
def test_shapes_are_known_without_running(row):
    layer = make_layer(row)
    x = random_input(row)
    expected = tuple(layer(x).shape)
    assert tuple(layer.compute_output_shape(row.shape)) == expected
    assert tuple(layer(keras.KerasTensor(row.shape)).shape) == expected
    unknown = (None, *dynamic_shape(row))
    symbolic = tuple(make_layer(row)(keras.KerasTensor(unknown)).shape)
    assert len(symbolic) == len(expected)
    for size, eager_size in zip(symbolic, expected, strict=True):
        assert size in (None, eager_size)


@rows
def test_weights_round_trip(row, tmp_path):
    model, other = make_model(row), make_model(row)
    for variable in other.variables:
        variable.assign(variable + 0.5)
    model.save_weights(tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")
    x = random_input(row)
    np.testing.assert_array_equal(numpy(model(x)), numpy(other(x)))


@rows
def test_one_model_takes_every_batch_and_size(row):
    model = make_model(row)
    x = random_input(row)
    whole = numpy(model(x))
    assert_close(model(x[:1]), whole[:1])
    if not row.static_size:
        wider = np.concatenate([x, x[:, ::-1]], axis=1)
        expected = make_model(row, dynamic=False)
        layer = expected.get_layer("layer")
        assert_close(model(wider), layer(wider))


@rows
def test_sequential_use(row):
    model = keras.Sequential([make_layer(row)])
    x = random_input(row)
    y = model(x)
    shape = make_layer(row).compute_output_shape(row.shape)
    assert tuple(y.shape) == tuple(shape)
    assert np.isfinite(numpy(y)).all()


@pytest.mark.parametrize("row", variants_slow(ROWS))
def test_compiled_training_step(row):
    """Under XLA, and with the gradient that goes on to the layer before."""
    inputs = keras.Input(dynamic_shape(row))
    x = keras.layers.Dense(row.shape[-1], name="before")(inputs)
    model = keras.Model(inputs, make_layer(row)(x))
    randomize(model)
    x = random_input(row)
    # Not constant: a normalized output is as far from a constant as before.
    y = random_input(row, seed=2)
    y = np.resize(y, tuple(model(x).shape))
    model.compile("sgd", "mse", jit_compile=BACKEND != "torch")
    before = numpy(model.get_layer("before").kernel)
    assert np.isfinite(model.train_on_batch(x, y))
    for variable in model.trainable_variables:
        assert np.isfinite(numpy(variable)).all(), variable.path
    assert (numpy(model.get_layer("before").kernel) != before).any()


@rows
def test_gradient_reaches_every_weight(row):
    model = make_model(row)
    found = gradients(model, random_input(row))
    for variable, gradient in zip(model.trainable_weights, found, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


def rounded(x, dtype):
    return numpy(keras.ops.cast(keras.ops.cast(x, dtype), "float32"))


@rows
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(row, policy):
    plain, mixed = make_model(row), make_model(row, dtype=policy)
    x = random_input(row)
    if row.rounds_first:
        half = policy.removeprefix("mixed_")
        plain.set_weights([rounded(w, half) for w in plain.get_weights()])
        x = rounded(x, half)
    expected, y = numpy(plain(x)), mixed(x)
    assert keras.backend.standardize_dtype(y.dtype) == policy[len("mixed_") :]
    assert {v.dtype for v in mixed.trainable_variables} <= {"float32"}
    scale = np.abs(expected).max()
    error = np.abs(numpy(y) - expected).max() / scale
    half = 8 if policy == "mixed_bfloat16" else 1
    assert error < half * row.half_tolerance / 4, error


@rows
def test_float64(row):
    x = random_input(row, "float64")
    expected = numpy(make_model(row)(x.astype("float32")))
    with float64_mode():
        model = make_model(row, dtype="float64", input_dtype="float64")
        y = model(x)
        assert keras.backend.standardize_dtype(y.dtype) == "float64"
        y = numpy(y)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "row",
    [r for r in ROWS if r.has_data_format and r.make is None],
    ids=lambda row: row.name,
)
def test_data_formats_are_equal(row):
    last = make_model(row, dynamic=False)
    inputs = keras.Input((row.shape[-1], *row.shape[1:-1]))
    layer = make_layer(row, data_format="channels_first")
    first = keras.Model(inputs, layer(inputs))
    first.set_weights(last.get_weights())
    x = random_input(row)
    y, y_first = last(x), first(np.moveaxis(x, -1, 1))
    assert tuple(layer.compute_output_shape(first.input_shape))[1:] == tuple(
        y_first.shape[1:]
    )
    y_first = numpy(y_first)
    if y_first.ndim > 2:
        y_first = np.moveaxis(y_first, 1, -1)
    assert_close(y_first, numpy(y))


@gate_rows
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_output_is_the_input_times_the_gate(row, data_format):
    layer = make_layer(row, data_format=data_format)
    x = random_input(row)
    x = x if data_format == "channels_last" else np.moveaxis(x, -1, 1)
    layer.build(x.shape)
    randomize(layer)
    gate = numpy(layer.compute_gate(x))
    assert np.broadcast_shapes(gate.shape, x.shape) == x.shape
    expected = row.output_of_gate(x, gate)
    assert_close(layer(x), expected)


@gate_rows
@pytest.mark.parametrize("training", [False, True])
def test_a_tapped_gate_leaves_the_layer_as_it_is(row, training):
    tapped, plain = make_model(row), make_model(row)
    x = random_input(row)
    with record_outputs(tapped, ["layer:gate"]) as values:
        y = numpy(tapped(x, training=training))
    expected = row.output_of_gate(x, numpy(values["layer:gate"]))
    assert_close(y, expected)
    expected = numpy(plain(x, training=training))
    assert_close(y, expected)
    for ours, theirs in zip(tapped.variables, plain.variables, strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-6)


@sequence_rows
def test_mask_passes_through(row):
    tokens = np.ones(row.shape[:2], "int32")
    tokens[:, -3:] = 0
    embedding = keras.layers.Embedding(2, row.shape[-1], mask_zero=True)
    y = make_layer(row)(embedding(tokens))
    if row.pools:
        assert getattr(y, "_keras_mask", None) is None
        return
    np.testing.assert_array_equal(numpy(y._keras_mask), tokens)


@image_rows
def test_mask_of_an_image_passes_through(row):
    """To an output that is an image; one without image axes has no mask."""
    layer = make_layer(row)
    x = random_input(row)
    is_image = len(layer(x).shape) == 4
    assert layer.supports_masking
    assert layer.compute_mask(x, "mask") == ("mask" if is_image else None)


@first_rows
def test_clone_and_nesting(row):
    """A cloned model, a model inside a model, and one layer called twice."""
    model, x = make_model(row, dynamic=not row.static_size), random_input(row)
    expected = numpy(model(x))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_close(clone(x), expected)
    inputs = keras.Input(row.shape[1:])
    outer = keras.Model(inputs, [model(inputs), model(2 * inputs)])
    once, twice = map(numpy, outer(x))
    assert_close(once, expected)
    other = numpy(model(2 * x))
    assert_close(twice, other)
    assert len(outer.weights) == len(model.weights)


@first_rows
def test_time_distributed(row):
    layer = make_layer(row)
    x = np.stack([random_input(row, seed=seed) for seed in range(3)], axis=1)
    wrapped = keras.layers.TimeDistributed(layer)
    y = numpy(wrapped(x))
    for step in range(3):
        assert_close(y[:, step], numpy(layer(x[:, step])))


@first_rows
@pytest.mark.parametrize(
    "eager", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_frozen_weights_do_not_move(row, eager):
    """Of a frozen layer, and of a layer with one frozen sublayer."""
    inputs = keras.Input(row.shape[1:])
    layer = make_layer(row)
    x = keras.layers.Dense(row.shape[-1])(inputs)
    model = keras.Model(inputs, layer(x))
    randomize(model)
    x = random_input(row)
    y = np.resize(x + 1, tuple(model(x).shape))
    sublayers = layer._flatten_layers(include_self=False, recursive=False)
    for frozen in (layer, next(iter(sublayers), None)):
        if frozen is None:
            continue
        frozen.trainable = False
        model.compile("sgd", "mse", run_eagerly=eager)
        before = [numpy(weight) for weight in layer.weights]
        model.train_on_batch(x, y)
        fixed = {id(weight) for weight in frozen.weights}
        trainable = {id(weight) for weight in layer.trainable_weights}
        moved = set()
        for weight, value in zip(layer.weights, before, strict=True):
            is_equal = np.array_equal(numpy(weight), value)
            if id(weight) in fixed:
                assert is_equal, weight.path
            elif not is_equal:
                moved.add(id(weight))
        assert moved & trainable or not trainable
        frozen.trainable = True


@image_rows
def test_dense_layers_take_positions_in_one_row(row, monkeypatch):
    """Keras before 3.15 is wrong on an image of height 1, on some processors.

    Where it is right, the rank of what the dense layers take still tells.
    """
    ranks, call = [], keras.layers.Dense.call

    def recorded(self, inputs, **arguments):
        ranks.append(len(inputs.shape))
        return call(self, inputs, **arguments)

    layer, x = make_layer(row), random_input(row)
    layer(x)
    monkeypatch.setattr(keras.layers.Dense, "call", recorded)
    layer(x)
    assert max(ranks, default=0) <= 3


@pytest.mark.parametrize(
    "row",
    [r for r in ROWS if r.has_data_format or r.make],
    ids=lambda row: row.name,
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_empty_images_are_refused(row, data_format):
    """Before and after it is built, symbolic or not; an empty batch is not."""
    first = data_format == "channels_first"
    x = random_input(row)
    for axis in range(1, len(row.shape) - 1):
        empty = np.take(x, [], axis)
        empty = np.moveaxis(empty, -1, 1) if first else empty
        unbuilt = make_layer(row, data_format=data_format)
        layer = make_layer(row, data_format=data_format)
        if not row.static_size:
            *sizes, channels = dynamic_shape(row)
            shape = (channels, *sizes) if first else (*sizes, channels)
            layer.build((None, *shape))
        symbolic = keras.KerasTensor(empty.shape)
        for made, image in (
            (unbuilt, symbolic),
            (unbuilt, empty),
            # A built wrapper asks its layer only when it computes.
            (layer, empty if row.make else symbolic),
            (layer, empty),
        ):
            with pytest.raises(ValueError, match="1 or more"):
                made(image)


def change_by_rounding(model, x, dtype_epsilon):
    """How far roundings of inputs and weights move the output of float32.

    What a layer in half precision may be off by, whose every product is
    rounded: of products of 90,000, a softmax or a sigmoid may change wholly.
    """
    weights, expected, change = model.get_weights(), numpy(model(x)), 0.0
    for seed in range(6):
        generator = np.random.default_rng(seed)
        # By element, or alike at all positions, which a mean does not undo.
        sizes = x.shape[:1] + (1,) * (x.ndim - 2) + x.shape[-1:]
        sizes = x.shape if seed % 2 else sizes

        def moved(values, shape, generator=generator):
            return values * (
                1 + dtype_epsilon * generator.uniform(-1, 1, shape)
            )

        model.set_weights([moved(w, w.shape) for w in weights])
        change = max(
            change, np.abs(numpy(model(moved(x, sizes))) - expected).max()
        )
    model.set_weights(weights)
    return expected, change


@rows
@pytest.mark.parametrize(
    "initial",
    [
        False,
        pytest.param(True, marks=(pytest.mark.slow, pytest.mark.table)),
    ],
)
def test_half_precision_of_large_values(row, initial):
    """Of 250 to 350, a mean far from zero, whose squares pass 65,504."""
    plain = make_model(row, dynamic=False)
    mixed = make_model(row, dynamic=False, dtype="mixed_float16")
    if initial:
        seed_keras(3)
        layer = make_layer(row)
        layer(keras.KerasTensor((None, *row.shape[1:])))
        plain.set_weights(layer.get_weights())
    plain.set_weights([rounded(w, "float16") for w in plain.get_weights()])
    mixed.set_weights(plain.get_weights())
    x = np.random.default_rng(0).uniform(250, 350, row.shape)
    x = rounded(x.astype("float32"), "float16")
    expected, change = change_by_rounding(plain, x, 2**-11)
    y, largest = numpy(mixed(x)), float(np.finfo("float16").max)
    if np.abs(expected).max() < largest:
        scale = np.abs(expected).max()
        # Half of what float16 rounds to 0, for a gate of such an image.
        smallest = 2.0**-25 * np.abs(x).max()
        error = np.abs(y - expected).max() - smallest
        # Torch's products in float16 round between blocks of their sums too.
        times = 3 if keras.backend.backend() == "tensorflow" else 10
        allowed = times * max(change, scale * 2**-11)
        assert error <= allowed, (error, change, scale)
        return
    # What float16 cannot hold is infinite or NaN, and never another number.
    assert not np.isfinite(y[np.abs(expected) > 1.1 * largest]).any()


@gate_rows
def test_half_precision_of_a_larger_image(row):
    """Whose sum over a row alone is more than float16 can hold."""
    if row.static_size:
        return
    plain, mixed = make_model(row), make_model(row, dtype="mixed_float16")
    sizes = {3: (2640,), 4: (4, 660), 5: (4, 22, 30)}[len(row.shape)]
    x = np.random.default_rng(0).normal(size=(1, *sizes, row.shape[-1]))
    x = 100 + x
    x = x.astype("float16").astype("float32")
    expected, y = numpy(plain(x)), numpy(mixed(x))
    # Where the gate is zero, it is zero in both.
    scale = np.abs(expected).max() + 1e-3
    assert np.abs(y - expected).max() / scale < 2 * row.half_tolerance
