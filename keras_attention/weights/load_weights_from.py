import math
import os
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_attention.validation import check_boolean
from keras_attention.weights.formats import FORMATS
from keras_attention.weights.formats import formats_of
from keras_attention.weights.networks import CADENE_SENET
from keras_attention.weights.networks import find_network
from keras_attention.weights.networks import leftover_modules
from keras_attention.weights.networks import resnet_modules
from keras_attention.weights.networks import strided_convolution
from keras_attention.weights.sources import Source
from keras_attention.weights.sources import read_source

# What torch counts and inference does not need.
COUNTER = "num_batches_tracked"


def load_weights_from(
    target: keras.layers.Layer,
    source: Mapping[str, Any] | keras.layers.Layer | str | os.PathLike | Any,
    prefix: str = "",
    skip_mismatch: bool = False,
) -> list[str]:
    """Reads published weights into a layer, or into a complete `ResNet`.

    They are recognized by their names:

        SqueezeExcite               torchvision, timm, pytorchcv and Cadene's
                                    networks, PyTorch code of the authors,
                                    KerasCV's SqueezeAndExcite2D
        EffectiveSqueezeExcite      the authors and timm
        SpatialSqueezeExcite,
        ConcurrentSqueezeExcite     the authors, segmentation_models_pytorch
        EfficientChannelAttention   the authors and timm
        CBAM, ChannelAttention,
        SpatialAttention            the authors, timm, pytorchcv, and ports
                                    without batch normalization
        BAM                         the authors and pytorchcv
        CoordinateAttention,
        TripletAttention,
        GatedChannelTransformation  the authors
        GlobalContext               the authors and timm
        NonLocal                    timm
        SelectiveKernel             timm and pytorchcv
        MultiHeadAttention          torch.nn.MultiheadAttention, BERT,
                                    DistilBERT, ViT, BART and CLIP, timm's
                                    vision transformers, Keras'
                                    MultiHeadAttention and GroupQueryAttention
        AdditiveAttention,
        ScaledDotProductAttention   Keras' AdditiveAttention and Attention
        LightweightConv1D,
        DynamicConv1D               fairseq
        models.ResNet               ResNets of torchvision, timm, pytorchcv
                                    and Cadene, with any of the gates above
                                    in their blocks

    A subclass is read as the class that it is derived from. A bias that the
    source does not have is filled with zeros; a spatial gate without batch
    normalization gets statistics that do nothing at inference. Some published
    layers share their names, so that the arguments of `target` decide:
    `SelectiveKernel(groups=1)` reads a network of timm whose branches have a
    part of the channels each (`split_input=True`), and a `SpatialAttention`
    reads `conv.conv` as timm's, with the mean before the maximum, unless the
    prefix ends in pytorchcv's `sp_gate.`.

    torchvision's and timm's ResNet-50 have their strides in the 3x3
    convolutions, Cadene's SE-ResNet-50 in the 1x1: build
    `ResNet(50, downsample_in="3x3")` for the first. Names tell for these two
    and a warning says so; pytorchcv's tell only for CBAM (`resnet50` has
    `"1x1"`, `resnet50b` and `cbam_resnet50` have `"3x3"`). A torch module
    knows its strides, and they are compared.

    Nothing is changed unless all of it fits, or `skip_mismatch` is set.

    Args:
        target: built layer, or a `ResNet`.
        source: torch module or its state dict, dictionary of arrays, Keras
            layer, or the path of a file: `.safetensors`, `.npz`, Keras'
            `.weights.h5` or `.keras`, or one of torch (`.pth`, `.pt`,
            `.pth.tar` and so on), which is read without running code from it.
        prefix: what comes before the names of this layer in the source, such
            as `"encoder.layer.0.attention."`, in a file of Keras
            `"layers/multi_head_attention/"`.
        skip_mismatch: whether layers whose weights are missing or of another
            shape keep their values, and arrays that no layer has a weight
            for are left unread, such as a classifier of other classes, or
            attention that a plain ResNet does not have. Defaults to `False`.

    Returns:
        What was left: the names of arrays in the source, under the prefix,
        that were not read, then the paths of weights of `target` that keep
        their values. Without `skip_mismatch` that is a classifier that the
        model is built without, or the normalization after BERT's attention.

    Raises:
        TypeError: for a target or a source of another kind.
        ValueError: for a target that is not built or has no published form;
            a source whose names, shapes or settings do not fit, or that has
            what the layer does not have, such as a bias or an adapter; a file
            that cannot be read without running code from it.
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
    if not isinstance(prefix, str):
        raise TypeError(
            "`prefix` must be a string. Received: "
            f"prefix={prefix!r} (of type {type(prefix).__name__})"
        )
    check_boolean("skip_mismatch", skip_mismatch)
    if not target.built:
        raise ValueError(
            f"Layer '{target.name}' must be built before weights are read "
            "into it: call it, or its `build`."
        )
    found = read_source(source).under(prefix)
    arrays = {
        name: array
        for name, array in found.arrays.items()
        if not name.endswith(COUNTER)
    }
    if not arrays:
        raise ValueError(
            f"The source has no weights under the prefix. Received: "
            f"prefix={prefix!r}"
        )
    starts = {name[:1] for name in arrays}
    if starts in ({"."}, {"/"}):
        separator = starts.pop()
        raise ValueError(
            "`prefix` must end where the layer's own names begin. Received: "
            f"prefix={prefix!r}. Pass prefix={prefix + separator!r}."
        )
    found = Source(arrays, found.settings, found.is_layer)
    modules: list[tuple[keras.layers.Layer, str | None]] = [(target, "")]
    allowed: tuple[str, ...] = ()
    is_network = isinstance(target, keras.Model)
    if is_network:
        network = find_network(arrays)
        modules = resnet_modules(target, network, arrays)
        allowed = leftover_modules(target, network)
    values: list[tuple[keras.Variable, np.ndarray]] = []
    accounted: set[str] = set()
    outside: set[str] = set()
    kept: list[str] = []
    for layer, start in modules:
        try:
            part = _read_layer(layer, start, prefix, found)
        except _Mismatch as error:
            if not is_network:
                raise ValueError(str(error)) from None
            if not skip_mismatch:
                raise ValueError(
                    f"{error} With `skip_mismatch=True` the layer keeps its "
                    "values."
                ) from None
            kept.extend(weight.path for weight in layer.weights)
            continue
        values.extend(part.values)
        accounted.update(part.accounted)
        outside.update(part.outside)
    if not values:
        raise ValueError(
            "Nothing in the source fits the target, so that nothing is read. "
            f"Received: {_some(arrays)}. Is there a `prefix`?"
        )
    unread = [name for name in arrays if name not in accounted]
    extra = [
        name
        for name in unread
        if name not in outside and not name.startswith(allowed or ("\0",))
    ]
    if extra and not skip_mismatch:
        raise ValueError(_describe_extra(target, extra, prefix))
    if is_network:
        _warn_of_network(target, network, found)
    for weight, value in values:
        weight.assign(value)
    return [prefix + name for name in unread] + kept


class _Mismatch(ValueError):
    """What `skip_mismatch` leaves out."""


class _Part:
    """A layer's weights with their values, and the names they are made of."""

    def __init__(self, values, accounted, outside):
        self.values = values
        self.accounted = accounted
        self.outside = outside


def _read_layer(layer, start, prefix, source):
    if start is None:
        raise _Mismatch(
            f"The source has no attention for the layer '{layer.name}' of the "
            f"model. Received: {_some(source.arrays)}."
        )
    formats = formats_of(layer, prefix + start)
    if formats is None:
        known = ", ".join(kind.__name__ for kind in FORMATS)
        raise _Mismatch(
            "No published form is known for the weights of layer "
            f"'{layer.name}' of type {type(layer).__name__}. There is one "
            f"for {known}."
        )
    names = {
        weight.path.removeprefix(f"{layer.path}/"): weight
        for weight in layer.weights
    }
    problems, unknown = [], set(names)
    for form in formats:
        form = form.within("", start)
        unknown.intersection_update(set(names) - set(form.entries))
        missing = [name for name in names if name not in form.entries]
        absent = [
            key
            for name in names
            if name in form.entries
            for key in form.entries[name].required
            if key not in source.arrays
        ]
        if missing or absent:
            problems.append(
                f"{absent[0]} is missing"
                if absent
                else f"one has no '{missing[0]}'"
            )
            continue
        _check_unread(layer, names, form, source.arrays)
        _check_attributes(layer, form)
        return _convert(layer, names, form, source, start.removesuffix("."))
    if unknown:
        first = next(name for name in names if name in unknown)
        raise _Mismatch(
            f"No published form has the weight '{first}' of layer "
            f"'{layer.name}' ({type(layer).__name__}). Build the layer "
            "without it."
        )
    under = {n: a for n, a in source.arrays.items() if n.startswith(start)}
    raise _Mismatch(
        f"The weights of layer '{layer.name}' ({type(layer).__name__}) are "
        "not in the source under the names of any known form: "
        f"{'; or '.join(problems)}. Received: {_some(under)}. Is there a "
        "`prefix`?"
    )


def _check_unread(layer, names, form, arrays):
    """Refuse a source that has a known weight that the layer does not have."""
    read = {key for name in names for key in form.entries[name].keys}
    for entry in form.entries.values():
        for key in entry.keys:
            if key in arrays and key not in read:
                raise _Mismatch(
                    f"The source has '{key}', for which layer "
                    f"'{layer.name}' has no weight. Build the layer with it, "
                    "such as with `use_bias=True`."
                )


def _check_attributes(layer, form):
    for name, value in form.settings.items():
        ours = getattr(layer, name)
        ours = tuple(ours) if isinstance(ours, list) else ours
        if ours != value:
            raise _Mismatch(
                f"{form.origin} computes what {type(layer).__name__} does with "
                f"{name}={value!r}. Received: {name}={ours!r} in layer "
                f"'{layer.name}'. Build the layer so."
            )


def _convert(layer, names, form, source, module_of_layer):
    settings = source.settings.get(module_of_layer, {})
    _check_settings(layer, module_of_layer, settings)
    values, accounted = [], set(form.without_effect)
    owners = {
        id(weight): owner
        for owner in layer._flatten_layers()
        for weight in owner.weights
    }
    for name, weight in names.items():
        entry = form.entries[name]
        values.append((weight, _value(weight, entry, source.arrays)))
        accounted.update(entry.keys)
        for key in entry.keys:
            module = key.rpartition(".")[0]
            settings = source.settings.get(module, {})
            _check_settings(owners[id(weight)], module, settings)
    return _Part(values, accounted, form.outside)


def _value(weight, entry, arrays):
    parts = [arrays.get(key) for key in entry.keys]
    for key, part in zip(entry.keys, parts, strict=True):
        _check_values(key, part)
    try:
        value = entry.convert(*parts)
    except (ValueError, IndexError):
        value = np.zeros(0)
    if value is None:
        return np.zeros(weight.shape)
    value = _split_heads(value, weight, entry)
    if value.shape != tuple(weight.shape):
        shapes = ", ".join(
            f"{key} {arrays[key].shape}" for key in entry.keys if key in arrays
        )
        raise _Mismatch(
            f"The weight '{weight.path}' has the shape {tuple(weight.shape)}, "
            f"to which the source does not fit. Received: {shapes}"
        )
    return value


def _check_values(name, array):
    """Refuse quantized weights, and those of a training that diverged."""
    if array is None:
        return
    if array.dtype.kind not in "fV" and array.dtype.name != "bfloat16":
        raise ValueError(
            f"Weights must be floats. Received: '{name}' of dtype "
            f"{array.dtype}. Quantized weights need the scales that their "
            "layers have: dequantize them first."
        )
    if not np.isfinite(array.astype("float64")).all():
        raise ValueError(
            f"Weights must be finite. Received: '{name}' with NaN or infinite "
            "values. Give a checkpoint of a training that did not diverge."
        )


def _split_heads(value, weight, entry):
    """Give a matrix or vector the axes of heads that the weight has."""
    if entry.input_axes is None:
        return value
    axes, shape = entry.input_axes, tuple(weight.shape)
    joined = [math.prod(part) for part in (shape[:axes], shape[axes:]) if part]
    return value.reshape(shape) if list(value.shape) == joined else value


def _check_settings(layer, module, theirs):
    """Compare what the source's module says about itself with our layer."""
    ours = {}
    if isinstance(layer, keras.layers.Conv2D):
        ours = {
            "stride": _pair(getattr(layer, "spacing", layer.strides)),
            "dilation": _pair(getattr(layer, "dilation", layer.dilation_rate)),
            "groups": layer.groups,
            "padding_mode": "zeros",
        }
    elif isinstance(layer, keras.layers.BatchNormalization):
        ours = {"eps": layer.epsilon}
    elif hasattr(layer, "num_heads"):
        ours = {
            "num_heads": layer.num_heads,
            "add_zero_attn": False,
        }
    for name in ("activation", "gate_activation"):
        function = getattr(layer, name, None)
        # Of `Dense` it is the function of the layer around it.
        if callable(function) and hasattr(layer, "gate_activation"):
            ours[name] = getattr(function, "__name__", str(function))
    for name, value in ours.items():
        if name in theirs and theirs[name] != value:
            hint = ""
            if name == "stride":
                hint = " For a ResNet, see its argument `downsample_in`."
            where = (
                f"The source's module '{module}'" if module else "The source"
            )
            raise ValueError(
                f"{where} has {name}={theirs[name]}, "
                f"and layer '{layer.name}' has {name}={value}: its outputs "
                f"would differ. Build the layer so.{hint} To read the arrays "
                "all the same, pass the module's `state_dict()`."
            )


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _warn_of_network(model, network, source):
    """Warn of what names tell about a network, and no array does."""
    layers = {layer.name: layer for layer in model.layers}
    kind = strided_convolution(network, source.arrays)
    if kind and "stage2_block1_conv3" in layers:
        early = layers["stage2_block1_conv1"].strides != (1, 1)
        ours = "1x1" if early else "3x3"
        if ours != kind:
            warnings.warn(
                "Networks of these names have the strides of their "
                f"bottlenecks in the {kind} convolutions, and the model has "
                f"them in the {ours}: its outputs differ from the published "
                "network's. Build it with "
                f"`ResNet(…, downsample_in={kind!r})`.",
                stacklevel=3,
            )
    if network is CADENE_SENET and "stem_pool" in layers:
        warnings.warn(
            "Networks of these names pad the pooling of their stem at the "
            "bottom and on the right alone, and the model pads all sides: "
            "its outputs differ somewhat from the published network's.",
            stacklevel=3,
        )


def _describe_extra(target, names, prefix):
    return (
        f"The source has {len(names)} arrays that '{target.name}' "
        f"({type(target).__name__}) has no weights for: {_some(names)}. "
        "Without them its outputs would be others. Build it with them, merge "
        "adapters such as LoRA before, give the `prefix` of this layer alone, "
        "or set `skip_mismatch=True` to leave them out. Received: "
        f"prefix={prefix!r}"
    )


def _some(names):
    some = sorted(names)
    return f"{', '.join(some[:8])}{', …' if len(some) > 8 else ''}"
