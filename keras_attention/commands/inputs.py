"""Reads what models are shown: images, arrays, sentences."""

import pathlib
from dataclasses import dataclass
from typing import Any

import click

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
IMAGE_KEYS = ("x", "images", "x_test", "arr_0")
LABEL_KEYS = ("y", "labels", "y_test")


@dataclass(frozen=True)
class Inputs:
    """What a model is shown, a label for each, and the words of sentences."""

    values: Any
    labels: list[str]
    words: list[list[str]] | None = None


def input_options(limit: int) -> Any:
    """The options of the commands that show something to models."""
    options = (
        click.option(
            "--limit",
            type=click.IntRange(1),
            default=limit,
            show_default=True,
            help="Only the first examples.",
        ),
        click.option(
            "--scale",
            type=float,
            default=1 / 255,
            help="Factor on pixels of 0 to 255.  [default: 1/255]",
        ),
        click.option(
            "--offset",
            type=float,
            default=0.0,
            show_default=True,
            help="Added to pixels after that.",
        ),
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
    scale: float,
    offset: float,
    tokenizer: str | None = None,
) -> Inputs:
    """Read images, an .npz or .npy file, or a text file of sentences."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"There is no such file or folder: {path}")
    suffix = paths[0].suffix.lower()
    if len(paths) == 1 and suffix in (".npz", ".npy"):
        return _read_array(paths[0], limit, scale, offset, tokenizer)
    if len(paths) == 1 and suffix == ".txt":
        return _read_sentences(paths[0], limit, tokenizer)
    return _read_images(paths, model, limit, scale, offset)


def model_names(paths: list[str]) -> list[str]:
    """What models are called in pictures: by their files, shortly."""
    names = [pathlib.Path(path).stem for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def check_new(out: str, suffix: str, overwrite: bool) -> pathlib.Path:
    """Return the path that is written; refuse one that exists."""
    path = pathlib.Path(out)
    if path.suffix.lower() != suffix:
        raise ValueError(f"`--out` must end in {suffix}. Received: --out {out}")
    if path.exists() and not overwrite:
        raise FileExistsError(
            "A file that exists is not overwritten: give another --out, or "
            f"--overwrite. Received: --out {out}"
        )
    return path


def _read_array(path, limit, scale, offset, tokenizer):
    import numpy as np

    try:
        # Not executed: arrays of objects, which are pickled, are refused.
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            is_one = isinstance(found, np.ndarray)
            arrays = {"x": found} if is_one else dict(found)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    key = next((key for key in IMAGE_KEYS if key in arrays), None)
    if key is None:
        raise ValueError(
            f"{path} has no array named {', '.join(IMAGE_KEYS)}. Received: "
            f"{', '.join(arrays) or 'none'}. Save it by "
            "np.savez(path, x=images, y=labels)."
        )
    values = arrays[key][:limit]
    labels = next((arrays[key] for key in LABEL_KEYS if key in arrays), None)
    if labels is not None and len(labels) < len(values):
        raise ValueError(
            f"{path} must have a label for each input. Received: "
            f"{len(labels)} for {len(values)}"
        )
    labels = range(len(values)) if labels is None else labels.ravel()
    if values.ndim == 3:
        values = values[..., None]
    is_tokens = values.ndim == 2 and np.issubdtype(values.dtype, np.integer)
    if values.dtype == np.uint8 and not is_tokens:
        values = (scale * values + offset).astype("float32")
    words = None
    if is_tokens and tokenizer is not None:
        texts = _texts(_tokenizer(tokenizer))
        words = [[texts[n] for n in _real(row)] for row in values]
    return Inputs(values, [str(each) for each in labels[: len(values)]], words)


def _read_sentences(path, limit, tokenizer):
    """Sentences, one a line: words with a tokenizer, numbers without."""
    import keras

    lines = [line for line in path.read_text("utf-8").splitlines() if line]
    lines = lines[:limit]
    if not lines:
        raise ValueError(f"{path} has no line with a sentence.")
    if tokenizer is None:
        try:
            rows = [[int(word) for word in line.split()] for line in lines]
        except ValueError as error:
            raise ValueError(
                f"{path} has words: give --tokenizer FILE, the model's "
                f"vocabulary, or lines of token numbers. ({error})"
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
    """A row of token numbers without the padding at its end."""
    end = len(row)
    while end and row[end - 1] == 0:
        end -= 1
    return row[:end]


def _read_images(paths, model, limit, scale, offset):
    import numpy as np

    files = []
    for path in paths:
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        files += [
            (each, path)
            for each in found
            if each.suffix.lower() in IMAGES and each.is_file()
        ]
    if not files:
        raise ValueError(
            f"No images ({', '.join(IMAGES)}) were found in "
            f"{', '.join(map(str, paths))}."
        )
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        shape = (None, None, None, 3)
    first = shape[1] in (1, 3) and shape[3] not in (1, 3)
    if first:
        shape = (shape[0], *shape[2:], shape[1])
    images, labels = [], []
    for file, folder in files[:limit]:
        pixels = _pixels(file, shape)
        images.append((scale * pixels + offset).astype("float32"))
        # The folders of a data set are its classes.
        is_class = folder.is_dir() and file.parent != folder
        labels.append(
            f"{file.parent.name}: {file.name}" if is_class else file.name
        )
    if len({image.shape for image in images}) > 1:
        raise ValueError(
            "Images of several sizes make no batch, and the model says no "
            "size. Resize them, or show one at a time."
        )
    batch = np.stack(images)
    return Inputs(np.moveaxis(batch, -1, 1) if first else batch, labels)


def _pixels(file, shape):
    """An image of the model's size and channels, values of 0 to 255."""
    import numpy as np

    try:
        from PIL import Image
        from PIL import UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            "Images are read by pillow, which is not installed: "
            "pip install 'keras-attention-layers[view]'"
        ) from error
    try:
        with Image.open(file) as opened:
            image = opened.convert("L" if shape[3] == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise ValueError(f"It is no image: {file}") from error
    if None not in shape[1:3]:
        image = image.resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, "float32")
    return pixels[..., None] if pixels.ndim == 2 else pixels
