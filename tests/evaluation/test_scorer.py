import keras
import numpy as np
import pytest

from keras_attention.evaluation import ContrastiveItem
from keras_attention.evaluation import ContrastiveMetric
from keras_attention.evaluation import ContrastiveScorer
from keras_attention.evaluation import MetricCallback
from keras_attention.evaluation import Vocabulary
from keras_attention.evaluation import read_scores

# 0 [PAD], 1 [UNK], 2 [BOS], 3 [EOS], 4 dog, 5 dogs, 6 bark, 7 barks
VOCABULARY = Vocabulary.from_texts(["dog", "dogs", "bark", "barks"])
ITEMS = [
    ContrastiveItem("dog barks", ["dog bark"], metadata={"number": "singular"}),
    ContrastiveItem("dogs bark", ["dogs barks"], metadata={"number": "plural"}),
]


def bigram_table():
    """Probabilities of the next token; rows sum to 1."""
    table = np.full((8, 8), 1e-9)
    table[2, [4, 5]] = 0.5  # a text starts with dog or dogs
    table[4, [6, 7]] = 0.25, 0.75  # dog barks
    table[5, [6, 7]] = 0.4, 0.6  # dogs bark: wrong
    table[6, 3], table[7, 3] = 0.9, 0.8
    return table / table.sum(-1, keepdims=True)


def bigram_model(tokens):
    return np.log(bigram_table())[np.asarray(tokens)]


def test_scores_of_a_bigram_model_by_hand():
    scores = ContrastiveScorer(bigram_model, VOCABULARY).score(ITEMS, verbose=0)
    # [BOS] dog barks [EOS]: the row of "barks" is normalized to 1, and so is
    # that of "bark", since the rest of the rows is nothing.
    expected = [
        (np.log(0.5 * 0.75), np.log(0.5 * 0.25)),
        (np.log(0.5 * 0.4), np.log(0.5 * 0.6)),
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    results = ContrastiveScorer(bigram_model, VOCABULARY).evaluate(
        ITEMS, verbose=0
    )
    assert results.accuracy.value == 0.5
    by = results.by("number")
    assert by["singular"].value == 1 and by["plural"].value == 0


def test_logits_and_log_probabilities_score_alike():
    def logits(tokens):
        return bigram_model(tokens) + 3.5

    a, b = (
        ContrastiveScorer(model, VOCABULARY).score(ITEMS, verbose=0)
        for model in (bigram_model, logits)
    )
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_length_normalized_scores_are_means():
    items = [ContrastiveItem("dog", ["dog barks"])]
    plain, mean = (
        ContrastiveScorer(
            bigram_model, VOCABULARY, length_normalized=flag
        ).score(items, verbose=0)[0]
        for flag in (False, True)
    )
    np.testing.assert_allclose(mean, np.divide(plain, (2, 3)))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_and_padding_do_not_change_scores(batch_size):
    texts = ["dog", "dogs bark", "dog barks dogs bark " * 4, "bark"]
    items = [ContrastiveItem(a, [b]) for a in texts for b in texts]
    scorer = ContrastiveScorer(bigram_model, VOCABULARY, batch_size=batch_size)
    scores = scorer.score(items, verbose=0)
    alone = [
        ContrastiveScorer(bigram_model, VOCABULARY).score([i], verbose=0)[0]
        for i in items
    ]
    assert scores == alone


def test_equal_scores_are_wrong():
    def indifferent(tokens):
        return np.zeros((*np.shape(tokens), 8), "float32")

    scorer = ContrastiveScorer(indifferent, VOCABULARY)
    assert scorer.evaluate(ITEMS, verbose=0).accuracy.correct == 0


def test_sequence_to_sequence_gets_source_and_target():
    seen = []

    def model(inputs):
        source, target = inputs
        seen.append((source[0].tolist(), target[0].tolist()))
        # Copies: the token after t target tokens is the source's.
        logits = np.zeros((*target.shape, 8), "float32")
        for row, ids in enumerate(source):
            for t in range(min(target.shape[1], len(ids))):
                logits[row, t, ids[t]] = 5
        return logits

    item = ContrastiveItem("dog barks", ["dog bark"], source="dog barks")
    scorer = ContrastiveScorer(model, VOCABULARY, VOCABULARY)
    assert scorer.evaluate([item], verbose=0).accuracy.correct == 1
    source, target = seen[0]
    assert source == [4, 7, 3, 0, 0, 0, 0, 0]
    assert target == [2, 4, 7, 0, 0, 0, 0, 0]


def test_a_keras_model_is_run_compiled_and_in_half_precision():
    def made(dtype):
        model = keras.Sequential(
            [
                keras.layers.Embedding(8, 8, mask_zero=True),
                keras.layers.Dense(8),
            ]
        )
        model.dtype_policy = dtype
        model.build((None, None))
        model.layers[0].embeddings.assign(np.log(bigram_table()))
        model.layers[1].kernel.assign(np.eye(8))
        return model

    scores = ContrastiveScorer(made("float32"), VOCABULARY).score(
        ITEMS, verbose=0
    )
    expected = ContrastiveScorer(bigram_model, VOCABULARY).score(
        ITEMS, verbose=0
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


class Interrupt(Exception):
    pass


def interrupted_after(count):
    calls = []

    def model(tokens):
        calls.append(1)
        if len(calls) > count:
            raise Interrupt
        return bigram_model(tokens)

    return model


def test_an_interrupted_run_continues(tmp_path):
    path = tmp_path / "scores.txt"
    whole = ContrastiveScorer(bigram_model, VOCABULARY).score(ITEMS, verbose=0)
    broken = ContrastiveScorer(interrupted_after(1), VOCABULARY, batch_size=3)
    with pytest.raises(Interrupt):
        broken.score(ITEMS, path, verbose=0)
    assert len(path.read_text().splitlines()) == 3
    # The run ended while a line was written.
    with path.open("a") as stream:
        stream.write("-0.1")
    # Two batches: one to see that the scores are its own, one that is left.
    again = ContrastiveScorer(interrupted_after(2), VOCABULARY, batch_size=3)
    assert again.score(ITEMS, path, verbose=0) == whole
    assert read_scores(path, ITEMS) == whole
    done = ContrastiveScorer(interrupted_after(1), VOCABULARY, batch_size=1)
    assert done.score(ITEMS, path, verbose=0) == whole


def test_a_file_of_another_suite_is_refused(tmp_path):
    path = tmp_path / "scores.txt"
    path.write_text("-1.0\n" * 5)
    scorer = ContrastiveScorer(bigram_model, VOCABULARY)
    with pytest.raises(ValueError, match="4 texts.*scores.txt with 5 lines"):
        scorer.score(ITEMS, path, verbose=0)
    path.write_text("-1.0\nnan\n")
    with pytest.raises(ValueError, match="scores.txt:2: .*'nan'"):
        scorer.score(ITEMS, path, verbose=0)


def test_scores_of_another_model_or_suite_are_not_gone_on_from(tmp_path):
    path = tmp_path / "scores.txt"
    scorer = ContrastiveScorer(bigram_model, VOCABULARY, batch_size=3)
    scorer.score(ITEMS, path, verbose=0)
    other = ContrastiveScorer(lambda x: 2 * bigram_model(x), VOCABULARY)
    with pytest.raises(ValueError, match="scores.txt:1: .*'dog barks'"):
        other.score(ITEMS, path, verbose=0)
    with pytest.raises(ValueError, match="scores.txt:4: .*'dogs dogs'"):
        changed = [ITEMS[0], ContrastiveItem("dogs bark", ["dogs dogs"])]
        scorer.score(changed, path, verbose=0)
    assert len(path.read_text().splitlines()) == 4


def test_progress_is_shown(capsys):
    scorer = ContrastiveScorer(bigram_model, VOCABULARY, batch_size=3)
    scorer.score(ITEMS)
    shown = capsys.readouterr().out
    assert "0/4" in shown and "4/4" in shown and "/text" in shown
    scorer.score(ITEMS, verbose=0)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_names_the_item(value):
    def model(tokens):
        logits = bigram_model(tokens)
        logits[np.asarray(tokens) == 5] = value
        return logits

    good, bad = ITEMS[0], ContrastiveItem("dogs bark", ["dog"], origin="f:7")
    scorer = ContrastiveScorer(model, VOCABULARY)
    with pytest.raises(ValueError, match="f:7: .*nan.*'dogs bark'"):
        scorer.score([good, bad], verbose=0)


def test_unknown_words():
    items = [
        ITEMS[0],
        ContrastiveItem("cats bark", ["cats barks"], origin="f:2"),
    ]
    scorer = ContrastiveScorer(bigram_model, VOCABULARY)
    with pytest.raises(
        ValueError, match="f:2: .*1 of 2 items with 1 unknown words: 'cats'"
    ):
        scorer.evaluate(items, verbose=0)
    counts = {}
    for unknown in ("skip", "keep"):
        scorer = ContrastiveScorer(bigram_model, VOCABULARY, unknown=unknown)
        results = scorer.evaluate(items, verbose=0)
        counts[unknown] = results.accuracy.total, results.left_out
        assert scorer.unknown_words(items) == {"cats": 2}
    assert counts == {"skip": (1, 1), "keep": (2, 0)}
    with pytest.raises(ValueError, match="1 items left out"):
        ContrastiveScorer(bigram_model, VOCABULARY, unknown="skip").evaluate(
            items[1:], verbose=0
        )


def test_bad_models():
    def score(model, **arguments):
        scorer = ContrastiveScorer(model, VOCABULARY, **arguments)
        return scorer.score(ITEMS, verbose=0)

    with pytest.raises(ValueError, match="Received: probabilities"):
        score(lambda tokens: bigram_table()[np.asarray(tokens)])
    with pytest.raises(ValueError, match=r"\(32, 8, V\). Received: \(32, 8\)"):
        score(lambda tokens: np.zeros(np.shape(tokens)))
    with pytest.raises(ValueError, match="5 outputs, token 7"):
        score(lambda tokens: np.zeros((*np.shape(tokens), 5)))
    with pytest.raises(TypeError, match="`model`"):
        score("model.keras")
    with pytest.raises(ValueError, match="`unknown`"):
        score(bigram_model, unknown="ignore")
    with pytest.raises(ValueError, match="takes items with a source"):
        score(bigram_model, source_tokenizer=VOCABULARY)
    with pytest.raises(ValueError, match="takes items with no source"):
        ContrastiveScorer(bigram_model, VOCABULARY).score(
            [ContrastiveItem("a", ["b"], source="s")], verbose=0
        )
    bare = Vocabulary(["[PAD]", "dog"])
    with pytest.raises(ValueError, match="at least two tokens"):
        ContrastiveScorer(bigram_model, bare).score(
            [ContrastiveItem("dog", ["dog dog"])], verbose=0
        )


def test_metric_reports_during_fit():
    metric = ContrastiveMetric("toy", ITEMS, VOCABULARY, by="number")
    assert dict(metric.compute(bigram_model)) == {
        "toy_accuracy": 0.5,
        "toy_accuracy_number_plural": 0.0,
        "toy_accuracy_number_singular": 1.0,
    }
    model = keras.Sequential(
        [keras.layers.Embedding(8, 4), keras.layers.Dense(8)]
    )
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x = VOCABULARY.to_array(["dog barks"] * 4)
    history = model.fit(
        x[:, :-1],
        x[:, 1:],
        epochs=3,
        verbose=0,
        callbacks=[MetricCallback([metric], every=2)],
    ).history
    assert len(history["toy_accuracy"]) == 1
    assert history["toy_accuracy"][0] in (0, 0.5, 1)


def test_bad_callbacks():
    with pytest.raises(TypeError, match="`metrics`"):
        MetricCallback(["accuracy"])
    with pytest.raises(ValueError, match="`every`"):
        MetricCallback([], every=0)
