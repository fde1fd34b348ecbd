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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from keras_attention.demo.data import Images
from keras_attention.demo.data import draw_labeled
from keras_attention.demo.settings import Setting
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
TEACHER, STUDENT, ALONE = "teacher.keras", "student.keras", "alone.keras"
EXPORT, REQUEST = "1", "request.json"
LABELED, UNLABELED, IMAGES = "labeled", "unlabeled", "images"
FIGURE, PAGE = "attention_maps.png", "attention.html"
NAMES = (
    *(TEACHER, STUDENT, ALONE, EXPORT, REQUEST),
    *(LABELED, UNLABELED, IMAGES, FIGURE, PAGE),
)
# Files are written of these many images without labels, and of these many of
# each class to measure on.
MOST_UNLABELED, MEASURED_PER_CLASS = 1000, 20

LOAD = """
import sys
import keras_attention
import keras
import numpy as np

_, inputs, *paths = sys.argv
for model, outputs in zip(paths[::2], paths[1::2]):
    # Called, not `predict`: that would be traced for a single batch.
    found = keras.saving.load_model(model)(np.load(inputs))
    np.save(outputs, keras.ops.convert_to_numpy(found))
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
    models: Mapping[str, keras.Model], out: pathlib.Path
) -> list[pathlib.Path]:
    """Save models, by file name."""
    for name, model in models.items():
        # For the commands, which ask what pixels a model takes.
        set_pixel_range(model, "0,1")
        save_model(model, out / name)
    return [out / name for name in models]


def write(
    models: Mapping[str, keras.Model],
    images: Images,
    setting: Setting,
    out: pathlib.Path,
    echo: Callable[[str], Any],
) -> list[pathlib.Path]:
    """Save, load, export, ask and plot; return the paths of what is written.

    Args:
        models: the teacher, the student alone and the distilled one, by names
            for the figures.
        images: the images.
        setting: how many images have labels.
        out: folder to write to.
        echo: called with each line of the report.
    """
    *_, student = models.values()
    saved = dict(zip((TEACHER, ALONE, STUDENT), models.values(), strict=True))
    written = save_models(saved, out)
    with ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(load_in_new_process, written, images)
        written += export(student, images, out, echo)
        written += write_images(images, setting, out)
        written += draw(models, images, out)
    echo(compare_loaded(saved, loaded.result(), images))
    return written


def load_in_new_process(
    paths: Sequence[pathlib.Path], images: Images
) -> list[np.ndarray]:
    """Load models in a new process; return their predictions there."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = f"{folder}/inputs.npy"
        np.save(inputs, _compared(images))
        outputs = [f"{folder}/{number}.npy" for number in range(len(paths))]
        pairs = zip(paths, outputs, strict=True)
        _run_python(LOAD, inputs, *itertools.chain(*pairs))
        return [np.load(path) for path in outputs]


def compare_loaded(
    models: Mapping[str, keras.Model],
    loaded: Sequence[np.ndarray],
    images: Images,
) -> str:
    """Say how far predictions of loaded models are from the models' own."""
    x = _compared(images)
    difference = max(
        np.abs(outputs - predict(model, x)).max()
        for outputs, model in zip(loaded, models.values(), strict=True)
    )
    return (
        f"Saved as {', '.join(models)}. Loaded in a new process without "
        f"custom_objects: largest difference of {len(x)} predictions "
        f"{difference:.1e}"
    )


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


def write_images(
    images: Images, setting: Setting, out: pathlib.Path
) -> list[pathlib.Path]:
    """Write images for the commands, as files.

    Those that the first student had with labels, in a folder for each class;
    images without labels; and images to measure on, in a folder for each
    class.

    Args:
        images: the images.
        setting: how many have labels.
        out: folder to write to.
    """
    x, y = images.training
    chosen, others = draw_labeled(y, setting.labels_per_class, seed=0)
    folders = [out / name for name in (LABELED, UNLABELED, IMAGES)]
    for folder in folders:
        _remove_numbered(folder)
    labeled, unlabeled, measured = folders
    _write_classes(x[chosen], y[chosen], images.class_names, labeled)
    _write_files(x[others[:MOST_UNLABELED]], unlabeled)
    x, y = images.evaluation
    _write_classes(x, y, images.class_names, measured, MEASURED_PER_CLASS)
    return folders


def _write_classes(x, y, class_names, folder, most=None):
    for label, name in enumerate(class_names):
        _write_files(x[y == label][:most], folder / name)


def _remove_numbered(folder):
    """Remove an earlier run's images, and no file of another name."""
    for file in folder.rglob("*.png"):
        if file.stem.isdecimal():
            file.unlink()
    for child in folder.glob("*"):
        if child.is_dir() and not any(child.iterdir()):
            child.rmdir()


def _write_files(x, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(x):
        keras.utils.save_img(folder / f"{number}.png", 255 * image, scale=False)


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

    image = min((out / IMAGES).rglob("*.png")).relative_to(out)
    lines = (
        f"keras-attention predict {path()} {path(image)}",
        f"keras-attention maps {path(TEACHER)} {path(IMAGES)} \\",
        f"  --compare {path(STUDENT)} --out {path('maps.png')}",
        f"keras-attention view {path(TEACHER)} --data {path(IMAGES)} \\",
        f"  --compare {path(STUDENT)} --out {path('view.html')}",
        f"keras-attention export {path(STUDENT)} {path('exported')} \\",
        "  --signature attention=stage1 --image-bytes",
        f"keras-attention transfer {path(ALONE)} {path(TEACHER)} \\",
        f"  {path(LABELED)} --unlabeled {path(UNLABELED)} \\",
        f"  --validation {path(IMAGES)} --alpha 0.9 --epochs 15 \\",
        f"  --compare-alone --out {path('distilled.keras')}",
        "docker run --rm -p 8501:8501 -e MODEL_NAME=student \\",
        f"  -v {shlex.quote(f'{out.resolve()}:/models/student')} \\",
        "  tensorflow/serving",
        f"curl -d @{path(REQUEST)} \\",
        "  http://localhost:8501/v1/models/student:predict",
    )
    return "\n".join(f"  {line}" for line in lines)


def _compared(images):
    """The images that predictions are compared on."""
    return images.evaluation[0][:256]


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
