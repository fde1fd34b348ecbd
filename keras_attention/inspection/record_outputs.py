"""Reads intermediate outputs, gates and scores of a model in one pass.

An intermediate output is named by the path of its layer, and a colon and a
kind of value where it is not the layer's output:

    "stage1"             the output of the layer of that name
    "backbone/stage1"    that of a layer inside a nested model or layer
    "se:gate"            the gate that a gating layer computes
    "attention:scores"   the scores of an attention layer
    "attention:masks"    its masks of queries and of keys, each `None` if none
    "attention/query"    the queries of a MultiHeadAttention by head, `/key` and
                         `/value` likewise: its sublayers
    "mixer:filters"      the filters of a LightweightConv1D or DynamicConv1D

The model runs as it always does, and once. While it runs, calls of the named
layers are recorded; the model itself is left as it was. It works eagerly and
while a graph is traced, in functional, Sequential and subclassed models.
"""

import functools
import inspect
import threading
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import contextmanager
from typing import Any

import keras

from keras_attention.inspection.layer_paths import check_names
from keras_attention.inspection.layer_paths import check_path
from keras_attention.inspection.layer_paths import find_layer
from keras_attention.types import Tensor

_LOCK = threading.Lock()
# The method that a kind of value comes from, where it is not `call`.
_METHODS = {
    "gate": "compute_gate",
    "filters": "compute_filters",
}


class RecordedOutputs(Mapping):
    """The values that were recorded in one pass, by name.

    Reading the value of a layer that was not called, or was called more than
    once and so has no single value, raises a `ValueError`.
    """

    def __init__(self, names: Iterable[str]):
        self._calls: dict[str, list] = {name: [] for name in names}
        self._order: list[tuple[str, Any]] = []
        # A model may be shared by threads, as by the replicas of a
        # distribution strategy; each records its own calls.
        self._thread = threading.get_ident()

    def __getitem__(self, name: str) -> Any:
        calls = self._calls[name]
        if len(calls) != 1:
            raise ValueError(
                "An intermediate output has one value if its layer is called "
                f"exactly once while it is recorded. Received: '{name}' with "
                f"{len(calls)} calls. Call the model once inside "
                "`record_outputs`, and name a layer that it uses once. A model "
                "that is not built yet is called once before: Keras may run it "
                "twice to build it."
            )
        return calls[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, name: str, value: Tensor) -> None:
        """Add the value of one call, if this is the recording thread."""
        if threading.get_ident() == self._thread:
            self._calls[name].append(value)
            self._order.append((name, value))

    def in_order(self) -> list[tuple[str, Any]]:
        """Return `(name, value)` of every call, in the order they ended."""
        return list(self._order)


@contextmanager
def record_outputs(
    model: keras.layers.Layer, names: Iterable[str]
) -> Iterator[RecordedOutputs]:
    """Record intermediate outputs while the body of the `with` runs.

    The body calls the model itself, once, with any arguments. Calls of
    `predict` or `fit` may reuse a graph that was traced before, and are not
    recorded then.

    Args:
        model: A Keras model, or a layer with sublayers.
        names: Names of intermediate outputs, such as `"stage1"` or
            `"se:gate"`.

    Yields:
        `RecordedOutputs`, a mapping from the names to the values once the
        model has been called.

    Raises:
        TypeError: If `names` is one string.
        ValueError: If a layer does not exist, or has no gate, scores or
            filters.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(16, 3, name="conv"),
    ...     keras_attention.SqueezeExcite(name="se"),
    ... ])
    >>> x = np.ones((2, 8, 8, 3), "float32")
    >>> with record_outputs(model, ["conv", "se:gate"]) as values:
    ...     outputs = model(x)
    >>> tuple(values["conv"].shape), tuple(values["se:gate"].shape)
    ((2, 6, 6, 16), (2, 1, 1, 16))
    """
    check_names(names)
    names = list(dict.fromkeys(names))
    values = RecordedOutputs(names)
    layers = {name: find_layer(model, split_name(name)[0]) for name in names}
    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(_listen(layer, name, values))
        yield values


def read_outputs(
    model: keras.layers.Layer,
    inputs: Tensor,
    names: Iterable[str],
    training: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Call the model once and return its outputs and intermediate outputs.

    Args:
        model: A Keras model, or a layer with sublayers.
        inputs: The model's inputs.
        names: Names of intermediate outputs, such as `"stage1"` or
            `"se:gate"`.
        training: Whether to call the model in training mode. Defaults to
            `False`.

    Returns:
        The model's outputs, and a dict from the names to the values.

    Raises:
        ValueError: As `record_outputs`, and if a layer is not called exactly
            once.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 6)),
    ...     keras_attention.SqueezeExcite(2, name="se"),
    ... ])
    >>> x = np.ones((2, 8, 8, 6), "float32")
    >>> outputs, values = read_outputs(model, x, ["se:gate"])
    >>> bool(np.allclose(outputs, x * values["se:gate"]))
    True
    """
    with record_outputs(model, names) as values:
        outputs = model(inputs, training=training)
    return outputs, dict(values)


def gate_is_recorded(layer: keras.layers.Layer) -> bool:
    """Return whether the layer's gate is being recorded.

    A layer whose `call` can compute its output without `compute_gate` asks
    this, and takes the path through `compute_gate` if so.
    """
    return "compute_gate" in vars(layer)


def split_name(name: str) -> tuple[str, str]:
    """Split the name of an intermediate output into path and kind of value.

    The kind is `"output"`, `"gate"`, `"scores"`, `"masks"` or `"filters"`.
    """
    check_path(name)
    for kind in ("scores", "masks", *_METHODS):
        if name.endswith(f":{kind}"):
            return name.removesuffix(f":{kind}"), kind
    return name, "output"


def gives_scores(layer: Any) -> bool:
    """Return whether the layer can return its attention scores."""
    signature = getattr(layer, "_call_signature", None)
    return (
        signature is not None
        and "return_attention_scores" in signature.parameters
    )


@contextmanager
def _listen(layer: Any, name: str, values: RecordedOutputs) -> Iterator[None]:
    kind = split_name(name)[1]
    method = _METHODS.get(kind, "call")
    if not hasattr(layer, method) or (
        kind in ("scores", "masks") and not gives_scores(layer)
    ):
        needed = f"`{method}`" if kind in _METHODS else "attention scores"
        raise ValueError(
            f"'{name}' asks for the {kind} of a layer that has no "
            f"{needed}. Received: a {type(layer).__name__}. Name a layer "
            f"that has, or leave out ':{kind}' for the layer's output."
        )
    listener = (name, kind, values)
    with _LOCK:
        if not hasattr(layer.__dict__.get(method), "listeners"):
            # Set without Keras' attribute tracking, and deleted again below,
            # which uncovers the class's own method.
            layer.__dict__[method] = _recording(layer, method)
        recording = layer.__dict__[method]
        recording.listeners.append(listener)
    try:
        yield
    finally:
        with _LOCK:
            # By identity: values of one pass cannot be compared with others.
            recording.listeners[:] = [
                each for each in recording.listeners if each is not listener
            ]
            if not recording.listeners and recording.before is None:
                del layer.__dict__[method]
            elif not recording.listeners:
                layer.__dict__[method] = recording.before


def _recording(layer: Any, method: str) -> Any:
    """Wrap a layer's method so that its listeners receive the result."""
    original = getattr(layer, method)

    def call(*args, **kwargs):
        listeners = list(call.listeners)
        if all(kind != "scores" for _, kind, _ in listeners):
            output, scores = original(*args, **kwargs), None
        else:
            asked = kwargs.pop("return_attention_scores", False)
            outputs = original(*args, return_attention_scores=True, **kwargs)
            output, scores = outputs if asked else outputs[0], outputs[1]
        for name, kind, values in listeners:
            if kind == "masks":
                value = _masks(original, args, kwargs)
            else:
                value = scores if kind == "scores" else output
            values.add(name, value)
        return output

    recorder: Any = call
    recorder.listeners = []
    recorder.before = layer.__dict__.get(method)
    return recorder


def _masks(call, args, kwargs):
    """The masks of queries and of keys that an attention layer was given."""
    given = inspect.signature(call).bind_partial(*args, **kwargs).arguments
    first = next(iter(given.values()))
    if isinstance(first, list | tuple):  # As keras.layers.Attention takes it.
        parts = ("query", "value", "key")
        tensors = dict(zip(parts, first, strict=False))
        masks = dict(zip(parts, given.get("mask") or (), strict=False))
    else:
        tensors = {"query": first}
        tensors |= {part: given.get(part) for part in ("value", "key")}
        masks = {part: given.get(f"{part}_mask") for part in tensors}
        if masks["query"] is None:
            masks["query"] = given.get("mask")
    for part, tensor in tensors.items():
        if masks.get(part) is None:
            masks[part] = getattr(tensor, "_keras_mask", None)
    keys = [masks.get("value"), masks.get("key")]
    if tensors.get("value") is None:  # Self-attention.
        keys.append(masks["query"])
    keys = [keras.ops.cast(mask, "bool") for mask in keys if mask is not None]
    if len(keys) > 1:
        keys = [functools.reduce(keras.ops.logical_and, keys)]
    return masks["query"], (keys or [None])[0]
