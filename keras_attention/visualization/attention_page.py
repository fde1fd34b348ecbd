"""One HTML file in which one looks at what models attend to."""

import base64
import html
import importlib.resources
import io
import json
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.files.temporary import replace_when_written
from keras_attention.inspection import find_layer
from keras_attention.inspection import gives_scores
from keras_attention.inspection import split_name
from keras_attention.inspection.layer_paths import check_layer
from keras_attention.inspection.layer_paths import check_names
from keras_attention.layers import NonLocal
from keras_attention.ops.attention_maps import resize_maps
from keras_attention.types import Tensor
from keras_attention.validation import check_labels
from keras_attention.visualization import readings
from keras_attention.visualization.attention_heads import find_padding
from keras_attention.visualization.attention_heads import mask_name
from keras_attention.visualization.attention_heads import to_heads
from keras_attention.visualization.attention_maps import check_images
from keras_attention.visualization.channel_gates import channel_gate
from keras_attention.visualization.class_activation import LOCK
from keras_attention.visualization.class_activation import last_map
from keras_attention.visualization.class_activation import weighted_maps
from keras_attention.visualization.class_scores import class_probabilities
from keras_attention.visualization.class_scores import class_texts
from keras_attention.visualization.class_scores import find_score_activation
from keras_attention.visualization.class_scores import hides_softmax
from keras_attention.visualization.figures import displayable
from keras_attention.visualization.filters import tap_offsets

# Maps are averaged down to this many rows and columns, images shown no
# smaller than it.
MOST_POSITIONS = 56
LEAST_PIXELS = 64


def write_attention_page(
    path: str | os.PathLike,
    model: keras.Model | Mapping[str, keras.Model],
    inputs: Tensor,
    labels: Sequence[Any] | None = None,
    words: Sequence[Sequence[Any]] | None = None,
    layers: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    title: str = "Attention",
    class_names: Sequence[Any] | None = None,
) -> pathlib.Path:
    """Write an interactive HTML page to select an example, a layer and a head.

    It shows the activation maps and gates of image models over the images,
    the gates of channels as bars, and the scores and filters of sequence
    models by head; several models are shown side by side. The file includes
    plotly.js (5 MB) and needs neither a server nor a network. Each model runs
    once, with all inputs; with `class_names` up to four times.

    Args:
        path: Path of the HTML file.
        model: A model, or a mapping from names to models.
        inputs: Images `(count, height, width, channels)` as the models take
            them, or token IDs `(count, length)`, padded with 0.
        labels: A title for each input: a text or a number, or rows that are
            one-hot. Defaults to `None`.
        words: For token IDs, the texts of each sequence's tokens, without
            padding. Defaults to `None`, the IDs.
        layers: Names of layers; for models with other names, a mapping from
            the models' names. Defaults to `None`, all with gates, scores or
            filters, and for images the end of each resolution.
        title: Title of the page.
        class_names: For classifiers of images with one output, the names of
            the classes: the predicted class of each image and its confidence
            are shown, and where the class is found, by `class_activation`,
            at the last of the shown stages. Defaults to `None`, without.

    Returns:
        The path.

    Raises:
        ImportError: If plotly or pillow is not installed.
        TypeError: If `model` is no Keras model, or `layers` one string.
        ValueError: If the inputs are neither images nor tokens, labels,
            words or class names do not fit, or there is nothing to show.

    Reference:
        Maps: Zagoruyko and Komodakis, arXiv:1612.03928, section 3.1.
        Class activation: Selvaraju et al., Grad-CAM, arXiv:1610.02391,
        section 3.

    Example:

    >>> from keras_attention.visualization import write_attention_page
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 6)),
    ...     keras_attention.CBAM(2, name="cbam"),
    ... ])
    >>> images = np.random.normal(size=(2, 8, 8, 6))
    >>> write_attention_page("page.html", model, images, ["cat", "dog"]).name
    'page.html'
    """
    models = model
    if not isinstance(model, Mapping):
        check_layer(model)
        models = {model.name: model}
    inputs = np.asarray(inputs)
    if inputs.ndim == 4:
        inputs, labels = check_images(inputs, labels)
        first = next(iter(models.values()))
        examples = _image_examples(readings.input_images(first, inputs), labels)
    elif inputs.ndim == 2 and np.issubdtype(inputs.dtype, np.integer):
        examples = _token_examples(inputs, labels, words)
    else:
        raise ValueError(
            "`inputs` must be images, (count, height, width, channels), or "
            "token IDs, (count, length). Received: an array of "
            f"{inputs.dtype} of shape {inputs.shape}"
        )
    content = {
        "title": title,
        "examples": examples,
        "models": [
            _read_model(
                name,
                each,
                inputs,
                layers[name] if isinstance(layers, Mapping) else layers,
                class_names,
            )
            for name, each in models.items()
        ],
    }
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_when_written(path) as temporary:
        temporary.write_text(_fill(title, content), "utf-8")
    return path


def _fill(title, content):
    """The page with its script, its style and what it shows."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError(
            "The page is plotted by plotly, which is not installed: "
            "pip install 'keras-attention-layers[view]'"
        ) from error
    folder = importlib.resources.files("keras_attention.visualization.page")
    page, style, script = (
        (folder / f"page.{kind}").read_text("utf-8")
        for kind in ("html", "css", "js")
    )
    # Inside <script> no text may end it, whatever a label says.
    data = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    parts = {
        "{{title}}": html.escape(title),
        "{{style}}": style,
        "{{data}}": data,
        "{{plotly}}": get_plotlyjs(),
        "{{script}}": script,
    }
    # Once through the page, so that no part is looked for inside another.
    for name, part in parts.items():
        head, tail = page.split(name)
        parts[name] = (head, part)
        page = tail
    return "".join(head + part for head, part in parts.values()) + page


def _image_examples(images, labels):
    labels = range(len(images)) if labels is None else labels
    return [
        {"label": str(label), "image": _data_uri(image)}
        for label, image in zip(labels, images, strict=True)
    ]


def _data_uri(image):
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Images are written by pillow, which is not installed: "
            "pip install 'keras-attention-layers[view]'"
        ) from error
    pixels = np.round(255 * displayable(image)).astype("uint8")
    # Small ones are enlarged here, for browsers would blur them.
    factor = max(1, -(-LEAST_PIXELS // min(pixels.shape[:2])))
    pixels = pixels.repeat(factor, 0).repeat(factor, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/png;base64,{text}"


def _token_examples(tokens, labels, words):
    if labels is not None:
        labels = check_labels(labels, len(tokens), "sequence")
    if words is not None and len(words) != len(tokens):
        raise ValueError(
            "`words` must have one entry for each sequence. Received: "
            f"{len(words)} for {len(tokens)} sequences"
        )
    examples = []
    for n, row in enumerate(tokens):
        length = int(np.flatnonzero(row).max(initial=-1)) + 1
        texts = list(map(str, row[:length] if words is None else words[n]))
        if len(texts) > len(row):
            raise ValueError(
                "`words` must be no more than the tokens of their sequence. "
                f"Received: {len(texts)} for {len(row)} tokens"
            )
        texts += ["[PAD]"] * (len(row) - len(texts))
        label = " ".join(texts[:length]) if labels is None else labels[n]
        examples.append({"label": str(label), "words": texts})
    return examples


def _read_model(name, model, inputs, layers, class_names):
    """What there is to show of a model: its layers, and its predictions."""
    shown = _read_layers(model, inputs, layers)
    content = {
        "name": name,
        "layers": [
            {"name": path, "plots": plots} for path, plots in shown.items()
        ],
    }
    if class_names is None:
        return content
    if inputs.ndim != 4:
        raise ValueError(
            "`class_names` are for classifiers of images. Received: inputs of "
            f"shape {inputs.shape}"
        )
    layer = _mapped_layer(model, shown, layers)
    with LOCK:
        activation, outputs, value = find_score_activation(
            model, inputs, layer=layer
        )
        probabilities = class_probabilities(activation, outputs)
        classes = probabilities.argmax(1)
        found = class_texts(name, classes, probabilities, class_names)
        texts = [f"{text}, {confidence:.0%}" for text, confidence in found]
        content["predictions"] = texts
        if layer is not None and not hides_softmax(activation, outputs):
            maps = weighted_maps(
                model, inputs, layer, value, classes, activation
            )
            plot = {**_map("class", maps), "classes": texts}
            shown[layer].insert(1, plot)
    return content


def _mapped_layer(model, shown, layers):
    """The last shown layer with a map, for class activation."""
    if layers is None:
        names = [last_map(model)]
    else:
        names = [split_name(name)[0] for name in layers]
    with_map = [
        name
        for name in names
        if any(plot.get("name") == "map" for plot in shown.get(name, ()))
    ]
    return with_map[-1] if with_map else None


def _read_layers(model, inputs, layers):
    """What there is to show of each layer, in the order of the network."""
    is_image = inputs.ndim == 4
    if layers is None:
        if is_image:
            readings.check_built(model)
        taps = _all_taps(model, is_image)
        found = readings.read(model, inputs, [], optional=taps)
        chosen = {tap for tap in found if split_name(tap)[1] != "output"}
        if is_image:
            chosen |= set(readings.stage_names(model))
    else:
        check_names(layers)
        taps = [tap for name in layers for tap in _taps_of(model, name)]
        found = readings.read(model, inputs, taps)
        chosen = set(found)
    shown: dict[str, list] = {}
    for tap in found:
        plot = _plot(model, tap, found, inputs) if tap in chosen else None
        if plot is not None:
            shown.setdefault(split_name(tap)[0], []).append(plot)
    if not shown:
        raise ValueError(
            f"Model '{model.name}' has no gates, scores, filters or maps to "
            "show for these inputs." + found.hint
        )
    for plots in shown.values():  # What the layer gives, then how.
        plots.sort(key=lambda plot: plot.get("name") != "map")
    return shown


def _all_taps(model, is_image):
    if is_image:
        scores = readings.score_taps(model, of_images=True)
        return [
            *readings.stage_names(model),
            *readings.gate_taps(model),
            *(split_name(tap)[0] for tap in scores),
            *scores,
        ]
    filters = [f"{path}:filters" for path in readings.filter_layers(model)]
    scores = readings.score_taps(model)
    return [*scores, *map(mask_name, scores), *filters]


def _taps_of(model, name):
    """All that a layer has to show: its map, gate, scores and filters."""
    path = split_name(name)[0]
    layer = find_layer(model, path)
    kinds = []
    if hasattr(layer, "compute_gate"):
        kinds.append(f"{path}:gate")
    if hasattr(layer, "compute_filters"):
        kinds.append(f"{path}:filters")
    if gives_scores(layer):
        kinds += [f"{path}:scores", f"{path}:masks"]
    return [path, *kinds]


def _plot(model, tap, found, inputs):
    """One plot of the page, or `None` if the value has none."""
    value = found[tap]
    path, kind = split_name(tap)
    is_image = inputs.ndim == 4
    if kind == "masks":
        return None
    if kind == "filters":
        offsets = tap_offsets(find_layer(model, path)).tolist()
        if value.ndim == 4:
            value = np.moveaxis(value, 2, 1)  # [B, H, T, K]
        return {"kind": kind, "offsets": offsets, "values": _numbers(value)}
    if kind == "scores" and not is_image:
        scores = to_heads(tap, value)
        self_attention = scores.shape[2:] == inputs.shape[1:] * 2
        # Token 0 is padding, also where the model does not mask it.
        mask = inputs != 0 if self_attention else None
        queries, keys = find_padding(scores, found[f"{path}:masks"], mask)
        return {
            "kind": kind,
            "values": _numbers(np.where(scores == 0, np.nan, scores)),
            "padding": [
                [q.tolist(), k.tolist()]
                for q, k in zip(queries, keys, strict=True)
            ],
        }
    if not is_image:
        return None
    if kind == "scores":
        size = readings.image_shape(model, path, found[path])
        layer = find_layer(model, path)
        return _map("scores", _score_map(layer, value, size))
    if value.ndim != 4:
        return None
    if kind == "gate":
        gate = channel_gate(model, tap, value)
        if gate is not None:
            return {"kind": "channels", "values": _numbers(gate)}
    image = readings.channels_last(model, path, value)
    if max(image.shape[1:3]) == 1:
        return None
    if kind == "gate":
        return _map("gate", image.mean(-1))
    return _map("map", np.square(image).sum(-1))


def _map(name, maps):
    size = tuple(min(n, MOST_POSITIONS) for n in maps.shape[1:])
    if size != maps.shape[1:]:
        maps = keras.ops.convert_to_tensor(maps[:, None])
        maps = readings.to_numpy(resize_maps(maps, size))[:, 0]
    return {"kind": "map", "name": name, "values": _numbers(maps)}


def _score_map(layer, scores, size):
    """How much each position of an image is attended to.

    Of scores `(count, queries, keys)` it is the mean over the queries; others
    are `(count, height, width)` already.
    """
    if not isinstance(layer, NonLocal):
        return scores
    height, width = (n // 2 for n in size) if layer.sub_sample else size
    return scores.mean(1).reshape(-1, height, width)


def _numbers(values):
    """Nested lists of four digits; NaN and infinity become `None`."""
    values = np.asarray(values, "float64")
    flat = [
        float(f"{v:.4g}") if finite else None
        for v, finite in zip(
            values.ravel().tolist(), np.isfinite(values).ravel(), strict=True
        )
    ]
    nested = np.empty(values.shape, object)
    nested.ravel()[:] = flat
    return nested.tolist()
