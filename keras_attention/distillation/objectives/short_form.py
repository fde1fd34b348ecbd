"""The short arguments of `AttentionTransferModel`, as loss objects."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_attention.distillation.objectives.attention_maps import AttentionMaps
from keras_attention.distillation.objectives.input_gradients import FlipSymmetry
from keras_attention.distillation.objectives.input_gradients import (
    InputGradients,
)
from keras_attention.distillation.objectives.logits import Logits
from keras_attention.distillation.objectives.objective import Objective
from keras_attention.distillation.objectives.objective import check_weight
from keras_attention.validation import check_number

SHORT_DEFAULTS = {
    "pairs": None,
    "beta": None,
    "power": 2,
    "map_function": "sum",
    "reduction": None,
    "pair_weights": None,
    "alpha": 0.0,
    "temperature": 4.0,
    "logits": None,
    "gradient_transfer": 0.0,
    "symmetry": 0.0,
    "resize_outputs": False,
}


def short_objectives(
    pairs: Any,
    beta: Any,
    power: Any,
    map_function: Any,
    reduction: Any,
    pair_weights: Any,
    alpha: Any,
    temperature: Any,
    logits: Any,
    gradient_transfer: Any,
    symmetry: Any,
    resize_outputs: Any,
):
    """Returns the objectives that the constructor's short arguments stand for.

    The arguments are those of `AttentionTransferModel`.
    """
    if beta is not None:
        beta = check_weight("beta", beta)
    alpha = check_weight("alpha", alpha, 1)
    maps = AttentionMaps(
        beta, pairs, power, map_function, reduction, pair_weights
    )
    outputs = Logits(alpha, temperature, logits, resize_outputs=resize_outputs)
    gradient_transfer = check_number("gradient_transfer", gradient_transfer, 0)
    symmetry = check_number("symmetry", symmetry, 0)
    found: list[Objective] = []
    if alpha != 0.0:
        found.append(outputs)
    if beta != 0.0:
        found.append(maps)
    if gradient_transfer:
        found.append(InputGradients(gradient_transfer))
    if symmetry:
        found.append(FlipSymmetry(symmetry))
    return found


def check_objectives(
    losses: Sequence[Objective], short: Mapping[str, Any]
) -> list[Objective]:
    """Returns the objectives of `losses`, checked.

    Args:
        losses: What the constructor of `AttentionTransferModel` was given.
        short: Its short arguments, by name, which must have their defaults.

    Raises:
        TypeError: If they are not loss objects.
        ValueError: If a short argument is given too, two have one name, or
            they leave nothing to the labels.
    """
    given = [
        name
        for name, value in short.items()
        if not isinstance(value, type(SHORT_DEFAULTS[name]))
        or value != SHORT_DEFAULTS[name]
    ]
    if given:
        raise ValueError(
            "`losses` replaces the arguments for attention maps and outputs. "
            f"Received: losses and {', '.join(given)}. Give these to the loss "
            "objects, such as AttentionMaps(pairs=...) and Logits(0.9, "
            "temperature=...)."
        )
    if not isinstance(losses, list | tuple) or not all(
        isinstance(each, Objective) for each in losses
    ):
        raise TypeError(
            "`losses` must be a list of loss objects of "
            "keras_attention.distillation, such as [AttentionMaps(), "
            f"Logits(0.9)]. Received: losses={losses!r}"
        )
    names = [each.name for each in losses]
    if len(set(names)) != len(names):
        raise ValueError(
            "Each of `losses` must have a name of its own, under which its "
            f"part of the loss is reported. Received: names {names}. Set "
            "`name`."
        )
    alphas = [
        each.weight
        for each in losses
        if each.replaces_labels and isinstance(each.weight, float)
    ]
    if sum(alphas) > 1:
        raise ValueError(
            "The weights of `Logits` are parts of the loss whose rest is the "
            "labels', so their sum must be at most 1. "
            f"Received: weights {alphas}"
        )
    return list(losses)
