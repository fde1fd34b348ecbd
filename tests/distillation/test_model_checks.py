"""Models that cannot be distilled as they are, and what is said of them."""

import warnings

import keras
import numpy as np
import pytest

import keras_attention
from keras_attention import AttentionTransferModel
from keras_attention.distillation import AttentionMaps
from keras_attention.distillation import Logits
from support.distillation import compiled
from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network
from support.distillation import weights


def test_the_order_of_the_distiller_is_remarked_on():
    student, teacher = network(), teacher_network()
    with pytest.warns(UserWarning, match=r"\(student, teacher\)"):
        AttentionTransferModel(teacher, student)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AttentionTransferModel(student, teacher)
        AttentionTransferModel(teacher=teacher, student=student)
        # A student may be the larger one, if that is said.
        AttentionTransferModel(student=teacher, teacher=student)


def with_layer(layer, name, filters):
    inputs = keras.Input((8, 8, 2))
    x = layer(inputs)
    x = keras.layers.Conv2D(filters, 3, padding="same", name="stage1")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(7, "softmax")(x), name=name)


def test_shared_layers_are_refused_unless_frozen():
    shared = keras.layers.Conv2D(3, 1, name="shared")
    student, teacher = (
        with_layer(shared, "student", 2),
        with_layer(shared, "teacher", 5),
    )
    with pytest.raises(ValueError, match="share layers.*'shared'"):
        AttentionTransferModel(student, teacher)
    shared.trainable = False
    before = weights(teacher)
    compiled(student, teacher).fit(*examples(), verbose=0)
    for a, b in zip(weights(teacher), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_shared_backbone_is_refused():
    backbone = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Conv2D(3, 1, name="inner")],
        name="backbone",
    )
    with pytest.raises(ValueError, match="'backbone/inner'"):
        AttentionTransferModel(
            with_layer(backbone, "student", 2),
            with_layer(backbone, "teacher", 5),
        )


def test_augmentation_inside_the_student_is_remarked_on():
    student = with_layer(keras.layers.RandomFlip(name="flip"), "student", 2)
    teacher = with_layer(keras.layers.RandomFlip(), "teacher", 5)
    with pytest.warns(UserWarning, match="'flip'.*to the data set"):
        AttentionTransferModel(student, teacher)
    inner = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.RandomContrast(0.5)],
        name="augment",
    )
    student = with_layer(inner, "student", 2)
    with pytest.warns(UserWarning, match="'augment/random_contrast"):
        AttentionTransferModel(student, teacher_network())


class OwnStep(keras.Model):
    def train_step(self, data):
        return {}


class OwnLoss(keras.Model):
    def compute_loss(self, *args, **kwargs):
        return 0.0


@pytest.mark.parametrize(
    ("own", "name"), [(OwnStep, "train_step"), (OwnLoss, "compute_loss")]
)
def test_a_training_step_of_the_students_own_is_refused(own, name):
    plain = network()
    student = own(plain.inputs, plain.outputs)
    with pytest.raises(ValueError, match=f"{type(student).__name__}.*{name}"):
        AttentionTransferModel(student, teacher_network())
    # What the error advises.
    AttentionTransferModel(
        keras.Model(student.inputs, student.outputs), teacher_network()
    )


@pytest.mark.slow
def test_several_teachers_are_weighted():
    x, y = examples(6)
    teachers = [network(f"teacher{n}", (6, 11), seed=n + 1) for n in range(2)]
    alone = []
    for teacher in teachers:
        model = compiled(
            network(), teacher, keras.optimizers.SGD(0.0), alpha=0.5
        )
        history = model.fit(x, y, verbose=0).history
        alone.append({name: value[0] for name, value in history.items()})
    model = AttentionTransferModel(
        network(), teachers, alpha=0.5, teacher_weights=[1, 3]
    )
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    history = model.fit(x, y, verbose=0).history
    assert model.teacher == teachers
    for name in alone[0]:
        np.testing.assert_allclose(
            history[name][0],
            0.25 * alone[0][name] + 0.75 * alone[1][name],
            rtol=1e-5,
        )


@pytest.mark.slow
def test_several_teachers_are_saved(tmp_path):
    teachers = [network(f"teacher{n}", (6, 11), seed=n + 1) for n in range(2)]
    model = AttentionTransferModel(
        network(), teachers, alpha=0.5, teacher_weights=[1, 3]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    data = examples(6)
    model.fit(*data, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert len(again.teacher) == 2
    for name in ("losses", "teacher_weights"):
        assert again.get_config()[name] == model.get_config()[name]
    found = [
        each.fit(*data, verbose=0, shuffle=False).history["loss"]
        for each in (model, again)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"losses": AttentionMaps()}, TypeError, "must be a list"),
        ({"losses": ["maps"]}, TypeError, "must be a list"),
        (
            {"losses": [AttentionMaps(), AttentionMaps()]},
            ValueError,
            "name of its own.*'attention', 'attention'",
        ),
        (
            {"losses": [Logits(0.6), Logits(0.6, name="b")]},
            ValueError,
            "at most 1.*0.6, 0.6",
        ),
        ({"losses": [], "alpha": 0.5}, ValueError, "losses and alpha"),
        ({"losses": [], "beta": 1e3}, ValueError, "losses and beta"),
        ({"teacher_weights": [1, 2]}, ValueError, "each of the 1 teachers"),
        ({"teacher_weights": [0]}, ValueError, "positive sum"),
    ],
)
def test_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        AttentionTransferModel(network(), teacher_network(), **arguments)


def test_no_teachers_in_a_list():
    with pytest.raises(ValueError, match="empty list"):
        AttentionTransferModel(network(), [])


@pytest.mark.parametrize(
    "make",
    [
        AttentionMaps,
        keras_attention.distillation.AttentionScores,
        keras_attention.distillation.DecoupledLogits,
        keras_attention.distillation.Features,
        keras_attention.distillation.FlipSymmetry,
        keras_attention.distillation.InputGradients,
        Logits,
        keras_attention.distillation.Relations,
    ],
)
def test_configurations(make):
    config = make().get_config()
    assert make.from_config(config).get_config() == config
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 10)
    arguments = {"reduction": "sum"} if make is AttentionMaps else {}
    scheduled = make(weight=schedule, name="other", **arguments)
    rebuilt = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(scheduled)
    )
    assert rebuilt.get_config() == scheduled.get_config()
    assert rebuilt.loss_name == "other_loss"


@pytest.mark.parametrize("trainable", [True, False])
def test_shared_batch_statistics(trainable):
    """A layer without weights to train, whose statistics training changes."""
    shared = keras.layers.BatchNormalization(center=False, scale=False)
    shared.trainable = trainable

    def made(name):
        x = keras.Input((8, 8, 2))
        y = keras.layers.Conv2D(3, 3, padding="same")(shared(x))
        return keras.Model(x, y, name=name)

    student, teacher = made("student"), made("teacher")
    if trainable:
        with pytest.raises(ValueError, match="share layers"):
            AttentionTransferModel(student, teacher, pairs=[("a", "b")])
        return
    model = AttentionTransferModel(
        student, teacher, losses=[Logits(1.0, kind="regression")]
    )
    model.compile("sgd")
    before = shared.get_weights()
    model.fit(np.ones((4, 8, 8, 2), "float32"), verbose=0)
    np.testing.assert_array_equal(before, shared.get_weights())


def test_a_shared_normalization_of_pixels_is_kept():
    shared = keras.layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0])

    def made(name):
        x = keras.Input((8, 8, 2))
        y = keras.layers.Conv2D(3, 3, padding="same")(shared(x))
        return keras.Model(x, y, name=name)

    AttentionTransferModel(
        made("student"), made("teacher"), losses=[Logits(kind="regression")]
    )


@pytest.mark.parametrize("name", ["train_step", "compute_loss"])
def test_a_step_given_to_one_student_alone(name):
    student = network()
    setattr(student, name, lambda *arguments, **keywords: None)
    with pytest.raises(ValueError, match=name):
        AttentionTransferModel(student, teacher_network())
