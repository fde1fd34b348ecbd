"""Images and labels for a model: from a folder of classes or an .npz file."""

import pathlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_attention.commands.pixels import find_pixels
from keras_attention.commands.pixels import scale_array
from keras_attention.files import read_arrays
from keras_attention.image_files import MODES
from keras_attention.image_files import SUFFIXES
from keras_attention.image_files import check_image
from keras_attention.image_files import is_image_file
from keras_attention.image_files import read_image
from keras_attention.image_files import resize_image
from keras_attention.pixels import FoundPixelRange


@dataclass(frozen=True)
class ImageFormat:
    """The images that a model takes.

    Attributes:
        size: height and width.
        channels: number of channels.
        data_format: `"channels_last"` or `"channels_first"`.
        pixels: the range that 8-bit pixels are scaled to, and its source.
    """

    size: tuple[int, int]
    channels: int
    data_format: str
    pixels: FoundPixelRange

    @classmethod
    def of_model(
        cls,
        model: keras.Model,
        pixels: str | None = None,
        size: tuple[int, int] | None = None,
    ) -> "ImageFormat":
        """Read the format off a model's input.

        Args:
            model: a model with one input, an image.
            pixels: a range as `--pixels` takes it; `None` for the model's.
            size: height and width for a model that takes any.

        Raises:
            ValueError: If the model takes something else, or its size is
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
        last = shape[-1] in MODES
        if not last and shape[1] not in MODES:
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
            find_pixels(model, pixels),
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
        training: arrays `(x, y)`, or an `ImageFolder`.
        validation: the same, or `None`.
        count: number of training images.
        classes: number of classes.
        names: the classes' names, those of the folders; `None` where there
            are only arrays.
    """

    training: Any
    validation: Any
    count: int
    classes: int
    names: list[str] | None = None

    def with_batches(self, batch_size: int) -> "ImageData":
        """Set the size of the batches of what is read from folders."""
        for data in (self.training, self.validation):
            if isinstance(data, ImageFolder):
                data.batch_size = batch_size
        return self


class ImageFolder(keras.utils.PyDataset):
    """Batches of a folder's images, read when they are asked for.

    Args:
        files: paths of images.
        labels: an integer for each.
        image_format: what the images are made to be.
        batch_size: Number of images of a batch. Defaults to 128.
        seed: Seed of the order, which is another one in each epoch; `None` for
            the order of `files`.
    """

    def __init__(
        self,
        files: list[pathlib.Path],
        labels: np.ndarray,
        image_format: ImageFormat,
        batch_size: int = 128,
        seed: int | None = None,
    ):
        super().__init__(workers=2, max_queue_size=4)
        self.files = files
        self.labels = labels
        self.image_format = image_format
        self.batch_size = batch_size
        self._generator = None if seed is None else np.random.default_rng(seed)
        self._order = np.arange(len(files))
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(f"There is no batch {index} of {len(self)}")
        start = index * self.batch_size
        return self.read(self._order[start : start + self.batch_size])

    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read the images and labels of some numbers, in their order."""
        form = self.image_format
        images = np.stack(
            [
                resize_image(
                    read_image(self.files[number], form.channels), form.size
                )
                for number in numbers
            ]
        )
        images = scale_array(images, form.pixels, "", eight_bit=True)
        if form.data_format == "channels_first":
            images = np.moveaxis(images, -1, 1)
        return images, self.labels[numbers]

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        if self._generator is not None:
            self._order = self._generator.permutation(len(self.files))


def load_images(
    path: str,
    image_format: ImageFormat,
    batch_size: int = 128,
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
        batch_size: Batch size of a data set that is read from a folder.
        validation: the same as `path`, for validation. `None` takes `x_test`
            and `y_test` of an .npz file that has them, unless `split` is
            given.
        split: part of the training images that is kept for validation.
        seed: Seed of the split and of the order of a folder's images.
        in_memory: whether a folder is read into arrays.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If it holds something else.
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
    if split and not count_images(held_out):
        raise ValueError(
            "--validation-split leaves no image to validate with: give a "
            f"larger part. Received: --validation-split {split:g} of "
            f"{count_images(training)} images"
        )
    if validation and pathlib.Path(validation).is_dir():
        held_out, names = _validation_folder(
            validation, image_format, batch_size, names
        )
    elif validation:
        held_out, _ = _npz(validation, image_format)
    return ImageData(training, held_out, count_images(training), classes, names)


def count_images(data: Any) -> int:
    """Return the number of images of arrays, an `ImageFolder` or `None`."""
    if data is None:
        return 0
    return len(data[0] if isinstance(data, tuple) else data.files)


def _folders(path, image_format, batch_size, split=0.0, seed=0, names=None):
    """Training and held out images of a folder, and the classes' names."""
    folder = pathlib.Path(path)
    found = {
        child.name: sorted(
            file for file in child.rglob("*") if is_image_file(file, child)
        )
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".")
    }
    # Those of the training images, or labels would mean other classes.
    if names is not None and set(found) - set(names):
        raise ValueError(
            "The folders of --validation must be among those of the training "
            f"images, {', '.join(names)}. Received: {path} with "
            f"{', '.join(found)}"
        )
    names = list(found) if names is None else names
    files = [file for name in names for file in found.get(name, [])]
    counts = [len(found.get(name, [])) for name in names]
    if not files:
        raise ValueError(
            f"There are no images ({', '.join(SUFFIXES)}) in the folders of "
            f"{path}: it must have one folder of images for each class."
        )
    for file in files:
        check_image(file)
    labels = np.repeat(np.arange(len(names)), counts)
    kept = np.arange(len(files))
    held_out = None
    if split:
        order = np.random.default_rng(seed).permutation(len(files))
        count = max(1, len(files) - round(len(files) * split))
        kept, rest = np.sort(order[:count]), np.sort(order[count:])
        held_out = ImageFolder(
            [files[n] for n in rest], labels[rest], image_format, batch_size
        )
    training = ImageFolder(
        [files[n] for n in kept], labels[kept], image_format, batch_size, seed
    )
    return training, held_out if split and len(rest) else None, names


def _validation_folder(path, image_format, batch_size, names):
    training, _, names = _folders(path, image_format, batch_size, names=names)
    held_out = ImageFolder(
        training.files, training.labels, image_format, batch_size
    )
    return held_out, names


def _arrays_of(dataset):
    return tuple(map(np.concatenate, zip(*dataset, strict=True)))


def load_arrays(path: str) -> Any:
    """Read the arrays of an .npz file of images, by name."""
    try:
        return read_arrays(path)
    except ValueError as error:
        raise ValueError(
            "Images are read from a folder with one folder for each class, "
            "or from an .npz file with x_train and y_train. "
            f"Received: {path}, which is neither: {error}"
        ) from error


def _npz(path, image_format, split=0.0, seed=0):
    """Arrays of a file, training and validation."""
    held = load_arrays(path)
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


def scale_images(
    path: str, x: np.ndarray, image_format: ImageFormat
) -> np.ndarray:
    """Check the images of a file, and scale them to the model's range."""
    last = image_format.data_format == "channels_last"
    if x.ndim == 3:
        x = np.expand_dims(x, -1 if last else 1)
    if x.shape[1:] != image_format.shape or not len(x):
        raise ValueError(
            f"The images of the file must have the shape that the model "
            f"takes, {image_format.shape}. Received: {path} with "
            f"{len(x)} images of {x.shape[1:]}"
        )
    return scale_array(x, image_format.pixels, path, last)


def _scaled(path, x, y, image_format):
    x = scale_images(path, x, image_format)
    labels = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    integers = np.issubdtype(y.dtype, np.integer)
    if labels.shape != (len(x),) or not integers or labels.min() < 0:
        values = f", from {y.min()} on," if integers and y.size else ""
        raise ValueError(
            "The labels of the file must be one integer for each image, "
            "from 0 on. "
            f"Received: {path} with labels of {y.dtype} and shape {y.shape}"
            f"{values} for {len(x)} images"
        )
    return x, labels.astype("int64")
