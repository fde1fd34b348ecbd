"""A contrastive test as a metric."""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.evaluation.contrastive_scorer import ContrastiveScorer


class ContrastiveMetric:
    """Yields the accuracy of a model on a suite as `(name, value)`.

    Args:
        name: Name of the suite; `"agreement"` gives `"agreement_accuracy"`.
        items: the suite.
        tokenizer: Tokenizer of the model.
        by: keys of the items' metadata; `"distance"` gives
            `"agreement_accuracy_distance_3"` and so on besides.
        **arguments: of `ContrastiveScorer`.

    Example:

    >>> from keras_attention.evaluation import AgreementGrammar
    >>> from keras_attention.evaluation import ContrastiveMetric
    >>> grammar = AgreementGrammar()
    >>> items = grammar.items([0, 3], attractors=[0], count=2)
    >>> metric = ContrastiveMetric(
    ...     "agreement", items, grammar.vocabulary, by=["distance"])
    >>> def model(tokens):  # indifferent: ties are wrong
    ...     return np.zeros((*tokens.shape, len(grammar.vocabulary)))
    >>> dict(metric.compute(model))
    {'agreement_accuracy': 0.0,
     'agreement_accuracy_distance_0': 0.0,
     'agreement_accuracy_distance_3': 0.0}
    """

    def __init__(
        self,
        name: str,
        items: Sequence[ContrastiveItem],
        tokenizer: Any,
        by: Sequence[str] = (),
        **arguments: Any,
    ):
        self.name = name
        self.items = list(items)
        self.tokenizer = tokenizer
        self.by = [by] if isinstance(by, str) else list(by)
        self.arguments = arguments

    def compute(self, model: Any) -> Iterator[tuple[str, float]]:
        """Score the suite with the model; yield names and values."""
        scorer = ContrastiveScorer(model, self.tokenizer, **self.arguments)
        results = scorer.evaluate(self.items, verbose=0)
        name = f"{self.name}_accuracy"
        yield name, results.accuracy.value
        for key in self.by:
            for group, accuracy in results.by(key).items():
                yield f"{name}_{key}_{group}", accuracy.value
