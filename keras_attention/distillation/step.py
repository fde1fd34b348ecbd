"""What one training step knows, from the teacher's pass to the loss."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any


@dataclass
class Step:
    """One step of one replica.

    Args:
        alpha: weight of the teacher's outputs.
        beta: weight of the attention maps.
        targets: what was read out of the teacher, by name.
        values: what the student's taps have caught.
        gradient: turns a scalar into its gradient at the inputs; `None` where
            `pull_back` does that.
        pull_back: turns a gradient at the outputs into one at the inputs.
        losses: what layers added to the loss; `None` if the model has them.
        updates: variables with what the student's pass makes of them.
        parts: the parts of the loss, by name, once they are known.
    """

    alpha: Any
    beta: Any
    targets: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    gradient: Callable[[Any], Any] | None = None
    pull_back: Callable[[Any], Any] | None = None
    losses: list[Any] | None = None
    updates: Sequence[tuple[Any, Any]] = ()
    parts: dict[str, Any] = field(default_factory=dict)
