"""The form of a batch that carries what the teacher said about it."""

from collections.abc import Mapping
from typing import Any

INPUTS = "student_inputs"
TARGETS = "teacher_outputs"


def with_targets(inputs: Any, targets: Mapping[str, Any]) -> dict[str, Any]:
    """Put the teacher's maps and logits beside the inputs."""
    return {INPUTS: inputs, TARGETS: dict(targets)}


def is_precomputed(inputs: Any) -> bool:
    """Whether inputs are of the form that `with_targets` gives."""
    return isinstance(inputs, Mapping) and set(inputs) == {INPUTS, TARGETS}
