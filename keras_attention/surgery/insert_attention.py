"""Puts attention into a model that has none."""

import re
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras

from keras_attention.inspection.graph import flatten_graph
from keras_attention.inspection.graph import graph_nodes
from keras_attention.layers.blend_in import BlendIn
from keras_attention.layers.registry import Attention
from keras_attention.layers.registry import find_attention
from keras_attention.layers.registry import make_attention
from keras_attention.layers.vision.attention_gate import AttentionGate
from keras_attention.layers.vision.base_image_layer import BaseImageLayer
from keras_attention.surgery.attention_sites import KINDS
from keras_attention.surgery.attention_sites import AttentionSite
from keras_attention.surgery.attention_sites import AttentionSites
from keras_attention.surgery.attention_sites import Place
from keras_attention.surgery.attention_sites import check_graph
from keras_attention.surgery.attention_sites import find_places
from keras_attention.surgery.attention_sites import layer_places
from keras_attention.surgery.rebuild import rebuild
from keras_attention.validation import check_boolean
from keras_attention.validation import nearest

At = str | Iterable[str] | re.Pattern | Callable[[AttentionSite], Any]
LISTED = 40


def insert_attention(
    model: keras.Model,
    attention: Attention,
    at: At = "residual",
    preserve_outputs: bool = False,
) -> keras.Model:
    """Return a new model with attention at every chosen insertion point.

    The new model has layers and weights of its own, equal to those of the
    model it is made from, under the same names; training one does not change
    the other. A new layer is named after the layer that it follows:
    `"conv1_attention"` after `"conv1"`. It takes the data format and the
    dtype policy of that layer, and is trainable also where that is frozen.
    Where a layer is called twice, so is the attention after it. At a skip
    connection the new layer is on the way to the decoder alone, and an
    `AttentionGate` is given the decoder's coarser features as well. The new
    model is not compiled. `insertion_report` lists what was inserted, and
    `attention_layers` returns the new layers at every depth.

    A gate that is inserted into a trained network changes what the network
    computes. With `preserve_outputs=True` each new layer is wrapped in a
    `BlendIn`, which starts as the identity: before training, the outputs of
    the new model equal those of the old one exactly.

    A model of your own class keeps the class, its methods and its attributes
    if the class has the constructor of `keras.Model` or `keras.Sequential`, so
    that Keras can make it from a graph. Of a class that builds its graph in
    its constructor, such as a backbone of KerasCV, attributes that are plain
    data are kept; what is lost is named in a warning, and the model is refused
    if that would be its own `train_step` or the like. `pyramid_level_inputs`
    follow the attention.

    Args:
        model: A functional or Sequential model; nested models are entered.
        attention: A name such as `"squeeze_excite"`, a layer class, a
            `functools.partial` of one, or a function that returns a new layer
            at each call. The layer must keep the shape of its input.
        at: The insertion points. `"residual"`, `"stage"`, `"conv"` or
            `"skip"`, see `attention_sites`; a list of paths of layers, such as
            `["backbone/conv1"]`; a compiled regular expression that is
            searched in the paths of all layers that return a feature map; or a
            function that takes an `AttentionSite` and returns whether it is
            chosen. Defaults to `"residual"`.
        preserve_outputs: Whether the outputs stay the same at first. Defaults
            to `False`.

    Returns:
        A new model: a `keras.Sequential` of a `keras.Sequential`, and a
        functional `keras.Model` otherwise.

    Raises:
        TypeError: For a subclassed model, or an argument of the wrong type.
        ValueError: If no insertion point is chosen; if a layer of the model
            cannot be made from its configuration, such as a Lambda; if the
            attention cannot be built at a point, or does not keep its shape or
            data format; if methods that train the model would be lost.

    Example:

    >>> from keras_attention.models import WideResNet
    >>> model = WideResNet(10, 1, input_shape=(8, 8, 3))
    >>> gated = keras_attention.insert_attention(
    ...     model, "squeeze_excite", at="residual", preserve_outputs=True
    ... )
    >>> x = np.random.rand(2, 8, 8, 3).astype("float32")
    >>> bool(np.all(gated(x) == model(x)))
    True
    """
    check_graph(model)
    find_attention(attention)
    check_boolean("preserve_outputs", preserve_outputs)
    places = choose_places(model, at)
    inserted, gated, made = {}, {}, []
    for place, name in zip(places, _names(places), strict=True):
        layer = _make(attention, place, name)
        if any(layer is other for other in made):
            raise ValueError(
                "`attention` must return a new layer at each call, and "
                f"returned the layer '{layer.name}' again. Make the layer "
                f"inside the function. Received: attention={attention!r}"
            )
        made.append(layer)
        takes_gating = isinstance(layer, AttentionGate)
        if preserve_outputs:
            layer.name = "attention"
            layer = BlendIn(layer, name=name, dtype=layer.dtype_policy)
        if place.skip is None:
            inserted |= {id(step.node): layer for step in place.steps}
            continue
        skip = place.skip
        inputs = [skip.tensor]
        if takes_gating:
            inputs.append(skip.gating)
        gates = gated.setdefault(id(skip.merge.node), [])
        gates.append((layer, inputs))
    return rebuild(model, inserted, gated)


def choose_places(model: keras.Model, at: At) -> list[Place]:
    """Return the insertion points that `at` describes, each once."""
    if isinstance(at, re.Pattern):
        chosen = [
            place
            for place in layer_places(flatten_graph(model))
            if place.steps[0].is_map and at.search(place.site.name)
        ]
    elif isinstance(at, str):
        if at not in KINDS:
            raise ValueError(
                f"`at` must be one of {', '.join(map(repr, KINDS))}, a list "
                "of names of layers, a compiled regular expression, or a "
                f"function of an AttentionSite. Received: at={at!r}."
                f"{nearest(at, KINDS)} One layer is at=[{at!r}]."
            )
        chosen = [
            place for place in find_places(model) if place.site.kind == at
        ]
    elif callable(at):
        chosen = [place for place in find_places(model) if at(place.site)]
    elif isinstance(at, Iterable):
        return _named_places(model, list(at))
    else:
        raise TypeError(
            "`at` must be a kind of insertion point, a list of names of "
            "layers, a compiled regular expression, or a function of an "
            "AttentionSite. "
            f"Received: at={at!r} (of type {type(at).__name__})"
        )
    if not chosen:
        raise ValueError(
            f"No insertion point of model '{model.name}' matches. "
            f"Received: at={at!r}. {_listed(find_places(model))}"
        )
    unique = {place.key: place for place in reversed(chosen)}
    return list(reversed(unique.values()))


def _named_places(model, names):
    places = layer_places(flatten_graph(model))
    by_name: dict[str, list[Place]] = {}
    for place in places:
        by_name.setdefault(place.site.name, []).append(place)
    if not names:
        raise ValueError(
            "`at` must name at least one layer. Received: at=[]. "
            f"{_listed(find_places(model))}"
        )
    for name in names:
        if name not in by_name:
            ends = [known for known in by_name if known.endswith(f"/{name}")]
            hint = (
                " Did you mean " + " or ".join(map(repr, ends[:3])) + "?"
                if ends
                else nearest(name, by_name)
            )
            raise ValueError(
                "`at` must name layers of the model that give one tensor. "
                f"Received: {name!r}, which model '{model.name}' does not "
                f"have.{hint} `attention_sites(model)` lists the usual "
                "insertion points."
            )
    return [place for name in dict.fromkeys(names) for place in by_name[name]]


def _listed(places):
    if not places:
        return (
            "It has no residual addition, no change of resolution and no "
            "convolution in its graph: name its layers."
        )
    sites = AttentionSites(place.site for place in places[:LISTED])
    more = len(places) - len(sites)
    rest = f"\n... and {more} more: `attention_sites(model)`" if more else ""
    return f"The insertion points that exist:\n{sites}{rest}"


def _names(places):
    """A name for each new layer that its model does not have yet."""
    taken: dict[int, set[str]] = {}
    for place in places:
        step = place.steps[0]
        owner = taken.setdefault(
            id(place.owner),
            {node.operation.name for node in graph_nodes(place.owner)},
        )
        base = name = f"{step.operation.name}_attention"
        number = 0
        while name in owner:
            number += 1
            name = f"{base}_{number}"
        owner.add(name)
        yield name


def _make(attention, place, name):
    step = place.steps[0]
    layer = make_attention(
        attention,
        name,
        data_format=step.data_format,
        dtype=_dtype_policy(step),
    )
    rank = len(step.shape)
    if isinstance(layer, BaseImageLayer) and rank not in layer.ranks:
        takes = "images" if layer.ranks == (4,) else "feature maps"
        raise ValueError(
            f"{type(layer).__name__} takes {takes}, tensors of rank "
            f"{', '.join(map(str, layer.ranks))}. "
            f"Received: layer '{place.site.name}', whose output has the shape "
            f"{step.shape}. Insert a layer that also takes sequences and "
            "volumes, such as 'squeeze_excite' or 'cbam', one for sequences "
            "into a network over time, such as "
            "`lambda: keras_attention.LightweightConv1D(4, 3)`, or a layer of "
            "your own"
        )
    data_format = getattr(layer, "data_format", step.data_format)
    if data_format != step.data_format:
        raise ValueError(
            "The attention layer must have the data format of the model. "
            f"Received: {type(layer).__name__} with "
            f"data_format={data_format!r} after layer '{place.site.name}' "
            f"with data_format={step.data_format!r}. Give the layer's class "
            "or a functools.partial of it, which leaves the data format open."
        )
    given: Any = step.shape
    if place.skip is not None and isinstance(layer, AttentionGate):
        given = [step.shape, tuple(place.skip.gating.shape)]
    shape = tuple(layer.compute_output_shape(given))
    if shape != step.shape:
        raise ValueError(
            "The attention layer must keep the shape of its input, or what "
            f"follows would not fit. Received: {type(layer).__name__}, which "
            f"makes {shape} of {step.shape} after layer '{place.site.name}'"
        )
    return layer


def _dtype_policy(step):
    """The policy of a layer, or of the nearest one before an operation."""
    while not isinstance(step.operation, keras.layers.Layer):
        step = step.parents[0]
    return step.operation.dtype_policy
