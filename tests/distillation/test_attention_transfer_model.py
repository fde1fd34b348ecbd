"""Training: what runs how often, what moves and what stays."""

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from keras_attention.inspection import walk_layers
from support.arrays import numpy
from support.distillation import CROSSENTROPY
from support.distillation import assert_same
from support.distillation import compiled
from support.distillation import examples
from support.distillation import moved
from support.distillation import network
from support.distillation import teacher_network
from support.distillation import weights


class Calls:
    """Counts the calls of a layer."""

    def __init__(self, layer):
        self.count = 0
        original = layer.call

        def call(*args, **kwargs):
            self.count += 1
            return original(*args, **kwargs)

        layer.__dict__["call"] = call


def test_student_runs_once_and_teacher_once_a_step():
    student, teacher = network(), teacher_network()
    model = compiled(student, teacher, alpha=0.5)
    x, y = examples(6)
    # The first time, Keras also looks at the shapes of symbols.
    model.fit(x, y, batch_size=2, verbose=0)
    calls = Calls(student.get_layer("conv1"))
    taught = Calls(teacher.get_layer("conv1"))
    model.train_function = None
    model.fit(x, y, batch_size=2, verbose=0)
    # A compiled step is traced once for all batches.
    assert calls.count == taught.count == (3 if model.run_eagerly else 1)


@pytest.mark.tensorflow
def test_a_compiled_step_is_traced_once():
    """The optimizer makes no variables in it."""
    student = network()
    model = compiled(student, teacher_network(), optimizer="adam", eager=False)
    calls = Calls(student.get_layer("conv1"))
    model.train_on_batch(*examples(2))
    assert calls.count == 1


def test_batch_statistics_are_updated_once():
    student, x = network(), examples()[0]
    norm = student.get_layer("norm1")
    activation = numpy(student.get_layer("conv1")(x))
    expected = norm.momentum * numpy(norm.moving_mean) + (
        1 - norm.momentum
    ) * activation.mean((0, 1, 2))
    teacher = teacher_network()
    before = weights(teacher)
    compiled(student, teacher).fit(x, examples()[1], verbose=0)
    np.testing.assert_allclose(
        numpy(norm.moving_mean), expected, rtol=1e-4, atol=1e-6
    )
    assert_same(weights(teacher), before)


def test_evaluate_and_predict_run_the_student_alone_and_change_nothing():
    student, teacher = network(dropout=0.5), teacher_network()
    model = compiled(student, teacher, metrics=["accuracy"], alpha=0.3)
    x, y = examples()
    before, taught = weights(student), Calls(teacher.get_layer("conv1"))
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    predictions = model.predict(x, verbose=0)
    assert set(found) == {"loss", "accuracy"}
    assert taught.count == 0
    assert_same(weights(student), before)
    np.testing.assert_allclose(
        predictions, numpy(student(x, training=False)), rtol=1e-5, atol=1e-6
    )
    expected = keras.losses.SparseCategoricalCrossentropy()(y, predictions)
    np.testing.assert_allclose(found["loss"], float(expected), rtol=1e-5)


def test_validation_during_training_changes_nothing():
    x, y = examples()
    ends = []
    for validation in (None, (x, y)):
        student = network()
        model = compiled(student, teacher_network(), metrics=["accuracy"])
        history = model.fit(
            x, y, verbose=0, validation_data=validation, shuffle=False
        ).history
        ends.append(weights(student))
    assert_same(*ends)
    assert {name for name in history if name.startswith("val_")} == {
        "val_loss",
        "val_accuracy",
    }


def test_nothing_of_the_teacher_changes():
    teacher = teacher_network(dropout=0.5, regularizer="l2")
    teacher.compile("adam", loss=CROSSENTROPY)
    teacher.get_layer("conv1").trainable = False
    flags = {path: layer.trainable for path, layer in walk_layers(teacher)}
    attributes = {path: set(vars(x)) for path, x in walk_layers(teacher)}
    before, optimizer = weights(teacher), teacher.optimizer
    model = compiled(network(), teacher, alpha=0.5)
    model.fit(*examples(), epochs=2, verbose=0)
    model.trainable = False
    model.trainable = True
    assert {p: layer.trainable for p, layer in walk_layers(teacher)} == flags
    assert {p: set(vars(x)) for p, x in walk_layers(teacher)} == attributes
    assert teacher.trainable and teacher.optimizer is optimizer
    assert_same(weights(teacher), before)
    student_names = {v.path for v in model.student.trainable_variables}
    assert {v.path for v in model.trainable_variables} == student_names
    assert not [
        w for w in teacher.weights if any(w is v for v in model.weights)
    ]


def test_frozen_teacher_is_not_unfrozen_and_still_teaches():
    teacher = teacher_network()
    teacher.trainable = False
    model = compiled(network(), teacher)
    model.trainable = True
    before = weights(teacher)
    model.fit(*examples(), verbose=0)
    assert not teacher.trainable
    assert_same(weights(teacher), before)


def test_class_weights_count_as_sample_weights():
    x, y = examples()
    factors = {label: 0.25 + label for label in range(7)}
    ends = []
    for extra in (
        {"class_weight": factors},
        {"sample_weight": np.array([factors[label] for label in y])},
        {"sample_weight": np.array([[factors[label]] for label in y])},
        {},
    ):
        student = network()
        compiled(student, teacher_network(), alpha=0.5).fit(
            x, y, verbose=0, shuffle=False, **extra
        )
        ends.append(weights(student))
    assert_same(ends[0], ends[1], atol=1e-6)
    assert_same(ends[0], ends[2], atol=1e-6)
    assert moved(ends[0], ends[3]) > 1e-3


def test_examples_of_weight_zero_teach_nothing():
    # Without batch normalization's statistics, which all examples share.
    x, y = examples(4)
    other = x.copy()
    other[2:] = 3
    ends = []
    for inputs in (x, other):
        student = network()
        for path, layer in walk_layers(student):
            if path.startswith("norm"):
                layer.trainable = False
        compiled(student, teacher_network(), alpha=0.5, symmetry=0.1).fit(
            inputs, y, sample_weight=np.array([1, 1, 0, 0]), verbose=0,
            shuffle=False,
        )  # fmt: skip
        ends.append(weights(student))
    assert_same(*ends, atol=1e-6)


def test_add_loss_and_regularizers_are_added_once_and_whole():
    class Penalty(keras.layers.Layer):
        def call(self, x):
            self.add_loss(3.0 + 0 * keras.ops.sum(x))
            return x

    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, kernel_regularizer="l2", name="stage1")(
        inputs
    )
    x = keras.layers.GlobalAveragePooling2D()(Penalty()(x))
    student = keras.Model(inputs, keras.layers.Dense(7)(x))
    teacher = keras.models.clone_model(student)
    kernel = numpy(student.get_layer("stage1").kernel)
    model = compiled(
        student,
        teacher,
        alpha=0.25,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(*examples(), verbose=0).history
    found = {name: value[0] for name, value in history.items()}
    np.testing.assert_allclose(
        found["regularization_loss"],
        3 + 0.01 * (kernel**2).sum(),
        rtol=1e-5,
    )
    parts = [name for name in found if name.endswith("_loss")]
    assert len(parts) == 4
    np.testing.assert_allclose(
        found["loss"], sum(found[name] for name in parts), rtol=1e-5
    )


def test_dropout_masks_of_outputs_and_maps_are_one():
    # The student's output is what the tapped dropout lets through, so their
    # difference is zero only if both come from one pass.
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="conv")(inputs)
    x = keras.layers.Dropout(0.5, name="stage1")(x)
    student = keras.Model(inputs, x)
    model = AttentionTransferModel(student, teacher_network(), ["stage1"])

    def loss(y_true, y_pred):
        step = model._step()
        # Keras asks for the loss of symbols first, outside of any step.
        tapped = y_pred if step is None else step.values["stage1"]
        return keras.ops.abs(y_pred - tapped)

    model.compile("sgd", loss=loss)
    x = examples()[0]
    history = model.fit(x, x, verbose=0).history
    assert history["label_loss"] == [0.0]
    assert history["attention_loss"][0] > 0


def test_unlabeled_data():
    x, _ = examples()
    student = network()
    before = weights(student)
    model = compiled(
        student, teacher_network(), alpha=0.5, metrics=["accuracy"]
    )
    history = model.fit(x, verbose=0, epochs=2).history
    assert set(history) == {
        "loss",
        "distillation_loss",
        "attention_loss",
        "attention/stage1",
        "attention/stage2",
    }
    assert moved(weights(student), before) > 1e-4


def test_without_a_loss_labels_are_not_needed():
    x, y = examples()
    model = compiled(network(), teacher_network(), loss=None, alpha=0.5)
    assert "label_loss" not in model.fit(x, y, verbose=0).history
    assert "label_loss" not in model.fit(x, verbose=0).history


def test_beta_zero_needs_no_pairs():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Dense(7, activation="softmax")(
        keras.layers.Flatten()(inputs)
    )
    student = keras.Model(inputs, x)
    model = compiled(student, teacher=teacher_network(), beta=0, alpha=1)
    history = model.fit(*examples(), verbose=0).history
    assert set(history) == {"loss", "label_loss", "distillation_loss"}
    assert history["loss"] == pytest.approx(history["distillation_loss"])


@pytest.mark.slow
def test_schedules_follow_the_optimizers_iterations():
    x, y = examples(4)
    losses = []
    decay = keras.optimizers.schedules.PiecewiseConstantDecay
    for beta in (8.0, 4.0, decay([0], [8.0, 4.0])):
        model = compiled(
            network(),
            teacher_network(),
            keras.optimizers.SGD(0.0),
            eager=False,
            beta=beta,
            alpha=decay([0], [0.5, 0.5]),
        )
        losses.append(
            model.fit(x, y, epochs=2, verbose=0, shuffle=False).history["loss"]
        )
    np.testing.assert_allclose(losses[2][0], losses[0][0], rtol=1e-5)
    np.testing.assert_allclose(losses[2][1], losses[1][1], rtol=1e-5)


def test_weights_of_pairs():
    x, y = examples()
    found = []
    for factors in ([1, 0.0], [2, 3]):
        model = compiled(
            network(),
            teacher_network(),
            pairs=["stage1", ("stage2", "stage2")],
            pair_weights=factors,
        )
        history = model.fit(x, y, verbose=0).history
        np.testing.assert_allclose(
            history["attention_loss"][0],
            history["attention/stage1"][0] + history["attention/stage2"][0],
            rtol=1e-5,
        )
        found.append(history["attention/stage1"][0])
    np.testing.assert_allclose(2 * found[0], found[1], rtol=1e-6)


def test_one_layer_of_the_student_and_two_of_the_teacher():
    model = compiled(
        network(),
        teacher_network(),
        pairs=[("stage1", "stage1"), ("stage1", "stage2")],
    )
    history = model.fit(*examples(), verbose=0).history
    assert {"attention/stage1<stage1", "attention/stage1<stage2"} <= set(
        history
    )


def test_dead_student_has_finite_gradients():
    student = network()
    conv = student.get_layer("conv1")
    conv.kernel.assign(0 * numpy(conv.kernel))
    model = compiled(student, teacher_network(), beta=1, reduction="paper")
    model.fit(*examples(), verbose=0)
    assert all(np.isfinite(weight).all() for weight in weights(student))


def test_dead_teacher_has_finite_gradients():
    teacher = teacher_network()
    for name in ("conv1", "conv2"):
        kernel = teacher.get_layer(name).kernel
        kernel.assign(0 * numpy(kernel))
    student = network()
    model = compiled(student, teacher, beta=1, reduction="paper")
    history = model.fit(*examples(), verbose=0).history
    # A map of nothing is at distance 1 from every unit map, half of it.
    np.testing.assert_allclose(history["attention/stage1"], 0.5, rtol=1e-4)
    assert all(np.isfinite(weight).all() for weight in weights(student))


@pytest.mark.slow
def test_gradient_accumulation():
    x, y = examples(4)
    ends = []
    for batch, steps in ((4, None), (2, 2)):
        student = network()
        for path, layer in walk_layers(student):
            if path.startswith("norm"):
                layer.trainable = False
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        model = compiled(
            student, teacher_network(), optimizer, alpha=0.5, eager=False
        )
        model.fit(x, y, batch_size=batch, verbose=0, shuffle=False)
        ends.append(weights(student))
    assert_same(*ends, atol=1e-5)


def test_compiled_and_eager_steps_are_one():
    x, y = examples(6)
    ends = []
    jit = keras.backend.backend() != "torch"
    for eager, extra in (
        (True, {}),
        (False, {"jit_compile": jit}),
        (False, {"steps_per_execution": 3 if jit else 1}),
    ):
        student = network(regularizer="l2")
        model = compiled(
            student, teacher_network(), eager=eager, alpha=0.5, **extra
        )
        model.fit(x, y, batch_size=2, epochs=2, verbose=0, shuffle=False)
        ends.append(weights(student))
    assert_same(ends[0], ends[1], atol=2e-5)
    assert_same(ends[0], ends[2], atol=2e-5)
