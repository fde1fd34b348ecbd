"""What shape every layer of a model gives, in the order of their calls."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_attention.taps import record_taps
from keras_attention.taps import walk_layers

UNKNOWN_SIZE = {3: 16, 4: 128}


@dataclass(frozen=True)
class LayerOutput:
    """The value of one tap.

    Args:
        tap: its name.
        shape: of the value, with a batch of 1.
        layer: the layer or operation.
        ends: the numbers of the model's outputs that this value is.
    """

    tap: str
    shape: tuple[int, ...]
    layer: Any
    ends: tuple[int, ...]


def layer_outputs(
    model: keras.Model,
    taps: list[str] | None = None,
    like: keras.Model | None = None,
) -> list[LayerOutput]:
    """Find the values of a model without running it on data.

    The model is traced in inference mode; nothing of it changes. Where its
    input leaves a size open, that of `like` stands for it, or else 128 for a
    height or width and 16 for a time.

    Args:
        model: a built model.
        taps: names, see `keras_attention.taps`; `None` for the outputs of all
            layers at any depth. Layers that are called more than once are
            left out then.
        like: another model, that takes the same inputs.

    Raises:
        ValueError: if the model is not built, or as `record_taps`.
    """
    listed = taps is not None
    layers = dict(walk_layers(model))
    wanted = taps if listed else list(layers)
    found: dict[str, Any] = {}

    class Trace(keras.layers.Layer):
        def call(self, inputs):
            with record_taps(model, wanted) as values:
                outputs = keras.tree.flatten(model(inputs, training=False))
            shapes = {}
            for tap in wanted:
                if not listed and not _single_tensor(values, tap):
                    continue
                shapes[tap] = values[tap]
            order = [tap for tap, _ in values.in_order() if tap in shapes]
            found["order"] = list(dict.fromkeys(order))
            found["ends"] = {
                tap: tuple(n for n, y in enumerate(outputs) if y is value)
                for tap, value in shapes.items()
            }
            return shapes

    shapes = Trace(dtype="float32", autocast=False)(
        example_tensors(model, like)
    )
    return [
        LayerOutput(
            tap,
            tuple(shapes[tap].shape),
            layers.get(tap),
            found["ends"][tap],
        )
        for tap in found["order"]
    ]


def input_tensors(model: keras.Model) -> Any:
    """Symbolic inputs of a model, as nested as it takes them.

    Raises:
        ValueError: if the model is not built.
    """
    if getattr(model, "inputs", None):
        # A Sequential model has its `input` only once it is called.
        if not isinstance(model, keras.Sequential):
            return model.input
        return model.inputs[0] if len(model.inputs) == 1 else model.inputs
    shape = (model.get_build_config() or {}).get("input_shape")
    if not model.built or shape is None:
        raise ValueError(
            "Attention transfer needs models that are built: their layers' "
            f"outputs must have shapes. Received: model '{model.name}', which "
            "is not. Call it on a batch of data first."
        )
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor(shape, "float32"), shape
    )


def example_tensors(model: keras.Model, like: keras.Model | None = None) -> Any:
    """Symbolic inputs of a model for a batch of 1, without open sizes.

    Args:
        model: a built model.
        like: a model whose sizes are taken where the model leaves them open.
    """
    inputs = input_tensors(model)
    others = keras.tree.flatten(inputs if like is None else input_tensors(like))
    mine = keras.tree.flatten(inputs)
    if [len(x.shape) for x in mine] != [len(x.shape) for x in others]:
        others = mine
    return keras.tree.pack_sequence_as(
        inputs, [_closed(*pair) for pair in zip(mine, others, strict=True)]
    )


def _closed(tensor, other):
    unknown = UNKNOWN_SIZE.get(len(tensor.shape), 16)
    sizes = [
        mine or theirs or unknown
        for mine, theirs in zip(tensor.shape[1:], other.shape[1:], strict=True)
    ]
    return keras.KerasTensor((1, *sizes), tensor.dtype)


def _single_tensor(values, tap):
    try:
        value = values[tap]
    except ValueError:
        return False
    return hasattr(value, "shape")
