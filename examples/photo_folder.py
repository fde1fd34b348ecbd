"""Does the default of `keras-attention transfer` pay on photographs?

    python examples/photo_folder.py --data cifar10.npz \\
        --teacher teacher.weights.h5
    python examples/photo_folder.py --fast

Folders of 30 photographs per class are sampled from CIFAR-10. For each, a
WRN-16-1 is trained by the command, once with the labels alone and once with
the attention maps of its teacher as well, from the same weights:

    keras-attention transfer student.keras teacher.keras draw0/ \\
        --validation test/ --compare-alone --out distilled.keras

The teacher is that of `few_labels_cifar10.py`, which writes its weights.

Result, with a teacher of 84.3 %, accuracy in % on 1,500 test images, 5 folders
of 300 photographs, with 95 % intervals (an hour next to other work):

    labels alone      31.7 ± 1.4
    attention maps    34.5 ± 2.5, +2.8 ± 2.6 by folder

The images are not augmented. See `few_labels_cifar10.py` for longer trainings
with augmentation, and for what the teacher's outputs add.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np

from keras_attention import PixelRange
from keras_attention import set_pixel_range
from keras_attention.datasets import load_dataset
from keras_attention.demo.report import table
from keras_attention.demo.training import Row
from keras_attention.models import WideResNet
from keras_attention.pixels import save_model

PIXELS = PixelRange(0, 255, (125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
STUDENT, TEACHER = (16, 1), (16, 2)
ALONE, ATTENTION = "labels alone", "attention maps"


def write_photographs(images, labels, names, per_class, seed, folder):
    """Writes random images of each class as PNG, in a folder per class."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(names):
        path = folder / name
        path.mkdir(parents=True, exist_ok=True)
        chosen = random.permutation(np.flatnonzero(labels == label))[:per_class]
        for number in chosen:
            keras.utils.save_img(
                path / f"{number}.png", images[number], scale=False
            )


def write_model(size, path, weights=None):
    """Saves a wide residual network with the range of its pixels."""
    keras.utils.set_random_seed(0)
    model = WideResNet(*size, input_shape=(32, 32, 3), name=path.stem)
    if weights is not None:
        model.load_weights(weights)
    set_pixel_range(model, PIXELS)
    save_model(model, path)


def transfer(folder, draw, extra):
    """Runs the command; returns the accuracies of both students, in percent."""
    command = [
        *(sys.executable, "-m", "keras_attention", "transfer"),
        *(folder / "student.keras", folder / "teacher.keras", folder / draw),
        *("--validation", folder / "test", "--compare-alone", "--json"),
        *("--out", folder / f"{draw}.keras", "--overwrite", *extra),
    ]
    run = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(run.stdout)["validation_accuracy"]
    return 100 * found["alone"], 100 * found["after"]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", help="path of CIFAR-10's files")
    parser.add_argument("--teacher", help="weights of WRN-16-2")
    parser.add_argument("--folder", type=pathlib.Path, default="photo-folder")
    parser.add_argument("--images", type=int, default=30, help="per class")
    parser.add_argument("--tested", type=int, default=150, help="per class")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument(
        "--fast",
        action="store_true",
        help="2 random images per class, an untrained teacher, one epoch: "
        "does everything run?",
    )
    options = parser.parse_args(arguments)
    if options.fast:
        options.images, options.tested, options.draws = 2, 2, 1
        names = list("abcdefghij")
        x = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), "uint8")
        train = test = x, np.arange(40) % 10
    else:
        if options.teacher is None:
            parser.error("--teacher is needed: see few_labels_cifar10.py")
        train, test, names = load_dataset("cifar10", options.data)
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        # Images of another run would be trained on too.
        parser.error(f"--folder must be new or empty. Received: {folder}")
    write_model(STUDENT, folder / "student.keras")
    write_model(TEACHER, folder / "teacher.keras", options.teacher)
    write_photographs(*test, names, options.tested, 0, folder / "test")
    rows = [Row(ALONE), Row(ATTENTION)]
    for seed in range(options.draws):
        draw = f"draw{seed}"
        write_photographs(*train, names, options.images, seed, folder / draw)
        found = transfer(
            folder, draw, ["--epochs", "1"] if options.fast else []
        )
        for row, accuracy in zip(rows, found, strict=True):
            row.accuracies.append(accuracy)
        print(
            f"{draw}: "
            + ", ".join(f"{r.name} {r.accuracies[-1]:.1f}" for r in rows),
            flush=True,
        )
    if options.draws > 1:
        print(table(f"{options.images} photographs per class", rows))


if __name__ == "__main__":
    main()
