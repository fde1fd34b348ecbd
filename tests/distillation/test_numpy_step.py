"""One training step against a loss and an update worked out in NumPy.

Runs on every backend: the same weights and data give the same update.
"""

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from support.arrays import numpy

RATE, L2 = 0.125, 0.05
SHAPE, HIDDEN, CLASSES, BATCH = (4, 6, 2), 3, 5, 4


def linear_network(name, filters, seed, softmax):
    random = np.random.default_rng(seed)
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(
        filters,
        1,
        use_bias=False,
        kernel_regularizer=keras.regularizers.L2(L2),
        name="stage",
    )(inputs)
    y = keras.layers.Flatten(name="flat")(x)
    y = keras.layers.Dense(CLASSES, use_bias=False, name="logits")(y)
    if softmax:
        y = keras.layers.Softmax(name="probabilities")(y)
    model = keras.Model(inputs, y, name=name)
    model.set_weights(
        [random.normal(size=w.shape) * 0.4 for w in model.get_weights()]
    )
    return model


def data():
    random = np.random.default_rng(7)
    x = random.normal(size=(BATCH, *SHAPE)).astype("float32")
    y = random.integers(CLASSES, size=BATCH)
    return x, y, random.uniform(0.2, 1.8, size=BATCH).astype("float32")


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def outputs(x, kernel, head):
    activation = x @ kernel  # [B, H, W, C]
    return activation, activation.reshape(len(x), -1) @ head


def unit(activation, power=2):
    flat = (np.abs(activation) ** power).sum(-1).reshape(len(activation), -1)
    return flat / np.linalg.norm(flat, axis=-1, keepdims=True)


def input_gradient(x, y, kernel, head):
    _, z = outputs(x, kernel, head)
    at_logits = softmax(z) - np.eye(CLASSES)[y]
    at_stage = (at_logits @ head.T).reshape(*x.shape[:3], -1)
    return at_stage @ kernel[0, 0].T


def half_length(difference):
    return np.sqrt((difference.reshape(BATCH, -1) ** 2).sum(-1)) / 2


def loss_of(weights, teacher, x, y, w, setting):
    """The whole loss of one batch, in float64."""
    kernel, head = weights
    # The scale-free weight of the only, so the smallest, map.
    alpha, beta = setting.get("alpha", 0), setting.get("beta", 1e3 / 64)
    reduction = setting.get("reduction", "mean" if "beta" in setting else "sum")
    activation, z = outputs(x, kernel, head)
    there, z_there = outputs(x, *teacher)
    labels = -np.log(softmax(z)[np.arange(BATCH), y])
    total = (1 - alpha) * (w * labels).mean() + L2 * (kernel**2).sum()
    power = setting.get("power", 2)
    square = (unit(activation, power) - unit(there, power)) ** 2
    distance = {
        "mean": square.mean(-1),
        "sum": square.sum(-1),
        "paper": np.sqrt(square.sum(-1)) / 2,
    }[reduction]
    total += beta * (w * distance).mean()
    if alpha:
        t = setting["temperature"]
        p, q = softmax(z_there / t), softmax(z / t)
        divergence = t**2 * (p * np.log(p / q)).sum(-1)
        total += alpha * (w * divergence).mean()
    if "gradient_transfer" in setting:
        here = input_gradient(x, y, kernel, head)
        theirs = input_gradient(x, y, *teacher)
        part = (w * half_length(here - theirs)).mean()
        total += setting["gradient_transfer"] * part
    if "symmetry" in setting:
        here = input_gradient(x, y, kernel, head)
        flipped = input_gradient(x[:, :, ::-1], y, kernel, head)
        part = (w * half_length(here - flipped[:, :, ::-1])).mean()
        total += setting["symmetry"] * part
    return total


def numeric_gradients(function, weights, step=1e-6):
    gradients = []
    for weight in weights:
        gradient = np.empty_like(weight)
        for index in np.ndindex(weight.shape):
            kept = weight[index]
            weight[index] = kept + step
            above = function()
            weight[index] = kept - step
            gradient[index] = (above - function()) / (2 * step)
            weight[index] = kept
        gradients.append(gradient)
    return gradients


SETTINGS = {
    "attention": {},
    "sum": {"reduction": "sum", "beta": 3.0, "power": 3},
    "paper": {"reduction": "paper", "beta": 2.0, "power": 1},
    "distillation": {"alpha": 0.75, "temperature": 3.0, "beta": 0.0},
    "both": {"alpha": 0.4, "temperature": 4.0, "beta": 50.0},
    "gradients": {"beta": 0.0, "gradient_transfer": 2.0},
    "symmetry": {"beta": 0.0, "symmetry": 3.0},
    "all": {
        "beta": 50.0,
        "alpha": 0.4,
        "temperature": 2.0,
        "gradient_transfer": 0.5,
        "symmetry": 0.7,
    },
}


@pytest.mark.parametrize("name", SETTINGS)
def test_one_step_is_the_update_worked_out_in_numpy(name):
    setting = SETTINGS[name]
    student = linear_network("student", HIDDEN, 0, softmax=True)
    teacher = linear_network("teacher", 5, 1, softmax=name != "both")
    x, y, w = data()
    wide = [each.astype("float64") for each in student.get_weights()]
    theirs = [each.astype("float64") for each in teacher.get_weights()]

    def loss():
        return loss_of(wide, theirs, x.astype("float64"), y, w, setting)

    expected_loss = loss()
    gradients = numeric_gradients(loss, wide)
    model = AttentionTransferModel(student, teacher, ["stage"], **setting)
    model.compile(
        keras.optimizers.SGD(RATE), loss="sparse_categorical_crossentropy"
    )
    history = model.fit(x, y, sample_weight=w, batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(
        history.history["loss"][0], expected_loss, rtol=1e-5
    )
    for weight, before, gradient in zip(
        student.weights, wide, gradients, strict=True
    ):
        np.testing.assert_allclose(
            numpy(weight), before - RATE * gradient, rtol=2e-4, atol=2e-5
        )
    for weight, before in zip(teacher.weights, theirs, strict=True):
        np.testing.assert_array_equal(numpy(weight), before)


def test_parts_add_up_to_the_loss():
    setting = SETTINGS["all"]
    student = linear_network("student", HIDDEN, 0, softmax=True)
    teacher = linear_network("teacher", 5, 1, softmax=True)
    model = AttentionTransferModel(student, teacher, ["stage"], **setting)
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    penalty = sum(float(numpy(loss)) for loss in student.losses)
    x, y, _ = data()
    history = model.fit(x, y, batch_size=BATCH, verbose=0).history
    found = {name: value[0] for name, value in history.items()}
    assert set(found) == {
        "loss",
        "label_loss",
        "distillation_loss",
        "attention_loss",
        "attention/stage",
        "gradient_loss",
        "symmetry_loss",
        "regularization_loss",
    }
    np.testing.assert_allclose(
        found["attention_loss"], found["attention/stage"], rtol=1e-6
    )
    np.testing.assert_allclose(found["regularization_loss"], penalty, rtol=1e-5)
    np.testing.assert_allclose(
        found["loss"],
        found["label_loss"]
        + found["distillation_loss"]
        + found["attention_loss"]
        + found["gradient_loss"]
        + found["symmetry_loss"]
        + found["regularization_loss"],
        rtol=1e-5,
    )
