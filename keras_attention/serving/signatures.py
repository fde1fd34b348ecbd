"""The signatures of an export: what a client may send, and what comes back."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_attention.inspection import find_layer
from keras_attention.inspection import read_outputs
from keras_attention.inspection import split_name
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


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

    def example(self, model: keras.Model) -> dict[str, np.ndarray]:
        """Return inputs to try it with: random numbers, two examples.

        Sizes that are open are 32.
        """
        return {spec.name: _draw(spec) for spec in self.inputs(model)}

    def tracked(self) -> list[Any]:
        """Return what has variables or tables and is not in the model."""
        return []


class PredictionSignature(Signature):
    """The model as it is: its inputs and outputs by their names."""

    def inputs(self, model):
        import tensorflow as tf

        return [
            tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name)
            for tensor in model.inputs
        ]

    def function(self, model):
        def predict(*tensors):
            return name_outputs(
                model, model(pack_inputs(model, tensors), training=False)
            )

        return predict


class AttentionSignature(PredictionSignature):
    """The predictions, and beside them what chosen layers attend to.

    The model runs once. An output is named after its tap, with `_map`,
    `_gate` or `_scores` at its end, and `/` turned into `_`.

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

    def function(self, model):
        for tap in self.taps:
            find_layer(model, split_name(tap)[0])

        def attend(*tensors):
            outputs, values = read_outputs(
                model, pack_inputs(model, tensors), self.taps
            )
            named = name_outputs(model, outputs)
            for tap, value in values.items():
                path, kind = split_name(tap)
                if kind == "output":
                    kind, value = "map", _map(model, path, value)
                named[f"{path.replace('/', '_')}_{kind}"] = value
            return named

        return attend


class ImageBytesSignature(Signature):
    """Predictions for encoded images: JPEG, PNG, BMP or GIF files' bytes.

    In the graph, each image is decoded, resized bilinearly to the size that
    the model takes, and turned into `scale * value + offset` of its values 0
    to 255. The input is called `image_bytes`.

    Args:
        image_size: `(height, width)`, or `None` for the size of the model's
            input, which must then be defined.
        scale: factor on the values.
        offset: added after the scaling.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range; at
            export for a model that takes anything but one image.
    """

    def __init__(
        self,
        image_size: tuple[int, int] | None = None,
        scale: float = 1 / 255,
        offset: float = 0.0,
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
        self.scale = check_number("scale", scale)
        self.offset = check_number("offset", offset)

    def inputs(self, model):
        import tensorflow as tf

        return [tf.TensorSpec((None,), "string", "image_bytes")]

    def function(self, model):
        import tensorflow as tf

        size, channels, data_format = self._image(model)
        dtype = model.inputs[0].dtype

        def decode(contents):
            image = tf.io.decode_image(
                contents, channels, expand_animations=False
            )
            image.set_shape((None, None, channels))
            return tf.image.resize(tf.cast(image, "float32"), size)

        def predict(image_bytes):
            images = tf.map_fn(
                decode,
                image_bytes,
                fn_output_signature=tf.TensorSpec((*size, channels)),
            )
            images = self.scale * images + self.offset
            if data_format == "channels_first":
                images = tf.transpose(images, (0, 3, 1, 2))
            outputs = model(
                pack_inputs(model, [tf.cast(images, dtype)]), training=False
            )
            return name_outputs(model, outputs)

        return predict

    def example(self, model):
        import tensorflow as tf

        (height, width), channels, _ = self._image(model)
        images = np.random.default_rng(0).integers(
            256, size=(2, height + 1, width + 3, channels), dtype="uint8"
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

    def tracked(self):
        return [self.vectorizer]

    def inputs(self, model):
        import tensorflow as tf

        return [tf.TensorSpec((None,), "string", "text")]

    def function(self, model):
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


def name_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """Return the outputs by name: those of the layers that give them."""
    if isinstance(outputs, dict):
        return dict(outputs)
    names: list[str] = []
    for tensor in model.outputs:
        name = tensor._keras_history.operation.name
        count = sum(other.split("_output_")[0] == name for other in names)
        names.append(f"{name}_output_{count}" if count else name)
    return dict(zip(names, keras.tree.flatten(outputs), strict=True))


def _draw(spec):
    generator = np.random.default_rng(0)
    sizes = list(spec.shape)
    shape = [
        size if size is not None else (2 if axis == 0 else 32)
        for axis, size in enumerate(sizes)
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
