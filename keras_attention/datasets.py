"""Real images for the demo and the examples: from a package, a path, the net.

Nothing is stored in this package. `digits` comes with scikit-learn;
`fashion-mnist` and `cifar10` come from a path, or by `keras.datasets`, which
keeps what it has downloaded.
"""

import gzip
import io
import pathlib
from typing import NamedTuple

import keras
import numpy as np

from keras_attention.files import read_arrays
from keras_attention.validation import check_choice

# The label of an image that has none: the loss of the labels leaves it out.
UNLABELED = -1

FASHION_CLASSES = [
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
]
CIFAR10_CLASSES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]
# Fashion-MNIST's largest file has 47 million bytes.
MAX_IDX = 100_000_000
DATASETS = ("digits", "fashion-mnist", "cifar10")


class Dataset(NamedTuple):
    """Images `(count, height, width, channels)`, uint8, and their labels."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    class_names: list[str]


def load_dataset(name: str, path: str | pathlib.Path | None = None) -> Dataset:
    """Load a data set of small images.

    Args:
        name: `"digits"` (1,797 gray images 8x8, comes with scikit-learn),
            `"fashion-mnist"` (70,000 gray images 28x28) or `"cifar10"`
            (60,000 color images 32x32).
        path: where the files are, or `None` for `keras.datasets`, which
            downloads them once. For fashion-mnist a folder with the four
            `*-ubyte.gz` files; for cifar10 a `.npz` with `x_train`,
            `y_train`, `x_test`, `y_test`, or one of JPEG files put end to
            end: `train_jpegs`, `train_lengths`, `train_labels` and the same
            for `test`.

    Returns:
        A `Dataset`: `(images, labels)` for training and test, and the names
        of the classes.

    Raises:
        ValueError: for an unknown name, or a path with other contents.
        FileNotFoundError: If there is nothing at the path.
        ConnectionError: If the data set has to be downloaded and cannot be.
        ImportError: If an extra is missing; the message names it.
    """
    check_choice("name", name, DATASETS)
    if name == "digits":
        if path is not None:
            raise ValueError(
                "The data set 'digits' comes with scikit-learn and takes no "
                f"path. Received: path='{path}'"
            )
        return _digits()
    names = FASHION_CLASSES if name == "fashion-mnist" else CIFAR10_CLASSES
    if path is None:
        train, test = _download(name)
    else:
        path = pathlib.Path(path)
        if not path.exists():
            raise FileNotFoundError(
                f"There is no file or folder for the data set '{name}' at "
                f"this path. Received: path='{path}'"
            )
        train, test = (_idx if name == "fashion-mnist" else _npz)(path)
    images = [x if x.ndim == 4 else x[..., None] for x in (train[0], test[0])]
    return Dataset(
        (images[0], train[1].reshape(-1).astype("int64")),
        (images[1], test[1].reshape(-1).astype("int64")),
        names,
    )


def _digits():
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(
            "The data set 'digits' comes with scikit-learn, which is not "
            "installed: pip install 'keras-attention-layers[demo]'"
        ) from error
    digits = load_digits()
    images = np.round(digits.images[..., None] * (255 / 16)).astype("uint8")
    x, x_test, y, y_test = train_test_split(
        images,
        digits.target,
        test_size=450,
        random_state=0,
        stratify=digits.target,
    )
    return Dataset((x, y), (x_test, y_test), [str(n) for n in range(10)])


def _download(name):
    module = getattr(keras.datasets, name.replace("-", "_"))
    try:
        return module.load_data()
    # `get_file` raises a bare Exception when a download fails.
    except Exception as error:
        raise ConnectionError(
            f"The data set '{name}' is not on this machine and could not be "
            f"downloaded: {error} Give the path of a copy: "
            f"load_dataset('{name}', path=...), or `--data PATH` on the "
            "command line."
        ) from error


def _idx(folder):
    """The four files of fashion-mnist as its authors publish them."""
    arrays = []
    for part in ("train", "t10k"):
        for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
            file = folder / f"{part}-{kind}-ubyte.gz"
            if not file.exists():
                raise FileNotFoundError(
                    "A folder of fashion-mnist has four files such as "
                    f"'{file.name}'. Received: path='{folder}', without it"
                )
            with gzip.open(file) as stream:
                contents = stream.read(MAX_IDX)
            arrays.append(np.frombuffer(contents[header:], "uint8"))
    x, y, x_test, y_test = arrays
    return (x.reshape(-1, 28, 28), y), (x_test.reshape(-1, 28, 28), y_test)


def _npz(path):
    arrays = read_arrays(path)
    if "train_jpegs" in arrays:
        return tuple(
            (
                _decode(arrays[f"{p}_jpegs"], arrays[f"{p}_lengths"]),
                arrays[f"{p}_labels"],
            )
            for p in ("train", "test")
        )
    needed = ("x_train", "y_train", "x_test", "y_test")
    if all(key in arrays for key in needed):
        x, y, x_test, y_test = (arrays[key] for key in needed)
        return (x, y), (x_test, y_test)
    raise ValueError(
        f"A file of cifar10 has the arrays {', '.join(needed)}, or "
        "train_jpegs, train_lengths, train_labels and the same for test. "
        f"Received: path='{path}' with {', '.join(arrays)}"
    )


def _decode(jpegs, lengths):
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "JPEG files are read with Pillow, which is not installed: "
            "pip install 'keras-attention-layers[demo]'"
        ) from error
    ends = np.cumsum(lengths)
    return np.stack(
        [
            np.asarray(Image.open(io.BytesIO(jpegs[end - length : end])))
            for end, length in zip(ends, lengths, strict=True)
        ]
    )


def random_passes(
    count: int, total: int, generator: np.random.Generator
) -> np.ndarray:
    """Return `total` numbers: random orders of `count` images, end to end."""
    orders = [generator.permutation(count) for _ in range(-(-total // count))]
    return np.concatenate(orders)[:total]
