"""`keras-attention predict`: runs an export, without a server."""

import base64
import json
import pathlib
from typing import Any

import click

from keras_attention.commands.inputs import stack_images
from keras_attention.commands.json_output import JSON
from keras_attention.commands.pixels import PIXELS
from keras_attention.commands.pixels import echo_pixels
from keras_attention.commands.pixels import given_pixels
from keras_attention.commands.pixels import pixels_json
from keras_attention.commands.pixels import scale_array

DEFAULT = "serving_default"
READERS = {
    ".npy": "read_array",
    ".npz": "read_arrays",
    ".json": "read_json",
}


@click.command()
@click.argument("directory", metavar="DIR")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--signature",
    metavar="NAME",
    help="Which signature.  [default: serving_default; for images "
    "image_bytes, if there is one]",
)
@PIXELS
@JSON
def predict(
    directory: str,
    inputs: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Run an export: a version's folder, or the newest in a model's.

    INPUT is one .npy, .npz or .json file, or images. An .npz file has the
    inputs by name; so does a .json file, which may have them under "inputs"
    or "instances" as a request to TensorFlow Serving has. An .npy file or a
    list in a .json file is the only input. Integers of an .npy or .npz file
    that are images are scaled as images are; other numbers are fed as they
    are.

    Example: keras-attention predict served/student cat.jpg dog.png
    """
    files = [pathlib.Path(name) for name in inputs]
    images = _are_images(files)
    try:
        answer, found = _answer(
            pathlib.Path(directory), files, images, **options
        )
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if as_json:
        click.echo(_json(answer, found))
        return
    echo_pixels(found)
    click.echo(_text(answer))


def _answer(directory, files, images, signature, pixels):
    """The outputs by name, and the range of pixels of images."""
    import numpy as np

    from keras_attention.serving import read_signatures
    from keras_attention.serving import run_export

    path = find_version(directory)
    _check(path)
    known = read_signatures(path)
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
    found = None
    if images:
        values, found = _read_images(path, files, expected, signature, pixels)
    else:
        values = _read(files[0], expected)
        for name, value in values.items():
            if not np.size(value):
                raise ValueError(
                    f"{files[0]} must have one example or more. "
                    f"Received: an empty input '{name}'"
                )
        values, found = _scale_integers(
            path, files[0], values, expected, pixels
        )
    return run_export(path, values, signature), found


def _check(path):
    """Refuse an export that does more than compute, before it is loaded."""
    from keras_attention import files
    from keras_attention.serving.formats import FILES
    from keras_attention.serving.formats import find_format

    format = find_format(path)
    if format == "onnx":
        files.check_onnx(path / FILES[format])
    elif format not in FILES:
        files.check_saved_model(path)


def find_version(directory: pathlib.Path) -> pathlib.Path:
    """Return a version's folder: the newest in a model's, or itself."""
    if directory.is_file():
        raise ValueError(
            "`DIR` must be the folder of an export, as `keras-attention "
            f"export MODEL.keras DIR` writes it. Received: {directory}, a file"
        )
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no such folder: {directory}")
    from keras_attention.serving.saved_model import version_number

    versions = [
        (number, path)
        for path in directory.iterdir()
        if (number := version_number(path)) is not None
    ]
    return max(versions)[1] if versions else directory


def _are_images(files):
    from keras_attention.image_files import SUFFIXES

    images = [path.suffix.lower() in SUFFIXES for path in files]
    if any(images) != all(images) or len(files) > 1 and not all(images):
        raise ValueError(
            "The input is one .npy, .npz or .json file, or images. "
            f"Received: {', '.join(map(str, files))}"
        )
    for path in files:
        if path.is_dir():
            raise ValueError(
                "`INPUT` must be a file, or several images: name the files, "
                f"such as {path}/*.png. Received: {path}, a folder"
            )
        if not path.is_file():
            raise FileNotFoundError(f"There is no such file: {path}")
    return all(images)


def _read_images(path, files, expected, signature, pixels):
    """The files' bytes, or their pixels for an input of numbers."""
    import numpy as np

    from keras_attention.image_files import read_image
    from keras_attention.image_files import read_image_bytes
    from keras_attention.image_files import resize_image
    from keras_attention.pixels import FoundPixelRange
    from keras_attention.pixels import read_record

    name, info = _only(expected, signature)
    record = read_record(path)
    if info["dtype"] == "string":
        if pixels is not None:
            raise ValueError(
                f"The signature '{signature}' scales pixels itself, to the "
                "range with which it was exported. Leave --pixels out, or "
                f"give --signature {DEFAULT}. Received: --pixels {pixels}"
            )
        contents = [read_image_bytes(file) for file in files]
        found = FoundPixelRange(record, "stored with the export")
        return {name: np.array(contents, object)}, record and found
    sizes, first = _image_sizes(info["shape"])
    if sizes is None:
        raise ValueError(
            f"The signature '{signature}' takes no images: its input '{name}' "
            f"has the shape {info['shape']}."
        )
    found = _range(record, info, pixels)
    images = []
    for file in files:
        image = read_image(file, sizes[2])
        if None not in sizes[:2]:
            image = resize_image(image, sizes[:2])
        images.append(image)
    batch = scale_array(stack_images(images), found, files[0], eight_bit=True)
    if np.issubdtype(info["dtype"], np.integer):
        batch = np.rint(batch).astype(info["dtype"])
    return {name: np.moveaxis(batch, -1, 1) if first else batch}, found


def _image_sizes(shape):
    """Height, width and channels of an input of images, and if these are first.

    `None` for an input of something else.
    """
    if len(shape) == 4 and shape[3] in (1, 3, 4):
        return shape[1:], False
    if len(shape) == 4 and shape[1] in (1, 3, 4):
        return [*shape[2:], shape[1]], True
    return None, False


def _range(record, info, pixels):
    """The `FoundPixelRange` of an export's input of images."""
    import numpy as np

    from keras_attention.pixels import ASSUMED
    from keras_attention.pixels import FoundPixelRange

    if pixels is not None:
        return given_pixels(pixels)
    if record is not None:
        return FoundPixelRange(record, "stored with the export")
    if np.issubdtype(info["dtype"], np.integer):
        return FoundPixelRange(
            given_pixels("0,255").pixels, "the input has integers"
        )
    return FoundPixelRange(
        ASSUMED, "assumed: nothing is stored with the export", True
    )


def _scale_integers(path, file, values, expected, pixels):
    """Scale 8-bit pixels of an array file, as the other commands do."""
    import numpy as np

    from keras_attention.pixels import read_record

    found = None
    for name, value in values.items():
        info = expected.get(name, {"dtype": "string", "shape": []})
        sizes, first = _image_sizes(info["shape"])
        if (
            sizes is not None
            and np.issubdtype(info["dtype"], np.floating)
            and isinstance(value, np.ndarray)
            and np.issubdtype(value.dtype, np.integer)
            and value.ndim == 4
        ):
            found = _range(read_record(path), info, pixels)
            values = {
                **values,
                name: scale_array(value, found, file, not first),
            }
    if pixels is not None and found is None:
        raise ValueError(
            "`--pixels` is for images and for arrays of 8-bit pixels: floats "
            f"are taken as they are. Received: --pixels {pixels} with {file}"
        )
    return values, found


def _read(path, expected):
    """The inputs by name, of a file of numbers."""
    from keras_attention import files
    from keras_attention.image_files import SUFFIXES

    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(
            f"{path} cannot be read: its name must end in "
            f"{', '.join([*READERS, *SUFFIXES])}"
        )
    values = getattr(files, READERS[suffix])(path)
    if suffix == ".npz":
        return values
    if isinstance(values, dict) and "inputs" in set(values) - set(expected):
        values = values["inputs"]
    if isinstance(values, dict) and "instances" in set(values) - set(expected):
        values = _columns(values["instances"], path)
    if not isinstance(values, dict):
        name, _ = _only(expected, path)
        values = {name: values}
    return {name: _array(value, name, path) for name, value in values.items()}


def _columns(rows, path):
    """The inputs by name of a request's "instances", one row per example."""
    if not isinstance(rows, list) or not rows:
        raise ValueError(f'{path}: "instances" must be a list of examples.')
    by_name = [isinstance(row, dict) and set(row) != {"b64"} for row in rows]
    if not any(by_name):
        return rows
    if not all(by_name) or any(set(row) != set(rows[0]) for row in rows):
        raise ValueError(
            f'{path}: each of "instances" must have the same inputs.'
        )
    return {name: [row[name] for row in rows] for name in rows[0]}


def _array(value, name, path):
    """A value of a JSON file as an input; refuse anything but an array."""
    import numpy as np

    try:
        decoded = _decode(value)
        if np.asarray(decoded).dtype.kind not in "biufS":
            raise ValueError("neither numbers nor texts")
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: the input '{name}' must be a number or text, or lists "
            'of one length of them; {"b64": TEXT} for bytes. '
            f"Received: {error}"
        ) from error
    return decoded


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
        if set(value) != {"b64"}:
            raise ValueError(f"an object of {', '.join(value) or 'nothing'}")
        return base64.b64decode(value["b64"], validate=True)
    return value.encode() if isinstance(value, str) else value


def _text(answer):
    lines = []
    for name, value in answer.items():
        lines.append(f"{name}: {value.dtype} {list(value.shape)}")
        lines.append(str(value))
    return "\n".join(lines)


def _json(answer, found):
    outputs = {name: _plain(value.tolist()) for name, value in answer.items()}
    extra = {} if found is None else {"pixels": pixels_json(found)}
    return json.dumps({"outputs": outputs, **extra})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return value
