"""Where a model's logits are, for distillation of its outputs."""

from typing import Any

import keras
from keras import ops

from keras_attention.inspection import layer_outputs
from keras_attention.ops.precision import widen

# Probabilities below this are no longer told apart from it in float32.
SMALLEST = 1e-37


def output_activations(model: keras.Model) -> dict[int, str]:
    """Return the activation that gives each output of a model, by number.

    Outputs of a layer without a named activation are left out.
    """
    found: dict[int, str] = {}
    for output in layer_outputs(model):
        for number in output.ends:
            # What holds a layer gives the same value after it, and later.
            found.setdefault(number, _activation(output.layer))
    return {number: name for number, name in found.items() if name}


def as_logits(values: list[Any], activations: dict[int, str]) -> list[Any]:
    """Make logits of a model's outputs.

    The logarithm of a softmax is its logits less a number that the next
    softmax takes away again, so it stands for them.

    Raises:
        ValueError: for outputs of a sigmoid or of a single class, which no
            softmax gives.
    """
    logits = []
    for number, value in enumerate(values):
        activation = activations.get(number)
        if activation == "sigmoid" or value.shape[-1] == 1:
            raise ValueError(
                "Distillation compares probabilities of two or more classes, "
                f"as a softmax gives them. Received: output {number} of shape "
                f"{tuple(value.shape)} with activation={activation!r}. Name "
                "layers with logits by `logits=`, or set alpha=0."
            )
        value = widen(value)
        if activation == "softmax":
            value = ops.log(ops.maximum(value, SMALLEST))
        logits.append(value)
    return logits


def output_masks(outputs: Any) -> dict[str, Any]:
    """Return the masks of a model's outputs by name, ones where it has none.

    Layers put masks on tensors; a `Loss` is what may read them, whatever the
    backend keeps them in.
    """
    mask = _Mask("mask", reduction=None)
    return {
        f"logits {n}": mask(value, value)
        for n, value in enumerate(keras.tree.flatten(outputs))
    }


class _Mask(keras.losses.Loss):
    """Its value is the weight of each position: 0 where it is masked."""

    def call(self, y_true, y_pred):
        return ops.ones_like(y_pred[..., 0])


def _activation(layer):
    if type(layer).__name__ in ("Softmax", "Sigmoid"):
        return type(layer).__name__.lower()
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", "")
