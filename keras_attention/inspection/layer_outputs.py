"""The shapes of a model's intermediate outputs, without running it on data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_attention.inspection.layer_paths import check_layer
from keras_attention.inspection.layer_paths import check_names
from keras_attention.inspection.layer_paths import find_layer
from keras_attention.inspection.layer_paths import walk_layers
from keras_attention.inspection.record_outputs import record_outputs
from keras_attention.inspection.record_outputs import split_name

# Sizes of the axes that a model leaves open, by the rank of its input.
OPEN_SIZES = {3: 16, 4: 128}
# Factors on them, tried in order: long kernels need long examples.
SCALES = (1, 8, 64)


@dataclass(frozen=True)
class LayerOutput:
    """An intermediate output of a model.

    Attributes:
        name: Its name; see `record_outputs`.
        shape: Its shape, with a batch of 1.
        layer: The layer or operation; `None` for gates, scores and filters.
        ends: Numbers of the model's outputs that are this value.
    """

    name: str
    shape: tuple[int, ...]
    layer: Any
    ends: tuple[int, ...]


def layer_outputs(
    model: keras.Model,
    names: list[str] | None = None,
    like: keras.Model | None = None,
) -> list[LayerOutput]:
    """Return the intermediate outputs of a model in the order of their calls.

    The model is traced in inference mode on symbolic inputs, nothing is
    computed and nothing of it changes. Where its input leaves a size open,
    that of `like` is used, or else 128 for a height or width and 16 for a
    time.

    Args:
        model: A built model.
        names: Names of intermediate outputs; see `record_outputs`. Defaults
            to `None`, the outputs of all layers at any depth but those that
            are called more than once.
        like: Another model that takes the same inputs. Defaults to `None`.

    Returns:
        A list of `LayerOutput`s.

    Raises:
        ValueError: If the model is not built, or as `record_outputs`.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(6, 3, name="conv"),
    ...     keras.layers.Flatten(name="flat"),
    ... ])
    >>> [(output.name, output.shape) for output in layer_outputs(model)][-2:]
    [('conv', (1, 6, 6, 6)), ('flat', (1, 216))]
    """
    check_names(names)
    listed = names is not None
    layers = dict(walk_layers(model))
    wanted = names if listed else list(layers)
    for name in names or ():
        find_layer(model, split_name(name)[0])
    found: dict[str, Any] = {}

    def run(inputs):
        with record_outputs(model, wanted) as values:
            outputs = keras.tree.flatten(model(inputs, training=False))
        shapes = {}
        for name in wanted:
            if not listed and not _single_tensor(values, name):
                continue
            shapes[name] = values[name]
        order = [name for name, _ in values.in_order() if name in shapes]
        found["order"] = list(dict.fromkeys(order))
        found["ends"] = {
            name: tuple(n for n, y in enumerate(outputs) if y is value)
            for name, value in shapes.items()
        }
        return shapes

    shapes = _on_large_examples(run, model, like)
    return [
        LayerOutput(
            name,
            tuple(shapes[name].shape),
            layers.get(name),
            found["ends"][name],
        )
        for name in found["order"]
    ]


def call_on_shapes(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Call a function on shapes alone, as a functional model is built.

    Args:
        function: Function of tensors to tensors.
        inputs: Symbolic tensors, as nested as the function takes them.

    Returns:
        Symbolic tensors. An error is raised as the function has raised it,
        without Keras' words on the layer around it.

    Example:

    >>> dense = keras.layers.Dense(3)
    >>> dense.build((None, 5))
    >>> call_on_shapes(dense.call, keras.KerasTensor((2, 5))).shape
    (2, 3)
    """
    errors = []

    class Call(keras.layers.Layer):
        def call(self, inputs: Any):
            try:
                return function(inputs)
            except Exception as error:
                errors.append(error)
                raise

    try:
        return Call(dtype="float32", autocast=False)(inputs)
    except Exception:
        if errors:
            raise errors[-1] from None
        raise


def input_tensors(model: keras.Model) -> Any:
    """Return symbolic inputs of a model, as nested as it takes them.

    Args:
        model: A built model.

    Raises:
        ValueError: If the model is not built.
    """
    check_layer(model)
    if getattr(model, "inputs", None):
        # A Sequential model has its `input` only once it is called.
        if not isinstance(model, keras.Sequential):
            return model.input
        return model.inputs[0] if len(model.inputs) == 1 else model.inputs
    shape = (model.get_build_config() or {}).get("input_shape")
    if not model.built or shape is None:
        raise ValueError(
            "The model must be built, for its layers' outputs to have shapes. "
            f"Received: model '{model.name}', which is not. Call it on a batch "
            "of data first."
        )
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor(shape, "float32"), shape
    )


def example_tensors(
    model: keras.Model, like: keras.Model | None = None, scale: int = 1
) -> Any:
    """Return symbolic inputs of a model for a batch of 1, all sizes known.

    Args:
        model: A built model.
        like: A model whose sizes are used where `model` leaves them open.
            Defaults to `None`, 128 for a height or width and 16 for a time.
        scale: Factor on these sizes. Defaults to 1.

    Raises:
        ValueError: If a model is not built.
    """
    inputs = input_tensors(model)
    others = keras.tree.flatten(inputs if like is None else input_tensors(like))
    mine = keras.tree.flatten(inputs)
    if [len(x.shape) for x in mine] != [len(x.shape) for x in others]:
        others = mine
    pairs = zip(mine, others, strict=True)
    return keras.tree.pack_sequence_as(
        inputs, [_closed(*pair, scale) for pair in pairs]
    )


def _on_large_examples(run, model, like):
    """Call on the shapes of larger examples if one is too small."""
    is_open = any(
        None in tensor.shape[1:]
        for tensor in keras.tree.flatten(input_tensors(model))
    )
    failures = []
    for scale in SCALES if is_open else (1,):
        try:
            return call_on_shapes(run, example_tensors(model, like, scale))
        except Exception as error:  # noqa: BLE001
            failures.append(error)
    raise failures[0]


def _closed(tensor, other, scale):
    unknown = scale * OPEN_SIZES.get(len(tensor.shape), 16)
    sizes = [
        mine or theirs or unknown
        for mine, theirs in zip(tensor.shape[1:], other.shape[1:], strict=True)
    ]
    return keras.KerasTensor((1, *sizes), tensor.dtype)


def _single_tensor(values, name):
    try:
        value = values[name]
    except ValueError:
        return False
    return hasattr(value, "shape")
