"""The signatures of an export: what a client may send, and what comes back."""

import keyword
import re
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_attention.image_files import MAX_PIXELS
from keras_attention.inspection import find_layer
from keras_attention.inspection import read_outputs
from keras_attention.inspection import split_name
from keras_attention.pixels import PixelRange
from keras_attention.pixels import find_pixel_range
from keras_attention.pixels import inner_pixel_range
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer

# Inputs are arguments of a function; outputs are keys.
NAMES = {
    "input": re.compile(r"[A-Za-z][A-Za-z0-9_]*"),
    "output": re.compile(r"[A-Za-z][A-Za-z0-9_.-]*"),
}
RESERVED = {*keyword.kwlist, "self", "cls"}
# Batch and further axes of what an export is verified with: even sizes, and
# two kinds of odd ones, at which a converter may round otherwise.
EXAMPLE_SIZES = ((2, 32, 32), (3, 37, 41), (1, 9, 7))


class Signature:
    """A function of a model that an export offers under a name."""

    def inputs(self, model: keras.Model) -> list[Any]:
        """Return the `tf.TensorSpec` of each input, named."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `inputs`."
        )

    def function(self, model: keras.Model) -> Callable[..., dict[str, Any]]:
        """Return a function from the inputs to the outputs by name."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `function`."
        )

    def example(
        self, model: keras.Model, number: int = 0
    ) -> dict[str, np.ndarray]:
        """Return random inputs to try it with.

        Args:
            model: The model that is exported.
            number: Index into `EXAMPLE_SIZES`, the sizes that open axes get.
        """
        return {spec.name: _draw(spec, number) for spec in self.inputs(model)}

    def tracked(self) -> list[Any]:
        """Return what has variables or tables and is not in the model."""
        return []


class PredictionSignature(Signature):
    """The model as it is: its inputs and outputs by their names."""

    def inputs(self, model: keras.Model) -> Any:
        import tensorflow as tf

        return [
            tf.TensorSpec(shape, tensor.dtype, tensor.name)
            for shape, tensor in zip(
                input_shapes(model), model.inputs, strict=True
            )
        ]

    def function(self, model: keras.Model) -> Any:
        def predict(*tensors):
            return name_outputs(
                model, model(pack_inputs(model, tensors), training=False)
            )

        return predict


class AttentionSignature(PredictionSignature):
    """The predictions, and beside them what chosen layers attend to.

    The model runs once. An output is named after its tap, with `_map`,
    `_gate` or `_scores` at its end, and `/` turned into `_`; taps whose names
    would be one are refused.

    Args:
        taps: names of layers; see `keras_attention.inspection`. A layer's name
            gives its activation attention map, the sum over channels of the
            squared activation; `"name:gate"` gives a gate and
            `"name:scores"` attention scores.

    Raises:
        TypeError: if `taps` is not a list of names.
        ValueError: if it is empty.
    """

    def __init__(self, taps: Iterable[str]):
        if isinstance(taps, str) or not isinstance(taps, Iterable):
            raise TypeError(
                f"`taps` must be a list of names. Received: taps={taps!r}"
            )
        self.taps = list(taps)
        if not self.taps:
            raise ValueError("`taps` must name a layer. Received: taps=[]")

    def function(self, model: keras.Model) -> Any:
        for tap in self.taps:
            find_layer(model, split_name(tap)[0])
        names = self._names(model)

        def attend(*tensors):
            outputs, values = read_outputs(
                model, pack_inputs(model, tensors), self.taps
            )
            named = name_outputs(model, outputs)
            for tap, value in values.items():
                path, kind = split_name(tap)
                if kind == "output":
                    value = _map(model, path, value)
                if kind == "filters" and len(value.shape) == 2:
                    value = _for_each(value, tensors[0])
                named[names[tap]] = value
            return named

        return attend

    def _names(self, model):
        """The name of each tap's output; each of them must be another."""
        names = {}
        taken = dict.fromkeys(output_names(model), "an output of the model")
        for tap in self.taps:
            path, kind = split_name(tap)
            kind = "map" if kind == "output" else kind
            name = f"{path.replace('/', '_')}_{kind}"
            if tap not in names and name in taken:
                raise ValueError(
                    "Each value of an AttentionSignature must have a name of "
                    f"its own. Received: '{tap}' and {taken[name]}, which "
                    f"are both called '{name}'. Rename one of the layers, or "
                    "export two signatures."
                )
            if not NAMES["output"].fullmatch(name):
                raise ValueError(
                    "The name of an output of an export must be of ASCII "
                    "letters, digits and '_', and begin with a letter. "
                    f"Received: '{name}' of the layer '{path}'. Rename it."
                )
            names[tap] = name
            taken[name] = f"'{tap}'"
        return names


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

    0 for what is no JPEG, PNG, GIF or BMP, which the decoder then refuses.
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


class TextSignature(Signature):
    """Predictions for text, which a `TextVectorization` turns into tokens.

    A model that begins with such a layer takes text by itself; this is for
    one that takes tokens. The input is called `text`.

    Args:
        vectorizer: an adapted `keras.layers.TextVectorization`.

    Raises:
        TypeError: for any other object.
    """

    def __init__(self, vectorizer: keras.layers.TextVectorization):
        if not isinstance(vectorizer, keras.layers.TextVectorization):
            raise TypeError(
                "`vectorizer` must be a keras.layers.TextVectorization. "
                f"Received: vectorizer={vectorizer!r}"
            )
        self.vectorizer = vectorizer
        if not vectorizer.built:
            vectorizer.build((None,))

    def tracked(self) -> list[Any]:
        return [self.vectorizer]

    def inputs(self, model: keras.Model) -> Any:
        import tensorflow as tf

        return [tf.TensorSpec((None,), "string", "text")]

    def function(self, model: keras.Model) -> Any:
        def predict(text):
            tokens = keras.ops.cast(
                self.vectorizer(text), model.inputs[0].dtype
            )
            return name_outputs(
                model, model(pack_inputs(model, [tokens]), training=False)
            )

        return predict


def pack_inputs(model: keras.Model, tensors: Iterable[Any]) -> Any:
    """Put a flat list of inputs into the structure that the model takes."""
    # A Sequential model has one input, and no `input` before its first call.
    sequential = isinstance(model, keras.Sequential)
    structure = model.inputs[0] if sequential else model.input
    return keras.tree.pack_sequence_as(structure, list(tensors))


def input_shapes(model: keras.Model) -> list[tuple]:
    """Return the shape of each input of an export.

    A Sequential model that was built by a call has the batch size of the
    example it was called with; the export takes any, unless a layer keeps a
    state for each example of a batch.
    """
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    stateful = any(
        getattr(layer, "stateful", False) for layer in model._flatten_layers()
    )
    if isinstance(model, keras.Sequential) and not stateful:
        shapes = [(None, *shape[1:]) for shape in shapes]
    return shapes


def name_outputs(model: keras.Model, outputs: Tensor) -> dict[str, Any]:
    """Return the outputs by name.

    The names are the keys of a dictionary, those of nested ones joined by
    `_`; what has no key is called as the layer that gives it.

    Raises:
        ValueError: If two outputs would have the same name.
    """
    leaves = keras.tree.flatten(outputs)
    return dict(zip(output_names(model), leaves, strict=True))


def output_names(model: keras.Model) -> list[str]:
    """Return the name of each output; see `name_outputs`."""
    # A Sequential model has no `output` before its first call.
    sequential = isinstance(model, keras.Sequential)
    structure = model.outputs[0] if sequential else model.output
    names: list[str] = []
    for (path, _), tensor in zip(
        keras.tree.flatten_with_path(structure), model.outputs, strict=True
    ):
        keys = [str(key) for key in path]
        if any(not isinstance(key, int) for key in path):
            name = "_".join(keys)
            if name in names:
                raise ValueError(
                    "Each output of the model must have a name of its own: "
                    "keys of nested dictionaries are joined by '_'. "
                    f"Received: two outputs called '{name}'. Rename one."
                )
            names.append(name)
            continue
        base = name = tensor._keras_history.operation.name
        count = 0
        while name in names:
            count += 1
            name = f"{base}_output_{count}"
        names.append(name)
    return names


def check_names(model: keras.Model) -> None:
    """Raise `ValueError` for names that an export cannot have."""
    inputs = [tensor.name for tensor in model.inputs]
    for kind, names in (("input", inputs), ("output", output_names(model))):
        for name in names:
            # An input becomes the argument of a function.
            reserved = RESERVED if kind == "input" else ()
            if not NAMES[kind].fullmatch(name) or name in reserved:
                raise ValueError(
                    f"The name of an {kind} of an export must be of ASCII "
                    "letters, digits and '_', begin with a letter, and an "
                    "input's must not be a keyword of Python. "
                    f"Received: {kind} {name!r} of the "
                    f"model '{model.name}'. Export a model with other names: "
                    "`x = keras.Input(shape, name=...)` and "
                    "`keras.Model(x, {name: model(x)})`."
                )


def _for_each(value, batch):
    """Repeat what all examples share: a server's outputs have a batch axis."""
    count = keras.ops.shape(batch)[0]
    return keras.ops.broadcast_to(value[None], (count, *value.shape))


def _draw(spec, number):
    generator = np.random.default_rng(number)
    open_sizes = EXAMPLE_SIZES[number]
    shape = [
        open_sizes[min(axis, 2)] if size is None else size
        for axis, size in enumerate(spec.shape)
    ]
    if spec.dtype.name == "string":
        return np.full(shape, b"two words", object)
    if spec.dtype.is_floating:
        return generator.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
    # Of integers, 0 and 1 are the most likely to be valid everywhere.
    return generator.integers(2, size=shape).astype(spec.dtype.as_numpy_dtype)


def _map(model, path, activation):
    from keras_attention.ops.attention_maps import sum_map

    if len(activation.shape) < 3:
        raise ValueError(
            "The attention map of a layer is that of an activation with "
            f"positions. Received: layer '{path}' with an output of shape "
            f"{tuple(activation.shape)}"
        )
    data_format = getattr(find_layer(model, path), "data_format", None)
    return sum_map(
        activation, channel_axis=1 if data_format == "channels_first" else -1
    )
