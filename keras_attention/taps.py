"""Reads activations, gates and scores out of any Keras model in one pass.

A tap is a name. `"stage1"` is the output of the layer of that name,
`"backbone/stage1"` that of a layer inside a nested model or layer,
`"se:gate"` the gate that a gating layer computes, `"attention:scores"` the
scores of an attention layer, and `"mixer:filters"` the filters of a
`LightweightConv1D` or `DynamicConv1D`. The model runs as it always does and
once: for that time the layers named are listened to, and nothing of the model
is changed for good. It works in eager code and while a graph is traced, in
functional, Sequential and subclassed models.
"""

import threading
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import contextmanager
from typing import Any

import keras

from keras_attention.validation import nearest

_LOCK = threading.Lock()
# The method that a kind of value comes from, where it is not `call`.
_METHODS = {"gate": "compute_gate", "filters": "compute_filters"}


class TapValues(Mapping):
    """What the taps of one pass have caught, by the name of the tap.

    Reading a tap whose layer was not called, or was called more than once
    and so has no single value, raises a `ValueError`.
    """

    def __init__(self, taps: Iterable[str]):
        self._calls: dict[str, list] = {tap: [] for tap in taps}
        self._order: list[tuple[str, Any]] = []
        # A model may be shared by threads, as by the replicas of a
        # distribution strategy; each listens to its own calls.
        self._thread = threading.get_ident()

    def __getitem__(self, tap: str) -> Any:
        calls = self._calls[tap]
        if len(calls) != 1:
            raise ValueError(
                "A tap has a value if its layer is called exactly once while "
                f"it is listened to. Received: tap='{tap}' with "
                f"{len(calls)} calls. Call the model once inside "
                "`record_taps`, and tap a layer that it uses once."
            )
        return calls[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, tap: str, value: Any) -> None:
        """Note the value of one call, if this thread is the listener's."""
        if threading.get_ident() == self._thread:
            self._calls[tap].append(value)
            self._order.append((tap, value))

    def in_order(self) -> list[tuple[str, Any]]:
        """Return `(tap, value)` of every call, in the order they ended."""
        return list(self._order)


@contextmanager
def record_taps(
    model: keras.layers.Layer, taps: Iterable[str]
) -> Iterator[TapValues]:
    """Listen to the layers named while the body of the `with` runs.

    The body calls the model itself, once, with whatever arguments it likes.
    A call of `predict` or `fit` may reuse a graph that was traced before and
    is not heard.

    Args:
        model: a Keras model, or a layer with sublayers.
        taps: names; see the module's text.

    Yields:
        `TapValues`, to be read by tap once the model has been called.

    Raises:
        ValueError: if no layer has a tap's name, or a layer has no gate,
            scores or filters to give.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(16, 3, name="conv"),
    ...     keras_attention.SqueezeExcite(name="se"),
    ... ])
    >>> x = np.ones((2, 8, 8, 3), "float32")
    >>> with record_taps(model, ["conv", "se:gate"]) as values:
    ...     outputs = model(x)
    >>> tuple(values["conv"].shape), tuple(values["se:gate"].shape)
    ((2, 6, 6, 16), (2, 1, 1, 16))
    """
    taps = list(dict.fromkeys(taps))
    values = TapValues(taps)
    layers = {tap: find_layer(model, split_tap(tap)[0]) for tap in taps}
    with ExitStack() as stack:
        for tap, layer in layers.items():
            stack.enter_context(_listen(layer, tap, values))
        yield values


def read_taps(
    model: keras.layers.Layer,
    inputs: Any,
    taps: Iterable[str],
    training: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Call the model once; return its outputs and the value of every tap.

    Args:
        model: a Keras model, or a layer with sublayers.
        inputs: what the model takes.
        taps: names; see the module's text.
        training: whether the model is called in training mode.

    Raises:
        ValueError: as `record_taps`, and if a tap's layer is not called
            exactly once.
    """
    with record_taps(model, taps) as values:
        outputs = model(inputs, training=training)
    return outputs, dict(values)


def gate_is_tapped(layer: keras.layers.Layer) -> bool:
    """Whether the layer's gate is listened to at this moment.

    A layer whose `call` has a shorter way to its output than through
    `compute_gate` asks, and then goes through it.
    """
    return "compute_gate" in vars(layer)


def split_tap(tap: str) -> tuple[str, str]:
    """Split a tap into the layer's path and the kind of value.

    The kind is `"output"`, `"gate"`, `"scores"` or `"filters"`.
    """
    for kind in ("gate", "scores", "filters"):
        if tap.endswith(f":{kind}"):
            return tap.removesuffix(f":{kind}"), kind
    return tap, "output"


def find_layer(model: keras.layers.Layer, path: str) -> Any:
    """Return the layer at a path such as `"backbone/stage1"`.

    Raises:
        ValueError: if there is none; the nearest paths are offered.
    """
    layer = model
    for name in path.split("/"):
        found = [child for child in children(layer) if child.name == name]
        if not found:
            paths = [known for known, _ in walk_layers(model)]
            last = path.rsplit("/", 1)[-1]
            deeper = [p for p in paths if p.rsplit("/", 1)[-1] == last]
            hint = (
                " Did you mean " + " or ".join(map(repr, deeper[:3])) + "?"
                if deeper
                else nearest(path, paths)
            )
            raise ValueError(
                f"No layer has this name in model '{model.name}'. "
                f"Received: '{path}'.{hint} `walk_layers(model)` lists all."
            )
        layer = found[0]
    return layer


def walk_layers(
    model: keras.layers.Layer, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield `(path, layer)` for every layer of a model, at any depth."""
    for child in children(model):
        path = prefix + child.name
        yield path, child
        yield from walk_layers(child, path + "/")


def children(layer: Any) -> list[Any]:
    """Return the layers and operations directly inside a layer or model.

    A functional model also has operations that are no layers, such as the
    sum that `a + b` leaves in its graph.
    """
    operations = getattr(layer, "operations", None)
    if operations is not None:
        return list(operations)
    if isinstance(layer, keras.layers.Layer):
        return list(layer._flatten_layers(include_self=False, recursive=False))
    return []


@contextmanager
def _listen(layer: Any, tap: str, values: TapValues) -> Iterator[None]:
    kind = split_tap(tap)[1]
    method = _METHODS.get(kind, "call")
    if not hasattr(layer, method) or (
        kind == "scores" and not gives_scores(layer)
    ):
        needed = f"`{method}`" if kind in _METHODS else "attention scores"
        raise ValueError(
            f"The tap '{tap}' asks for the {kind} of a layer that has no "
            f"{needed}. Received: a {type(layer).__name__}. Name a layer "
            f"that has, or leave out ':{kind}' for the layer's output."
        )
    listener = (tap, kind, values)
    with _LOCK:
        if not hasattr(layer.__dict__.get(method), "listeners"):
            # Set past Keras' attribute tracking, and taken away again below:
            # the class's own method shows through once more.
            layer.__dict__[method] = _heard(layer, method)
        heard = layer.__dict__[method]
        heard.listeners.append(listener)
    try:
        yield
    finally:
        with _LOCK:
            # By identity: values of one pass cannot be compared with others.
            heard.listeners[:] = [
                each for each in heard.listeners if each is not listener
            ]
            if not heard.listeners and heard.before is None:
                del layer.__dict__[method]
            elif not heard.listeners:
                layer.__dict__[method] = heard.before


def _heard(layer: Any, method: str) -> Any:
    """A stand-in for a layer's method that tells its listeners the result."""
    original = getattr(layer, method)

    def call(*args, **kwargs):
        listeners = list(call.listeners)
        if all(kind != "scores" for _, kind, _ in listeners):
            output, scores = original(*args, **kwargs), None
        else:
            asked = kwargs.pop("return_attention_scores", False)
            outputs = original(*args, return_attention_scores=True, **kwargs)
            output, scores = outputs if asked else outputs[0], outputs[1]
        for tap, kind, values in listeners:
            values.add(tap, scores if kind == "scores" else output)
        return output

    call.listeners = []
    call.before = layer.__dict__.get(method)
    return call


def gives_scores(layer: Any) -> bool:
    """Whether the layer returns its attention scores when asked for them."""
    signature = getattr(layer, "_call_signature", None)
    return (
        signature is not None
        and "return_attention_scores" in signature.parameters
    )
