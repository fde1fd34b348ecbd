"""What the generated suites share."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.evaluation.contrastive_item import Decision
from keras_attention.evaluation.contrastive_results import ContrastiveResults
from keras_attention.evaluation.vocabulary import SPECIAL
from keras_attention.evaluation.vocabulary import Vocabulary
from keras_attention.evaluation.vocabulary import language_model_data
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


class BaseGrammar:
    """Base of the grammars that make training texts and contrastive items.

    A subclass implements `words`, `training_texts`, `items` and
    `predictors`. Everything is sampled with the seed and is
    reproducible.

    Args:
        held_out: share of what is held out of the training texts.
        seed: Seed of everything that is sampled. Defaults to 0.
    """

    def __init__(self, held_out: float = 0.25, seed: int = 0):
        self.held_out = check_number(
            "held_out", held_out, 0, 1, exclusive_maximum=True
        )
        self.seed = check_positive_integer("seed", seed, minimum=0)

    @property
    def words(self) -> list[str]:
        """All words of the grammar."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `words`."
        )

    def training_texts(self, count: int, seed: int = 0) -> list[str]:
        """Return `count` texts to train a language model on."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `training_texts`."
        )

    def predictors(self, items: Sequence[ContrastiveItem]) -> dict[str, Any]:
        """Return functions of an item's metadata: whether it is guessed."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `predictors`."
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """The words as a tokenizer."""
        return Vocabulary([*SPECIAL, *self.words])

    def training_data(
        self, count: int, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and targets for a language model's `fit`.

        Both are `(count, length)`, padded with zeros; the targets are one
        ahead of the inputs.
        """
        texts = self.training_texts(count, seed)
        return language_model_data(self.vocabulary, texts)

    def baselines(
        self, items: Sequence[ContrastiveItem]
    ) -> dict[str, ContrastiveResults]:
        """What simple rules get right of the items."""
        return {
            name: ContrastiveResults(
                Decision(item.metadata, bool(predict(item.metadata)))
                for item in items
            )
            for name, predict in self.predictors(items).items()
        }

    def generator(self, *purpose: int) -> np.random.Generator:
        """A random generator that depends on the seed and on what it is for."""
        return np.random.default_rng([self.seed, *purpose])


def pick(generator: np.random.Generator, choices: Sequence[Any]) -> Any:
    """Draw one of the choices, all equally likely."""
    return choices[int(generator.integers(len(choices)))]


def check_sizes(name: str, values: Iterable[int]) -> list[int]:
    """Return whole numbers of at least 0, of which there is at least one."""
    values = [check_positive_integer(name, v, minimum=0) for v in values]
    if not values:
        raise ValueError(
            f"`{name}` must have at least one whole number. Received: {name}=[]"
        )
    return values
