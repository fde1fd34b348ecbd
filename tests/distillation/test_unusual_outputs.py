"""Outputs, losses, weights and models in forms that are seldom met.

The distillation part of the first step is compared with its value in NumPy.
"""

import functools

import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from keras_attention.distillation import DecoupledLogits
from keras_attention.distillation import Logits
from support.arrays import numpy
from support.outputs import ALPHA
from support.outputs import BATCH
from support.outputs import WIDTH
from support.outputs import T
from support.outputs import bernoulli
from support.outputs import dense
from support.outputs import distillation_loss
from support.outputs import divergence
from support.outputs import inputs
from support.outputs import labels
from support.outputs import model_of
from support.outputs import randomized

# The teachers here are not trained.
pytestmark = pytest.mark.filterwarnings("ignore:The teacher is no better")
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def wide(x):
    return numpy(x).astype("float64")


def pair(outputs, shape=(WIDTH,), **arguments):
    """Two models with the outputs that a function makes for each."""
    return [
        model_of(outputs(), seed, name, shape=shape, **arguments)
        for seed, name in enumerate(("student", "teacher"))
    ]


def sequences(make, shape=(7, 4)):
    """A student and a teacher of sequences."""
    found = []
    for seed, name in enumerate(("student", "teacher")):
        x = keras.Input(shape)
        found.append(randomized(keras.Model(x, make()(x), name=name), seed))
    return found


def test_a_dict_whose_names_are_in_no_order():
    def outputs():
        return {
            "z/last": dense(3, "first", "softmax"),
            "a.b": dense(4, "second"),
            "M": dense(2, "third", "sigmoid"),
        }

    student, teacher = pair(outputs, as_dict=True)
    x = inputs()
    mine, theirs = ({k: wide(v) for k, v in m(x).items()} for m in
                    (student, teacher))  # fmt: skip
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    expected = (
        divergence(np.log(mine["z/last"]), np.log(theirs["z/last"])).mean()
        + divergence(mine["a.b"], theirs["a.b"]).mean()
        + bernoulli(logit(mine["M"]), logit(theirs["M"])).mean()
    )
    found = distillation_loss(
        student,
        teacher,
        {
            "M": "binary_crossentropy",
            "a.b": LOGITS,
            "z/last": "sparse_categorical_crossentropy",
        },
        {
            "a.b": labels(4),
            "M": np.ones((BATCH, 2), "float32"),
            "z/last": labels(3),
        },
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("wrapped", [False, True])
def test_classes_on_the_first_axis(wrapped):
    def make():
        layers = [
            keras.layers.Dense(3, activation="softmax", name="out"),
            keras.layers.Permute((3, 1, 2)),
        ]
        return keras.Sequential(layers)

    student, teacher = sequences(make, (5, 6, 2))
    x = inputs((5, 6, 2))
    mine, theirs = (np.moveaxis(np.log(wide(m(x))), 1, -1) for m in
                    (student, teacher))  # fmt: skip
    y = np.moveaxis(np.eye(3, dtype="float32")[labels(3, (BATCH, 5, 6))], -1, 1)
    loss = keras.losses.CategoricalCrossentropy(axis=1)
    if wrapped:
        loss = functools.partial(keras.losses.categorical_crossentropy, axis=1)
    weights = np.linspace(0, 1, BATCH * 30, dtype="float32")
    weights = weights.reshape(BATCH, 5, 6)
    found = distillation_loss(student, teacher, loss, y, x=x,
                              sample_weight=weights)  # fmt: skip
    expected = (weights * divergence(mine, theirs)).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_loss_that_is_a_partial_function():
    student, teacher = pair(lambda: {"out": dense(3, "out")})
    loss = functools.partial(
        keras.losses.sparse_categorical_crossentropy, from_logits=True
    )
    x = inputs()
    expected = divergence(wide(student(x)), wide(teacher(x))).mean()
    found = distillation_loss(student, teacher, loss, labels(3))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_label_smoothing_is_of_the_labels_alone():
    student, teacher = pair(lambda: {"out": dense(3, "out", "softmax")})
    x = inputs()
    expected = divergence(
        np.log(wide(student(x))), np.log(wide(teacher(x)))
    ).mean()
    found = distillation_loss(
        student,
        teacher,
        keras.losses.CategoricalCrossentropy(label_smoothing=0.2),
        np.eye(3, dtype="float32")[labels(3)],
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("loss", ["kl_divergence", "categorical_focal"])
def test_other_losses_of_classes(loss):
    if loss == "categorical_focal":
        loss = keras.losses.CategoricalFocalCrossentropy(gamma=1.0)
    student, teacher = pair(lambda: {"out": dense(3, "out", "softmax")})
    x = inputs()
    expected = divergence(
        np.log(wide(student(x))), np.log(wide(teacher(x)))
    ).mean()
    y = np.eye(3, dtype="float32")[labels(3)]
    found = distillation_loss(student, teacher, loss, y)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_sigmoids_as_exclusive_classes():
    """Keras' crossentropy divides them by their sum."""
    student, teacher = pair(lambda: {"out": dense(3, "out", "sigmoid")})
    x = inputs()
    mine, theirs = (wide(m(x)) for m in (student, teacher))
    expected = divergence(np.log(mine), np.log(theirs)).mean()
    y = np.eye(3, dtype="float32")[labels(3)]
    found = distillation_loss(student, teacher, "categorical_crossentropy", y)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_softmax_of_independent_labels():
    student, teacher = pair(lambda: {"out": dense(3, "out", "softmax")})
    x = inputs()
    mine, theirs = (wide(m(x)) for m in (student, teacher))
    expected = bernoulli(
        np.log(mine / (1 - mine)), np.log(theirs / (1 - theirs))
    ).mean()
    y = np.eye(3, dtype="float32")[labels(3)]
    found = distillation_loss(student, teacher, "binary_crossentropy", y)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "loss", ["mse", "mae", "huber", "log_cosh", keras.losses.MeanSquaredError()]
)
def test_regressions_are_not_softened(loss):
    student, teacher = pair(lambda: {"out": dense(3, "out")})
    x = inputs()
    expected = ((wide(student(x)) - wide(teacher(x))) ** 2).mean()
    y = np.ones((BATCH, 3), "float32")
    found = distillation_loss(student, teacher, loss, y, temperature=9.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("loss", ["poisson", "hinge", "cosine_similarity"])
def test_losses_that_tell_nothing_are_refused(loss):
    student, teacher = pair(lambda: {"out": dense(3, "out")})
    y = np.ones((BATCH, 3), "float32")
    with pytest.raises(ValueError, match="does not tell"):
        distillation_loss(student, teacher, loss, y)


def test_one_value_without_an_axis():
    def make():
        return keras.Sequential(
            [dense(1, "inner"), keras.layers.Reshape(())], name="out"
        )

    student, teacher = pair(lambda: {"out": make()})
    x, weights = inputs(), np.linspace(0, 2, BATCH)
    each = (wide(student(x)) - wide(teacher(x))) ** 2
    found = distillation_loss(
        student,
        teacher,
        "mse",
        np.ones(BATCH, "float32"),
        sample_weight=weights.astype("float32"),
    )
    np.testing.assert_allclose(found, (weights * each).mean(), rtol=1e-4)


@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_reduction_of_the_loss(reduction, masked):
    def make():
        layers = [keras.layers.Masking()] if masked else []
        return keras.Sequential([*layers, dense(3, "out")])

    student, teacher = sequences(make)
    x = inputs((7, 4))
    if masked:
        x[0, 5:] = 0
    weights = np.random.default_rng(2).uniform(size=(BATCH, 7))
    each = divergence(wide(student(x)), wide(teacher(x)))
    kept = weights * (x != 0).any(-1)
    expected = (kept * each).sum()
    if reduction != "sum":
        expected /= kept.sum()
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction
    )
    found = distillation_loss(student, teacher, loss, labels(3, (BATCH, 7)),
                              x=x, sample_weight=weights)  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("rank", [2, 3])
def test_ranks_of_sample_weights(rank):
    student, teacher = sequences(lambda: dense(3, "out"))
    x = inputs((7, 4))
    shape = (BATCH, 7, 1)[:rank]
    weights = np.random.default_rng(2).uniform(size=shape)
    each = divergence(wide(student(x)), wide(teacher(x)))
    factors = weights.reshape(BATCH, 7)
    found = distillation_loss(
        student, teacher, LOGITS, labels(3, (BATCH, 7)), x=x,
        sample_weight=weights.astype("float32"),
    )  # fmt: skip
    np.testing.assert_allclose(found, (factors * each).mean(), rtol=1e-4)


def test_boolean_sample_weights():
    student, teacher = pair(lambda: {"out": dense(3, "out")})
    x, weights = inputs(), np.arange(BATCH) % 3 > 0
    each = divergence(wide(student(x)), wide(teacher(x)))
    found = distillation_loss(student, teacher, LOGITS, labels(3),
                              sample_weight=weights)  # fmt: skip
    np.testing.assert_allclose(found, (weights * each).mean(), rtol=1e-4)


def test_sample_weights_of_some_outputs():
    def outputs():
        return {"a": dense(3, "a"), "b": dense(3, "b")}

    student, teacher = pair(outputs, as_dict=True)
    x, weights = inputs(), np.linspace(0, 2, BATCH)
    mine, theirs = student(x), teacher(x)
    each = {k: divergence(wide(mine[k]), wide(theirs[k])) for k in mine}
    found = distillation_loss(
        student,
        teacher,
        {"a": LOGITS, "b": LOGITS},
        {"a": labels(3), "b": labels(3)},
        sample_weight={"a": np.ones(BATCH), "b": weights},
    )
    expected = each["a"].mean() + (weights * each["b"]).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_class_weights_of_a_named_layer():
    """The layer has the weights and the loss of the only output."""

    def outputs():
        head = dense(3, "head")
        return {"out": keras.Sequential([head, keras.layers.Softmax()])}

    found = []
    for seed in (0, 1):
        x = keras.Input((WIDTH,))
        y = keras.layers.Softmax(name="out")(dense(3, "head")(x))
        found.append(randomized(keras.Model(x, y), seed))
    student, teacher = found
    x, y = inputs(), labels(3)
    mine, theirs = (np.log(wide(m(x))) for m in (student, teacher))
    factors = np.array([0.5, 1.0, 3.0])
    model = AttentionTransferModel(
        student=student, teacher=teacher, beta=0, alpha=ALPHA, logits="head"
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    history = model.fit(
        x, y, batch_size=BATCH, verbose=0, shuffle=False,
        class_weight=dict(enumerate(factors)),
    ).history  # fmt: skip
    expected = (factors[y] * divergence(mine, theirs)).mean()
    np.testing.assert_allclose(
        history["distillation_loss"][0] / ALPHA, expected, rtol=1e-4
    )


def test_decoupled_logits_of_a_named_layer():
    found = []
    for name in ("head", "out"):
        models = []
        for seed in (0, 1):
            x = keras.Input((WIDTH,))
            y = keras.layers.Softmax(name="out")(dense(4, "head")(x))
            models.append(randomized(keras.Model(x, y), seed))
        model = AttentionTransferModel(
            *models, losses=[DecoupledLogits(layers=name)]
        )
        model.compile("sgd", "sparse_categorical_crossentropy")
        history = model.fit(inputs(), labels(4), batch_size=BATCH, verbose=0)
        found.append(history.history["decoupled_loss"][0])
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_a_named_layer_without_the_positions_of_the_weights():
    """The weights of an example's positions are averaged for it."""
    found = []
    for seed in (0, 1):
        x = keras.Input((7, 4))
        head = dense(3, "head")(keras.layers.GlobalAveragePooling1D()(x))
        tags = dense(3, "tags")(x)
        y = keras.layers.Add(name="out")(
            [tags, keras.layers.RepeatVector(7)(head)]
        )
        found.append(randomized(keras.Model(x, y), seed))
    student, teacher = found
    x = inputs((7, 4))
    weights = np.random.default_rng(2).uniform(size=(BATCH, 7))
    heads = [keras.Model(m.input, m.get_layer("head").output) for m in found]
    each = divergence(*(wide(head(x)) for head in heads))
    got = distillation_loss(
        student, teacher, LOGITS, labels(3, (BATCH, 7)), x=x,
        sample_weight=weights.astype("float32"), logits="head",
    )  # fmt: skip
    expected = (weights.mean(1) * each).mean()
    np.testing.assert_allclose(got, expected, rtol=1e-4)


class MaskedSoftmax(keras.layers.Layer):
    """Ends in a softmax that only its values tell, and passes masks on."""

    def __init__(self):
        super().__init__(name="out")
        self.supports_masking = True
        self.dense = dense(3, "inner")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return keras.ops.softmax(self.dense(x))


def test_probabilities_by_value_with_masked_positions():
    def made(layer, seed):
        x = keras.Input((7, 4))
        y = layer(keras.layers.Masking()(x))
        return randomized(keras.Model(x, y), seed)

    student, teacher = made(dense(3, "out"), 0), made(MaskedSoftmax(), 1)
    x = inputs((7, 4))
    x[0, 4:], x[2, 1:3] = 0, 0
    kept = (x != 0).any(-1)
    each = divergence(wide(student(x)), np.log(wide(teacher(x))))
    found = distillation_loss(student, teacher, LOGITS,
                              labels(3, (BATCH, 7)), x=x)  # fmt: skip
    np.testing.assert_allclose(found, each[kept].mean(), rtol=1e-4)


def test_a_softmax_in_half_precision():
    """What is 0 in float16 counts as the smallest number there is."""

    def made(seed, dtype):
        x = keras.Input((WIDTH,))
        y = keras.layers.Dense(3, name="inner")(x)
        y = keras.layers.Softmax(name="out", dtype=dtype)(50 * y)
        return randomized(keras.Model(x, y), seed)

    student, teacher = made(0, "float32"), made(1, "float16")
    x = inputs()
    theirs = wide(teacher(x))
    assert np.any(theirs == 0)
    theirs = np.where(theirs == 0, 6e-8, theirs)
    mine = np.log(np.maximum(wide(student(x)), 1e-37))
    expected = divergence(mine, np.log(theirs)).mean()
    found = distillation_loss(
        student, teacher, "sparse_categorical_crossentropy", labels(3)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:.*Gradients do not exist")
def test_an_output_without_a_loss_among_others():
    def outputs():
        return {"kind": dense(3, "kind"), "features": dense(4, "features")}

    student, teacher = pair(outputs, as_dict=True)
    y, x = {"kind": labels(3)}, inputs()
    arguments = {"beta": 0, "alpha": ALPHA, "temperature": T}
    for loss in ({"kind": LOGITS}, {"kind": LOGITS, "features": None}):
        model = AttentionTransferModel(student, teacher, **arguments)
        model.compile("sgd", loss)
        with pytest.raises(ValueError, match="'features' does not tell"):
            model.fit(x, y, verbose=0)
    expected = divergence(
        wide(student(x)["kind"]), wide(teacher(x)["kind"])
    ).mean()
    model = AttentionTransferModel(student, teacher, logits="kind", **arguments)
    model.compile("sgd", {"kind": LOGITS})
    history = model.fit(x, y, batch_size=BATCH, verbose=0).history
    np.testing.assert_allclose(
        history["distillation_loss"][0] / ALPHA, expected, rtol=1e-4
    )


def test_the_kind_of_an_output_without_a_loss():
    def outputs():
        return {"kind": dense(3, "kind"), "features": dense(4, "features")}

    student, teacher = pair(outputs)
    x = inputs()
    mine, theirs = ([wide(y) for y in m(x)] for m in (student, teacher))
    kinds = {"kind": "categorical", "features": "regression"}
    model = AttentionTransferModel(
        student, teacher, losses=[Logits(1.0, kind=kinds)]
    )
    model.compile("sgd")
    history = model.fit(x, batch_size=BATCH, verbose=0).history
    expected = divergence(mine[0], theirs[0]).mean()
    expected += ((mine[1] - theirs[1]) ** 2).mean()
    np.testing.assert_allclose(
        history["distillation_loss"][0], expected, rtol=1e-4
    )


@pytest.mark.parametrize("form", ["list", "dict"])
def test_one_output_in_a_structure(form):
    def made(seed):
        x = keras.Input((WIDTH,))
        y = dense(3, "head")(x)
        y = [y] if form == "list" else {"answer": y}
        return randomized(keras.Model(x, y), seed)

    student = made(0)
    teacher = model_of({"out": dense(3, "out")}, 1, "teacher")
    x = inputs()
    mine = wide(keras.tree.flatten(student(x))[0])
    y = [labels(3)] if form == "list" else {"answer": labels(3)}
    loss = [LOGITS] if form == "list" else {"answer": LOGITS}
    found = distillation_loss(student, teacher, loss, y)
    expected = divergence(mine, wide(teacher(x))).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_outputs_of_one_layer_and_of_nested_models():
    """Two outputs of one nested model have one name: they are numbered."""

    def made(seed):
        x = keras.Input((WIDTH,))
        inner = keras.Model(x, [dense(3, "a")(x), dense(2, "b")(x)],
                            name="inner")  # fmt: skip
        y = keras.Input((WIDTH,))
        return randomized(keras.Model(y, inner(y)), seed)

    student, teacher = made(0), made(1)
    x = inputs()
    mine, theirs = ([wide(y) for y in m(x)] for m in (student, teacher))
    expected = divergence(mine[0], theirs[0]).mean()
    expected += ((mine[1] - theirs[1]) ** 2).mean()
    found = distillation_loss(
        student, teacher, [LOGITS, "mse"],
        [labels(3), np.ones((BATCH, 2), "float32")],
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-4)


class Split(keras.Model):
    """A subclassed model with a tuple of outputs."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.kind, self.size = dense(3, "kind"), dense(2, "size", "softmax")

    def call(self, x):
        return self.kind(x), self.size(x)


def test_a_subclassed_model_with_a_tuple_of_outputs():
    found = []
    for seed in (0, 1):
        model = Split()
        model(inputs())
        found.append(randomized(model, seed))
    student, teacher = found
    x = inputs()
    mine, theirs = ([wide(y) for y in m(x)] for m in found)
    expected = divergence(mine[0], theirs[0]).mean()
    expected += divergence(np.log(mine[1]), np.log(theirs[1])).mean()
    got = distillation_loss(
        student, teacher, (LOGITS, "sparse_categorical_crossentropy"),
        (labels(3), labels(2)),
    )  # fmt: skip
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def two_inputs(order, seed, form):
    """A model of inputs `a` and `b`, given in an order of its own."""
    made = {name: keras.Input((3,), name=name) for name in ("a", "b")}
    x = keras.layers.Concatenate()([dense(4, "of_a")(made["a"]), made["b"]])
    given = [made[name] for name in order]
    if form == "dict":
        given = {name: made[name] for name in order}
    return randomized(keras.Model(given, dense(3, "out")(x)), seed)


@pytest.mark.parametrize("form", ["list", "dict"])
def test_inputs_are_given_to_the_teacher_by_name(form):
    student = two_inputs("ab", 0, form)
    teacher = two_inputs("ba", 1, form)
    x = dict(zip("ab", np.split(inputs((2, 3)), 2, axis=1), strict=True))
    x = {name: value[:, 0] for name, value in x.items()}
    theirs = wide(teacher(x if form == "dict" else [x["b"], x["a"]]))
    given = x if form == "dict" else [x["a"], x["b"]]
    expected = divergence(wide(student(given)), theirs).mean()
    found = distillation_loss(student, teacher, LOGITS, labels(3), x=given)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_sizes_that_only_differ_when_run():
    """A teacher with one position is not spread over all positions."""
    x = keras.Input((None, 4))
    student = keras.Model(x, dense(3, "out")(x))
    x = keras.Input((None, 4))
    pooled = keras.layers.GlobalAveragePooling1D(keepdims=True)(x)
    teacher = keras.Model(x, dense(3, "out")(pooled))
    with pytest.raises(Exception, match=r"(?i)shape|size|invalid"):
        distillation_loss(
            student, teacher, LOGITS, labels(3, (BATCH, 7)), x=inputs((7, 4))
        )


def test_axes_that_are_exchanged():
    """8 x 2 positions and 2 x 8 are as many, and not the same."""
    x = keras.Input((None, None, 4))
    student = keras.Model(x, dense(3, "out")(x))
    x = keras.Input((None, None, 4))
    exchanged = keras.layers.Permute((2, 1, 3))(x)
    teacher = keras.Model(x, dense(3, "out")(exchanged))
    with pytest.raises(Exception, match=r"(?i)shape|size|invalid"):
        distillation_loss(
            student,
            teacher,
            LOGITS,
            labels(3, (BATCH, 8, 2)),
            x=inputs((8, 2, 4)),
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_several_outputs_in_mixed_precision(policy):
    def outputs():
        return {"a": dense(3, "a"), "b": dense(2, "b")}

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        student, teacher = pair(outputs)
    finally:
        keras.config.set_dtype_policy(before)
    x = inputs()
    mine, theirs = ([wide(y) for y in m(x)] for m in (student, teacher))
    expected = divergence(mine[0], theirs[0]).mean()
    expected += ((mine[1] - theirs[1]) ** 2).mean()
    found = distillation_loss(
        student, teacher, {"a": LOGITS, "b": "mse"},
        {"a": labels(3), "b": np.ones((BATCH, 2), "float32")},
    )  # fmt: skip
    # A step that is compiled rounds elsewhere.
    np.testing.assert_allclose(found, expected, rtol=3e-2)


def tagger(seed):
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    return randomized(keras.Model(tokens, dense(3, "out")(x)), seed)


def test_masks_and_weights_of_positions_together():
    """Padding on the left, in the middle and on the right, and weights."""
    x = labels(8, (BATCH, 7)) + 1
    x[0, :3], x[1, 2:4], x[2, 5:], x[3] = 0, 0, 0, 0
    weights = np.random.default_rng(2).uniform(size=x.shape)
    student, teacher = tagger(0), tagger(1)
    each = divergence(wide(student(x)), wide(teacher(x)))
    found = distillation_loss(
        student, teacher, LOGITS, labels(3, x.shape), x=x,
        sample_weight=weights.astype("float32"),
    )  # fmt: skip
    kept = x != 0
    expected = (weights * each)[kept].sum() / kept.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.tensorflow
def test_labels_that_do_not_count_say_nothing_of_a_teacher(recwarn):
    """Most labels are missing, and where a label is, the teacher is right."""
    student, teacher = pair(lambda: {"out": dense(10, "out")})
    x = np.random.default_rng(0).normal(size=(4000, WIDTH)).astype("float32")
    y = wide(teacher(x)).argmax(-1)
    y[np.arange(4000) % 20 > 0] = -1
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=-1)
    model = AttentionTransferModel(student, teacher, beta=0, alpha=ALPHA)
    model.compile(keras.optimizers.SGD(1e-4), loss)
    model.fit(x, y, batch_size=200, verbose=0)
    accuracies = model.first_accuracies
    assert float(accuracies["teacher"].result()) == 1
    assert float(accuracies["count"].result()) == 200
    assert not [w for w in recwarn if "teacher" in str(w.message)]


@pytest.mark.tensorflow
def test_as_many_positions_as_classes_are_no_one_hot_labels():
    student, teacher = sequences(lambda: dense(7, "out"))
    x = np.random.default_rng(0).normal(size=(400, 7, 4)).astype("float32")
    y = wide(teacher(x)).argmax(-1)
    model = AttentionTransferModel(student, teacher, beta=0, alpha=ALPHA)
    model.compile(keras.optimizers.SGD(1e-4), LOGITS)
    model.fit(x, y, batch_size=40, verbose=0)
    assert float(model.first_accuracies["teacher"].result()) == 1
