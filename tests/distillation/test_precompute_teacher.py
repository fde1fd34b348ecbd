import keras
import numpy as np
import pytest

from keras_attention import AttentionTransferModel
from keras_attention.distillation import PrecomputedDataset
from keras_attention.distillation import precompute_teacher
from support.distillation import EAGER
from support.distillation import assert_same
from support.distillation import examples
from support.distillation import network
from support.distillation import teacher_network
from support.distillation import weights
from support.networks import first_of

PAIRS = ["stage1", ("stage1", "stage2")]
FIT = {"verbose": 0, "shuffle": False}


class Batches(keras.utils.PyDataset):
    """Batches of 3; with noise of their own each time if wanted."""

    def __init__(self, arrays, noise=0.0):
        super().__init__()
        self.arrays, self.noise = arrays, noise
        self.random = np.random.default_rng(0)

    @property
    def num_batches(self):
        return -(-len(self.arrays[0]) // 3)

    def __getitem__(self, index):
        x, y = (a[3 * index : 3 * index + 3] for a in self.arrays)
        noise = self.noise * self.random.normal(size=x.shape)
        return x + noise.astype(x.dtype), y


def train(teacher, data, *more, pairs=PAIRS, epochs=1, **arguments):
    arguments.setdefault("alpha", 0.5)
    student = network()
    model = AttentionTransferModel(student, teacher, pairs, **arguments)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=EAGER)
    history = model.fit(data, *more, epochs=epochs, **FIT).history
    return weights(student), history


@pytest.mark.parametrize("on_disk", first_of([False, True], 1))
def test_training_is_that_with_the_teacher(tmp_path, on_disk):
    teacher, (x, y) = teacher_network(), examples(8)
    live, expected = train(teacher, Batches((x, y)))
    data = precompute_teacher(
        teacher,
        (x, y),
        PAIRS,
        logits=True,
        path=tmp_path / "deep" / "maps" if on_disk else None,
        batch_size=3,
        shuffle=False,
        verbose=False,
    )
    assert isinstance(data, PrecomputedDataset) and data.num_batches == 3
    found, history = train(None, data)
    assert_same(found, live, atol=1e-6)
    assert set(history) == set(expected)
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-4)


def test_batches_and_lists_of_batches():
    teacher, (x, y) = teacher_network(), examples(8)
    live, _ = train(teacher, Batches((x, y)))
    source = Batches((x, y))
    for dataset in (source, [source[i] for i in range(3)]):
        data = precompute_teacher(
            teacher, dataset, PAIRS, logits="logits", verbose=False
        )
        found, _ = train(None, data)
        assert_same(found, live, atol=1e-6)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_tf_data():
    import tensorflow as tf

    teacher, (x, y) = teacher_network(), examples(8)
    live, _ = train(teacher, Batches((x, y)))
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    data = precompute_teacher(
        teacher, dataset, PAIRS, logits=True, verbose=False
    )
    assert data.cardinality() == 3
    found, _ = train(None, data)
    assert_same(found, live, atol=1e-6)
    # What is joined may be put into any order.
    again = data.unbatch().shuffle(8, seed=1).batch(4)
    known = tf.data.experimental.assert_cardinality(2)
    train(None, again.apply(known))
    shuffling = dataset.unbatch().shuffle(8, seed=1).batch(3)
    data = precompute_teacher(
        teacher, shuffling, PAIRS, logits=True, verbose=False
    )
    with pytest.raises(tf.errors.OpError, match="shuffled or augmented"):
        for _ in data:
            pass


@pytest.mark.tensorflow
def test_compiled_training_and_a_teacher_that_is_there():
    teacher, (x, y) = teacher_network(), examples(8)
    data = precompute_teacher(teacher, (x, y), ["stage1"], verbose=False)
    model = AttentionTransferModel(network(), teacher, ["stage1"])
    model.compile("sgd", "sparse_categorical_crossentropy")
    teacher.call = None  # It must not be run again.
    model.fit(data, validation_data=(x, y), **FIT)
    assert np.isfinite(model.evaluate(data, verbose=0))
    assert model.predict(data, verbose=0).shape == (8, 7)


def test_each_epoch_has_an_order_of_its_own():
    teacher, (x, y) = teacher_network(), examples(8)
    data = precompute_teacher(
        teacher, (x, y), ["stage1"], batch_size=8, seed=0, verbose=False
    )
    orders = []
    for _ in range(3):
        orders.append(data[0][1].tolist())
        data.on_epoch_end()
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == sorted(y) for order in orders)
    _, history = train(
        None, data, pairs=["stage1"], alpha=0.0, epochs=2, symmetry=0.1
    )
    assert history["symmetry_loss"][0] > 0


def test_scores_are_kept_by_head():
    inputs = keras.Input((6, 8))
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    x = keras.layers.GlobalAveragePooling1D()(attention(inputs, inputs))
    teacher = keras.Model(inputs, keras.layers.Dense(3)(x))
    x = np.random.default_rng(0).normal(size=(4, 6, 8)).astype("float32")
    data = precompute_teacher(
        teacher, x, ["attention:scores"], shuffle=False, verbose=False
    )
    (batch,) = (data[i] for i in range(data.num_batches))
    (scores,) = batch[0]["teacher_outputs"].values()
    assert scores.shape == (4, 2, 6, 6)
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-5)


def test_shuffled_or_augmented_data_are_refused():
    teacher, arrays = teacher_network(), examples(8)
    data = precompute_teacher(
        teacher, Batches(arrays, noise=0.1), ["stage1"], verbose=False
    )
    with pytest.raises(ValueError, match="shuffled or augmented"):
        train(None, data, pairs=["stage1"], alpha=0.0)
    changed = precompute_teacher(
        teacher, arrays, ["stage1"], shuffle=False, verbose=False
    )
    changed.source.arrays[0][4] += 1
    with pytest.raises(ValueError, match="1 of them different"):
        train(None, changed, pairs=["stage1"], alpha=0.0)


def test_data_made_for_other_maps_are_refused():
    teacher, arrays = teacher_network(), examples(4)
    data = precompute_teacher(teacher, arrays, ["stage1"], verbose=False)
    for words, arguments in (
        (r"stage1 sum\^4", {"pairs": ["stage1"], "power": 4}),
        (r"stage1 max\^2", {"pairs": ["stage1"], "map_function": "max"}),
        (r"stage2 sum\^2", {"pairs": ["stage2"]}),
        ("output probabilities", {"pairs": ["stage1"], "alpha": 0.5}),
    ):
        with pytest.raises(ValueError, match=f"'{words}' is not among"):
            train(None, data, **{"alpha": 0.0, **arguments})


def interrupted(path, teacher, arrays, after=2):
    """Run until the teacher fails, as a process that is killed."""

    class Failing(Batches):
        def __getitem__(self, index):
            if index == after:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        precompute_teacher(
            teacher, Failing(arrays), PAIRS, path=path, verbose=False
        )


def test_killed_run_goes_on(tmp_path, monkeypatch):
    from keras_attention.distillation import precompute_teacher as module

    teacher, arrays, path = teacher_network(), examples(8), tmp_path / "maps"
    part = tmp_path / "maps.part"
    interrupted(path, teacher, arrays)
    assert not path.exists()
    # A record that was cut short while it was written is written again.
    part.write_bytes(part.read_bytes()[:-7])
    runs = []
    run = module.__globals__["TeacherPass"].predict_on_batch

    def count(self, x):
        runs.append(len(x))
        return run(self, x)

    monkeypatch.setattr(
        module.__globals__["TeacherPass"], "predict_on_batch", count
    )
    resumed = precompute_teacher(
        teacher, Batches(arrays), PAIRS, path=path, verbose=False
    )
    assert runs == [3, 2]
    assert path.exists() and not part.exists()
    whole = precompute_teacher(teacher, Batches(arrays), PAIRS, verbose=False)
    np.testing.assert_array_equal(resumed.records, whole.records)
    runs.clear()
    again = precompute_teacher(
        teacher, Batches(arrays), PAIRS, path=path, verbose=False
    )
    assert not runs
    np.testing.assert_array_equal(again.records, whole.records)


def test_file_of_another_teacher_or_data_set(tmp_path):
    teacher, arrays, path = teacher_network(), examples(8), tmp_path / "maps"

    def run(teacher=teacher, arrays=arrays, pairs=PAIRS, **arguments):
        return precompute_teacher(
            teacher,
            Batches(arrays),
            pairs,
            path=path,
            verbose=False,
            **arguments,
        )

    run()
    kept = path.read_bytes()
    for arguments in (
        {"teacher": network("teacher", (6, 11), seed=5)},
        {"pairs": ["stage1"]},
        {"power": 4},
        {"map_function": "max"},
        {"logits": True},
    ):
        with pytest.raises(ValueError, match="another teacher"):
            run(**arguments)
    with pytest.raises(ValueError, match="other examples"):
        run(arrays=examples(8, seed=9))
    with pytest.raises(ValueError, match="fewer examples"):
        run(arrays=[np.concatenate([a, a]) for a in arrays])
    with pytest.raises(ValueError, match="more examples"):
        run(arrays=[a[:6] for a in arrays])
    assert path.read_bytes() == kept
    interrupted(tmp_path / "other", teacher, arrays)
    with pytest.raises(ValueError, match="another teacher"):
        precompute_teacher(
            network("t", (6, 11)),
            Batches(arrays),
            PAIRS,
            path=tmp_path / "other",
            verbose=False,
        )


def test_file_that_is_cut_short_or_none_of_ours(tmp_path):
    teacher, arrays, path = teacher_network(), examples(8), tmp_path / "maps"

    def run():
        precompute_teacher(
            teacher, Batches(arrays), PAIRS, path=path, verbose=False
        )

    run()
    whole = path.read_bytes()
    for kept in (len(whole) - 1, len(whole) - 2000, 40, 10, 0):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="cut short"):
            run()
        assert path.read_bytes() == whole[:kept]
    path.write_bytes(b"something else entirely, and long enough to be read")
    with pytest.raises(ValueError, match="not written by `precompute_teacher`"):
        run()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"dataset": 3}, TypeError, "of type int"),
        ({"dataset": ()}, TypeError, "of type tuple"),
        ({"dataset": (np.ones((3, 8, 8, 2)), np.ones(2))}, ValueError, "2, 3"),
        ({"dataset": []}, ValueError, "no example"),
        ({"dataset": [], "shuffle": True}, ValueError, "keep their order"),
        ({"shuffle": 1}, TypeError, "shuffle=1"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"power": 0}, ValueError, "power=0"),
        ({"map_function": "mean"}, ValueError, "map_function='mean'"),
        ({"pairs": "groups"}, TypeError, "pairs='groups'"),
        ({"logits": "logit"}, ValueError, "Did you mean 'logits'"),
        ({"verbose": 2}, TypeError, "verbose=2"),
    ],
)
def test_bad_arguments(arguments, error, words):
    given = {"dataset": examples(2), "pairs": ["stage1"], **arguments}
    with pytest.raises(error, match=words):
        precompute_teacher(teacher_network(), **given)


def test_progress_is_shown(capsys):
    precompute_teacher(teacher_network(), examples(4), ["stage1"], batch_size=2)
    assert "2/2" in capsys.readouterr().out
