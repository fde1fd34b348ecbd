import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from keras_attention.distillation import DecoupledLogits
from keras_attention.distillation import Features
from keras_attention.distillation import Logits
from keras_attention.distillation import Relations
from keras_attention.distillation import precompute_teacher
from support.arrays import numpy
from support.distillation import EAGER
from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network
from support.networks import first_of


def compiled_with(objective, optimizer="sgd"):
    model = AttentionTransferModel(
        network(), teacher_network(), losses=[objective]
    )
    model.compile(
        optimizer, "sparse_categorical_crossentropy", run_eagerly=EAGER
    )
    return model


def activation(model, name, x):
    inner = keras.Model(model.inputs[0], model.get_layer(name).output)
    return numpy(inner(x, training=model.name == "student"))


@pytest.mark.parametrize("normalize", [False, True])
def test_the_loss_is_that_of_numpy(normalize):
    model = compiled_with(
        Features(3.0, [("stage2", "stage2")], normalize=normalize)
    )
    x, y = examples()
    (projection,) = model.projections
    assert projection.kernel.shape == (5, 11)
    mine = activation(model.student, "stage2", x) @ numpy(projection.kernel)
    theirs = activation(model.teacher, "stage2", x)
    if normalize:
        mine, theirs = (
            z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-6)
            for z in (mine, theirs)
        )
    history = model.fit(x, y, verbose=0).history
    np.testing.assert_allclose(
        history["features_loss"][0],
        3 * ((mine - theirs) ** 2).mean(),
        rtol=1e-4,
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_the_global_policy_is_not_that_of_the_projection(policy):
    """Models of one policy are trained under another."""
    student, teacher = network(), teacher_network()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = AttentionTransferModel(
            student, teacher, losses=[Features(pairs=[("stage2", "stage2")])]
        )
    finally:
        keras.config.set_dtype_policy(before)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = examples()
    mine = activation(student, "stage2", x)
    mine = mine @ numpy(model.projections[0].kernel)
    theirs = activation(teacher, "stage2", x)
    history = model.fit(x, y, verbose=0).history
    np.testing.assert_allclose(
        history["features_loss"][0], ((mine - theirs) ** 2).mean(), rtol=1e-4
    )


def tokens(name, dtype, seed):
    random = np.random.default_rng(seed)
    inputs = keras.Input((5, 4), dtype=dtype)
    x = keras.layers.Dense(6, dtype=dtype, name="states")(inputs)
    heads = keras.layers.MultiHeadAttention(2, 3, dtype=dtype, name="heads")
    x = heads(x, x)
    x = keras.layers.Dense(3, dtype=dtype)(x)[:, 0]
    model = keras.Model(inputs, x, name=name)
    model.set_weights([random.normal(size=w.shape) for w in model.weights])
    return model


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has no float64 by default"
)
@pytest.mark.parametrize("wide", first_of(["teacher", "student", "both"], 1))
def test_models_in_float64(wide):
    """Losses of a float64 model and one in float32 are those of two in it."""
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 5, 4)).astype("float32")
    y = random.integers(3, size=4)
    pairs = [("states", "states")]
    found = []
    for dtypes in (("float32", "float32"), ("float64", "float64")):
        model = AttentionTransferModel(
            tokens("student", dtypes[wide != "teacher"], 1),
            tokens("teacher", dtypes[wide != "student"], 2),
            losses=[
                Features(pairs=pairs),
                Logits(),
                DecoupledLogits(name="decoupled"),
                Relations(pairs=[("heads", "heads")]),
            ],
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, run_eagerly=EAGER)
        random = np.random.default_rng(3)
        for projection in model.projections:
            kernel = random.normal(size=projection.kernel.shape)
            projection.kernel.assign(kernel)
        history = model.fit(x, y, verbose=0).history
        found.append([history[name][0] for name in sorted(history)])
    np.testing.assert_allclose(*found, rtol=1e-4)


@pytest.mark.slow
def test_larger_features_are_averaged_down():
    model = compiled_with(Features(pairs=[("stage1", "stage2")]))
    x, y = examples()
    (projection,) = model.projections
    mine = activation(model.student, "stage1", x) @ numpy(projection.kernel)
    mine = mine.reshape(len(x), 4, 2, 4, 2, 11).mean((2, 4))
    theirs = activation(model.teacher, "stage2", x)
    history = model.fit(x, y, verbose=0).history
    np.testing.assert_allclose(
        history["features_loss"][0], ((mine - theirs) ** 2).mean(), rtol=1e-4
    )


def test_the_projection_is_trained_and_not_part_of_the_student():
    model = compiled_with(Features())
    before = [numpy(p.kernel).copy() for p in model.projections]
    model.fit(*examples(), verbose=0)
    assert len(before) == 2
    for projection, kernel in zip(model.projections, before, strict=True):
        assert np.abs(numpy(projection.kernel) - kernel).max() > 0
    names = {v.path for v in model.student.variables}
    assert not [name for name in names if "projection" in name]


def test_features_without_positions():
    model = compiled_with(Features(pairs=["pool"]))
    x, y = examples()
    (projection,) = model.projections
    mine = activation(model.student, "pool", x) @ numpy(projection.kernel)
    theirs = activation(model.teacher, "pool", x)
    history = model.fit(x, y, verbose=0).history
    np.testing.assert_allclose(
        history["features_loss"][0], ((mine - theirs) ** 2).mean(), rtol=1e-4
    )


@pytest.mark.slow
def test_training_goes_on_after_loading(tmp_path):
    model = compiled_with(Features(), "adam")
    data = examples()
    model.fit(*data, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    found = [
        each.fit(*data, verbose=0, shuffle=False).history["loss"]
        for each in (model, again)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_precomputed_features_in_several_views():
    """The same images, so the same losses, as with the teacher."""
    x, y = examples(6)

    def augment(image, random):
        return np.roll(image, random.integers(8), axis=0)

    losses = [Features(), Logits(0.5)]
    histories, seen = [], []
    for with_teacher in (True, False):
        model = AttentionTransferModel(
            network(), teacher_network(), losses=losses
        )
        model.compile("sgd", "sparse_categorical_crossentropy")
        data = precompute_teacher(
            model,
            (x, y),
            augment=augment,
            views=3,
            batch_size=6,
            shuffle=False,
            verbose=False,
        )
        found = []
        for _ in range(4):
            given, labels = data[0]
            seen.append(given["student_inputs"])
            if with_teacher:
                given = given["student_inputs"]
            logs = model.train_on_batch(given, labels, return_dict=True)
            found.append(float(logs["loss"]))
            data.on_epoch_end()
        histories.append(found)
    np.testing.assert_allclose(*histories, rtol=1e-5)
    for view in range(3):
        np.testing.assert_array_equal(seen[view], seen[view + 4])
    np.testing.assert_array_equal(seen[0], seen[3])
    assert np.abs(seen[0] - seen[1]).max() > 0


def test_views_are_refused_where_they_cannot_be_repeated():
    model, data = compiled_with(Features()), examples()

    def augment(image, random):
        return image[1:]

    with pytest.raises(ValueError, match="shape that it was given"):
        precompute_teacher(model, data, augment=augment, verbose=False)
    with pytest.raises(ValueError, match="views=2 with augment=None"):
        precompute_teacher(model, data, views=2, verbose=False)
    with pytest.raises(TypeError, match="augment=3"):
        precompute_teacher(model, data, augment=3, verbose=False)
    with pytest.raises(ValueError, match="pairs="):
        precompute_teacher(model, data, ["stage1"], verbose=False)
