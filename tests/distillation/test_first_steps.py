"""What `fit` remarks on in the first steps, and what it leaves alone."""

import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_attention.distillation import AttentionMaps
from keras_attention.distillation import precompute_teacher
from keras_attention.distillation.callbacks import FirstSteps
from support.arrays import numpy
from support.distillation import compiled
from support.distillation import network
from support.distillation import teacher_network
from support.networks import first_of

CLASSES = 4


def learnable(count=256, seed=0):
    """Images whose class is the quadrant that is bright."""
    random = np.random.default_rng(seed)
    y = random.integers(CLASSES, size=count)
    x = 0.1 * random.normal(size=(count, 8, 8, 2))
    for n, label in enumerate(y):
        row, column = divmod(label, 2)
        x[n, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    return x.astype("float32"), y


def quadrant_network(name, filters=(3, 5), seed=0):
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((8, 8, 2))
    for stage, units in enumerate(filters, 1):
        x = keras.layers.Conv2D(
            units, 3, strides=stage, padding="same", activation="relu"
        )(x)
        x = keras.layers.Activation("linear", name=f"stage{stage}")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(
        inputs, keras.layers.Dense(CLASSES, "softmax")(x), name=name
    )


@pytest.fixture(scope="module")
def trained():
    teacher = quadrant_network("teacher", (6, 11), seed=1)
    teacher.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    teacher.fit(*learnable(), epochs=8, verbose=0)
    _, accuracy = teacher.evaluate(*learnable(seed=1), verbose=0)
    assert accuracy > 0.9
    return teacher


def untrained():
    return quadrant_network("teacher", (6, 11), seed=2)


def remarks(model, *data, **arguments):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(*data, verbose=0, **arguments)
    return [str(w.message) for w in found if w.category is UserWarning]


@pytest.mark.slow
def test_nothing_is_said_of_a_trained_teacher(trained):
    model = compiled(quadrant_network("student"), trained, alpha=0.5)
    assert remarks(model, *learnable(), epochs=3) == []


@pytest.mark.parametrize("one_hot", first_of([False, True], 1))
def test_an_untrained_teacher_is_remarked_on_once(one_hot):
    x, y = learnable()
    loss = "sparse_categorical_crossentropy"
    if one_hot:
        y, loss = np.eye(CLASSES)[y], "categorical_crossentropy"
    teacher = untrained()
    # It says the same of every image.
    teacher.layers[-1].kernel.assign(0 * numpy(teacher.layers[-1].kernel))
    model = compiled(
        quadrant_network("student"), teacher, loss=loss, eager=False
    )
    (said,) = remarks(model, x, y, epochs=7)
    assert "no better than chance" in said and "25.0%" in said
    assert remarks(model, x, y) == []


def test_a_student_that_is_better_than_its_teacher_is_remarked_on(trained):
    teacher = quadrant_network("teacher", (6, 11), seed=1)
    teacher.compile("adam", "sparse_categorical_crossentropy")
    teacher.fit(*learnable(96), epochs=2, batch_size=16, verbose=0)
    student = keras.models.clone_model(trained)
    student.set_weights(trained.get_weights())
    model = compiled(student, teacher, keras.optimizers.SGD(1e-5))
    (said,) = remarks(model, *learnable())
    assert "better than the teacher" in said or "better than chance" in said
    assert "(student, teacher)" in said


def test_few_labels_say_nothing_of_a_teacher():
    x, y = learnable(64)
    model = compiled(quadrant_network("student"), untrained())
    assert remarks(model, x, y) == []


def test_a_part_that_dwarfs_the_labels_is_remarked_on(trained):
    model = compiled(
        quadrant_network("student"),
        trained,
        keras.optimizers.SGD(0.0),
        eager=False,
        beta=1e5,
    )
    (said,) = remarks(model, *learnable(), epochs=7)
    assert "'attention_loss'" in said and "times the loss" in said
    assert "beta=100000.0" in said and "Leave out `beta`" in said


def first_steps(steps_per_execution, count):
    """The callback, for epochs of so many steps."""
    watched = SimpleNamespace(
        objectives=[AttentionMaps(1e5)],
        first_steps_are_over=False,
        steps_per_execution=steps_per_execution,
        first_accuracies={
            name: SimpleNamespace(result=lambda: 0.0)
            for name in ("count", "student", "teacher")
        },
    )
    steps = FirstSteps(watched)
    steps.set_params({"steps": count})
    return steps


@pytest.mark.parametrize("seed", range(5))
def test_batches_are_reported_in_any_order(seed):
    """As by Keras, which reports them from several threads."""
    random = np.random.default_rng(seed)
    steps = first_steps(1, 10)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        # The part grows from 50 to 80.
        for epoch in range(6):
            steps.on_epoch_begin(epoch)
            values = np.linspace(50, 80, 60)[10 * epoch : 10 * epoch + 10]
            means = np.cumsum(values) / np.arange(1, 11)
            for batch in random.permutation(10):
                logs = {"label_loss": 2.0, "attention_loss": means[batch]}
                steps.on_train_batch_end(int(batch), logs)
            steps.on_epoch_end(epoch)
        steps.on_train_end()
    (said,) = [str(w.message) for w in found]
    assert "it was 51 at first" in said
    assert "of the loss is 73.9 after 50 steps" in said
    assert steps._trained.first_steps_are_over


def watch_values(values, steps_per_execution, epochs=1):
    """What is said of a part whose values, one for each step, are given."""
    count = len(values) // epochs
    steps = first_steps(steps_per_execution, count)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for epoch in range(epochs):
            steps.on_epoch_begin(epoch)
            part = values[epoch * count : (epoch + 1) * count]
            for start in range(0, count, steps_per_execution):
                # Keras numbers the last step as if there were all.
                end = start + steps_per_execution
                mean = np.mean(part[:end])
                logs = {"label_loss": 2.0, "attention_loss": mean}
                steps.on_train_batch_end(end - 1, logs)
            steps.on_epoch_end(epoch)
        steps.on_train_end()
    return [str(warning.message) for warning in found]


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("steps_per_execution", [1, 3, 10, 25])
def test_several_steps_are_reported_at_once(steps_per_execution, epochs):
    falling, growing = np.linspace(80, 40, 60), np.linspace(50, 80, 60)
    assert watch_values(falling, steps_per_execution, epochs) == []
    (said,) = watch_values(growing, steps_per_execution, epochs)
    if epochs == 1:
        count = -(-5 // steps_per_execution) * steps_per_execution
        assert f"it was {growing[:count].mean():.3g} at first" in said


@pytest.mark.parametrize("steps_per_execution", [60, 100])
def test_one_report_is_not_compared_with_itself(steps_per_execution):
    growing = np.linspace(50, 80, 60)
    assert watch_values(growing, steps_per_execution) == []
    (said,) = watch_values(
        np.concatenate([growing, growing + 10]), steps_per_execution, 2
    )
    assert "after 120 steps" in said


def test_precomputed_outputs_are_compared_too():
    teacher = untrained()
    teacher.layers[-1].kernel.assign(0 * numpy(teacher.layers[-1].kernel))
    x, y = learnable()
    data = precompute_teacher(
        teacher, (x, y), ["stage1"], logits=True, verbose=False
    )
    model = compiled(
        quadrant_network("student"), None, pairs=["stage1"], alpha=0.5
    )
    (said,) = remarks(model, data, epochs=2)
    assert "no better than chance" in said


def test_parts_that_are_watched_are_not_reported(trained):
    model = compiled(quadrant_network("student"), trained, metrics=["accuracy"])
    history = model.fit(*learnable(64), verbose=0).history
    assert not [name for name in history if "first" in name]
    found = model.evaluate(*learnable(64), verbose=0, return_dict=True)
    assert set(found) == {"loss", "accuracy"}


def test_the_default_weight_is_the_authors_at_32_x_32():
    """1e3 times the mean, for maps of 32 x 32, 16 x 16 and 8 x 8."""

    def wide(name, seed):
        keras.utils.set_random_seed(seed)
        inputs = x = keras.Input((32, 32, 3))
        for stage in (1, 2, 3):
            x = keras.layers.Conv2D(
                3 + seed,
                3,
                strides=1 if stage == 1 else 2,
                padding="same",
                activation="relu",
                name=f"stage{stage}",
            )(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(
            inputs, keras.layers.Dense(5, "softmax")(x), name=name
        )

    random = np.random.default_rng(0)
    data = random.normal(size=(6, 32, 32, 3)), random.integers(5, size=6)
    found = []
    for arguments in ({}, {"beta": 1e3}):
        model = compiled(wide("student", 0), wide("teacher", 1), **arguments)
        found.append(model.fit(*data, verbose=0).history)
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5)


@pytest.mark.parametrize("size", [8, 24, 40])
def test_the_default_weight_does_not_depend_on_the_size(size):
    """Enlarging images and maps by repetition leaves the loss as it is."""

    def maps_of(seed):
        inputs = keras.Input((None, None, 2))
        x = inputs
        for stage in (1, 2):
            x = keras.layers.Conv2D(
                3 + seed,
                1,
                kernel_initializer=keras.initializers.RandomNormal(seed=stage),
                name=f"stage{stage}",
            )(x)
            x = keras.layers.AveragePooling2D(2)(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(5, "softmax")(x))

    small = np.random.default_rng(1).normal(size=(3, 4, 4, 2))
    found = []
    for times in (2, size // 4):
        x = small.repeat(times, 1).repeat(times, 2)
        keras.utils.set_random_seed(0)
        model = compiled(maps_of(0), maps_of(4), pairs=["stage1", "stage2"])
        found.append(
            model.fit(x, np.zeros(3, "int32"), verbose=0).history[
                "attention_loss"
            ][0]
        )
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.slow
def test_a_schedule_of_the_default_weight():
    half = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 1.0)
    x, y = learnable(8)
    found = []
    for arguments in (
        {},
        {"beta": half, "reduction": "scale_free"},
        {"losses": [AttentionMaps(0.5, reduction="scale_free")]},
    ):
        model = compiled(
            network(classes=CLASSES),
            teacher_network(classes=CLASSES),
            **arguments,
        )
        found.append(model.fit(x, y, verbose=0).history["attention_loss"][0])
    np.testing.assert_allclose(found[1:], found[0] / 2, rtol=1e-5)
