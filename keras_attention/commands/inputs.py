"""Reads what models are shown: images, arrays, sentences."""

import pathlib
from dataclasses import dataclass
from typing import Any

import click

from keras_attention.commands.pixels import PIXELS
from keras_attention.commands.pixels import find_pixels
from keras_attention.commands.pixels import scale_array
from keras_attention.commands.save import check_is_file

IMAGE_KEYS = ("x", "images", "x_test", "arr_0")
LABEL_KEYS = ("y", "labels", "y_test")


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model, with names and labels.

    Attributes:
        values: The model's inputs.
        labels: A label for each example.
        words: Of sentences, the words of each.
        pixels: Of images, the `FoundPixelRange` that they were scaled to.
    """

    values: Any
    labels: list[str]
    words: list[list[str]] | None = None
    pixels: Any = None


def input_options(limit: int) -> Any:
    """The options of the commands that feed inputs to models."""
    options = (
        click.option(
            "--limit",
            type=click.IntRange(1),
            default=limit,
            show_default=True,
            help="Number of examples; of folders of classes from each in turn.",
        ),
        PIXELS,
    )

    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def read_inputs(
    paths: list[pathlib.Path],
    model: Any,
    limit: int,
    pixels: str | None = None,
    tokenizer: str | None = None,
) -> Inputs:
    """Read images, an .npz or .npy file, or a text file of sentences."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"There is no such file or folder: {path}")
    suffix = paths[0].suffix.lower()
    if len(paths) == 1 and suffix in (".npz", ".npy"):
        inputs = _read_array(paths[0], model, limit, pixels, tokenizer)
    elif len(paths) == 1 and suffix == ".txt":
        inputs = _read_sentences(paths[0], limit, tokenizer)
    else:
        inputs = _read_images(paths, model, limit, pixels)
    check_fits(model, inputs)
    return inputs


def check_fits(model: Any, inputs: Inputs) -> None:
    """Raise `ValueError` unless a model takes inputs of this shape."""
    expected = getattr(model, "input_shape", None)
    if expected is None:
        return
    if not isinstance(expected, tuple):
        raise ValueError(
            "Only a model of one input can be shown images or sentences. "
            f"Received: model '{model.name}' with inputs {expected}"
        )
    found = inputs.values.shape
    fits = len(expected) == len(found) and all(
        size in (None, other)
        for size, other in zip(expected[1:], found[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"Model '{model.name}' takes inputs of shape {expected}. "
            f"Received: a batch of shape {found}"
        )


def model_names(paths: list[str]) -> list[str]:
    """Return names of models for figures: their file names without suffix."""
    names = [pathlib.Path(path).stem for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def check_new(out: str, suffix: str, overwrite: bool) -> pathlib.Path:
    """Return the path that is written; refuse one that exists."""
    path = pathlib.Path(out)
    if path.suffix.lower() != suffix:
        raise ValueError(f"`--out` must end in {suffix}. Received: --out {out}")
    check_is_file(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            "A file that exists is not overwritten: give another --out, or "
            f"--overwrite. Received: --out {out}"
        )
    return path


def _read_array(path, model, limit, pixels, tokenizer):
    import numpy as np

    from keras_attention.files import read_array
    from keras_attention.files import read_arrays

    if path.suffix.lower() == ".npy":
        arrays = {"x": read_array(path)}
    else:
        arrays = read_arrays(path)
    key = next((key for key in IMAGE_KEYS if key in arrays), None)
    if key is None:
        raise ValueError(
            f"{path} has no array named {', '.join(IMAGE_KEYS)}. Received: "
            f"{', '.join(arrays) or 'none'}. Save it by "
            "np.savez(path, x=images, y=labels)."
        )
    values = arrays[key][:limit]
    if not values.size:
        raise ValueError(
            f"{path} must have one input or more. Received: '{key}' of shape "
            f"{arrays[key].shape}"
        )
    labels = next((arrays[key] for key in LABEL_KEYS if key in arrays), None)
    if labels is None:
        labels = range(len(values))
    else:
        labels = _read_labels(path, labels, len(values))
    if values.ndim == 3:
        values = values[..., None]
    is_tokens = values.ndim == 2 and np.issubdtype(values.dtype, np.integer)
    words = found = None
    if values.ndim == 4:
        found = find_pixels(model, pixels)
        last = image_shape(model)[1] == "channels_last"
        values = scale_array(values, found, path, last)
    if is_tokens and tokenizer is not None:
        texts = _texts(_tokenizer(tokenizer))
        words = [[texts[n] for n in _real(row)] for row in values]
    return Inputs(values, [str(each) for each in labels], words, found)


def _read_labels(path, labels, count):
    from keras_attention.validation import check_labels

    try:
        return check_labels(labels[:count], count, "input")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_sentences(path, limit, tokenizer):
    """Sentences, one per line: words with a tokenizer, numbers without."""
    import keras

    from keras_attention.files.json_text import read_text

    lines = [line for line in read_text(path).splitlines() if line.strip()]
    lines = lines[:limit]
    if not lines:
        raise ValueError(f"{path} has no line with a sentence.")
    if tokenizer is None:
        try:
            rows = [[int(word) for word in line.split()] for line in lines]
        except ValueError as error:
            raise ValueError(
                f"{path} has words: give --tokenizer FILE, the model's "
                f"vocabulary, or lines of token IDs. ({error})"
            ) from error
        words = [line.split() for line in lines]
    else:
        from keras_attention.evaluation.vocabulary import frame

        found = _tokenizer(tokenizer)
        texts = _texts(found)
        rows = [
            frame(found.encode(line), found.begin, found.end) for line in lines
        ]
        words = [[texts[number] for number in row] for row in rows]
    values = keras.utils.pad_sequences(rows, padding="post", dtype="int32")
    return Inputs(values, lines, words)


def _tokenizer(path):
    from keras_attention.evaluation import load_tokenizer

    if not pathlib.Path(path).exists():
        raise FileNotFoundError(f"There is no such tokenizer: {path}")
    return load_tokenizer(path)


def _texts(tokenizer):
    """The text of each token by its number."""
    tokens = getattr(tokenizer, "tokens", None)
    return tokenizer.layer.get_vocabulary() if tokens is None else tokens


def _real(row):
    """A row of token IDs without the padding at its end."""
    end = len(row)
    while end and row[end - 1] == 0:
        end -= 1
    return row[:end]


def _read_images(paths, model, limit, pixels):
    import numpy as np

    from keras_attention.image_files import SUFFIXES
    from keras_attention.image_files import read_image
    from keras_attention.image_files import resize_image

    files = find_images(paths, limit)
    if not files:
        raise ValueError(
            f"No images ({', '.join(SUFFIXES)}) were found in "
            f"{', '.join(map(str, paths))}."
        )
    shape, data_format = image_shape(model)
    found = find_pixels(model, pixels)
    images, labels = [], []
    for file, label in files:
        image = read_image(file, shape[2])
        if None not in shape[:2]:
            image = resize_image(image, shape[:2])
        images.append(image)
        labels.append(label)
    batch = stack_images(images)
    batch = scale_array(batch, found, paths[0], eight_bit=True)
    if data_format == "channels_first":
        batch = np.moveaxis(batch, -1, 1)
    return Inputs(batch, labels, pixels=found)


def stack_images(images: list[Any]) -> Any:
    """Return one array of images; refuse images of several sizes."""
    import numpy as np

    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise ValueError(
            "Images of several sizes cannot be put into one batch, and the "
            "model takes any size: resize them, or give one at a time. "
            f"Received: {', '.join(f'{h} x {w}' for h, w in sorted(sizes))}"
        )
    return np.stack(images)


def find_images(
    paths: list[pathlib.Path], limit: int
) -> list[tuple[pathlib.Path, str]]:
    """Return image files and a label for each, the classes in turn.

    Of a folder with a folder for each class, the first image of each class
    comes first, then the second of each; a class is not left out because
    others come before it in the alphabet.
    """
    from keras_attention.image_files import is_image_file

    found = []
    for path in paths:
        if path.is_file():
            found.append((path, path.name))
            continue
        classes: dict[str, list] = {}
        for file in sorted(path.rglob("*")):
            if is_image_file(file, path):
                inside = file.parent != path
                label = f"{file.parent.name}: {file.name}"
                classes.setdefault(str(file.parent), []).append(
                    (file, label if inside else file.name)
                )
        turns = max(map(len, classes.values()), default=0)
        chosen = [
            (turn, order)
            for turn in range(turns)
            for order, files in enumerate(classes.values())
            if turn < len(files)
        ][: max(0, limit - len(found))]
        groups = list(classes.values())
        found += [groups[order][turn] for turn, order in chosen]
    return found[:limit]


def image_shape(model: Any) -> tuple[tuple, str]:
    """Return (height, width, channels) of a model's image and its layout.

    Heights and widths that are open are `None`; what takes no image counts
    as an RGB image of any size.
    """
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        return (None, None, 3), "channels_last"
    first = shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4)
    if first:
        return (*shape[2:], shape[1]), "channels_first"
    channels = shape[3] if shape[3] in (1, 3, 4) else 3
    return (*shape[1:3], channels), "channels_last"
