"""Images and labels for a model: from a folder of classes or an .npz file."""

import contextlib
import io
import pathlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

# What 8-bit pixels are multiplied by, and what is added.
PIXELS = {"0,255": (1.0, 0.0), "0,1": (1 / 255, 0.0), "-1,1": (2 / 255, -1.0)}
COLOR_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}


@dataclass(frozen=True)
class ImageFormat:
    """The images that a model takes.

    Attributes:
        size: height and width.
        channels: number of channels.
        data_format: `"channels_last"` or `"channels_first"`.
        pixels: a key of `PIXELS`, the range that 8-bit pixels are scaled to.
    """

    size: tuple[int, int]
    channels: int
    data_format: str
    pixels: str

    @classmethod
    def of_model(
        cls,
        model: keras.Model,
        pixels: str,
        size: tuple[int, int] | None = None,
    ) -> "ImageFormat":
        """Read the format off a model's input.

        Args:
            model: a model with one input, an image.
            pixels: a key of `PIXELS`.
            size: height and width for a model that takes any.

        Raises:
            ValueError: if the model takes something else, or its size is
                not known.
        """
        shape = getattr(model, "input_shape", None)
        if not isinstance(shape, tuple) or len(shape) != 4:
            raise ValueError(
                "The model must take one image, (batch, height, width, "
                "channels). Train it in Python otherwise, with "
                "keras_attention.AttentionTransferModel. Received: "
                f"'{model.name}' with input shape {shape}"
            )
        last = shape[-1] in COLOR_MODES
        if not last and shape[1] not in COLOR_MODES:
            raise ValueError(
                "Images have 1, 3 or 4 channels. Received: "
                f"'{model.name}' with input shape {shape}"
            )
        positions = shape[1:3] if last else shape[2:]
        found = tuple(
            size[axis] if known is None and size else known
            for axis, known in enumerate(positions)
        )
        if None in found:
            raise ValueError(
                "The model takes images of any size: give --image-size H,W. "
                f"Received: '{model.name}' with input shape {shape}"
            )
        if size and size != found:
            raise ValueError(
                f"--image-size is not the size that the model takes, "
                f"{found[0]},{found[1]}: leave it out. Received: "
                f"--image-size {size[0]},{size[1]}"
            )
        return cls(
            found,
            shape[-1 if last else 1],
            "channels_last" if last else "channels_first",
            pixels,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        if self.data_format == "channels_last":
            return (*self.size, self.channels)
        return (self.channels, *self.size)


@dataclass(frozen=True)
class ImageData:
    """Images and their labels.

    Attributes:
        training: arrays `(x, y)`, or a batched `tf.data.Dataset`.
        validation: the same, or `None`.
        steps: number of training batches.
        classes: number of classes.
    """

    training: Any
    validation: Any
    steps: int
    classes: int


def load_images(
    path: str,
    image_format: ImageFormat,
    batch_size: int,
    validation: str | None = None,
    split: float = 0.0,
    seed: int = 0,
    in_memory: bool = False,
) -> ImageData:
    """Load the images of a folder or file.

    Args:
        path: a folder with one folder of images for each class; or an .npz
            file with `x_train` and `y_train`, or `x` and `y`: 8-bit images.
        image_format: what the images are made to be. Images of a folder are
            resized; arrays must have the size.
        batch_size: of a data set that is read from a folder.
        validation: the same as `path`, for validation. `None` takes `x_test`
            and `y_test` of an .npz file that has them, unless `split` is
            given.
        split: part of the training images that is kept for validation.
        seed: of the split and of the order of a folder's images.
        in_memory: whether a folder is read into arrays.

    Raises:
        FileNotFoundError: if there is no such folder or file.
        ValueError: if it holds something else.
    """
    for name in filter(None, (path, validation)):
        if not pathlib.Path(name).exists():
            raise FileNotFoundError(
                f"There is no such folder or file of images: {name}"
            )
    if validation and split:
        raise ValueError(
            "Validation images are told by one of --validation and "
            f"--validation-split. Received: {validation} and {split}"
        )
    names = None
    if pathlib.Path(path).is_dir():
        training, held_out, names = _folders(
            path, image_format, batch_size, split, seed
        )
        classes = len(names)
        if in_memory:
            training = _arrays_of(training)
    else:
        training, held_out = _npz(path, image_format, split, seed)
        classes = int(training[1].max()) + 1
    if validation and pathlib.Path(validation).is_dir():
        held_out, *_ = _folders(
            validation, image_format, batch_size, class_names=names
        )
    elif validation:
        held_out, _ = _npz(validation, image_format)
    if isinstance(training, tuple):
        steps = -(-len(training[0]) // batch_size)
    else:
        steps = int(training.cardinality())
    return ImageData(training, held_out, steps, classes)


def _folders(
    path, image_format, batch_size, split=0.0, seed=0, class_names=None
):
    """Data sets of a folder with one folder of images for each class."""
    # Keras tells of a split on the output whatever `verbose` is.
    with contextlib.redirect_stdout(io.StringIO()):
        found = keras.utils.image_dataset_from_directory(
            path,
            # Those of the training images, or labels would mean other classes.
            class_names=class_names,
            color_mode=COLOR_MODES[image_format.channels],
            batch_size=batch_size,
            image_size=image_format.size,
            seed=seed,
            validation_split=split or None,
            subset="both" if split else None,
            data_format=image_format.data_format,
            verbose=False,
        )
    training, held_out = found if split else (found, None)
    names = training.class_names
    scale, offset = PIXELS[image_format.pixels]
    sets = [
        each and each.map(lambda x, y: (x * scale + offset, y)).prefetch(2)
        for each in (training, held_out)
    ]
    return *sets, names


def _arrays_of(dataset):
    batches = [tuple(map(np.asarray, batch)) for batch in dataset]
    return tuple(map(np.concatenate, zip(*batches, strict=True)))


def _npz(path, image_format, split=0.0, seed=0):
    """Arrays of a file, training and validation."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
    except (ValueError, AttributeError, EOFError) as error:
        raise ValueError(
            "Images are read from a folder with one folder for each class, "
            "or from an .npz file with x_train and y_train. "
            f"Received: {path}, which is neither"
        ) from error
    for x, y in (("x_train", "y_train"), ("x", "y")):
        if x in held and y in held:
            training = _scaled(path, held[x], held[y], image_format)
            break
    else:
        raise ValueError(
            "The .npz file must have the arrays x_train and y_train, or x "
            f"and y. Received: {path} with {', '.join(held) or 'none'}"
        )
    if split:
        count = len(training[0])
        order = np.random.default_rng(seed).permutation(count)
        kept = max(1, count - round(count * split))
        first, rest = order[:kept], order[kept:]
        return (
            tuple(array[first] for array in training),
            tuple(array[rest] for array in training),
        )
    if "x_test" in held and "y_test" in held:
        return training, _scaled(
            path, held["x_test"], held["y_test"], image_format
        )
    return training, None


def _scaled(path, x, y, image_format):
    if x.ndim == 3:
        x = np.expand_dims(
            x, -1 if image_format.data_format == "channels_last" else 1
        )
    if x.shape[1:] != image_format.shape or not len(x):
        raise ValueError(
            f"The images of the file must have the shape that the model "
            f"takes, {image_format.shape}. Received: {path} with "
            f"{len(x)} images of {x.shape[1:]}"
        )
    y = y.reshape(len(y), -1)
    integers = np.issubdtype(y.dtype, np.integer)
    if y.shape != (len(x), 1) or not integers or y.min() < 0:
        raise ValueError(
            "The labels of the file must be one integer for each image, "
            "from 0 on. "
            f"Received: {path} with labels of {y.dtype} and shape {y.shape} "
            f"for {len(x)} images"
        )
    scale, offset = PIXELS[image_format.pixels]
    return x.astype("float32") * scale + offset, y[:, 0].astype("int64")
