"""Distillation of outputs: each by its kind, paired by name."""

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from keras_attention.distillation import DecoupledLogits
from keras_attention.distillation import Logits
from keras_attention.distillation.objectives.output_losses import pair_outputs
from keras_attention.inspection.model_outputs import output_activations
from support.arrays import numpy
from support.outputs import ALPHA
from support.outputs import BATCH
from support.outputs import T
from support.outputs import bernoulli
from support.outputs import dense
from support.outputs import distillation_loss
from support.outputs import divergence
from support.outputs import inputs
from support.outputs import labels
from support.outputs import model_of
from support.outputs import randomized
from support.outputs import softmax
from support.seeds import seed_keras

# The teachers here are not trained.
pytestmark = pytest.mark.filterwarnings("ignore:The teacher is no better")
Layer = keras.layers.Layer


def soft(x):
    """A softmax under another name."""
    return keras.ops.softmax(x, axis=-1)


class EndsInSoftmax(Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense(units, "inner")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return keras.ops.softmax(self.dense(x))


def probability_outputs():
    import functools

    return {
        "function": lambda: dense(3, "out", soft),
        "partial": lambda: dense(
            3, "out", functools.partial(keras.ops.softmax, axis=-1)
        ),
        "lambda": lambda: keras.Sequential(
            [dense(3, "inner"), keras.layers.Lambda(soft)], name="out"
        ),
        "activation": lambda: keras.Sequential(
            [dense(3, "inner"), keras.layers.Activation(soft)], name="out"
        ),
        "call": lambda: EndsInSoftmax(3, name="out"),
        "reshaped": lambda: keras.Sequential(
            [dense(3, "inner", "softmax"), keras.layers.Reshape((3,))],
            name="out",
        ),
    }


@pytest.mark.parametrize("kind", probability_outputs())
def test_probabilities_are_recognized_whatever_gives_them(kind):
    teacher = model_of({"out": probability_outputs()[kind]()}, 1, "teacher")
    student = model_of({"out": dense(3, "out")}, 0, "student")
    x = inputs()
    logits = np.log(numpy(teacher(x)).astype("float64"))
    expected = divergence(numpy(student(x)).astype("float64"), logits).mean()
    found = distillation_loss(
        student,
        teacher,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        labels(3),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_probabilities_of_a_layer_named_as_logits():
    student = model_of({"head": dense(3, "head")}, 0, "student")
    teacher = model_of({"head": dense(3, "head", soft)}, 1, "teacher")
    x = inputs()
    expected = divergence(
        numpy(student(x)).astype("float64"),
        np.log(numpy(teacher(x)).astype("float64")),
    ).mean()
    found = distillation_loss(
        student,
        teacher,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        labels(3),
        logits="head",
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_activations_are_told_by_what_they_do():
    for activation, expected in (
        ("softmax", "softmax"),
        (soft, "softmax"),
        ("sigmoid", "sigmoid"),
        (lambda x: 1 / (1 + keras.ops.exp(-x)), "sigmoid"),
        (None, "linear"),
        (lambda x: 1.0 * x, "linear"),
    ):
        model = model_of({"out": dense(4, "out", activation)}, 0, "model")
        assert output_activations(model) == {0: expected}
    model = model_of({"out": dense(4, "out", "tanh")}, 0, "model")
    assert output_activations(model) == {}


def test_each_output_by_its_loss():
    def made(seed, name):
        return model_of(
            {
                "kind": dense(3, "kind", "softmax"),
                "tags": dense(4, "tags", "sigmoid"),
                "box": dense(2, "box"),
            },
            seed,
            name,
        )

    student, teacher = made(0, "student"), made(1, "teacher")
    x = inputs()
    mine, theirs = (
        [numpy(y).astype("float64") for y in m(x)] for m in (student, teacher)
    )

    def logit(p):
        return np.log(p / (1 - p))

    expected = (
        divergence(np.log(mine[0]), np.log(theirs[0])).mean()
        + 2 * bernoulli(logit(mine[1]), logit(theirs[1])).mean()
        + 3 * ((mine[2] - theirs[2]) ** 2).mean()
    )
    y = {
        "kind": labels(3),
        "tags": labels(2, (BATCH, 4)).astype("float32"),
        "box": np.ones((BATCH, 2), "float32"),
    }
    losses = {
        "kind": "sparse_categorical_crossentropy",
        "tags": "binary_crossentropy",
        "box": keras.losses.Huber(),
    }
    found = distillation_loss(
        student,
        teacher,
        losses,
        y,
        loss_weights={"kind": 1.0, "tags": 2.0, "box": 3.0},
        run_eagerly=False,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # In the form of lists, in the order of the outputs.
    found = distillation_loss(
        made(0, "student"),
        teacher,
        list(losses.values()),
        list(y.values()),
        loss_weights=[1.0, 2.0, 3.0],
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_single_probability_is_a_bernoulli():
    student = model_of({"out": dense(1, "out", "sigmoid")}, 0, "student")
    teacher = model_of({"out": dense(1, "out")}, 1, "teacher")
    x = inputs()
    p = numpy(student(x)).astype("float64")
    expected = bernoulli(np.log(p / (1 - p)), numpy(teacher(x))).mean()
    found = distillation_loss(
        student,
        teacher,
        "binary_crossentropy",
        labels(2, (BATCH, 1)).astype("float32"),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def own_loss(y, outputs):
    return keras.ops.mean(keras.ops.abs(y - outputs), axis=-1)


def test_a_loss_that_does_not_tell_is_refused_until_told():
    student = model_of({"out": dense(3, "out")}, 0, "student")
    teacher = model_of({"out": dense(3, "out")}, 1, "teacher")
    y = np.ones((BATCH, 3), "float32")
    with pytest.raises(ValueError, match="'out' does not tell.*own_loss"):
        distillation_loss(student, teacher, own_loss, y)
    x = inputs()
    expected = ((numpy(student(x)) - numpy(teacher(x))) ** 2).mean()
    model = AttentionTransferModel(
        student, teacher, losses=[Logits(ALPHA, kind="regression")]
    )
    model.compile("sgd", own_loss)
    history = model.fit(x, y, batch_size=BATCH, verbose=0).history
    np.testing.assert_allclose(
        history["distillation_loss"][0] / ALPHA, expected, rtol=1e-4
    )


@pytest.mark.parametrize("as_dict", [False, True])
def test_outputs_are_paired_by_name(as_dict):
    student = model_of(
        {"color": dense(3, "color"), "shape": dense(3, "shape")},
        0,
        "student",
        as_dict,
    )
    teacher = model_of(
        {
            "shape": dense(3, "shape"),
            "extra": dense(3, "extra"),
            "color": dense(3, "color"),
        },
        1,
        "teacher",
        as_dict,
    )
    x = inputs()

    def named(model):
        found = model(x)
        if not as_dict:
            found = dict(zip(model.output_names, found, strict=True))
        return {k: numpy(v).astype("float64") for k, v in found.items()}

    mine, theirs = named(student), named(teacher)
    expected = sum(divergence(mine[name], theirs[name]).mean() for name in mine)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = distillation_loss(
        student,
        teacher,
        {"color": loss, "shape": loss},
        {"color": labels(3), "shape": labels(3, seed=1)},
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (["a"], ["b"], [("a", "b")]),
        (["a", "b"], ["b", "a"], [("a", "a"), ("b", "b")]),
        (["a", "b"], ["c", "b", "a"], [("a", "a"), ("b", "b")]),
        (["d1", "d2"], ["d3", "d4"], [("d1", "d3"), ("d2", "d4")]),
    ],
)
def test_pairs_of_outputs(student, teacher, expected):
    assert pair_outputs(student, teacher) == expected


@pytest.mark.parametrize(
    ("student", "teacher", "missing"),
    [
        (["a", "b"], ["a"], r"\['b'\]"),
        (["a", "b"], ["a", "c"], r"\['b'\]"),
        (["a", "b"], ["c"], r"\['a', 'b'\]"),
        (["a"], ["b", "c"], r"\['a'\]"),
    ],
)
def test_outputs_without_a_partner(student, teacher, missing):
    with pytest.raises(ValueError, match=f"no partner: {missing}"):
        pair_outputs(student, teacher)


def test_the_missing_partner_is_named_when_the_model_is_made():
    student = model_of(
        {"kind": dense(3, "kind"), "box": dense(2, "box")}, 0, "student"
    )
    teacher = model_of({"kind": dense(3, "kind")}, 1, "teacher")
    with pytest.raises(ValueError, match=r"no partner: \['box'\]"):
        AttentionTransferModel(
            student=student, teacher=teacher, beta=0, alpha=0.5
        )
    model = AttentionTransferModel(
        student=student,
        teacher=teacher,
        losses=[Logits(ALPHA, layers=["kind"])],
    )
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", [crossentropy, "mse"])
    y = [labels(3), np.ones((BATCH, 2), "float32")]
    x = inputs()
    before = numpy(student(x)[0]).astype("float64")
    history = model.fit(x, y, batch_size=BATCH, verbose=0).history
    expected = divergence(before, numpy(teacher(x)).astype("float64")).mean()
    np.testing.assert_allclose(
        history["distillation_loss"][0] / ALPHA, expected, rtol=1e-4
    )


class Reshaped(Layer):
    def __init__(self, shape, units, name):
        super().__init__(name=name)
        self.dense = dense(units, "inner")
        self.shape = shape

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return keras.ops.reshape(self.dense(x), (-1, *self.shape))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [((5,), (1, 1, 5)), ((1, 1, 5), (5,)), ((5,), (1, 5)), ((5,), (4,))],
)
def test_other_shapes_are_refused(mine, theirs):
    models = [
        model_of(
            {"out": Reshaped(shape, int(np.prod(shape)), "out")}, seed, "m"
        )
        for seed, shape in enumerate((mine, theirs))
    ]
    with pytest.raises(ValueError, match="outputs of one shape"):
        AttentionTransferModel(
            student=models[0], teacher=models[1], beta=0, alpha=0.5
        )


def segmenter(size, seed, name, activation=None, stride=1):
    seed_keras(seed)
    inputs = keras.Input((size, size, 2))
    x = keras.layers.Conv2D(
        3, 3, strides=stride, padding="same", activation=activation, name="out"
    )(inputs)
    return keras.Model(inputs, x, name=name)


def test_outputs_of_another_resolution():
    student = segmenter(8, 0, "student")
    teacher = segmenter(8, 1, "teacher", "softmax", stride=2)
    with pytest.raises(ValueError, match="resize_outputs=True"):
        AttentionTransferModel(
            student=student, teacher=teacher, beta=0, alpha=0.5
        )
    x = inputs((8, 8, 2))
    resized = numpy(
        keras.ops.image.resize(
            teacher(x), (8, 8), antialias=True, data_format="channels_last"
        )
    )
    expected = divergence(
        numpy(student(x)).astype("float64"), np.log(resized)
    ).mean()
    found = distillation_loss(
        student,
        teacher,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        labels(3, (BATCH, 8, 8)),
        x=x,
        resize_outputs=True,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_weights_of_positions():
    student, teacher = segmenter(8, 0, "student"), segmenter(8, 1, "teacher")
    x = inputs((8, 8, 2))
    weights = np.random.default_rng(1).uniform(size=(BATCH, 8, 8))
    weights[0, :4] = 0
    each = divergence(
        numpy(student(x)).astype("float64"), numpy(teacher(x)).astype("float64")
    )
    found = distillation_loss(
        student,
        teacher,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        labels(3, (BATCH, 8, 8)),
        x=x,
        sample_weight=weights.astype("float32"),
    )
    np.testing.assert_allclose(found, (weights * each).mean(), rtol=1e-4)


def test_weights_of_outputs():
    def made(seed, name):
        return model_of({"a": dense(3, "a"), "b": dense(3, "b")}, seed, name)

    student, teacher = made(0, "student"), made(1, "teacher")
    x = inputs()
    random = np.random.default_rng(1)
    weights = [random.uniform(size=BATCH) for _ in range(2)]
    expected = sum(
        (w * divergence(*(numpy(y).astype("float64") for y in pair))).mean()
        for w, pair in zip(
            weights,
            zip(student(x), teacher(x), strict=True),
            strict=True,
        )
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = distillation_loss(
        student,
        teacher,
        [loss, loss],
        [labels(3), labels(3)],
        sample_weight=weights,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_labels_that_are_ignored_are_distilled():
    student, teacher = segmenter(8, 0, "student"), segmenter(8, 1, "teacher")
    x = inputs((8, 8, 2))
    y = labels(3, (BATCH, 8, 8))
    y[:, 3:] = -1
    each = divergence(
        numpy(student(x)).astype("float64"), numpy(teacher(x)).astype("float64")
    )
    found = distillation_loss(
        student,
        teacher,
        keras.losses.SparseCategoricalCrossentropy(True, ignore_class=-1),
        y,
        x=x,
    )
    np.testing.assert_allclose(found, each.mean(), rtol=1e-4)


def test_labels_that_are_ignored_have_no_target():
    x, y = inputs(), labels(4)
    losses = []
    for count in (BATCH, BATCH - 2):
        model = AttentionTransferModel(
            student=model_of({"out": dense(4, "out")}, 0, "student"),
            teacher=model_of({"out": dense(4, "out")}, 1, "teacher"),
            losses=[DecoupledLogits()],
        )
        loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=-1)
        model.compile("sgd", loss)
        given = y.copy()
        given[BATCH - 2 :] = -1
        history = model.fit(
            x[:count], given[:count], batch_size=BATCH, verbose=0
        ).history
        losses.append(history["decoupled_loss"][0])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_masked_positions_of_an_output():
    def made(seed, name):
        tokens = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
        model = keras.Model(tokens, dense(3, "out")(x), name=name)
        return randomized(model, seed)

    x = labels(8, (BATCH, 7)) + 1
    x[0, 4:], x[1, 2:4] = 0, 0
    losses = []
    for extra in (0, 10):
        padded = np.pad(x, ((0, 0), (0, extra)))
        student, teacher = made(0, "student"), made(1, "teacher")
        each = divergence(
            numpy(student(x)).astype("float64"),
            numpy(teacher(x)).astype("float64"),
        )
        losses.append(
            distillation_loss(
                student,
                teacher,
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                labels(3, padded.shape),
                x=padded,
            )
        )
    np.testing.assert_allclose(losses, each[x != 0].mean(), rtol=1e-4)


@pytest.mark.parametrize("one_hot", [False, True])
def test_decoupled_logits(one_hot):
    student = model_of({"out": dense(4, "out")}, 0, "student")
    teacher = model_of({"out": dense(4, "out", "softmax")}, 1, "teacher")
    x, y = inputs(), labels(4)
    logits = (
        numpy(student(x)).astype("float64") / T,
        np.log(numpy(teacher(x)).astype("float64")) / T,
    )
    q, p = softmax(logits[0]), softmax(logits[1])
    rows = np.arange(BATCH)
    target = [np.stack([z[rows, y], 1 - z[rows, y]], -1) for z in (p, q)]
    expected = (target[0] * np.log(target[0] / target[1])).sum(-1)
    others = []
    for z in (p, q):
        z = z.copy()
        z[rows, y] = 0
        others.append(z / z.sum(-1, keepdims=True))
    kept = np.ones_like(p, bool)
    kept[rows, y] = False
    ratio = np.log(np.where(kept, others[0], 1) / np.where(kept, others[1], 1))
    expected = expected + 8 * (others[0] * ratio).sum(-1)
    expected = T**2 * expected.mean()
    model = AttentionTransferModel(
        student=student, teacher=teacher, losses=[DecoupledLogits()]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if one_hot:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        y = np.eye(4, dtype="float32")[y]
    model.compile("sgd", loss)
    history = model.fit(x, y, batch_size=BATCH, verbose=0).history
    np.testing.assert_allclose(
        history["decoupled_loss"][0], expected, rtol=1e-4
    )
    np.testing.assert_allclose(
        history["loss"][0],
        history["decoupled_loss"][0] + history["label_loss"][0],
        rtol=1e-5,
    )


def test_decoupled_logits_need_labels():
    student = model_of({"out": dense(4, "out")}, 0, "student")
    teacher = model_of({"out": dense(4, "out")}, 1, "teacher")
    model = AttentionTransferModel(student, teacher, losses=[DecoupledLogits()])
    model.compile("sgd")
    with pytest.raises(ValueError, match="needs the labels"):
        model.fit(inputs(), verbose=0)
