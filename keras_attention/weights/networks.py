"""Where the layers of a `ResNet` have their weights in published networks."""

import re
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

import keras

BLOCK = re.compile(r"stage(\d+)_block(\d+)_(.+)")
STAGE = re.compile(r"stage(\d+)_attention")
PART = re.compile(r"(conv|norm)(\d)")
# How modules of attention are called in a block.
ATTENTION = (
    "se.",
    "attn.",
    "cbam.",
    "eca.",
    "se_module.",
    "triplet_attention.",
    "bam.",
    "gct.",
    "ca.",
)


@dataclass(frozen=True)
class Network:
    """How a library names the parts of its ResNets.

    Args:
        stem_conv, stem_norm: modules before the first stage.
        logits: possible names of the classifier.
        block: module of a block, of `{stage}` from 1, `{index}` from 0 and
            `{number}` from 1.
        conv, norm: modules of a block, of `{number}` from 1.
        shortcut, shortcut_norm: modules of a block that projects its input.
        stage_attention: module of attention after a stage.
        downsample_in: the convolution of a bottleneck that has the stride, by
            a name that tells; `""` is for all others.
        ceil_pooling: whether the stem's pooling pads at the ends alone.
    """

    stem_conv: str
    stem_norm: str
    logits: tuple[str, ...]
    block: str
    conv: str
    norm: str
    shortcut: str
    shortcut_norm: str
    stage_attention: str | None = None
    downsample_in: Mapping[str, str] = field(default_factory=dict)
    ceil_pooling: bool = False


TORCHVISION = Network(
    stem_conv="conv1.",
    stem_norm="bn1.",
    logits=("fc.", "last_linear."),
    block="layer{stage}.{index}.",
    conv="conv{number}.",
    norm="bn{number}.",
    shortcut="downsample.0.",
    shortcut_norm="downsample.1.",
    stage_attention="bam{stage}.",
    downsample_in={"": "3x3"},
)
CADENE_SENET = Network(
    stem_conv="layer0.conv1.",
    stem_norm="layer0.bn1.",
    logits=("last_linear.",),
    block="layer{stage}.{index}.",
    conv="conv{number}.",
    norm="bn{number}.",
    shortcut="downsample.0.",
    shortcut_norm="downsample.1.",
    downsample_in={"": "1x1"},
    ceil_pooling=True,
)
PYTORCHCV = Network(
    stem_conv="features.init_block.conv.conv.",
    stem_norm="features.init_block.conv.bn.",
    logits=("output.",),
    block="features.stage{stage}.unit{number}.",
    conv="body.conv{number}.conv.",
    norm="body.conv{number}.bn.",
    shortcut="identity_conv.conv.",
    shortcut_norm="identity_conv.bn.",
    # Its plain and its SE networks come with both, under the same names.
    downsample_in={".cbam.": "3x3"},
)
NETWORKS = (TORCHVISION, CADENE_SENET, PYTORCHCV)


def find_network(keys: Iterable[str]) -> Network:
    """Return the network whose stem is among the names."""
    keys = set(keys)
    for network in NETWORKS:
        if f"{network.stem_conv}weight" in keys:
            return network
    return TORCHVISION


def resnet_modules(
    model: keras.Model, network: Network, keys: Iterable[str]
) -> list[tuple[keras.layers.Layer, str | None]]:
    """Return the layers with weights of a `ResNet`, and their prefixes.

    The prefix of attention that the source does not have is `None`.

    Raises:
        ValueError: for a layer that is not one of a `ResNet`.
    """
    keys = tuple(keys)
    return [
        (layer, _prefix(layer.name, network, keys))
        for layer in model.layers
        if layer.weights
    ]


def leftover_modules(model: keras.Model, network: Network) -> tuple[str, ...]:
    """Return the modules that a `ResNet` may be built without."""
    names = {layer.name for layer in model.layers}
    return () if "logits" in names else network.logits


def strided_convolution(network: Network, keys: Iterable[str]) -> str | None:
    """Return where the source has the strides of bottlenecks, if it tells."""
    for part, kind in network.downsample_in.items():
        if any(part in key for key in keys):
            return kind
    return None


def _prefix(name, network, keys):
    if name == "stem_conv":
        return network.stem_conv
    if name == "stem_norm":
        return network.stem_norm
    if name == "logits":
        return _first(network.logits, "", keys) or network.logits[0]
    if match := STAGE.fullmatch(name):
        if network.stage_attention is None:
            return None
        start = network.stage_attention.format(stage=match[1])
        return _first((start,), "", keys)
    match = BLOCK.fullmatch(name)
    if match is None:
        raise ValueError(
            "Weights of complete networks are read into "
            "`keras_attention.models.ResNet`, with attention in its blocks. "
            f"Received: a model with the layer '{name}'. Load other layers "
            "one by one."
        )
    stage, number, part = match.groups()
    start = network.block.format(
        stage=stage, number=number, index=int(number) - 1
    )
    if part == "attention":
        module = _first(ATTENTION, start, keys)
        # Its two gates are modules of the block itself.
        return (
            start
            if module == f"{start}ca." and _has(f"{start}sa.", keys)
            else module
        )
    if part in ("shortcut", "shortcut_norm"):
        return start + getattr(network, part)
    kind, number = PART.fullmatch(part).groups()
    return start + getattr(network, kind).format(number=number)


def _first(modules, start, keys):
    for module in modules:
        if _has(start + module, keys):
            return start + module
    return None


def _has(start, keys):
    return any(key.startswith(start) for key in keys)
