import keras
import numpy as np
import pytest

from keras_attention.distillation import AttentionTransferLoss
from support.arrays import numpy
from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network


def activations():
    random = np.random.default_rng(0)
    return [
        random.normal(size=(3, 4, 6, channels)).astype("float32")
        for channels in (5, 7)
    ]


def expected(teacher, student, power=2):
    units = []
    for x in (teacher, student):
        flat = (np.abs(x.astype("float64")) ** power).sum(-1).reshape(3, -1)
        units.append(flat / np.linalg.norm(flat, axis=-1, keepdims=True))
    return ((units[0] - units[1]) ** 2).sum(-1)


@pytest.mark.parametrize("power", [1, 2, 4])
def test_equal_to_numpy(power):
    teacher, student = activations()
    square = expected(teacher, student, power)
    for distance, value in (
        ("mean", square / 24),
        ("sum", square),
        ("paper", np.sqrt(square) / 2),
    ):
        loss = AttentionTransferLoss(power, distance=distance)
        np.testing.assert_allclose(
            float(numpy(loss(teacher, student))), value.mean(), rtol=1e-4
        )
        each = AttentionTransferLoss(power, "sum", distance, reduction=None)
        np.testing.assert_allclose(
            numpy(each(teacher, student)), value, rtol=1e-4
        )


def test_sample_weights_and_data_format():
    teacher, student = activations()
    first = [np.moveaxis(x, -1, 1) for x in (teacher, student)]
    loss = AttentionTransferLoss(data_format="channels_first", distance="sum")
    weights = np.array([1.0, 0.0, 2.0], "float32")
    np.testing.assert_allclose(
        float(numpy(loss(*first, sample_weight=weights))),
        (expected(teacher, student) * weights).mean(),
        rtol=1e-4,
    )


def test_config_round_trip():
    loss = AttentionTransferLoss(
        4, "max", "paper", "channels_first", "a", "b", "sum", "transfer"
    )
    config = loss.get_config()
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert again.get_config() == config
    assert keras.losses.deserialize(keras.losses.serialize(loss)).power == 4


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"power": 0}, ValueError),
        ({"map_function": "min"}, ValueError),
        ({"distance": "sum_over_batch_size"}, ValueError),
        ({"data_format": "first"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    with pytest.raises(error, match="Received"):
        AttentionTransferLoss(**arguments)


def test_other_rank():
    with pytest.raises(ValueError, match="one rank"):
        AttentionTransferLoss()(np.ones((2, 3, 3, 1)), np.ones((2, 9, 1)))
    with pytest.raises(ValueError, match="one rank"):
        AttentionTransferLoss()(np.ones((2, 3)), np.ones((2, 3)))


def test_as_the_loss_of_a_model():
    x, _ = examples()
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(
        inputs, keras.layers.Conv2D(3, 3, padding="same")(inputs)
    )
    model.compile("sgd", AttentionTransferLoss(distance="sum"))
    model.fit(x, x, verbose=0)
    assert 0 < model.evaluate(x, x, verbose=0) < 2


def test_as_a_plug_in_of_the_distiller():
    x, y = examples()
    student, teacher = network(), teacher_network()
    loss = AttentionTransferLoss(
        distance="sum",
        teacher_layer_name="stage2",
        student_layer_name="stage2",
    )
    distiller = keras.distillation.Distiller(
        teacher=teacher, student=student, distillation_losses=loss
    )
    distiller.compile("sgd", "sparse_categorical_crossentropy")
    history = distiller.fit(x, y, verbose=0).history
    assert 0 < history["distillation_loss"][0] < 2
    wrong = AttentionTransferLoss(teacher_layer_name="stage3")
    with pytest.raises(ValueError, match="Did you mean 'stage"):
        keras.distillation.Distiller(
            teacher=teacher, student=student, distillation_losses=wrong
        )
