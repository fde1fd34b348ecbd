"""A loss that is no number is named, and nothing is lost by it."""

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from support.arrays import numpy
from support.distillation import EAGER
from support.distillation import adam
from support.distillation import assert_same
from support.distillation import examples
from support.distillation import moved
from support.distillation import network
from support.distillation import teacher_network
from support.distillation import weights

FIT = {"verbose": 0, "shuffle": False, "batch_size": 4}


# How a step is run. XLA's has an update of its own on TensorFlow.
STEPS = ["eager", "compiled"]
if keras.backend.backend() == "tensorflow":
    STEPS.append(pytest.param("XLA", marks=pytest.mark.slow))


def compiled(student, teacher, optimizer=None, step=None, **arguments):
    step = step or STEPS[not EAGER]
    model = AttentionTransferModel(student, teacher, **arguments)
    model.compile(
        optimizer or adam(),
        "sparse_categorical_crossentropy",
        run_eagerly=step == "eager",
        jit_compile={"compiled": False, "XLA": True}.get(step, "auto"),
    )
    return model


def state(model):
    """All that a step may change: weights, dropout's state, optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return [numpy(v).copy() for v in variables]


def bad_examples():
    """Two good batches and a bad one."""
    x, y = examples(12)
    x[9] = np.inf
    return x, y


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_updated_by_a_batch_that_is_no_number(step):
    x, y = bad_examples()
    good = compiled(network(dropout=0.3), teacher_network(), step=step)
    good.fit(x[:8], y[:8], **FIT)
    model = compiled(network(dropout=0.3), teacher_network(), step=step)
    with pytest.raises(
        ValueError, match="attention/stage1=nan.*label_loss=nan.*before"
    ):
        model.fit(x, y, **FIT)
    assert_same(state(model), state(good), atol=1e-6)
    assert int(model.optimizer.iterations) == 2
    # And it goes on.
    before = weights(model.student)
    history = model.fit(x[:8], y[:8], **FIT).history
    assert np.isfinite(history["loss"]).all()
    assert moved(weights(model.student), before) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_all_that_an_optimizer_keeps_is_left_as_it_was(step):
    """Averages, accumulated gradients, decay."""
    x, y = bad_examples()
    optimizer = keras.optimizers.AdamW(
        epsilon=1e-3,
        clipnorm=1.0,
        use_ema=True,
        ema_overwrite_frequency=2,
        gradient_accumulation_steps=3,
    )
    model = compiled(network(), teacher_network(), optimizer, step)
    for _ in range(2):
        model.train_on_batch(x[:4], y[:4])
    before = state(model)
    model.train_on_batch(x[8:], y[8:])
    assert_same(state(model), before)
    model.reset_metrics()
    model.train_on_batch(x[4:8], y[4:8])
    assert moved(state(model), before) > 1e-4


def test_train_on_batch_and_later_steps():
    x, y = bad_examples()
    model = compiled(network(), teacher_network())
    model.train_on_batch(x[:4], y[:4])
    before = state(model)
    logs = model.train_on_batch(x[8:], y[8:], return_dict=True)
    assert not np.isfinite(logs["loss"])
    assert_same(state(model), before)
    model.reset_metrics()
    logs = model.train_on_batch(x[4:8], y[4:8], return_dict=True)
    assert np.isfinite(logs["loss"])


def test_several_steps_of_one_execution():
    if keras.backend.backend() == "torch":
        return  # Keras has no such executions there.
    x, y = bad_examples()
    x = np.concatenate([x, x[:4]])
    y = np.concatenate([y, y[:4]])
    model = AttentionTransferModel(network(), teacher_network())
    model.compile(
        "sgd", "sparse_categorical_crossentropy", steps_per_execution=4
    )
    with pytest.raises(ValueError, match="label_loss=nan"):
        model.fit(x, y, **FIT)
    before = AttentionTransferModel(network(), teacher_network())
    before.compile("sgd", "sparse_categorical_crossentropy")
    before.fit(x[:8], y[:8], **FIT)
    for found, expected in zip(state(model), state(before), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_only_the_bad_part_is_named():
    teacher = teacher_network()
    kernel = teacher.get_layer("conv1").kernel
    kernel.assign(numpy(kernel) * np.nan)
    model = compiled(network(), teacher)
    before = weights(model.student)
    with pytest.raises(ValueError, match="Received: attention/stage1=nan") as e:
        model.fit(*examples(), verbose=0)
    assert "label_loss" not in str(e.value)
    assert_same(weights(model.student), before)


def test_finite_loss_with_a_gradient_that_is_none():
    @keras.saving.register_keras_serializable("test")
    class Root(keras.layers.Layer):
        def call(self, x):
            return x + keras.ops.sqrt(keras.ops.abs(x - x))

    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, name="stage1")(inputs)
    x = keras.layers.Flatten()(Root()(x))
    x = keras.layers.Dense(7, activation="softmax")(x)
    model = compiled(keras.Model(inputs, x), teacher_network(), beta=0, alpha=1)
    before = weights(model.student)
    with pytest.raises(ValueError, match="every part is finite.*gradient"):
        model.fit(*examples(), verbose=0)
    assert_same(weights(model.student), before)


def test_loss_scaling_finds_its_scale():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        student = network()
    finally:
        keras.config.set_dtype_policy(before)
    inner = keras.optimizers.SGD(0.01)
    optimizer = keras.optimizers.LossScaleOptimizer(
        inner, initial_scale=2.0**40
    )
    model = compiled(student, teacher_network(), optimizer, "compiled")
    kept = weights(student)
    x, y = examples(4)
    history = model.fit(x, y, epochs=30, **FIT).history
    assert np.isfinite(history["loss"]).all()
    assert float(numpy(model.optimizer.dynamic_scale)) < 2.0**40
    assert moved(weights(student), kept) > 1e-4
    assert all(np.isfinite(w).all() for w in weights(student))


def test_without_a_teachers_part_a_step_is_keras_own():
    x, y = examples(8)

    def student():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 2))
        conv = keras.layers.Conv2D(3, 3, kernel_regularizer="l2")
        x = keras.layers.SpectralNormalization(conv)(inputs)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.GaussianNoise(0.1, seed=3)(x)
        x = keras.layers.Flatten()(keras.layers.Dropout(0.3, seed=7)(x))
        return keras.Model(inputs, keras.layers.Dense(7, "softmax")(x))

    own = student()
    own.compile(
        adam(),
        "sparse_categorical_crossentropy",
        run_eagerly=EAGER,
    )
    alone = own.fit(x, y, epochs=2, **FIT).history
    model = compiled(student(), teacher_network(), beta=0)
    history = model.fit(x, y, epochs=2, **FIT).history
    assert_same([history["loss"]], [alone["loss"]], rtol=1e-5)
    assert_same(weights(model.student), weights(own), atol=1e-5)
