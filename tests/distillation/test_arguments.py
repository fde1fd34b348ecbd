"""Every argument that is wrong, and what the error says."""

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network


@pytest.fixture(scope="module")
def models():
    return network(), teacher_network()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"beta": -1}, ValueError, "beta=-1"),
        ({"beta": "high"}, TypeError, "beta='high'"),
        ({"beta": float("nan")}, ValueError, "beta=nan"),
        ({"alpha": 1.5}, ValueError, "alpha=1.5"),
        ({"alpha": True}, TypeError, "alpha=True"),
        ({"power": 0.5}, ValueError, "power=0.5"),
        ({"power": "2"}, TypeError, "power='2'"),
        ({"map_function": "mean"}, ValueError, "'sum', 'max'"),
        ({"reduction": "avg"}, ValueError, "'mean', 'sum', 'paper'"),
        ({"reduction": "sum"}, ValueError, "weight=None.*reduction='sum'"),
        ({"temperature": 0}, ValueError, "temperature=0"),
        ({"gradient_transfer": -0.1}, ValueError, "gradient_transfer=-0.1"),
        ({"symmetry": None}, TypeError, "symmetry=None"),
        ({"logits": 3}, TypeError, "logits=3"),
        ({"logits": ("a", 3)}, TypeError, "logits="),
        ({"logits": []}, TypeError, "logits="),
        ({"pair_weights": [1, 2, 3]}, ValueError, "each of the 2 pairs"),
        ({"pairs": ["stage9"]}, ValueError, "Did you mean"),
        ({"unknown": 1}, (TypeError, ValueError), "unknown"),
    ],
)
def test_constructor(models, arguments, error, words):
    with pytest.raises(error, match=words):
        AttentionTransferModel(*models, **arguments)


def test_models_of_wrong_type(models):
    student, teacher = models
    with pytest.raises(TypeError, match="`student` must be a Keras model"):
        AttentionTransferModel(lambda x: x, teacher)
    with pytest.raises(TypeError, match="`teacher` must be a Keras model"):
        AttentionTransferModel(student, "teacher")
    with pytest.raises(TypeError, match="`student` must be"):
        AttentionTransferModel(None, teacher)
    with pytest.raises(ValueError, match="two models"):
        AttentionTransferModel(student, student)


def test_other_inputs(models):
    student, _ = models
    with pytest.raises(ValueError, match="other channels.*8, 8, 2.*8, 8, 3"):
        AttentionTransferModel(student, teacher_network(channels=3))
    line = keras.Sequential([keras.Input((8,)), keras.layers.Dense(7)])
    with pytest.raises(ValueError, match="the same inputs"):
        AttentionTransferModel(student=student, teacher=line)


def test_unbuilt(models):
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="built"):
        AttentionTransferModel(unbuilt, models[1])


def test_logits_that_are_none(models):
    student, teacher = models
    inputs = keras.Input((8, 8, 2))
    flat = keras.layers.Flatten()(inputs)
    for units in (1, 3):
        other = keras.Model(inputs, keras.layers.Dense(units)(flat))
        with pytest.raises(ValueError, match=f"7 classes.*{units} of the te"):
            AttentionTransferModel(
                student=student, teacher=other, beta=0, alpha=0.5
            )
    with pytest.raises(ValueError, match="'logit'.*Did you mean 'logits'"):
        AttentionTransferModel(student, teacher, alpha=0.5, logits="logit")


def test_gradients_need_labels_and_a_teacher(models):
    student, teacher = models
    x, _ = examples()
    model = AttentionTransferModel(student, teacher, gradient_transfer=1.0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="with labels"):
        model.fit(x, verbose=0)
    inputs = keras.Input((8, 8, 2), dtype="int32")
    whole = keras.Model(inputs, network(seed=4)(inputs))
    model = AttentionTransferModel(whole, teacher, beta=0, symmetry=1.0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="one input of floats.*int32"):
        model.fit(x.astype("int32"), examples()[1], verbose=0)
    with pytest.raises(ValueError, match="teacher=None"):
        AttentionTransferModel(
            student, None, pairs=["stage1"], gradient_transfer=1.0
        )


def test_no_teacher_and_plain_data(models):
    model = AttentionTransferModel(models[0], None, pairs=["stage1"])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="precompute_teacher"):
        model.fit(*examples(), verbose=0)
    assert np.isfinite(model.evaluate(*examples(), verbose=0))
