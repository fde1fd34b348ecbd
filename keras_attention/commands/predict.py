"""`keras-attention predict`: asks an export, without a server."""

import base64
import json
import pathlib
from typing import Any

import click

from keras_attention.commands.json_output import JSON

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
DEFAULT = "serving_default"


@click.command()
@click.argument("directory", metavar="DIR")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--signature",
    metavar="NAME",
    help="Which signature.  [default: serving_default; for images "
    "image_bytes, if there is one]",
)
@click.option(
    "--scale",
    type=float,
    default=1 / 255,
    help="Factor on the values of images, 0 to 255, for a signature that "
    "takes numbers.  [default: 1/255]",
)
@click.option("--offset", type=float, default=0.0, help="Added after that.")
@JSON
def predict(
    directory: str,
    inputs: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Ask an export: a version's folder, or the newest in a model's.

    INPUT is one .npy, .npz or .json file, or images. An .npz file has the
    inputs by name; so does a .json file, which may have them under "inputs"
    as a request to TensorFlow Serving has. An .npy file or a list in a .json
    file is the only input.

    Example: keras-attention predict served/student cat.jpg dog.png
    """
    files = [pathlib.Path(name) for name in inputs]
    images = _are_images(files)
    try:
        answer = _answer(pathlib.Path(directory), files, images, **options)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error
    click.echo(_json(answer) if as_json else _text(answer))


def _answer(directory, files, images, signature, scale, offset):
    path, format, known = _find(directory)
    if signature is None:
        signature = "image_bytes" if images else DEFAULT
        signature = signature if signature in known else DEFAULT
    if signature not in known:
        from keras_attention.validation import nearest

        raise ValueError(
            f"There is no such signature in {path}: --signature {signature}; "
            f"there are {', '.join(known)}.{nearest(signature, known)}"
        )
    expected = known[signature]["inputs"]
    if images:
        values = _read_images(files, expected, signature, scale, offset)
    else:
        values = _read(files[0], expected)
    return _run(path, format, values, signature)


def _find(directory):
    """The folder of a version, its format, and its signatures."""
    from keras_attention.serving import formats
    from keras_attention.serving import read_signatures

    if not directory.is_dir():
        raise FileNotFoundError(f"There is no such folder: {directory}")
    versions = [p for p in directory.iterdir() if p.name.isdigit()]
    path = max(versions, key=lambda p: int(p.name), default=directory)
    format = formats.find_format(path)
    if format == formats.SAVED_MODEL:
        return path, format, read_signatures(path)
    return path, format, formats.read_format(path, format)


def _are_images(files):
    images = [path.suffix.lower() in IMAGES for path in files]
    if any(images) != all(images) or len(files) > 1 and not all(images):
        raise ValueError(
            "The input is one .npy, .npz or .json file, or images. "
            f"Received: {', '.join(map(str, files))}"
        )
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"There is no such file: {path}")
    return all(images)


def _read_images(files, expected, signature, scale, offset):
    """The files' bytes, or their pixels for an input of numbers."""
    import numpy as np

    name, info = _only(expected, signature)
    contents = [path.read_bytes() for path in files]
    if info["dtype"] == "string":
        return {name: np.array(contents, object)}
    import tensorflow as tf

    shape = info["shape"]
    if len(shape) != 4 or shape[3] not in (1, 3, 4):
        raise ValueError(
            f"The signature '{signature}' takes no images: its input '{name}' "
            f"has the shape {shape}."
        )
    images = []
    for path, data in zip(files, contents, strict=True):
        try:
            image = tf.io.decode_image(data, shape[3], expand_animations=False)
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"It is no image: {path}") from error
        image = tf.cast(image, "float32")
        if None not in shape[1:3]:
            image = tf.image.resize(image, shape[1:3])
        images.append(scale * image.numpy() + offset)
    if len({image.shape for image in images}) > 1:
        raise ValueError(
            "Images of several sizes make no batch, and the model says no "
            "size: ask one at a time, or export with --image-bytes "
            "--image-size H,W."
        )
    return {name: np.stack(images)}


def _read(path, expected):
    """The inputs by name, of a file of numbers."""
    import numpy as np

    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            with np.load(path) as file:
                return dict(file)
        if suffix == ".npy":
            values = np.load(path)
        elif suffix == ".json":
            values = json.loads(path.read_text())
        else:
            raise ValueError("its name must end in .npy, .npz or .json")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if isinstance(values, dict) and "inputs" in set(values) - set(expected):
        values = values["inputs"]
    if not isinstance(values, dict):
        name, _ = _only(expected, path)
        values = {name: values}
    return {name: _decode(value) for name, value in values.items()}


def _only(expected, what):
    if len(expected) != 1:
        raise ValueError(
            f"{what}: the inputs must be told by name: {', '.join(expected)}."
        )
    return next(iter(expected.items()))


def _decode(value):
    """Texts and {"b64": ...} as bytes, as in TensorFlow Serving's requests."""
    if isinstance(value, list):
        return [_decode(part) for part in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value


def _run(path, format, values, signature):
    from keras_attention.serving import formats
    from keras_attention.serving import run_export

    if format == formats.SAVED_MODEL:
        return run_export(path, values, signature)
    return formats.run_format(path, format, values)


def _text(answer):
    lines = []
    for name, value in answer.items():
        lines.append(f"{name}: {value.dtype} {list(value.shape)}")
        lines.append(str(value))
    return "\n".join(lines)


def _json(answer):
    found = {name: _plain(value.tolist()) for name, value in answer.items()}
    return json.dumps({"outputs": found})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return value
