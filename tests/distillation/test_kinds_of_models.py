"""Students and teachers of every kind: outputs, dtypes, sizes, heads."""

import keras
import numpy as np
import pytest

import keras_attention
from keras_attention.inspection.model_outputs import output_activations
from support.arrays import numpy
from support.distillation import CROSSENTROPY
from support.distillation import assert_same
from support.distillation import compiled
from support.distillation import examples
from support.distillation import moved
from support.distillation import network
from support.distillation import teacher_network
from support.distillation import weights
from support.networks import first_of


@pytest.mark.parametrize("wrapped", [True, False])
def test_distillation_takes_logits_or_probabilities(wrapped):
    x, y = examples()
    found = []
    for softmax, logits in (
        (True, None),
        (True, "logits"),
        (False, None),
    ):
        student = network(softmax=softmax)
        teacher = teacher_network(softmax=softmax)
        if wrapped and logits is None:
            inputs = keras.Input((8, 8, 2))
            student = keras.Model(inputs, student(inputs))
            teacher = keras.Sequential([keras.Input((8, 8, 2)), teacher])
        model = compiled(
            student, teacher, beta=0, alpha=0.5, logits=logits, loss=None
        )
        history = model.fit(x, y, verbose=0).history
        found.append(history["distillation_loss"][0])
    np.testing.assert_allclose(found, found[0], rtol=1e-4)
    assert found[0] > 1e-4


def test_softmax_inside_a_dense_layer_is_seen():
    student = network()
    inputs = keras.Input((8, 8, 2))
    dense = keras.layers.Dense(7, activation="softmax")
    x = dense(keras.layers.GlobalAveragePooling2D()(inputs))
    teacher = keras.Model(inputs, x)
    model = compiled(student, teacher, beta=0, alpha=1.0, loss=None)
    assert output_activations(model.teacher) == {0: "softmax"}
    assert output_activations(model.student) == {0: "softmax"}


def test_masked_positions_teach_nothing():
    def tagger(name, units, seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((5,), dtype="int32")
        x = keras.layers.Embedding(9, units, mask_zero=True)(inputs)
        outputs = keras.layers.Dense(3, activation="softmax")(x)
        return keras.Model(inputs, outputs, name=name)

    words = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]])
    student, teacher = tagger("student", 4, 0), tagger("teacher", 6, 1)
    p, q = (numpy(model(words))[words > 0] for model in (teacher, student))
    model = compiled(
        student, teacher, beta=0, alpha=1, temperature=1, loss=None
    )
    history = model.fit(words, verbose=0).history
    np.testing.assert_allclose(
        history["distillation_loss"][0],
        (p * np.log(p / q)).sum(-1).mean(),
        rtol=1e-4,
        atol=1e-6,  # The logarithms nearly cancel.
    )


def test_models_that_take_pixels_of_other_dtypes():
    def pixels(body, dtype):
        inputs = keras.Input((8, 8, 2), dtype=dtype)
        scaled = keras.layers.Rescaling(1 / 127, offset=-1)(inputs)
        return keras.Model(inputs, body(scaled))

    x, y = examples()
    x = np.clip(127 + 60 * x, 0, 255).astype("uint8")
    found = []
    for dtypes in (("uint8", "float32"), ("float32", "uint8")):
        model = compiled(
            pixels(network(), dtypes[0]),
            pixels(teacher_network(), dtypes[1]),
            pairs=[("student/stage1", "teacher/stage1")],
            alpha=0.5,
        )
        history = model.fit(x, y, verbose=0).history
        found.append([history[name][0] for name in sorted(history)])
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("whole", [True, False])
def test_mixed_precision_of_the_student_alone(policy, whole):
    before = keras.config.dtype_policy()
    teacher = teacher_network()
    keras.config.set_dtype_policy(policy)
    try:
        student = network()
    finally:
        keras.config.set_dtype_policy(before)
    if not whole:  # Layers of mixed precision in a model of float32.
        inputs = keras.Input((8, 8, 2))
        student = keras.Model(inputs, student(inputs))
    prefix = "" if whole else "student/"
    model = compiled(
        student,
        teacher,
        alpha=0.5,
        pairs=[(f"{prefix}stage1", "stage1")],
        eager=False,
    )
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    kept = weights(student)
    x, y = examples()
    history = model.fit(x, y, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(history["attention_loss"]).all()
    assert moved(weights(student), kept) > 1e-4


def test_several_outputs():
    def two_headed(name, filters):
        body = network(name, filters)
        x = body.get_layer("pool").output
        outputs = {
            "kind": keras.layers.Dense(7, activation="softmax", name="kind")(x),
            "size": keras.layers.Dense(3, activation="softmax", name="size")(x),
        }
        return keras.Model(body.inputs, outputs, name=name)

    x, y = examples()
    model = compiled(
        two_headed("student", (3, 5)),
        two_headed("teacher", (4, 6)),
        alpha=0.5,
        loss={"kind": CROSSENTROPY, "size": CROSSENTROPY},
        metrics={"kind": ["accuracy"]},
    )
    labels = {"kind": y, "size": y % 3}
    history = model.fit(x, labels, verbose=0).history
    found = {name: value[0] for name, value in history.items()}
    assert {"kind_accuracy", "kind_loss", "size_loss"} <= set(found)
    np.testing.assert_allclose(
        found["label_loss"],
        0.5 * (found["kind_loss"] + found["size_loss"]),
        rtol=1e-5,
    )
    assert model.evaluate(x, labels, verbose=0, return_dict=True)["loss"] > 0
    named = compiled(
        two_headed("student", (3, 5)),
        teacher_network(),
        alpha=0.5,
        logits=("kind", "logits"),
        loss={"kind": CROSSENTROPY, "size": CROSSENTROPY},
    )
    assert named.fit(x, labels, verbose=0).history["distillation_loss"][0] > 0


def test_other_classes_and_other_input_sizes():
    x, y = examples()
    teacher = teacher_network(size=16, classes=4)
    before = weights(teacher)
    student = network()
    model = compiled(student, teacher)
    assert [pair.teacher_size for pair in model.pairs] == [(16, 16), (8, 8)]
    model.fit(x, y, verbose=0)
    assert_same(weights(teacher), before)


def test_subclassed_and_sequential_models():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Conv2D(3, 3, padding="same", name="first")
            self.second = keras.layers.Conv2D(
                4, 3, strides=2, padding="same", name="second"
            )
            self.pool = keras.layers.GlobalAveragePooling2D()
            self.dense = keras.layers.Dense(7, activation="softmax")

        def call(self, x):
            return self.dense(self.pool(self.second(self.first(x))))

    x, y = examples()
    student = Subclassed()
    student(x)
    model = compiled(student, teacher_network(), alpha=0.5)
    assert [pair.student for pair in model.pairs] == ["first", "second"]
    model.fit(x, y, verbose=0)
    sequential = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(3, 3, padding="same", name="first"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(3, 3, padding="same", name="second"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )
    model = compiled(sequential, student, alpha=0.5)
    assert [(p.student, p.teacher) for p in model.pairs] == [
        ("first", "first"),
        ("second", "second"),
    ]
    model.fit(x, y, verbose=0)


@pytest.mark.parametrize("kind", first_of(["keras_attention", "keras"], 1))
def test_transformers_learn_the_scores_of_heads(kind):
    def transformer(name, heads, layers):
        inputs = x = keras.Input((6, 8))
        for number in range(layers):
            if kind == "keras":
                attention = keras.layers.MultiHeadAttention(
                    heads, 4, name=f"attention{number}"
                )
                x = x + attention(x, x)
            else:
                attention = keras_attention.MultiHeadAttention(
                    heads, name=f"attention{number}"
                )
                x = x + attention(x)
        x = keras.layers.GlobalAveragePooling1D()(x)
        outputs = keras.layers.Dense(7, activation="softmax")(x)
        return keras.Model(inputs, outputs, name=name)

    x = np.random.default_rng(0).normal(size=(5, 6, 8)).astype("float32")
    y = examples()[1]
    student = transformer("student", 2, 2)
    model = compiled(
        student,
        transformer("teacher", 2, 2),
        keras.optimizers.Adam(0.003),
        pairs="scores",
        beta=1e3,
    )
    assert [pair.student for pair in model.pairs] == [
        "attention0:scores",
        "attention1:scores",
    ]
    history = model.fit(x, y, epochs=5, verbose=0).history
    assert history["attention_loss"][-1] < history["attention_loss"][0]
    deeper = compiled(
        student,
        transformer("teacher", 4, 3),
        pairs=[("attention1:scores", "attention2:scores")],
    )
    assert deeper.fit(x, y, verbose=0).history["attention_loss"][0] > 0


def test_channels_first():
    x, y = examples()

    def history(data_format):
        first = data_format == "channels_first"

        def make(name, ratio):
            keras.utils.set_random_seed(ratio)
            inputs = keras.Input((2, 8, 8) if first else (8, 8, 2))
            z = keras_attention.SqueezeExcite(
                ratio, name="stage1", data_format=data_format
            )(inputs)
            z = keras.layers.AveragePooling2D(4, data_format=data_format)(z)
            z = keras.layers.Flatten(data_format=data_format)(z)
            return keras.Model(inputs, keras.layers.Dense(7)(z), name=name)

        model = compiled(
            make("student", 1),
            make("teacher", 2),
            symmetry=0.5,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        assert model.pairs[0].student_size == (8, 8)
        turned = np.moveaxis(x, -1, 1) if first else x
        return model.fit(turned, y, verbose=0).history

    first, last = history("channels_first"), history("channels_last")
    for name in last:
        np.testing.assert_allclose(first[name], last[name], rtol=1e-4)
