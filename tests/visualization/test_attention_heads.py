import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.visualization import plot_attention_heads
from keras_attention.visualization import plot_head_summary
from keras_attention.visualization.attention_heads import find_padding
from keras_attention.visualization.head_summary import summarize
from support.visualization import TOKENS
from support.visualization import WORDS
from support.visualization import count_calls
from support.visualization import drawn
from support.visualization import image_model
from support.visualization import images
from support.visualization import language_model
from support.visualization import masked_model


def scores_of(model, layers):
    taps = [f"{layer}:scores" for layer in layers]
    _, values = read_outputs(model, TOKENS, taps)
    return [np.asarray(value)[0] for value in values.values()]


def test_squares_are_the_scores():
    model = masked_model()
    calls = count_calls(model)
    figure = plot_attention_heads(model, TOKENS[0], WORDS)
    assert len(calls) == 1
    ours, theirs = scores_of(model, ["ours", "theirs"])
    assert len(figure.axes) == 6 + 1
    for head in range(3):
        if head < 2:
            expected = np.where(ours[head] == 0, np.nan, ours[head])
            np.testing.assert_allclose(drawn(figure.axes[head]), expected)
            assert figure.axes[head].get_title() == f"head {head}"
        expected = np.where(theirs[head] == 0, np.nan, theirs[head])
        np.testing.assert_allclose(drawn(figure.axes[3 + head]), expected)
    assert figure.axes[0].get_ylabel() == "ours"
    assert not figure.axes[2].axison


def test_causal_and_padded_parts():
    figure = plot_attention_heads(masked_model(), TOKENS, WORDS, ["ours"])
    ax = figure.axes[0]
    seen = np.tril(np.ones((7, 7), bool))
    seen[5:] = seen[:, 5:] = False
    np.testing.assert_array_equal(np.isfinite(drawn(ax)), seen)
    # Two padded queries and two padded keys are hatched.
    strips = [patch.get_bbox().bounds for patch in ax.patches]
    assert strips == [
        (-0.5, 4.5, 7, 1),
        (-0.5, 5.5, 7, 1),
        (4.5, -0.5, 1, 7),
        (5.5, -0.5, 1, 7),
    ]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["score of 0", "padding"]


def test_labels_of_tokens_are_literal():
    figure = plot_attention_heads(masked_model(), TOKENS, WORDS)
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert rows == [word.replace("$", r"\$") for word in WORDS]
    columns = [t.get_text() for t in figure.axes[3].get_xticklabels()]
    assert columns == rows
    assert not figure.axes[0].get_xticklabels()


def test_padding_that_the_model_does_not_mask():
    model, mask = language_model(), TOKENS[0] != 0
    plain = plot_attention_heads(model, TOKENS, layers=["block1/mixer"])
    assert not plain.axes[0].patches
    masked = plot_attention_heads(
        model, TOKENS, layers=["block1/mixer"], mask=mask
    )
    assert len(masked.axes[0].patches) == 4
    with pytest.raises(ValueError, match="one boolean for each token"):
        plot_attention_heads(model, TOKENS, mask=mask[1:])


def test_one_head_on_given_axes():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    model = masked_model()
    found = plot_attention_heads(
        model, TOKENS, layers=["ours:scores"], heads=[1], ax=right
    )
    assert found is figure and not left.images
    (ours,) = scores_of(model, ["ours"])
    np.testing.assert_allclose(
        drawn(right), np.where(ours[1] == 0, np.nan, ours[1])
    )
    with pytest.raises(ValueError, match="`ax` holds one square"):
        plot_attention_heads(model, TOKENS, ax=right)


def test_two_sequences():
    source = keras.Input((None, 4), name="source")
    target = keras.Input((None, 4), name="target")
    x = keras.layers.MultiHeadAttention(2, 3, name="cross")(target, source)
    model = keras.Model([source, target], x)
    inputs = [np.ones((1, 5, 4)), np.ones((1, 3, 4))]
    figure = plot_attention_heads(
        model, inputs, {"cross": (list("xyz"), list("abcde"))}
    )
    assert drawn(figure.axes[0]).shape == (3, 5)
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert rows == list("xyz")
    with pytest.raises(ValueError, match="3 queries and 5 keys"):
        plot_attention_heads(model, inputs, list("abcde"))
    with pytest.raises(ValueError, match="none for layer 'cross'"):
        plot_attention_heads(model, inputs, {})


def test_find_padding():
    """By the masks alone: scores of 0 are scores."""
    scores = np.zeros((1, 1, 3, 2))
    queries, keys = find_padding(scores, (None, None))
    assert not queries.any() and not keys.any()
    masks = np.array([[True, True, False]]), np.array([[False, True]])
    queries, keys = find_padding(scores, masks)
    assert queries.tolist() == [[False, False, True]]
    assert keys.tolist() == [[True, False]]


class Hard(keras.layers.Layer):
    """All of a query's attention goes to one key; the others score 0."""

    def call(self, x, return_attention_scores=False):
        length = x.shape[1]
        scores = keras.ops.zeros((keras.ops.shape(x)[0], 1, length, length))
        scores = scores + keras.ops.one_hot(1, length)
        return (x, scores) if return_attention_scores else x


def test_scores_of_zero_without_a_mask_are_no_padding():
    model = keras.Sequential([keras.Input((4, 3)), Hard(name="hard")])
    x = np.random.default_rng(0).normal(size=(1, 4, 3))
    figure = plot_attention_heads(model, x)
    assert not figure.axes[0].patches
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["score of 0"]
    # All queries count in the summary, though most keys have no score.
    table = drawn(plot_head_summary(model, x, measures=["distance"]).axes[0])
    np.testing.assert_allclose(table, [[1.0]])


def test_padding_of_two_masked_sequences():
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    embed = keras.layers.Embedding(9, 6, mask_zero=True)
    x = keras.layers.MultiHeadAttention(1, 3, name="theirs")(
        embed(target), embed(source)
    )
    y = ka.MultiHeadAttention(2, name="ours")(embed(target), embed(source))
    dot = keras.layers.Attention(name="dot")([embed(target), embed(source)])
    model = keras.Model([source, target], [x, y, dot])
    inputs = [np.array([[3, 4, 5, 0, 0]]), np.array([[2, 7, 0]])]
    for layer in ("theirs", "ours", "dot"):
        figure = plot_attention_heads(model, inputs, layers=[layer])
        strips = [patch.get_bbox().bounds for patch in figure.axes[0].patches]
        assert strips == [
            (-0.5, 1.5, 5, 1),
            (2.5, -0.5, 1, 3),
            (3.5, -0.5, 1, 3),
        ]


def test_bad_arguments():
    model = masked_model()
    with pytest.raises(ValueError, match="one sequence"):
        plot_attention_heads(model, np.repeat(TOKENS, 2, 0))
    with pytest.raises(ValueError, match="heads 0 to 1"):
        plot_attention_heads(model, TOKENS, layers=["ours"], heads=[2])
    with pytest.raises(ValueError, match="one text for each token"):
        plot_attention_heads(model, TOKENS, ["a"])
    with pytest.raises(ValueError, match="no attention layer"):
        plot_attention_heads(image_model(), images(1))


def test_summary_by_hand():
    one = [[1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 1.0]]
    even = np.full((3, 3), 1 / 3)
    found = summarize(np.array([[one, even]]))
    np.testing.assert_allclose(found["entropy"], [1 / 3, np.log2(3)])
    # Distances 0, 0.5, 0; and means of (0 1 2), (1 0 1), (2 1 0).
    np.testing.assert_allclose(found["distance"], [0.5 / 3, 8 / 9])
    masked = summarize(np.array([[one, even]]), [[True, True, False]])
    np.testing.assert_allclose(masked["entropy"], [0.5, np.log2(3)])
    cross = summarize(np.full((1, 1, 2, 4), 0.25))
    assert cross["entropy"] == 2 and np.isnan(cross["distance"])


def test_summary_leaves_padding_out():
    model = masked_model()
    calls = count_calls(model)
    figure = plot_head_summary(model, TOKENS)
    assert len(calls) == 1
    table = drawn(figure.axes[0])
    ours, theirs = (
        s.astype(float) for s in scores_of(model, ["ours", "theirs"])
    )
    for row, scores in enumerate([ours, theirs]):
        real = scores[:, :5]
        logs = np.log2(real, where=real > 0, out=np.zeros_like(real))
        expected = -(real * logs).sum(-1).mean(-1)
        np.testing.assert_allclose(
            table[row, : len(scores)], expected, rtol=1e-5
        )
    assert np.isnan(table[0, 2])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == f"{table[0, 0]:.2g}" and len(texts) == 5


def test_summary_of_one_measure_on_given_axes():
    figure = Figure()
    ax = figure.subplots()
    found = plot_head_summary(
        masked_model(), TOKENS, measures=["distance"], ax=ax
    )
    assert found is figure and ax.get_title() == "mean distance (tokens)"
    with pytest.raises(ValueError, match="measures"):
        plot_head_summary(masked_model(), TOKENS, measures=["entropi"])
