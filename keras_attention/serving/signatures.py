"""The signatures of an export: what a client may send, and what comes back."""

import keyword
import re
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_attention.types import Tensor

# Inputs are arguments of a function; outputs are keys.
NAMES = {
    "input": re.compile(r"[A-Za-z][A-Za-z0-9_]*"),
    "output": re.compile(r"[A-Za-z][A-Za-z0-9_.-]*"),
}
RESERVED = {*keyword.kwlist, "self", "cls"}
# Batch and further axes of what an export is verified with: even sizes, and
# two kinds of odd ones, at which a converter may round otherwise.
EXAMPLE_SIZES = ((2, 32, 32), (3, 37, 41), (1, 9, 7))


class Signature:
    """A function of a model that an export offers under a name."""

    def inputs(self, model: keras.Model) -> list[Any]:
        """Return the `tf.TensorSpec` of each input, named."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `inputs`."
        )

    def function(self, model: keras.Model) -> Callable[..., dict[str, Any]]:
        """Return a function from the inputs to the outputs by name."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `function`."
        )

    def example(
        self, model: keras.Model, number: int = 0
    ) -> dict[str, np.ndarray]:
        """Return random inputs to try it with.

        Args:
            model: The model that is exported.
            number: Index into `EXAMPLE_SIZES`, the sizes that open axes get.
        """
        return {spec.name: _draw(spec, number) for spec in self.inputs(model)}

    def tracked(self) -> list[Any]:
        """Return what has variables or tables and is not in the model."""
        return []


class PredictionSignature(Signature):
    """The model as it is: its inputs and outputs by their names."""

    def inputs(self, model: keras.Model) -> Any:
        import tensorflow as tf

        return [
            tf.TensorSpec(shape, tensor.dtype, tensor.name)
            for shape, tensor in zip(
                input_shapes(model), model.inputs, strict=True
            )
        ]

    def function(self, model: keras.Model) -> Any:
        def predict(*tensors):
            return name_outputs(
                model, model(pack_inputs(model, tensors), training=False)
            )

        return predict


class TextSignature(Signature):
    """Predictions for text, which a `TextVectorization` turns into tokens.

    A model that begins with such a layer takes text by itself; this is for
    one that takes tokens. The input is called `text`.

    Args:
        vectorizer: an adapted `keras.layers.TextVectorization`.

    Raises:
        TypeError: for any other object.
    """

    def __init__(self, vectorizer: keras.layers.TextVectorization):
        if not isinstance(vectorizer, keras.layers.TextVectorization):
            raise TypeError(
                "`vectorizer` must be a keras.layers.TextVectorization. "
                f"Received: vectorizer={vectorizer!r}"
            )
        self.vectorizer = vectorizer
        if not vectorizer.built:
            vectorizer.build((None,))

    def tracked(self) -> list[Any]:
        return [self.vectorizer]

    def inputs(self, model: keras.Model) -> Any:
        import tensorflow as tf

        return [tf.TensorSpec((None,), "string", "text")]

    def function(self, model: keras.Model) -> Any:
        def predict(text):
            tokens = keras.ops.cast(
                self.vectorizer(text), model.inputs[0].dtype
            )
            return name_outputs(
                model, model(pack_inputs(model, [tokens]), training=False)
            )

        return predict


def pack_inputs(model: keras.Model, tensors: Iterable[Any]) -> Any:
    """Put a flat list of inputs into the structure that the model takes."""
    # A Sequential model has one input, and no `input` before its first call.
    sequential = isinstance(model, keras.Sequential)
    structure = model.inputs[0] if sequential else model.input
    return keras.tree.pack_sequence_as(structure, list(tensors))


def input_shapes(model: keras.Model) -> list[tuple]:
    """Return the shape of each input of an export.

    A Sequential model that was built by a call has the batch size of the
    example it was called with; the export takes any, unless a layer keeps a
    state for each example of a batch.
    """
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    stateful = any(
        getattr(layer, "stateful", False) for layer in model._flatten_layers()
    )
    if isinstance(model, keras.Sequential) and not stateful:
        shapes = [(None, *shape[1:]) for shape in shapes]
    return shapes


def name_outputs(model: keras.Model, outputs: Tensor) -> dict[str, Any]:
    """Return the outputs by name.

    The names are the keys of a dictionary, those of nested ones joined by
    `_`; what has no key is called as the layer that gives it.

    Raises:
        ValueError: If two outputs would have the same name.
    """
    leaves = keras.tree.flatten(outputs)
    return dict(zip(output_names(model), leaves, strict=True))


def output_names(model: keras.Model) -> list[str]:
    """Return the name of each output; see `name_outputs`."""
    # A Sequential model has no `output` before its first call.
    sequential = isinstance(model, keras.Sequential)
    structure = model.outputs[0] if sequential else model.output
    names: list[str] = []
    for (path, _), tensor in zip(
        keras.tree.flatten_with_path(structure), model.outputs, strict=True
    ):
        keys = [str(key) for key in path]
        if any(not isinstance(key, int) for key in path):
            name = "_".join(keys)
            if name in names:
                raise ValueError(
                    "Each output of the model must have a name of its own: "
                    "keys of nested dictionaries are joined by '_'. "
                    f"Received: two outputs called '{name}'. Rename one."
                )
            names.append(name)
            continue
        base = name = tensor._keras_history.operation.name
        count = 0
        while name in names:
            count += 1
            name = f"{base}_output_{count}"
        names.append(name)
    return names


def check_names(model: keras.Model) -> None:
    """Raise `ValueError` for names that an export cannot have."""
    inputs = [tensor.name for tensor in model.inputs]
    for kind, names in (("input", inputs), ("output", output_names(model))):
        for name in names:
            # An input becomes the argument of a function.
            reserved = RESERVED if kind == "input" else ()
            if not NAMES[kind].fullmatch(name) or name in reserved:
                raise ValueError(
                    f"The name of an {kind} of an export must be of ASCII "
                    "letters, digits and '_', begin with a letter, and an "
                    "input's must not be a keyword of Python. "
                    f"Received: {kind} {name!r} of the "
                    f"model '{model.name}'. Export a model with other names: "
                    "`x = keras.Input(shape, name=...)` and "
                    "`keras.Model(x, {name: model(x)})`."
                )


def _draw(spec, number):
    generator = np.random.default_rng(number)
    open_sizes = EXAMPLE_SIZES[number]
    shape = [
        open_sizes[min(axis, 2)] if size is None else size
        for axis, size in enumerate(spec.shape)
    ]
    if spec.dtype.name == "string":
        return np.full(shape, b"two words", object)
    if spec.dtype.is_floating:
        return generator.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
    # Of integers, 0 and 1 are the most likely to be valid everywhere.
    return generator.integers(2, size=shape).astype(spec.dtype.as_numpy_dtype)
