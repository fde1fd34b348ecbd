"""Greedy and beam search beside searches by hand and without caches."""

import itertools

import numpy as np
import pytest

from keras_attention.models.transformer import beam_search
from support.arrays import numpy
from support.transformers import MIXERS
from support.transformers import SOURCE
from support.transformers import TOKENS
from support.transformers import Average
from support.transformers import language_model
from support.transformers import mixers
from support.transformers import translator


def greedy_by_hand(model, prompt, count):
    tokens = list(prompt)
    for _ in range(count):
        logits = numpy(model(np.array([tokens])))
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("mixer", [*MIXERS, Average])
def test_greedy_decoding(mixer):
    model = language_model(mixer)
    found = model.generate(TOKENS[:, :3], max_new_tokens=4)
    for row, hypothesis in zip(TOKENS, found, strict=True):
        assert hypothesis.tokens == greedy_by_hand(model, row[:3], 4)


def table_step(table):
    """A model that looks at the last token alone."""
    return lambda tokens, rows: np.log(table)[tokens[:, -1]]


def test_beam_search_finds_what_greed_misses():
    # 1 begins, 4 ends. Greedy: 2 (0.6), then at best 0.4. Better: 3, 0.4 * 1.
    table = np.full((5, 5), 1e-12)
    table[1, [2, 3]] = 0.6, 0.4
    table[2, [2, 3, 4]] = 0.3, 0.3, 0.4
    table[3, 4] = 1.0
    search = {"max_new_tokens": 5, "end": 4, "length_penalty": 0.0}
    (greedy,) = beam_search(table_step(table), [[1]], **search)
    (best,) = beam_search(table_step(table), [[1]], beam_size=2, **search)
    assert greedy.tokens == [2] and best.tokens == [3]
    np.testing.assert_allclose(np.exp([greedy.score, best.score]), [0.24, 0.4])


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.5])
def test_wide_beam_search_is_exhaustive(length_penalty):
    generator = np.random.default_rng(3)
    # Never 0 or 1 again; 4 ends.
    table = generator.dirichlet(np.ones(5), size=5) + 1e-9
    table[:, :2] = 1e-12
    table /= table.sum(-1, keepdims=True)
    scores = {}
    for length in range(4):
        for words in itertools.product((2, 3), repeat=length):
            # Three tokens at most: a text of three has no room for the end.
            path = [1, *words, 4][: 1 + 3]
            total = sum(
                np.log(table[a, b]) for a, b in itertools.pairwise(path)
            )
            penalty = ((5 + len(path) - 1) / 6) ** length_penalty
            scores[words] = total / penalty
    (found,) = beam_search(
        table_step(table),
        [[1]],
        max_new_tokens=3,
        end=4,
        beam_size=30,
        length_penalty=length_penalty,
    )
    best = max(scores, key=scores.get)
    assert tuple(found.tokens) == best
    np.testing.assert_allclose(found.score, scores[best])


def without_caches(monkeypatch, module):
    monkeypatch.setattr(
        f"keras_attention.models.transformer.{module}.has_cache",
        lambda layer: False,
    )


def assert_same_hypotheses(found, expected):
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    np.testing.assert_allclose(
        [h.score for h in found], [h.score for h in expected], rtol=1e-4
    )


@pytest.mark.slow
@mixers
@pytest.mark.parametrize(
    "beam_size", [pytest.param(1, marks=pytest.mark.slow), 3]
)
def test_translations_with_caches_equal_those_without(
    mixer, beam_size, monkeypatch
):
    model = translator(mixer)
    arguments = {"begin": 2, "end": 3, "max_new_tokens": 6}
    cached = model.translate(SOURCE, beam_size=beam_size, **arguments)
    without_caches(monkeypatch, "encoder_decoder")
    whole = model.translate(SOURCE, beam_size=beam_size, **arguments)
    assert_same_hypotheses(cached, whole)


@pytest.mark.slow
@mixers
def test_continuations_with_caches_equal_those_without(mixer, monkeypatch):
    model = language_model(mixer)
    arguments = {"max_new_tokens": 5, "end": 3, "beam_size": 3}
    cached = model.generate(TOKENS[:, :3], **arguments)
    without_caches(monkeypatch, "language_model")
    whole = model.generate(TOKENS[:, :3], **arguments)
    assert_same_hypotheses(cached, whole)


def test_decoding_follows_the_weights():
    model = language_model()
    before = model.generate([[2, 5]], 4)[0]
    for variable in model.trainable_variables:
        variable.assign(np.roll(numpy(variable), 1, axis=0))
    after = model.generate([[2, 5]], 4)[0]
    assert after.tokens == greedy_by_hand(model, [2, 5], 4)
    assert before.score != after.score
