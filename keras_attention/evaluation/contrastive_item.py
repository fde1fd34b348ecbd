"""One question of a contrastive test: a good text and one or more bad ones."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import NamedTuple


class Decision(NamedTuple):
    """Whether a model decided rightly, and what is known of the question."""

    metadata: Mapping[str, Any]
    correct: bool


@dataclass(frozen=True)
class ContrastiveItem:
    """A reference and the texts that a good model finds less probable.

    A model is right only if the reference scores strictly better. Equal
    scores are wrong.

    Args:
        reference: the good text.
        contrastive: the bad ones.
        source: the sentence that is translated; `None` for a language model.
        metadata: what accuracy may be grouped by: `distance`, `attractors`,
            `frequency`, `paradigm`, or anything else.
        pair_metadata: `None`: the item is one decision, and the reference
            must beat every contrastive text, as in ContraWSD. One mapping
            for each contrastive text: each text is a decision of its own, as
            in Lingeval97, and its mapping is added to `metadata`.
        origin: where the item was read, `"file:line"`; errors name it.

    Raises:
        TypeError: If a text is not a string.
        ValueError: If there is nothing to compare with, or `pair_metadata`
            has another length than `contrastive`.

    Example:

    >>> from keras_attention.evaluation import ContrastiveItem
    >>> item = ContrastiveItem("the dog barks", ["the dog bark"])
    >>> [decision.correct for decision in item.decide([-3.0, -4.5])]
    [True]
    >>> [decision.correct for decision in item.decide([-3.0, -3.0])]
    [False]
    """

    reference: str
    contrastive: Sequence[str]
    source: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pair_metadata: Sequence[Mapping[str, Any]] | None = None
    origin: str = field(default="", compare=False)

    def __post_init__(self):
        if isinstance(self.contrastive, str):
            raise TypeError(
                "`contrastive` must be a sequence of texts, also where there "
                f"is one. Received: contrastive={self.contrastive!r}"
            )
        object.__setattr__(self, "contrastive", tuple(self.contrastive))
        for text in self.texts + (self.source or "",):
            if not isinstance(text, str):
                raise TypeError(
                    f"{self.prefix}The texts of an item must be strings. "
                    f"Received: {text!r} (of type {type(text).__name__})"
                )
        if self.pair_metadata is None:
            if not self.contrastive:
                raise ValueError(
                    f"{self.prefix}An item must have at least one contrastive "
                    f"text. Received: none for reference={self.reference!r}"
                )
            return
        object.__setattr__(self, "pair_metadata", tuple(self.pair_metadata))
        if len(self.pair_metadata) != len(self.contrastive):
            raise ValueError(
                f"{self.prefix}`pair_metadata` must have one mapping for each "
                f"contrastive text. Received: {len(self.pair_metadata)} for "
                f"{len(self.contrastive)} texts"
            )

    @property
    def texts(self) -> tuple[str, ...]:
        """The reference, then the contrastive texts: the order of scores."""
        return (self.reference, *self.contrastive)

    @property
    def prefix(self) -> str:
        """What an error about this item starts with."""
        return f"{self.origin}: " if self.origin else ""

    def decide(self, scores: Sequence[float]) -> list[Decision]:
        """Compare the scores of `texts`, of which higher is better."""
        if len(scores) != len(self.texts):
            raise ValueError(
                f"{self.prefix}There must be one score for the reference and "
                f"one for each contrastive text: {len(self.texts)}. "
                f"Received: {len(scores)} scores"
            )
        reference, *others = scores
        wins = [reference > other for other in others]
        if self.pair_metadata is None:
            return [Decision(self.metadata, all(wins))]
        return [
            Decision({**self.metadata, **known}, win)
            for known, win in zip(self.pair_metadata, wins, strict=True)
        ]

    def join_source(self, separator: str) -> "ContrastiveItem":
        """Put the source in front of every text, for a language model."""
        if self.source is None:
            return self
        start = f"{self.source} {separator} "
        return replace(
            self,
            reference=start + self.reference,
            contrastive=[start + text for text in self.contrastive],
            source=None,
        )
