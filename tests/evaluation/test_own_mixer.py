"""A layer of the user's, in both generated suites and both networks."""

import keras
import pytest

from keras_attention.evaluation import AgreementGrammar
from keras_attention.evaluation import ContrastiveScorer
from keras_attention.evaluation import WordSenseGrammar
from keras_attention.models import TransformerEncoderDecoder
from keras_attention.models import TransformerLanguageModel


class Previous(keras.layers.Layer):
    """What stood one position before: no mask, no cache, no weights."""

    def call(self, x):
        return keras.ops.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]


@pytest.mark.parametrize("grammar", [AgreementGrammar(), WordSenseGrammar()])
def test_in_a_language_model(grammar):
    items = grammar.items([0, 3], count=4)
    model = TransformerLanguageModel(len(grammar.vocabulary), Previous, 16, 1)
    scorer = ContrastiveScorer(model, grammar.vocabulary)
    results = scorer.evaluate(items, verbose=0)
    assert results.accuracy.total == len(items)
    assert list(results.by("distance")) == [0, 3]


def test_in_an_encoder_decoder():
    grammar = WordSenseGrammar()
    items = grammar.items([0, 3], count=4, translation=True)
    size = len(grammar.vocabulary)
    model = TransformerEncoderDecoder(
        *(size, size, Previous, Previous, 16, 1, 1), num_heads=2
    )
    scorer = ContrastiveScorer(model, grammar.vocabulary, grammar.vocabulary)
    results = scorer.evaluate(items, verbose=0)
    assert results.accuracy.total == 8
    assert list(results.by("frequency")) == sorted(
        {round(f, 3) for f in grammar.frequencies}
    )
