"""A signature for encoded images."""

from typing import Any

import keras
import numpy as np

from keras_attention.image_files import MAX_PIXELS
from keras_attention.pixels import PixelRange
from keras_attention.pixels import find_pixel_range
from keras_attention.pixels import inner_pixel_range
from keras_attention.serving.signatures import EXAMPLE_SIZES
from keras_attention.serving.signatures import Signature
from keras_attention.serving.signatures import name_outputs
from keras_attention.serving.signatures import pack_inputs
from keras_attention.validation import check_positive_integer


class ImageBytesSignature(Signature):
    """Predictions for encoded images: JPEG, PNG, BMP or GIF files' bytes.

    In the graph each image is decoded, resized bilinearly to the size that
    the model takes, and scaled to the range of pixels that it takes. An image
    whose header tells of more pixels than `max_pixels` is refused before it
    is decoded. The orientation that a camera stores in EXIF is **not**
    applied: TensorFlow has no operation for it. `read_image_bytes`, which
    the command line uses too, gives files that are upright. The input is
    called `image_bytes`.

    Args:
        image_size: `(height, width)`, or `None` for the size of the model's
            input, which must then be defined. Defaults to `None`.
        pixels: The range that pixels of 0 to 255 are scaled to: a
            `PixelRange` or a text that `PixelRange.parse` takes, or `None`
            for the model's, by `keras_attention.find_pixel_range`. Another
            one than the model is known to take is refused when the export is
            verified. Defaults to `None`.
        max_pixels: The largest number of pixels that is decoded. Defaults to
            50 million.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            export for a model that takes anything but one image.
    """

    def __init__(
        self,
        image_size: tuple[int, int] | None = None,
        pixels: str | PixelRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        if image_size is not None:
            if not isinstance(image_size, list | tuple) or len(image_size) != 2:
                raise ValueError(
                    "`image_size` must be (height, width). "
                    f"Received: image_size={image_size!r}"
                )
            for name, size in zip(("height", "width"), image_size, strict=True):
                check_positive_integer(name, size)
        self.image_size = image_size
        self.pixels = None if pixels is None else PixelRange.parse(pixels)
        self.max_pixels = check_positive_integer("max_pixels", max_pixels)

    def inputs(self, model: keras.Model) -> Any:
        import tensorflow as tf

        return [tf.TensorSpec((None,), "string", "image_bytes")]

    def pixel_range(self, model: keras.Model) -> PixelRange:
        """Return the range that pixels are scaled to."""
        return self.pixels or find_pixel_range(model).pixels

    def check_pixels(self, model: keras.Model) -> None:
        """Raise `ValueError` if the model is known to take another range."""
        fed = self.pixel_range(model)
        for found in (inner_pixel_range(model), find_pixel_range(model)):
            if found and not found.assumed and found.pixels != fed:
                raise ValueError(
                    "ImageBytesSignature must scale pixels to the range that "
                    f"the model takes, {found}. Received: pixels of {fed}. "
                    "Leave `pixels` out, or pass `verify=False`."
                )

    def function(self, model: keras.Model) -> Any:
        import tensorflow as tf

        size, channels, data_format = self._image(model)
        dtype = tf.dtypes.as_dtype(model.inputs[0].dtype)
        pixels = self.pixel_range(model)

        def decode(contents):
            count = _count_pixels(contents)
            checked = tf.debugging.assert_less_equal(
                count,
                tf.constant(self.max_pixels, "int64"),
                "The image has more pixels than the limit of "
                f"{self.max_pixels}.",
            )
            with tf.control_dependencies([checked] if checked else []):
                contents = tf.identity(contents)
            image = tf.io.decode_image(
                contents, channels, expand_animations=False
            )
            image.set_shape((None, None, channels))
            return tf.image.resize(image, size)

        def predict(image_bytes):
            images = tf.map_fn(
                decode,
                image_bytes,
                fn_output_signature=tf.TensorSpec((*size, channels)),
                # Each has an image in memory that may be large.
                parallel_iterations=4,
            )
            if dtype.is_integer:
                images = tf.round(images)
            else:
                images = pixels.scale_images(images)
            if data_format == "channels_first":
                images = tf.transpose(images, (0, 3, 1, 2))
            outputs = model(
                pack_inputs(model, [tf.cast(images, dtype)]), training=False
            )
            return name_outputs(model, outputs)

        return predict

    def example(self, model: keras.Model, number: int = 0) -> Any:
        import tensorflow as tf

        (height, width), channels, _ = self._image(model)
        count = EXAMPLE_SIZES[number][0]
        images = np.random.default_rng(number).integers(
            256,
            size=(count, height + 1 + number, width + 3, channels),
            dtype="uint8",
        )
        encoded = [tf.io.encode_png(image).numpy() for image in images]
        return {"image_bytes": np.array(encoded, object)}

    def _image(self, model):
        shape = tuple(model.inputs[0].shape)
        if len(model.inputs) != 1 or len(shape) != 4:
            raise ValueError(
                "ImageBytesSignature takes a model of one image. Received: "
                f"model '{model.name}' with inputs of shape "
                f"{', '.join(str(tuple(x.shape)) for x in model.inputs)}"
            )
        first = shape[1] in (1, 3, 4) and shape[-1] not in (1, 3, 4)
        data_format = "channels_first" if first else "channels_last"
        size = shape[2:] if first else shape[1:3]
        channels = shape[1] if first else shape[3]
        size = self.image_size or size
        if channels not in (1, 3, 4) or None in size:
            raise ValueError(
                "An encoded image has 1, 3 or 4 channels and is resized to a "
                "known size. Give `image_size=(height, width)`. Received: "
                f"image_size={self.image_size} for an input of shape {shape}"
            )
        return tuple(size), channels, data_format


def _count_pixels(contents):
    """The number of pixels that an encoded image's header tells of.

    0 for what is not a JPEG, PNG, GIF or BMP, which the decoder then refuses.
    """
    import tensorflow as tf

    head = tf.strings.substr(contents + tf.constant(b"\0" * 32), 0, 32)
    head = tf.cast(tf.reshape(tf.io.decode_raw(head, "uint8"), (32,)), "int64")

    def starts(text):
        return tf.reduce_all(head[: len(text)] == list(text))

    def number(*places):
        """The value of bytes, the most significant first."""
        value = tf.constant(0, "int64")
        for place in places:
            value = value * 256 + head[place]
        return value

    def jpeg():
        height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(contents), 3)
        return tf.cast(height, "int64") * tf.cast(width, "int64")

    def bmp():
        # A height may be negative, of rows that run down.
        height = number(25, 24, 23, 22)
        height = tf.minimum(height, 2**32 - height)
        return number(21, 20, 19, 18) * height

    return tf.case(
        [
            (starts(b"\xff\xd8\xff"), jpeg),
            (
                starts(b"\x89PNG"),
                lambda: number(16, 17, 18, 19) * number(20, 21, 22, 23),
            ),
            (starts(b"GIF8"), lambda: number(7, 6) * number(9, 8)),
            (starts(b"BM"), bmp),
        ],
        default=lambda: tf.constant(0, "int64"),
    )
