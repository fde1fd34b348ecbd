"""Small networks for the tests of attention transfer."""

import keras
import numpy as np

from keras_attention import AttentionTransferModel
from keras_attention.ops.gradients import value_and_input_gradient
from support.arrays import numpy
from support.seeds import seed_keras

# The quicker way to train for a few steps: JAX compiles each operation too.
EAGER = keras.backend.backend() != "jax"
CROSSENTROPY = "sparse_categorical_crossentropy"


def network(
    name="student",
    filters=(3, 5),
    size=8,
    channels=2,
    classes=7,
    softmax=True,
    dropout=0.0,
    regularizer=None,
    seed=0,
    synchronized=False,
):
    """Two stages at 8x8 and 4x4, with batch normalization."""
    seed_keras(seed)
    inputs = x = keras.Input((size, size, channels))
    for stage, units in enumerate(filters, 1):
        x = keras.layers.Conv2D(
            units,
            3,
            strides=stage,
            padding="same",
            kernel_regularizer=regularizer,
            name=f"conv{stage}",
        )(x)
        x = keras.layers.BatchNormalization(
            synchronized=synchronized, name=f"norm{stage}"
        )(x)
        x = keras.layers.ReLU(name=f"stage{stage}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, seed=7, name=f"drop{stage}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(classes, name="logits")(x)
    if softmax:
        x = keras.layers.Softmax(name="probabilities", dtype="float32")(x)
    return keras.Model(inputs, x, name=name)


def teacher_network(**arguments):
    return network("teacher", (6, 11), seed=1, **arguments)


def compiled(student, teacher=None, optimizer="sgd", eager=EAGER, **arguments):
    """An `AttentionTransferModel`, with arguments of its own and `compile`."""
    compile_arguments = {
        name: arguments.pop(name)
        for name in ("metrics", "loss", "steps_per_execution", "jit_compile")
        if name in arguments
    }
    model = AttentionTransferModel(
        student=student, teacher=teacher, **arguments
    )
    compile_arguments.setdefault("loss", CROSSENTROPY)
    model.compile(optimizer, run_eagerly=eager, **compile_arguments)
    return model


def adam(rate=0.01):
    """Return Adam, for weights that are compared with those of another run.

    The gradient of a bias before batch normalization is rounding alone. With
    its usual epsilon, Adam makes a whole step of it, another in each run.
    """
    return keras.optimizers.Adam(rate, epsilon=1e-3)


def examples(count=5, size=8, channels=2, classes=7, seed=3):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, size, size, channels)).astype("float32")
    return x, random.integers(classes, size=count)


def weights(model):
    return [w.copy() for w in model.get_weights()]


def assert_same(first, second, **tolerance):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 0, "atol": 0, **tolerance})


def moved(first, second):
    return max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))


def gradient(function, x):
    x = keras.ops.convert_to_tensor(x)
    found, _ = value_and_input_gradient(
        lambda x: (keras.ops.sum(function(x)), None), x
    )
    return numpy(found)
