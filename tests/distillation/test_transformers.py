"""Objectives for Transformers against losses worked out in NumPy."""

import keras
import numpy as np
import pytest

import keras_attention
from keras_attention import AttentionTransferModel
from keras_attention.distillation import AttentionCopy
from keras_attention.distillation import AttentionMaps
from keras_attention.distillation import AttentionScores
from keras_attention.distillation import Features
from keras_attention.distillation import Relations
from keras_attention.distillation import precompute_teacher
from support.arrays import numpy
from support.distillation import EAGER
from support.networks import first_of

LENGTH, WIDTH, CLASSES, BATCH, RATE = 5, 6, 3, 4, 0.25


def transformer(name, heads, key_dim, seed=0, ours=False, width=WIDTH):
    """One attention layer with a mask, a mean and logits."""
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, width, mask_zero=True, name="tokens")(tokens)
    if ours:
        layer = keras_attention.MultiHeadAttention(
            heads, key_dim, name="attention"
        )
        y = layer(x)
    else:
        layer = keras.layers.MultiHeadAttention(
            heads, key_dim, name="attention"
        )
        y = layer(x, x)
    y = keras.layers.Add(name="add")([x, y])
    y = keras.layers.GlobalAveragePooling1D()(y)
    y = keras.layers.Dense(CLASSES, use_bias=False, name="logits")(y)
    model = keras.Model(tokens, y, name=name)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=w.shape) for w in model.weights])
    return model


def sentences():
    random = np.random.default_rng(5)
    x = random.integers(1, 11, size=(BATCH, LENGTH)).astype("int32")
    x[1, 3:] = 0
    x[2, 1:2] = 0
    return x, random.integers(CLASSES, size=BATCH)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def inside(model, x):
    """Queries, keys, values and scores of a model, by NumPy."""
    found = {w.path.split("/", 1)[-1]: numpy(w) for w in model.weights}
    table = next(v for k, v in found.items() if "embeddings" in k)
    x_embedded = table.astype("float64")[x]
    layer = model.get_layer("attention")
    parts = {}
    for kind in ("query", "key", "value"):
        kernel, bias = [
            numpy(w).astype("float64")
            for w in layer.weights
            if f"/{kind}/" in w.path
        ]
        parts[kind] = np.einsum("btd,dnh->btnh", x_embedded, kernel) + bias
    mask = x != 0
    logits = np.einsum("btnh,bsnh->bnts", parts["query"], parts["key"])
    logits /= np.sqrt(parts["query"].shape[-1])
    logits = np.where(mask[:, None, None], logits, -1e9)
    parts["scores"] = softmax(logits)
    return parts, mask


def divergence(teacher, student):
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(teacher > 0, teacher * np.log(teacher / student), 0)
    return terms.sum(-1)


def expected_scores(student, teacher, x, distance):
    (mine, mask), (theirs, _) = inside(student, x), inside(teacher, x)
    mine, theirs = mine["scores"], theirs["scores"]
    if mine.shape[1] != theirs.shape[1]:
        mine, theirs = (s.mean(1, keepdims=True) for s in (mine, theirs))
    if distance == "kl":
        each = divergence(theirs, mine)
    else:
        keys = mask.sum(-1)[:, None, None]
        each = ((mine - theirs) ** 2).sum(-1) / keys
    return each.mean(1)[mask].mean()


def expected_relations(student, teacher, x, heads, kinds):
    (mine, mask), (theirs, _) = inside(student, x), inside(teacher, x)
    total = 0.0
    for kind in kinds:
        relations = []
        for parts in (theirs, mine):
            value = parts[kind].reshape(*x.shape, heads, -1)
            logits = np.einsum("btnh,bsnh->bnts", value, value)
            logits /= np.sqrt(value.shape[-1])
            logits = np.where(mask[:, None, None], logits, -1e9)
            relations.append(softmax(logits))
        total += divergence(*relations).mean(1)[mask].mean()
    return total


def first_loss(student, teacher, objective, data, eager=EAGER):
    """The objective's part of the loss of a first step, and the update."""
    model = AttentionTransferModel(
        student=student, teacher=teacher, losses=[objective]
    )
    model.compile(
        keras.optimizers.SGD(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=eager,
    )
    history = model.fit(*data, batch_size=BATCH, verbose=0).history
    return history[objective.loss_name][0]


@pytest.mark.parametrize("distance", ["squared", "kl"])
@pytest.mark.parametrize("heads", first_of([3, 2], 1))
def test_scores(distance, heads):
    student = transformer("student", 2, 3)
    teacher = transformer("teacher", heads, 4, seed=1)
    x, y = sentences()
    expected = expected_scores(student, teacher, x, distance)
    found = first_loss(
        student,
        teacher,
        AttentionScores(distance=distance),
        (x, y),
        eager=heads == 3,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_maps_of_scores_with_other_numbers_of_heads():
    student = transformer("student", 2, 3)
    teacher = transformer("teacher", 3, 4, seed=1)
    x, y = sentences()
    (mine, mask), (theirs, _) = inside(student, x), inside(teacher, x)
    valid = mask[:, :, None] & mask[:, None]
    maps = []
    for parts in (mine, theirs):
        each = np.where(valid, parts["scores"].mean(1), 0).reshape(BATCH, -1)
        maps.append(each / np.linalg.norm(each, axis=-1, keepdims=True))
    expected = ((maps[0] - maps[1]) ** 2).sum(-1)
    for reduction, factor in (
        ("sum", 1),
        ("mean", 1 / valid.sum((1, 2))),
        ("scale_free", 1e3 / 64),
    ):
        objective = AttentionMaps(1.0, "scores", reduction=reduction)
        found = first_loss(student, teacher, objective, (x, y))
        np.testing.assert_allclose(found, (factor * expected).mean(), rtol=1e-4)
        student = transformer("student", 2, 3)


@pytest.mark.parametrize(
    "kinds",
    [
        ("value",),
        pytest.param(("query", "key", "value"), marks=pytest.mark.slow),
    ],
)
def test_relations(kinds):
    student = transformer("student", 2, 3)
    teacher = transformer("teacher", 4, 6, seed=1, width=8)
    x, y = sentences()
    expected = expected_relations(student, teacher, x, 3, kinds)
    objective = Relations(relations=kinds, num_heads=3)
    found = first_loss(
        student, teacher, objective, (x, y), eager=len(kinds) == 1
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("objective", first_of([AttentionScores, Relations], 1))
def test_layers_of_keras_and_of_this_package_are_alike(objective):
    """With the weights of one in the other, nothing is left to learn."""
    teacher = transformer("teacher", 2, 4, seed=1)
    student = transformer("student", 2, 4, ours=True)
    for name in ("tokens", "logits"):
        student.get_layer(name).set_weights(
            teacher.get_layer(name).get_weights()
        )
    keras_attention.load_weights_from(
        student.get_layer("attention"), teacher.get_layer("attention")
    )
    found = first_loss(student, teacher, objective(), sentences())
    np.testing.assert_allclose(found, 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [
        AttentionScores(distance="kl"),
        AttentionScores(),
        Relations(),
        Features(pairs=["add"]),
        AttentionMaps(pairs=["add"]),
        AttentionMaps(pairs="scores"),
    ],
    ids=["kl", "squared", "relations", "features", "maps", "score maps"],
)
def test_more_padding_changes_nothing(objective):
    x, y = sentences()
    losses = []
    for extra in (0, 7):
        student = transformer("student", 2, 3)
        teacher = transformer("teacher", 2, 4, seed=1)
        padded = np.pad(x, ((0, 0), (0, extra)))
        keras.utils.set_random_seed(3)
        losses.append(first_loss(student, teacher, objective, (padded, y)))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0] > 0


@pytest.mark.slow
def test_every_second_layer_of_a_deeper_teacher():
    def deep(name, layers):
        x = inputs = keras.Input((4, 6))
        for n in range(layers):
            attention = keras_attention.MultiHeadAttention(2, name=f"a{n}")
            x = keras.layers.Add()([x, attention(x)])
        return keras.Model(inputs, x, name=name)

    model = AttentionTransferModel(
        deep("student", 2), deep("teacher", 6), losses=[AttentionScores()]
    )
    assert [(p.student, p.teacher) for p in model.pairs] == [
        ("a0:scores", "a2:scores"),
        ("a1:scores", "a5:scores"),
    ]


def test_relations_need_heads_that_divide_the_width():
    with pytest.raises(ValueError, match="num_heads=4.*'attention'"):
        first_loss(
            transformer("student", 2, 3),
            transformer("teacher", 2, 4, seed=1),
            Relations(num_heads=4),
            sentences(),
        )


@pytest.mark.slow
def test_precomputed_relations_are_those_of_the_teacher():
    x, y = sentences()
    found = []
    for precomputed in (False, True):
        student = transformer("student", 2, 3)
        teacher = transformer("teacher", 2, 6, seed=1)
        model = AttentionTransferModel(
            student, teacher, losses=[Relations(), AttentionScores()]
        )
        model.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        data = {"x": x, "y": y, "batch_size": BATCH}
        if precomputed:
            data = {
                "x": precompute_teacher(
                    model,
                    (x, y),
                    batch_size=BATCH,
                    shuffle=False,
                    verbose=False,
                )
            }
        history = model.fit(**data, verbose=0, shuffle=False).history
        found.append({name: values[0] for name, values in history.items()})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-5)


@pytest.mark.parametrize("ours", first_of([False, True], 1))
def test_a_student_that_copies_attention(ours):
    """Its output is that of NumPy with the teacher's scores."""
    student = transformer("student", 2, 3, ours=ours)
    teacher = transformer("teacher", 2, 4, seed=1)
    x, y = sentences()
    model = AttentionTransferModel(
        student=student, teacher=teacher, losses=[AttentionCopy()]
    )
    model.compile(
        keras.optimizers.SGD(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    same = transformer("same", 2, 3)
    if ours:
        layer = same.get_layer("attention")
        for name in ("tokens", "logits"):
            student.get_layer(name).set_weights(
                same.get_layer(name).get_weights()
            )
        keras_attention.load_weights_from(student.get_layer("attention"), layer)
    layer = same.get_layer("attention")
    parts, mask = inside(same, x)
    scores = inside(teacher, x)[0]["scores"]
    kernel, bias = map(numpy, layer.weights[-2:])
    embedded = numpy(same.get_layer("tokens").embeddings)[x]
    attended = np.einsum("bnts,bsnh->btnh", scores, parts["value"])
    z = embedded + np.einsum("btnh,nhd->btd", attended, kernel) + bias
    mean = (z * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    expected = mean @ numpy(same.get_layer("logits").kernel)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5
    )
    before = [w.copy() for w in student.get_weights()]
    loss = -np.log(softmax(expected))[np.arange(BATCH), y].mean()
    history = model.fit(x, y, batch_size=BATCH, verbose=0).history
    assert set(history) == {"loss", "label_loss"}
    np.testing.assert_allclose(history["loss"][0], loss, rtol=1e-5)
    moved = {
        w.path.split("/", 1)[1]: np.abs(numpy(w) - old).max() > 0
        for w, old in zip(student.weights, before, strict=True)
    }
    if not ours:
        for kind in ("query", "key", "value"):
            found = {v for k, v in moved.items() if f"{kind}/kernel" in k}
            assert found == {kind == "value"}
    # The student alone attends by itself.
    assert np.abs(numpy(student(x)) - model.predict(x, verbose=0)).max() > 1e-4


def test_copied_attention_needs_as_many_heads():
    with pytest.raises(ValueError, match="heads and keys"):
        first_loss(
            transformer("student", 2, 3),
            transformer("teacher", 3, 4, seed=1),
            AttentionCopy(),
            sentences(),
        )
