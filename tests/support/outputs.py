"""Small models with outputs of every kind, and NumPy's distances of these."""

import keras
import numpy as np

from keras_attention import AttentionTransferModel
from support.distillation import EAGER

ALPHA, T, BATCH, WIDTH = 0.5, 4.0, 6, 5


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def divergence(student, teacher, temperature=T):
    """T² KL of logits, one for each position."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(-1)


def bernoulli(student, teacher, temperature=T):
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * each.mean(-1)


def model_of(outputs, seed, name, as_dict=False, shape=(WIDTH,)):
    """A model whose outputs are dense layers of one input.

    Args:
        outputs: the layer of each output by its name; `None` as activation
            gives logits.
    """
    inputs = keras.Input(shape)
    made = {}
    for key, layer in outputs.items():
        made[key] = layer(inputs)
    given = made if as_dict else list(made.values())
    if not as_dict and len(made) == 1:
        given = given[0]
    return randomized(keras.Model(inputs, given, name=name), seed)


def randomized(model, seed):
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=w.shape) for w in model.weights])
    return model


def dense(units, name, activation=None):
    return keras.layers.Dense(units, activation=activation, name=name)


def inputs(shape=(WIDTH,)):
    random = np.random.default_rng(3)
    return random.normal(size=(BATCH, *shape)).astype("float32")


def distillation_loss(student, teacher, loss, y, x=None, **arguments):
    """The distillation part of the first step, divided by alpha.

    To trace a step takes TensorFlow a second, to compute one a tenth. JAX
    traces each; TensorFlow those that are given `run_eagerly=False`.
    """
    compile_arguments = {
        name: arguments.pop(name)
        for name in ("loss_weights", "run_eagerly")
        if name in arguments
    }
    fit_arguments = {
        name: arguments.pop(name)
        for name in ("sample_weight",)
        if name in arguments
    }
    compile_arguments.setdefault("run_eagerly", EAGER)
    arguments.setdefault("alpha", ALPHA)
    arguments.setdefault("temperature", T)
    model = AttentionTransferModel(
        student=student, teacher=teacher, beta=0, **arguments
    )
    model.compile("sgd", loss, **compile_arguments)
    x = inputs() if x is None else x
    history = model.fit(
        x, y, batch_size=BATCH, verbose=0, shuffle=False, **fit_arguments
    ).history
    return history["distillation_loss"][0] / ALPHA


def labels(classes, shape=(BATCH,), seed=0):
    return np.random.default_rng(seed).integers(classes, size=shape)
