"""Lists the insertion points of a model."""

from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras

from keras_attention.inspection.graph import FlatGraph
from keras_attention.inspection.graph import Step
from keras_attention.inspection.graph import flatten_graph
from keras_attention.inspection.graph import is_graph
from keras_attention.inspection.layer_list import format_table
from keras_attention.inspection.structure import Skip
from keras_attention.inspection.structure import find_blocks
from keras_attention.inspection.structure import find_convolutions
from keras_attention.inspection.structure import find_skips
from keras_attention.inspection.structure import find_stages

SKIP = "skip"

# What finds the steps that attention may follow, in the order of the listing.
FINDERS: dict[str, Callable[[FlatGraph], list[Step]]] = {
    "residual": lambda graph: [
        branch for block in find_blocks(graph) for branch in block.branches
    ],
    "stage": find_stages,
    "conv": find_convolutions,
}
KINDS = (*FINDERS, SKIP)


@dataclass(frozen=True)
class AttentionSite:
    """An insertion point: a layer of a model that attention may follow.

    At a skip connection, the attention is on the way to the decoder alone.

    Attributes:
        name: Path of the layer that the attention would follow, such as
            `"backbone/conv1_relu"`.
        kind: `"residual"`, `"stage"`, `"conv"` or `"skip"`; `"layer"` for
            any other layer that is named.
        shape: Shape of the layer's output.
    """

    name: str
    kind: str
    shape: tuple


class AttentionSites(tuple):
    """Insertion points in the order of the model; prints as a table."""

    def __str__(self) -> str:
        rows = [("kind", "shape", "after layer")]
        rows += [(site.kind, str(site.shape), site.name) for site in self]
        return format_table(rows)


def attention_sites(model: keras.Model) -> AttentionSites:
    """List the insertion points of a model.

    There are four kinds:

        residual    the end of a residual branch, before the addition
        stage       the end of a stage, as `keras_attention.inspection.stages`
                    lists them
        conv        after a convolution, its normalization and activation
        skip        on a skip connection, which brings an encoder's features
                    to a decoder that concatenates or adds them, as in a U-Net

    One layer may be an insertion point of several kinds. They are found by
    what the graph computes, nested models included, in networks of one, two
    and three dimensions. Layers inside a layer that is not a model are not
    searched.

    Args:
        model: A functional or Sequential model.

    Returns:
        A tuple of `AttentionSite`s, which prints as a table.

    Raises:
        TypeError, ValueError: If the model has no graph.

    Example:

    >>> from keras_attention.models import ResNet
    >>> model = ResNet(18, input_shape=(64, 64, 3))
    >>> sites = keras_attention.attention_sites(model)
    >>> stages = [site for site in sites if site.kind == "stage"]
    >>> print(keras_attention.surgery.AttentionSites(stages))
    kind   shape               after layer
    stage  (None, 16, 16, 64)  stage1
    stage  (None, 8, 8, 128)   stage2
    stage  (None, 4, 4, 256)   stage3
    stage  (None, 2, 2, 512)   stage4
    """
    check_graph(model)
    return AttentionSites(place.site for place in find_places(model))


@dataclass
class Place:
    """An insertion point and the calls that its attention layer follows.

    At a skip connection, `skip` says on the way to which call it is.
    """

    site: AttentionSite
    steps: list[Step]
    skip: Skip | None = None

    @property
    def key(self) -> tuple:
        """Equal for two places that are one."""
        step = self.steps[0]
        if self.skip is None:
            return (id(step.node),)
        return id(self.skip.merge.node), id(self.skip.tensor)

    @property
    def owner(self) -> Any:
        """The model whose graph the new layer is put into."""
        step = self.steps[0] if self.skip is None else self.skip.merge
        return step.owner


def find_places(model: keras.Model) -> list[Place]:
    """Return what `attention_sites` lists, with the calls of each."""
    graph = flatten_graph(model)
    order = {id(step): n for n, step in enumerate(graph.steps)}
    places = []
    for kind, find in FINDERS.items():
        places += group(kind, find(graph))
    places += skip_places(graph)
    return sorted(
        places,
        key=lambda place: (
            order[id(place.steps[0])],
            KINDS.index(place.site.kind),
        ),
    )


def skip_places(graph: FlatGraph) -> list[Place]:
    """Return an insertion point for every skip connection."""
    places: dict[tuple, Place] = {}
    for skip in find_skips(graph):
        source = skip.source
        site = AttentionSite(source.path, SKIP, source.shape)
        place = Place(site, [source], skip)
        places.setdefault(place.key, place)
    return list(places.values())


def layer_places(graph: FlatGraph) -> list[Place]:
    """Return an insertion point for every layer that returns one tensor."""
    return group(
        "layer",
        (
            step
            for step in graph.steps + graph.models
            if step.parents and len(step.node.outputs) == 1
        ),
    )


def group(kind: str, steps: Iterable[Step]) -> list[Place]:
    """Return one insertion point for all calls that are to share attention.

    A nested model that is called twice gives its steps twice. A layer that
    two branches share, up to its weights, is to share its attention too.
    """
    places: dict[Any, Place] = {}
    keys: dict[int, Any] = {}
    for step in steps:
        key = keys.setdefault(id(step.node), _shared_calls(step))
        site = AttentionSite(step.path, kind, step.shape)
        place = places.setdefault(key, Place(site, []))
        if step.node not in [known.node for known in place.steps]:
            place.steps.append(step)
    return list(places.values())


def _shared_calls(step):
    """Equal for two calls if the same layers lead to them from weights on."""
    key = [id(step.owner)]
    while True:
        key.append(id(step.operation))
        has_weights = bool(getattr(step.operation, "variables", ()))
        if has_weights or len(step.parents) != 1:
            key += [id(parent.node) for parent in step.parents[1:]]
            return tuple(key)
        step = step.parents[0]


def check_graph(model: Any) -> None:
    """Raise unless `model` is described in full by its graph."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    if is_graph(model):
        return
    if isinstance(model, keras.Sequential):
        raise ValueError(
            "A Sequential model must know its input before attention is put "
            f"into it. Received: model '{model.name}', not built. Add a "
            "`keras.Input` in front, or call the model once."
        )
    parts = [
        layer.name
        for layer in model._flatten_layers(include_self=False)
        if is_graph(layer)
    ]
    hint = (
        "Pass its functional part instead: " + " or ".join(map(repr, parts))
        if parts
        else "Write it as keras.Model(inputs, outputs), or put the attention "
        "layer into its `call`"
    )
    raise TypeError(
        "A subclassed model has no graph to put attention into: what it does "
        f"is in its `call`. {hint}. Received: model '{model.name}' of type "
        f"{type(model).__name__}"
    )
