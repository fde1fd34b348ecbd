"""The main job from end to end: what `keras-attention demo` runs.

A wide residual network with attention learns real images, a narrow one
learns from its attention; the narrow one is saved, loaded, exported, asked
for an answer, and looked at.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_attention.datasets import Dataset
from keras_attention.datasets import load_dataset
from keras_attention.distillation import AttentionTransferModel
from keras_attention.layers import SqueezeExcite
from keras_attention.models import WideResNet
from keras_attention.pixels import PixelRange
from keras_attention.pixels import save_model
from keras_attention.pixels import set_pixel_range
from keras_attention.serving import export_for_serving
from keras_attention.serving import run_export
from keras_attention.validation import check_positive_integer
from keras_attention.visualization import plot_attention_maps

TEACHER, ALONE, TAUGHT = "teacher", "student alone", "student + transfer"
STAGES = ("stage1", "stage2", "stage3")
PIXELS = PixelRange(-1, 1)

LOAD = """
import sys
import keras_attention
import keras
import numpy as np

model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


@dataclass(frozen=True)
class Setting:
    """What is trained, on what and for how long.

    The loss of attention transfer is a mean over positions, so that its
    `beta` grows with the images: each here gives the smallest map the weight
    that 1e3 gives it in the paper's experiment on CIFAR-10.
    """

    depth: tuple[int, int]
    width: tuple[int, int]
    epochs: int
    beta: float
    train_limit: int | None = None


SETTINGS = {
    "digits": Setting((16, 10), (2, 1), epochs=12, beta=60),
    "fashion-mnist": Setting(
        (16, 10), (2, 1), epochs=3, beta=800, train_limit=10_000
    ),
    "cifar10": Setting(
        (16, 16), (2, 1), epochs=5, beta=1000, train_limit=10_000
    ),
}
FAST = Setting((10, 10), (1, 1), epochs=1, beta=60, train_limit=256)


def run_demo(
    dataset: str = "digits",
    data: str | None = None,
    out: str | os.PathLike = "demo-output",
    epochs: int | None = None,
    seeds: int = 2,
    fast: bool = False,
    overwrite: bool = False,
    echo: Callable[[str], Any] = print,
) -> list[pathlib.Path]:
    """Train, teach, save, load, export, ask and draw; return what was written.

    Args:
        dataset: `"digits"`, `"fashion-mnist"` or `"cifar10"`.
        data: path of the data set's files; see `load_dataset`.
        out: the folder to write to.
        epochs: of each training; `None` for the data set's usual number.
        seeds: how many times everything is trained, from other random draws.
        fast: whether to take the smallest setting, to see that all works.
        overwrite: whether the results of an earlier run are replaced.
        echo: called with each line of the report.

    Raises:
        FileExistsError: if `out` has the results of an earlier run and
            `overwrite` is false.
        OSError: if `out` cannot be written.
        ValueError, FileNotFoundError, ConnectionError, ImportError: as
            `load_dataset`.
    """
    check_positive_integer("seeds", seeds)
    setting = FAST if fast else SETTINGS.get(dataset, FAST)
    if epochs is None:
        epochs = setting.epochs
    check_positive_integer("epochs", epochs)
    out = prepare_folder(pathlib.Path(out), overwrite)
    start = time.monotonic()
    images = prepare(load_dataset(dataset, data), setting.train_limit)
    echo(
        f"{dataset}: {len(images.train[0])} training and "
        f"{len(images.test[0])} test images of shape "
        f"{images.train[0].shape[1:]}"
    )
    rounds = [
        train_round(images, setting, epochs, seed, echo)
        for seed in range(seeds)
    ]
    models, _ = rounds[0]
    echo("\n" + table(rounds))
    written = [save_and_load(models[TAUGHT], images, out, echo)]
    written += serve(models[TAUGHT], images, out, echo)
    written.append(draw(models, images, out))
    echo(f"\nDone in {time.monotonic() - start:.0f} s. Written:")
    for path in written:
        echo(f"  {path}")
    return written


def prepare_folder(out: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Make the folder; refuse one with results that would be overwritten."""
    names = ("1", "student.keras", "request.json", "attention_maps.png")
    there = [name for name in names if (out / name).exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"'{out}' has the results of an earlier run: {', '.join(there)}. "
            "Choose another folder with --out, or replace them with "
            "--overwrite."
        )
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise PermissionError(
            f"The folder '{out}' cannot be written. Choose another one with "
            "--out."
        )
    return out


def prepare(images: Dataset, train_limit: int | None) -> Dataset:
    """Scale the pixels to [-1, 1]; keep the first images of each set."""
    scale = PIXELS.scale_images

    (x, y), (x_test, y_test), names = images
    x, y = x[:train_limit], y[:train_limit]
    return Dataset((scale(x), y), (scale(x_test), y_test), names)


def train_round(
    images: Dataset,
    setting: Setting,
    epochs: int,
    seed: int,
    echo: Callable[[str], Any],
) -> tuple[dict[str, keras.Model], dict[str, float]]:
    """Train the teacher, the student alone, and the same student taught."""
    keras.utils.set_random_seed(seed)
    teacher = network(images, setting.depth[0], setting.width[0], TEACHER)
    alone = network(images, setting.depth[1], setting.width[1], "student")
    taught = network(images, setting.depth[1], setting.width[1], "student")
    taught.set_weights(alone.get_weights())
    models = {TEACHER: teacher, ALONE: alone, TAUGHT: taught}
    for name, model in models.items():
        echo(f"\nSeed {seed}: training the {name}, {epochs} epochs")
        trained = model
        if name == TAUGHT:
            trained = AttentionTransferModel(model, teacher, beta=setting.beta)
        fit(trained, images, epochs)
    x, y = images.test
    accuracies = {
        name: float(
            (model.predict(x, batch_size=256, verbose=0).argmax(-1) == y).mean()
        )
        for name, model in models.items()
    }
    return models, accuracies


def network(images: Dataset, depth: int, width: int, name: str) -> keras.Model:
    """A wide residual network; the teacher has attention in every block."""
    attention = (lambda: SqueezeExcite(ratio=4)) if name == TEACHER else None
    model = WideResNet(
        depth,
        width,
        attention=attention,
        input_shape=images.train[0].shape[1:],
        classes=len(images.class_names),
        kernel_regularizer=keras.regularizers.L2(2.5e-4),
        name=name,
    )
    return model


def fit(model: keras.Model, images: Dataset, epochs: int) -> None:
    """Train with momentum and a cosine schedule."""
    batch = 64
    steps = epochs * -(-len(images.train[0]) // batch)
    rate = keras.optimizers.schedules.CosineDecay(0.05, steps)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(*images.train, batch_size=batch, epochs=epochs)


def table(rounds: list) -> str:
    """The accuracies of every round in one table, mean and spread."""
    models = rounds[0][0]
    lines = [
        f"{'':20}{'parameters':>12}{'test accuracy, %':>20}"
        f"{'spread':>10}   by seed"
    ]
    for name, model in models.items():
        found = 100 * np.array([accuracies[name] for _, accuracies in rounds])
        each = ", ".join(f"{value:.2f}" for value in found)
        lines.append(
            f"{name:20}{model.count_params():>12,}{found.mean():>20.2f}"
            f"{found.max() - found.min():>10.2f}   {each}"
        )
    lines.append("spread: highest less lowest of the seeds")
    return "\n".join(lines)


def save_and_load(
    student: keras.Model,
    images: Dataset,
    out: pathlib.Path,
    echo: Callable[[str], Any],
) -> pathlib.Path:
    """Save the student; load it in a new process; compare predictions."""
    path = out / "student.keras"
    set_pixel_range(student, PIXELS)
    save_model(student, path)
    x = images.test[0][:256]
    with tempfile.TemporaryDirectory() as folder:
        given, found = f"{folder}/x.npy", f"{folder}/y.npy"
        np.save(given, x)
        run_python(LOAD, path, given, found)
        difference = np.abs(np.load(found) - student.predict(x, verbose=0))
    echo(
        f"\nSaved as {path}, loaded in a new process without custom_objects: "
        f"largest difference of {len(x)} predictions {difference.max():.1e}"
    )
    return path


def serve(
    student: keras.Model,
    images: Dataset,
    out: pathlib.Path,
    echo: Callable[[str], Any],
) -> list[pathlib.Path]:
    """Export the student, and have a process without this package answer."""
    exported = export_for_serving(student, out, version=1, overwrite=True)
    x, y = (array[:2] for array in images.test)
    request = out / "request.json"
    request.write_text(json.dumps({"instances": x.tolist()}))
    answer = run_export(exported, {"image": x})["predictions"]
    names = [images.class_names[np.argmax(row)] for row in answer]
    truth = [images.class_names[label] for label in y]
    echo(
        f"\nExported as {exported}. A process that imports neither keras nor "
        f"keras_attention answers {request.name}: {', '.join(names)} "
        f"(labels: {', '.join(truth)}); largest difference "
        f"{np.abs(answer - student.predict(x, verbose=0)).max():.1e}"
    )
    echo("Serve it and ask it:")
    echo(
        "  docker run --rm -p 8501:8501 "
        f'-v "{out.resolve()}:/models/student" -e MODEL_NAME=student '
        "tensorflow/serving"
    )
    echo(
        f"  curl -d @{request} http://localhost:8501/v1/models/student:predict"
    )
    return [exported, request]


def draw(
    models: dict[str, keras.Model], images: Dataset, out: pathlib.Path
) -> pathlib.Path:
    """Draw the maps of all three models at each end of a group."""
    x, y = (array[:6] for array in images.test)
    figure = plot_attention_maps(
        models, x, STAGES, labels=[images.class_names[label] for label in y]
    )
    path = out / "attention_maps.png"
    figure.savefig(path)
    return path


def run_python(code: str, *arguments: Any) -> str:
    """Run code in a new Python process; return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(
            f"A new process failed with code {result.returncode}:\n"
            f"{result.stderr[-2000:]}"
        )
    return result.stdout
