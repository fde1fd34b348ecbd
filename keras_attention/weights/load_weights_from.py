import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_attention.weights.formats import FORMATS
from keras_attention.weights.networks import resnet_modules
from keras_attention.weights.sources import read_source

# What torch counts and inference does not need.
COUNTER = "num_batches_tracked"


def load_weights_from(
    target: keras.layers.Layer,
    source: Mapping[str, Any] | keras.layers.Layer | str | os.PathLike | Any,
    prefix: str = "",
) -> list[str]:
    """Reads published weights into a layer, or into a whole `ResNet`.

    They are recognized by their names:

        SqueezeExcite               torchvision and timm, the authors' PyTorch
                                    code, KerasCV's SqueezeAndExcite2D
        EfficientChannelAttention   the authors and timm
        CBAM, ChannelAttention,
        SpatialAttention            the authors and timm
        MultiHeadAttention          torch.nn.MultiheadAttention, BERT,
                                    DistilBERT, BART and CLIP, timm's vision
                                    transformers, Keras' MultiHeadAttention
                                    and GroupQueryAttention
        LightweightConv1D,
        DynamicConv1D               fairseq
        models.ResNet               torchvision's and timm's ResNets, also
                                    with SE, ECA or CBAM in the blocks

    torchvision's ResNet-50 has its strides in the 3x3 convolutions: build
    `ResNet(50, downsample_in="3x3")` for it. A bias that the source has not
    is filled with zeros. Nothing is changed unless all of it fits.

    Args:
        target: a built layer, or a `ResNet`.
        source: a torch module or its state dict, a dictionary of arrays, a
            Keras layer, or the path of a file: `.safetensors`, `.npz`, or
            one of torch, which is read without running code from it.
        prefix: what comes before the names of this layer in the source, such
            as `"encoder.layer.0.attention."`.

    Returns:
        The names in the source, under the prefix, that were not read.

    Raises:
        TypeError: for a target or a source of another kind.
        ValueError: for a target that is not built or has no published form;
            a source whose names or shapes do not fit, or that has what the
            layer has not, such as a bias.
        FileNotFoundError, ImportError: for a file that does not exist, or
            whose reader is not installed.

    Example:

    >>> layer = keras_attention.SqueezeExcite(ratio=4)
    >>> layer.build((None, None, None, 8))
    >>> random = np.random.default_rng(0)
    >>> source = {
    ...     "se.fc1.weight": random.normal(size=(2, 8, 1, 1)),
    ...     "se.fc1.bias": random.normal(size=2),
    ...     "se.fc2.weight": random.normal(size=(8, 2, 1, 1)),
    ...     "se.fc2.bias": random.normal(size=8),
    ... }
    >>> load_weights_from(layer, source, prefix="se.")
    []
    """
    if not isinstance(target, keras.layers.Layer):
        raise TypeError(
            "`target` must be a Keras layer or model. Received: "
            f"{target!r} (of type {type(target).__name__})"
        )
    if not target.built:
        raise ValueError(
            f"Layer '{target.name}' must be built before weights are read "
            "into it: call it, or its `build`."
        )
    arrays = {
        name.removeprefix(prefix): array
        for name, array in read_source(source).items()
        if name.startswith(prefix) and not name.endswith(COUNTER)
    }
    if not arrays:
        raise ValueError(
            f"The source has no weights under the prefix. Received: "
            f"prefix={prefix!r}"
        )
    modules = [(target, "")]
    if isinstance(target, keras.Model):
        modules = resnet_modules(target, arrays)
    values, read = [], set()
    for layer, start in modules:
        for weight, entry in _entries(layer, start, arrays):
            values.append((weight, _value(weight, entry, arrays)))
            read.update(entry.keys)
    for weight, value in values:
        weight.assign(value)
    return [prefix + name for name in arrays if name not in read]


def _entries(layer, prefix, arrays):
    """Return pairs of the layer's weights and what each is made of."""
    formats = FORMATS.get(type(layer))
    if formats is None:
        known = ", ".join(kind.__name__ for kind in FORMATS)
        raise ValueError(
            "No published form is known for the weights of layer "
            f"'{layer.name}' of type {type(layer).__name__}. There is one "
            f"for {known}."
        )
    missing = []
    for form in formats:
        entries = form.within("", prefix)
        chosen = []
        for weight in layer.weights:
            name = weight.path.removeprefix(f"{layer.path}/")
            if name not in entries:
                raise ValueError(
                    f"No published form has the weight '{name}' of layer "
                    f"'{layer.name}' ({type(layer).__name__}). Build the "
                    "layer without it."
                )
            chosen.append((weight, entries[name]))
        absent = [
            key
            for _, entry in chosen
            for key in entry.keys
            if not entry.optional and key not in arrays
        ]
        if not absent:
            _check_unread(layer, entries, chosen, arrays)
            return chosen
        missing.append(f"{absent[0]} is missing")
    some = sorted(name for name in arrays if name.startswith(prefix))
    raise ValueError(
        f"The weights of layer '{layer.name}' ({type(layer).__name__}) are "
        "not in the source under the names of any known form: "
        f"{'; or '.join(missing)}. Received: {', '.join(some[:8])}"
        f"{', …' if len(some) > 8 else ''}. Is there a `prefix`?"
    )


def _check_unread(layer, entries, chosen, arrays):
    """Refuse a source that has more than the layer."""
    read = {key for _, entry in chosen for key in entry.keys}
    for entry in entries.values():
        for key in entry.keys:
            if key in arrays and key not in read:
                raise ValueError(
                    f"The source has '{key}', for which layer "
                    f"'{layer.name}' has no weight. Build the layer with it, "
                    "such as with `use_bias=True`."
                )


def _value(weight, entry, arrays):
    parts = [arrays[key] for key in entry.keys if key in arrays]
    if not parts:
        return np.zeros(weight.shape)
    try:
        value = entry.convert(*parts)
    except (ValueError, IndexError):
        value = None
    if value is None or value.shape != tuple(weight.shape):
        shapes = ", ".join(
            f"{key} {arrays[key].shape}" for key in entry.keys if key in arrays
        )
        raise ValueError(
            f"The weight '{weight.path}' has the shape {tuple(weight.shape)}, "
            f"to which the source does not fit. Received: {shapes}"
        )
    return value
