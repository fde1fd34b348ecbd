"""What the demo writes: models, an export, images, a figure and a page."""

import itertools
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_attention.demo.data import Images
from keras_attention.demo.training import predict
from keras_attention.pixels import save_model
from keras_attention.pixels import set_pixel_range
from keras_attention.serving import ImageBytesSignature
from keras_attention.serving import export_for_serving
from keras_attention.serving import run_export
from keras_attention.visualization import plot_attention_maps
from keras_attention.visualization import write_attention_page
from keras_attention.visualization.attention_maps import read_maps

STAGES = ("stage1", "stage2", "stage3")
TEACHER, STUDENT, EXPORT = "teacher.keras", "student.keras", "1"
REQUEST, IMAGES = "request.json", "images"
FIGURE, PAGE = "attention_maps.png", "attention.html"
NAMES = (TEACHER, STUDENT, EXPORT, REQUEST, IMAGES, FIGURE, PAGE)

LOAD = """
import sys
import keras_attention
import keras
import numpy as np

_, inputs, *paths = sys.argv
for model, outputs in zip(paths[::2], paths[1::2]):
    model = keras.saving.load_model(model)
    np.save(outputs, model.predict(np.load(inputs), verbose=0))
"""


def prepare_folder(
    out: str | os.PathLike, overwrite: bool = False
) -> pathlib.Path:
    """Make the folder; refuse one with results that would be overwritten."""
    out = pathlib.Path(out)
    existing = [name for name in NAMES if (out / name).exists()]
    if existing and not overwrite:
        raise FileExistsError(
            f"'{out}' has the results of an earlier run: "
            f"{', '.join(existing)}. Choose another folder with --out, or "
            "replace them with --overwrite."
        )
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise PermissionError(
            f"The folder '{out}' cannot be written. Choose another one with "
            "--out."
        )
    return out


def save_models(
    models: Mapping[str, keras.Model],
    images: Images,
    out: pathlib.Path,
    echo: Callable[[str], Any],
) -> list[pathlib.Path]:
    """Save models; load them in a new process and compare predictions."""
    x = images.evaluation[0][:256]
    written = [out / name for name in models]
    with tempfile.TemporaryDirectory() as folder:
        inputs = f"{folder}/inputs.npy"
        np.save(inputs, x)
        outputs = [f"{folder}/{name}.npy" for name in models]
        for path, model in zip(written, models.values(), strict=True):
            # For the commands, which ask what pixels a model takes.
            set_pixel_range(model, "0,1")
            save_model(model, path)
        pairs = zip(written, outputs, strict=True)
        _run_python(LOAD, inputs, *itertools.chain(*pairs))
        difference = max(
            np.abs(np.load(path) - predict(model, x)).max()
            for path, model in zip(outputs, models.values(), strict=True)
        )
    echo(
        f"\nSaved as {' and '.join(map(str, written))}. Loaded in a new "
        "process without custom_objects: largest difference of "
        f"{len(x)} predictions {difference:.1e}"
    )
    return written


def export(
    student: keras.Model,
    images: Images,
    out: pathlib.Path,
    echo: Callable[[str], Any],
) -> list[pathlib.Path]:
    """Export the student, and have a process without this package answer."""
    exported = export_for_serving(
        student,
        out,
        version=int(EXPORT),
        signatures={"image_bytes": ImageBytesSignature()},
        overwrite=True,
    )
    x, y = (array[:2] for array in images.evaluation)
    request = out / REQUEST
    request.write_text(json.dumps({"instances": x.tolist()}))
    answer = run_export(exported, {"image": x})["predictions"]
    names = [images.class_names[np.argmax(row)] for row in answer]
    truth = [images.class_names[label] for label in y]
    difference = np.abs(answer - predict(student, x)).max()
    echo(
        f"Exported as {exported}. A process that imports neither keras nor "
        f"keras_attention answers {request.name}: {', '.join(names)} "
        f"(labels: {', '.join(truth)}); largest difference {difference:.1e}"
    )
    return [exported, request]


def write_images(images: Images, out: pathlib.Path) -> pathlib.Path:
    """Write a folder of test images, one folder for each class."""
    folder = out / IMAGES
    x, y = images.evaluation
    for label, name in enumerate(images.class_names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for n, image in enumerate(x[y == label][:2]):
            keras.utils.save_img(
                folder / name / f"{n}.png", 255 * image, scale=False
            )
    return folder


def draw(
    models: Mapping[str, keras.Model], images: Images, out: pathlib.Path
) -> list[pathlib.Path]:
    """Plot the maps of the models, and write the interactive page.

    Args:
        models: The teacher, then the students.
        images: The images.
        out: Folder to write to.
    """
    shown = choose_examples(models, images)
    x, y = (array[shown] for array in images.evaluation)
    labels = [images.class_names[label] for label in y]
    figure = plot_attention_maps(
        models,
        x,
        STAGES,
        labels,
        images.class_names,
        caption=caption(models, images),
    )
    figure.savefig(out / FIGURE)
    page = write_attention_page(
        out / PAGE,
        models,
        x,
        labels,
        title="Teacher and students",
        class_names=images.class_names,
    )
    return [out / FIGURE, page]


def caption(models: Mapping[str, keras.Model], images: Images) -> str:
    """Say what to see: how near each student's maps are to the teacher's."""
    x = images.evaluation[0][:256]
    teacher, *students = (
        read_maps(model, x, STAGES) for model in models.values()
    )
    found = [
        f"{name} {map_similarity(teacher, maps):.2f}"
        for name, maps in zip(list(models)[1:], students, strict=True)
    ]
    return (
        "What to see: how closely each student's maps follow the teacher's. "
        f"Mean cosine similarity over {len(x)} images: {', '.join(found)}.\n"
        "Rows: images on which the models disagree, where there are any."
    )


def map_similarity(
    some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> float:
    """Return the mean cosine similarity of maps, by layer and image."""

    def unit(maps):
        flat = maps.reshape(len(maps), -1)
        length = np.linalg.norm(flat, axis=-1, keepdims=True)
        return flat / np.where(length > 0, length, 1)

    return float(
        np.mean(
            [(unit(some[name]) * unit(others[name])).sum(-1) for name in others]
        )
    )


def choose_examples(
    models: Mapping[str, keras.Model], images: Images, count: int = 4
) -> np.ndarray:
    """Choose test images on which the models do not agree.

    One of each class, before all of those on which the first and the last
    model are right and another one is wrong.
    """
    x, y = (array[:256] for array in images.evaluation)
    first, *others, last = (
        predict(model, x).argmax(-1) == y for model in models.values()
    )
    differs = first & last & ~np.all(others, axis=0)
    order = np.argsort(~differs, kind="stable")
    _, first_of_class = np.unique(y[order], return_index=True)
    return order[np.sort(first_of_class)][:count]


def next_commands(out: pathlib.Path) -> str:
    """Return commands to try on what was written."""

    def path(*parts):
        return shlex.quote(str(out.joinpath(*parts)))

    image = next((out / IMAGES).rglob("*.png")).relative_to(out)
    lines = (
        f"keras-attention predict {path()} {path(image)}",
        f"keras-attention maps {path(TEACHER)} {path(IMAGES)} \\",
        f"  --compare {path(STUDENT)} --out {path('maps.png')}",
        f"keras-attention view {path(TEACHER)} --data {path(IMAGES)} \\",
        f"  --compare {path(STUDENT)} --out {path('view.html')}",
        f"keras-attention export {path(STUDENT)} {path('exported')} \\",
        "  --signature attention=stage1 --image-bytes",
        "docker run --rm -p 8501:8501 -e MODEL_NAME=student \\",
        f"  -v {shlex.quote(f'{out.resolve()}:/models/student')} \\",
        "  tensorflow/serving",
        f"curl -d @{path(REQUEST)} \\",
        "  http://localhost:8501/v1/models/student:predict",
    )
    return "\n".join(f"  {line}" for line in lines)


def _run_python(code, *arguments):
    """Run code in a new Python process."""
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
