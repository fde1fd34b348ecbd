"""Image files: formats, limits, orientation, sizes."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_attention.image_files import check_image
from keras_attention.image_files import read_image
from keras_attention.image_files import read_image_bytes
from keras_attention.image_files import resize_image

ORIENTATION = 0x0112


def picture(height=12, width=8):
    count = height * width * 3
    return (np.arange(count) % 251).reshape(height, width, 3).astype("uint8")


def write_turned(path, orientation, pixels):
    """What a camera held sideways writes: turned pixels and a tag."""
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif)


def png_header(width, height):
    """A PNG whose header tells of a size, with hardly anything after it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data))
            + kind
            + data
            + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "jpg", "webp"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    smooth = np.full((12, 8, 3), (200, 100, 50), "uint8")
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(smooth).save(path, **options)
    found = read_image(path, 3)
    assert found.shape == (12, 8, 3) and found.dtype == "uint8"
    assert np.abs(found.astype(int) - smooth).max() <= 3
    assert read_image(path, 1).shape == (12, 8, 1)
    assert read_image(path, 4).shape == (12, 8, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, orientation):
    upright = picture()
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright[:, ::-1], -1),
        8: np.rot90(upright, -1),
    }[orientation]
    path = tmp_path / "image.png"
    write_turned(path, orientation, np.ascontiguousarray(turned))
    np.testing.assert_array_equal(read_image(path, 3), upright)
    contents = read_image_bytes(path)
    with Image.open(io.BytesIO(contents)) as image:
        # What knows nothing of orientation sees it upright as well.
        np.testing.assert_array_equal(np.asarray(image), upright)
        assert image.getexif().get(ORIENTATION, 1) == 1
    assert (contents == path.read_bytes()) == (orientation == 1)


def test_sixteen_bits_are_not_clipped(tmp_path):
    values = np.arange(0, 65_536, 1024, dtype="uint16").reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = read_image(tmp_path / "deep.png", 1)
    np.testing.assert_array_equal(found[..., 0], values >> 8)


@pytest.mark.parametrize("read", [check_image, read_image_bytes])
def test_the_limit_is_checked_before_anything_is_decoded(tmp_path, read):
    path = tmp_path / "bomb.png"
    for width, height in ((12_000, 12_000), (60_000, 60_000)):
        path.write_bytes(png_header(width, height))
        with pytest.raises(ValueError, match=r"bomb\.png"):
            read(path)
    with pytest.raises(ValueError, match=r"20 x 30 pixels.*limit of 599"):
        path.write_bytes(png_header(20, 30))
        read(path, max_pixels=599)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"no image",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"8BPS\0\1" + b"\0" * 40,
        b"II*\0\x08\0\0\0" + b"\0" * 40,
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_image_is_named(tmp_path, contents):
    path = tmp_path / "broken.png"
    path.write_bytes(contents)
    for read in (check_image, read_image_bytes):
        with pytest.raises(ValueError, match=r"broken\.png: ") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_an_image_that_is_cut_off_is_named(tmp_path):
    path = tmp_path / "short.png"
    noise = np.random.default_rng(0).integers(256, size=(60, 50, 3))
    Image.fromarray(noise.astype("uint8")).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    for read in (read_image_bytes, lambda path: read_image(path, 3)):
        with pytest.raises(ValueError, match=r"short\.png: "):
            read(path)
    with pytest.raises(FileNotFoundError, match="none.png"):
        read_image_bytes(tmp_path / "none.png")


@pytest.mark.tensorflow
@pytest.mark.parametrize("size", [(12, 8), (31, 41), (23, 50), (1, 1)])
def test_resizing_is_tensorflows(size):
    import tensorflow as tf

    image = np.random.default_rng(0).integers(256, size=(23, 37, 3))
    image = image.astype("uint8")
    np.testing.assert_allclose(
        resize_image(image, size),
        tf.image.resize(image, size).numpy(),
        rtol=0,
        atol=1e-4,
    )
