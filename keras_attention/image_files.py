"""Reads image files the same way wherever a model is fed with them.

The size is read from the header and checked before anything is decoded, only
formats of photographs are opened whatever a file is called, the orientation
that a camera stores is applied, and images are resized as
`tf.image.resize` and `keras.utils.image_dataset_from_directory` do it.
"""

import contextlib
import io
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MAX_PIXELS = 50_000_000
# The tag of EXIF that says how a camera was held; 1 is upright.
ORIENTATION = 0x0112


def read_image(
    path: str | os.PathLike, channels: int, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Read an image file, upright.

    Args:
        path: A BMP, GIF, JPEG, PNG or WebP file; the first frame of it.
        channels: 1, 3 or 4: converted to gray, RGB or RGBA.
        max_pixels: The largest number of pixels that is decoded. Defaults to
            50 million.

    Returns:
        Array of uint8, (height, width, channels).

    Raises:
        ImportError: If pillow is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not an image or is too large.
    """
    with _opened(path, max_pixels) as image:
        image = _upright(image)
        if image.mode.startswith("I"):
            # 16 bits, which pillow's own conversion would clip at 255.
            gray = np.clip(np.asarray(image), 0, 65_535) >> 8
            image = _pillow().fromarray(gray.astype("uint8"))
        pixels = np.asarray(image.convert(MODES[channels]))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def is_image_file(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Return whether a file in a folder is an image, by its name.

    Hidden files are not: macOS keeps `._cat.jpg` next to `cat.jpg`.

    Args:
        path: A path inside `folder`.
        folder: The folder.
    """
    parts = path.relative_to(folder).parts
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()


def check_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> None:
    """Read an image file's header alone; raise as `read_image` does."""
    with _opened(path, max_pixels):
        pass


def read_image_bytes(
    path: str | os.PathLike, max_pixels: int = MAX_PIXELS
) -> bytes:
    """Read an image file's bytes, for a signature that takes encoded images.

    The graph of such a signature decodes JPEG, PNG, BMP and GIF and knows
    nothing of the orientation that a camera stores. A file that is not
    upright, and one in another format, is encoded again as PNG; the bytes of
    any other are returned as they are.

    Args:
        path: A BMP, GIF, JPEG, PNG or WebP file.
        max_pixels: The largest number of pixels. Defaults to 50 million.

    Returns:
        The contents of an image file that is upright.

    Raises:
        ImportError: If pillow is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not an image or is too large.

    Example:

    >>> # contents = [read_image_bytes(path) for path in ("cat.jpg", "dog.jpg")]
    >>> # client.predict("student", {"image_bytes": contents}, "image_bytes")
    """
    with _opened(path, max_pixels) as image:
        turned = image.getexif().get(ORIENTATION, 1) != 1
        if not turned and image.format != "WEBP":
            image.load()  # A file that is cut off is found here, and named.
            return pathlib.Path(path).read_bytes()
        upright = _upright(image)
        if upright.mode not in ("L", "RGB", "RGBA", "P", "I;16"):
            upright = upright.convert("RGB")
        encoded = io.BytesIO()
        upright.save(encoded, "png", exif=b"")
    return encoded.getvalue()


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bilinearly, without antialiasing, as `tf.image.resize`.

    Args:
        image: Array (height, width, channels).
        size: Height and width of the result.

    Returns:
        Array of float32.
    """
    if image.shape[:2] == tuple(size):
        return image.astype("float32")
    for axis, wanted in enumerate(size):
        count = image.shape[axis]
        # Centers of pixels; in float32, as TensorFlow computes them.
        step = np.float32(count / wanted)
        positions = (np.arange(wanted, dtype="float32") + 0.5) * step - 0.5
        floor = np.floor(positions)
        lower = np.maximum(floor, 0).astype(int)
        upper = np.minimum(np.ceil(positions), count - 1).astype(int)
        part = (positions - floor).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        low = np.take(image, lower, axis).astype("float32")
        high = np.take(image, upper, axis).astype("float32")
        image = low + (high - low) * part
    return image


@contextlib.contextmanager
def _opened(path, max_pixels) -> Iterator[Any]:
    """Open an image, of which only the header is read so far."""
    pillow = _pillow()
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"There is no such image: {path}")
    try:
        with warnings.catch_warnings():
            # Our own limit is below the size at which pillow warns.
            warnings.simplefilter("ignore")
            pillow.init()
            formats = [name for name in FORMATS if name in pillow.OPEN]
            with pillow.open(path, formats=formats) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise ValueError(
                        f"it has {width} x {height} pixels, more than the "
                        f"limit of {max_pixels:,}"
                    )
                yield image
    except (
        EOFError,
        OSError,
        SyntaxError,
        ValueError,
        pillow.DecompressionBombError,
    ) as error:
        reason = str(error).strip().split("\n")[0]
        if isinstance(error, _unidentified()):
            reason = f"it is none of the formats {', '.join(FORMATS)}"
        raise ValueError(
            f"The image cannot be read: {path}: {reason}"
        ) from error


def _upright(image):
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _unidentified():
    """Return pillow's error for a file that is not an image."""
    from PIL import UnidentifiedImageError

    return UnidentifiedImageError


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Images are read by pillow, which is not installed: "
            "pip install 'keras-attention-layers[view]'"
        ) from error
    return Image
