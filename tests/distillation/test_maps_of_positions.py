"""Attention maps with weights of positions, and of tokens beside images."""

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from keras_attention.distillation import AttentionMaps
from support.arrays import numpy
from support.distillation import EAGER
from support.distillation import network
from support.distillation import teacher_network

BATCH, LENGTH, SIZE = 3, 7, 8
# The teachers here are not trained.
pytestmark = pytest.mark.filterwarnings("ignore:The teacher is no better")


def unit(maps):
    flat = maps.reshape(len(maps), -1)
    return flat / np.linalg.norm(flat, axis=-1, keepdims=True)


def sequence_model(units, seed, name):
    """Features of each position, and a class for each."""
    inputs = keras.Input((LENGTH, 4))
    x = keras.layers.Dense(units, name="features")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="out")(x), name=name)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=w.shape) for w in model.weights])
    return model


def pixel_model(units, seed, name, strides=1):
    inputs = keras.Input((SIZE, SIZE, 2))
    x = keras.layers.Conv2D(
        units, 3, strides=strides, padding="same", name="features"
    )(inputs)
    y = keras.layers.UpSampling2D(strides)(x) if strides > 1 else x
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(y), name=name)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=w.shape) for w in model.weights])
    return model


def first_loss(student, teacher, objective, x, y, sample_weight=None):
    model = AttentionTransferModel(
        student=student, teacher=teacher, losses=[objective]
    )
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=EAGER,
    )
    history = model.fit(
        x, y, sample_weight=sample_weight, batch_size=BATCH, verbose=0
    ).history
    return history[objective.loss_name][0]


def maps_of(model, x):
    inner = keras.Model(model.inputs[0], model.get_layer("features").output)
    return (numpy(inner(x)).astype("float64") ** 2).sum(-1)


def data(shape, positions):
    random = np.random.default_rng(4)
    x = random.normal(size=(BATCH, *shape)).astype("float32")
    return x, random.integers(3, size=(BATCH, *positions)), random


@pytest.mark.parametrize("reduction", ["sum", "mean", "scale_free"])
def test_weights_of_a_sequence(reduction):
    x, y, random = data((LENGTH, 4), (LENGTH,))
    weights = random.uniform(0.5, 2, size=(BATCH, LENGTH))
    weights[0, 4:], weights[1, 2] = 0, 0
    student = sequence_model(5, 0, "student")
    teacher = sequence_model(6, 1, "teacher")
    counted = weights > 0
    maps = [
        unit(np.where(counted, maps_of(m, x), 0)) for m in (student, teacher)
    ]
    each = (weights * (maps[0] - maps[1]) ** 2).sum(-1)
    expected = {
        "sum": each,
        "mean": each / counted.sum(-1),
        "scale_free": 1e3 / 64 * each,
    }[reduction].mean()
    found = first_loss(
        student,
        teacher,
        AttentionMaps(1.0, ["features"], reduction=reduction),
        x,
        y,
        weights.astype("float32"),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_weight_for_all_positions_is_that_of_the_example():
    x, y, random = data((LENGTH, 4), (LENGTH,))
    weights = random.uniform(0.5, 2, size=BATCH).astype("float32")
    found = [
        first_loss(
            sequence_model(5, 0, "student"),
            sequence_model(6, 1, "teacher"),
            AttentionMaps(pairs=["features"]),
            x,
            y,
            each,
        )
        for each in (
            np.repeat(weights[:, None], LENGTH, 1),
            np.repeat(weights[:, None, None], LENGTH, 1),
        )
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    distances = [
        first_loss(
            sequence_model(5, 0, "student"),
            sequence_model(6, 1, "teacher"),
            AttentionMaps(pairs=["features"]),
            x[n : n + 1],
            y[n : n + 1],
        )
        for n in range(BATCH)
    ]
    np.testing.assert_allclose(
        found[0], np.mean(weights * distances), rtol=1e-4
    )


@pytest.mark.parametrize("strides", [1, 2])
def test_weights_of_pixels(strides):
    """Those of a larger size are averaged down to the map's."""
    x, y, random = data((SIZE, SIZE, 2), (SIZE, SIZE))
    weights = random.uniform(0.5, 2, size=(BATCH, SIZE, SIZE))
    weights[0, :4] = 0
    student = pixel_model(3, 0, "student", strides)
    teacher = pixel_model(4, 1, "teacher", strides)
    side = SIZE // strides
    means = weights.reshape(BATCH, side, strides, side, strides).mean((2, 4))
    maps = [
        unit(np.where(means > 0, maps_of(m, x), 0)) for m in (student, teacher)
    ]
    each = means.reshape(BATCH, -1) * (maps[0] - maps[1]) ** 2
    found = first_loss(
        student,
        teacher,
        AttentionMaps(1.0, ["features"], reduction="sum"),
        x,
        y,
        weights.astype("float32"),
    )
    np.testing.assert_allclose(found, each.sum(-1).mean(), rtol=1e-4)


@pytest.mark.parametrize("class_tokens", [0, 1, 3])
def test_tokens_are_compared_with_an_image(class_tokens):
    """A vision transformer as the student of a convolutional network."""

    class Prepend(keras.layers.Layer):
        def call(self, x):
            return keras.ops.pad(
                x, ((0, 0), (class_tokens, 0), (0, 0)), constant_values=3.0
            )

    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(5, 2, strides=2, name="patches")(inputs)
    x = keras.layers.Reshape((16, 5))(x)
    x = Prepend(name="tokens")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    student = keras.Model(inputs, keras.layers.Dense(7)(x), name="student")
    teacher = teacher_network()
    x = np.random.default_rng(0).normal(size=(BATCH, 8, 8, 2))
    x, y = x.astype("float32"), np.zeros(BATCH, "int32")
    patches = keras.Model(inputs, student.get_layer("patches").output)
    stage = keras.Model(teacher.inputs[0], teacher.get_layer("stage1").output)
    mine = (numpy(patches(x)) ** 2).sum(-1)
    theirs = (numpy(stage(x)) ** 2).sum(-1)
    theirs = theirs.reshape(BATCH, 4, 2, 4, 2).mean((2, 4))
    expected = ((unit(mine) - unit(theirs)) ** 2).sum(-1).mean()
    found = first_loss(
        student,
        teacher,
        AttentionMaps(1.0, [("tokens", "stage1")], reduction="sum"),
        x,
        y,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_one_weight_for_each_of_two_outputs_is_averaged_for_maps():
    def two_headed(body):
        x = body.get_layer("pool").output
        return keras.Model(
            body.inputs, [keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)]
        )

    random = np.random.default_rng(0)
    x = random.normal(size=(4, 8, 8, 2)).astype("float32")
    y, weights = np.zeros(4, "int32"), random.uniform(size=(2, 4))
    losses = []
    for given in (list(weights), list(np.stack([weights.mean(0)] * 2))):
        model = AttentionTransferModel(
            two_headed(network()), two_headed(teacher_network())
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.0), [loss, loss], run_eagerly=True)
        history = model.fit(x, [y, y], sample_weight=given, verbose=0).history
        losses.append(history["attention_loss"][0])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
