"""`keras-attention export`: a saved model for a model server."""

import re
from typing import Any

import click

from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import load_model
from keras_attention.commands.pixels import PIXELS
from keras_attention.commands.pixels import echo_pixels
from keras_attention.commands.pixels import find_pixels

FORMATS = ("saved-model", "onnx", "litert", "openvino")


@click.command()
@click.argument("model", metavar="MODEL.keras")
@click.argument("directory", metavar="DIR")
@click.option(
    "--version", type=int, help="Version number.  [default: next free]"
)
@click.option(
    "--signature",
    "signatures",
    metavar="NAME=LAYER,...",
    multiple=True,
    help="A further signature that gives these layers' attention in addition "
    "to the prediction: maps of LAYER, gates of LAYER:gate, scores of "
    "LAYER:scores. May be repeated.",
)
@click.option(
    "--image-bytes",
    is_flag=True,
    help="A further signature, image_bytes, that takes JPEG and PNG files.",
)
@click.option(
    "--image-size",
    metavar="H,W",
    help="Size of the resized images.  [default: the model's]",
)
@PIXELS
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="saved-model",
    show_default=True,
    help="For TensorFlow Serving, or another runtime.",
)
@click.option(
    "--no-verify", is_flag=True, help="Do not run the export to verify it."
)
@click.option("--overwrite", is_flag=True, help="Replace --version.")
@IMPORTED
def export(
    model: str,
    directory: str,
    version: int | None,
    format: str,
    no_verify: bool,
    overwrite: bool,
    imported: tuple[str, ...],
    **options: Any,
) -> None:
    """Export a saved model for TensorFlow Serving, as DIR/VERSION.

    Before the version appears it is loaded and run, and must answer what the
    model answers.

    \b
    Example: keras-attention export model.keras served/student \\
      --signature attention=stage1,se:gate --image-bytes
    """
    from keras_attention.pixels import set_pixel_range
    from keras_attention.serving import export_for_serving

    if overwrite and version is None:
        raise click.UsageError("--overwrite needs --version, the one replaced.")
    if format != "saved-model" and any(
        options[name] for name in ("signatures", "image_bytes", "image_size")
    ):
        raise click.UsageError(
            "--signature, --image-bytes and --image-size are for --format "
            f"saved-model: {format} has one signature, that of the model."
        )
    pixels = options.pop("pixels")
    signatures = _signatures(**options)
    loaded = load_model(model, imported)
    if pixels is not None:
        set_pixel_range(loaded, find_pixels(loaded, pixels).pixels)
    path = export_for_serving(
        loaded,
        directory,
        version,
        signatures,
        verify=not no_verify,
        overwrite=overwrite,
        format=format,
    )
    if format == "saved-model":
        click.echo(_describe(path))
    if pixels is not None or options["image_bytes"]:
        echo_pixels(find_pixels(loaded, pixels))
    click.echo(f"Written: {path}")


def _signatures(signatures, image_bytes, image_size):
    from keras_attention.serving import AttentionSignature
    from keras_attention.serving import ImageBytesSignature

    found: dict[str, Any] = {}
    for text in signatures:
        name, equals, layers = text.partition("=")
        if not name or not equals or not layers:
            raise ValueError(
                "`--signature` must be NAME=LAYER,..., such as "
                f"attention=stage1,se:gate. Received: --signature {text}"
            )
        if name in found:
            raise ValueError(
                "A signature is told once, its layers with commas between. "
                f"Received: --signature {text} after another '{name}'"
            )
        found[name] = AttentionSignature(layers.split(","))
    if image_bytes:
        size = _size(image_size) if image_size else None
        found["image_bytes"] = ImageBytesSignature(size)
    elif image_size:
        raise click.UsageError("--image-size is for --image-bytes.")
    return found


def _size(text):
    if not re.fullmatch(r"[1-9]\d*,[1-9]\d*", text):
        raise ValueError(
            "`--image-size` must be height and width, such as 224,224. "
            f"Received: --image-size {text}"
        )
    return tuple(map(int, text.split(",")))


def _describe(path):
    """The signatures, as a client has to know them."""
    from keras_attention.serving import read_signatures

    lines = []
    for name, tensors in read_signatures(path).items():
        sides = [
            ", ".join(
                f"{key} {value['dtype']} {_shape(value['shape'])}"
                for key, value in tensors[side].items()
            )
            for side in ("inputs", "outputs")
        ]
        lines.append(f"{name}: {' -> '.join(sides)}")
    return "\n".join(lines)


def _shape(sizes):
    return "[" + ", ".join("?" if n is None else str(n) for n in sizes) + "]"
