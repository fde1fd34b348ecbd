"""Where the layers of a network have their weights in a published one."""

import re
from collections.abc import Iterable

import keras

# How the module of attention is called in a block.
ATTENTION = ("se", "attn", "cbam", "eca", "se_module")
BLOCK = re.compile(r"stage(\d+)_block(\d+)_(.+)")
OUTSIDE = {"stem_conv": "conv1.", "stem_norm": "bn1.", "logits": "fc."}
INSIDE = {"shortcut": "downsample.0.", "shortcut_norm": "downsample.1."}


def resnet_modules(
    model: keras.Model, keys: Iterable[str]
) -> list[tuple[keras.layers.Layer, str]]:
    """Return the layers with weights of a `ResNet`, and their prefixes.

    The names are those of torchvision and timm: `layer1.0.conv1.weight`.

    Raises:
        ValueError: for a layer that is not one of a `ResNet`.
    """
    keys = tuple(keys)
    modules = []
    for layer in model.layers:
        if layer.weights:
            modules.append((layer, _prefix(layer.name, keys)))
    return modules


def _prefix(name, keys):
    if name in OUTSIDE:
        return OUTSIDE[name]
    match = BLOCK.fullmatch(name)
    if match is None:
        raise ValueError(
            "Weights of whole networks are read into "
            "`keras_attention.models.ResNet`, with attention in its blocks. "
            f"Received: a model with the layer '{name}'. Load other layers "
            "one by one."
        )
    stage, block, part = match.groups()
    start = f"layer{stage}.{int(block) - 1}."
    if part == "attention":
        for module in ATTENTION:
            if any(key.startswith(f"{start}{module}.") for key in keys):
                return f"{start}{module}."
        raise ValueError(
            f"The source has no attention in '{start}', where the model has "
            f"the layer '{name}'. Looked for: "
            f"{', '.join(start + module for module in ATTENTION)}"
        )
    part = part.replace("norm", "bn") if part.startswith("norm") else part
    return start + INSIDE.get(part, f"{part}.")
