"""Trains students on few labels of CIFAR-10, with and without a teacher.

Claim: with 10 labeled images per class, a student that has its teacher's
attention maps as well as its outputs (KD+AT) is far more accurate than one
with the maps alone (AT), with the outputs alone (KD), or with neither. Few
labels and a trained teacher are the baseline of Micaelli and Storkey (NeurIPS
2019, arXiv:1905.09768).

    pip install "keras-attention-layers[tensorflow-cpu,demo]"
    python examples/few_labels_cifar10.py --plain
    python examples/few_labels_cifar10.py --plain --images 10 --seeds 3

The student is WRN-16-1, the teacher WRN-16-2. Students of one seed start from
the same weights and see the same crops of the same images: 600, 1,200, 1,800
or 3,000 batches of 64 crops of the reflection-padded image, half of them
flipped. SGD with Nesterov momentum of 0.9, one cycle of the learning rate with
its peak of 0.1 after a fifth of the steps, weight decay of 5e-5,
mixed_bfloat16. AT has the default beta, KD an alpha of 0.9 and a temperature
of 4. DKD is decoupled distillation (arXiv:2203.08679) with its default
weights. The teacher is trained on all images for 15 epochs with batches of 128
and a weight decay of 5e-4.

Each finished run is a line of `runs.jsonl` in `--folder` and is not repeated;
the teacher is saved after every epoch. So an interrupted run continues, and
seeds, methods and numbers of images can be added.

Result, with a teacher of an earlier training of 8 epochs, 84.3 % (`--teacher`),
accuracy in % on the 10,000 test images:

    10 images per class, 600 steps
      alone 27.5 ± 0.2 (3)
      AT    41.1 ± 2.8 (3)
      KD    35.4 ± 0.5 (3)
      KD+AT 55.3 ± 4.4 (4)
      DKD   33.8 ± 3.0 (3)

4 to 30 minutes per student on two cores shared with many other processes, 2
to 5 minutes of processor time. Not measured to the end: 50, 100 and 500 images
per class, and the teacher of 15 epochs. `docs/results.md` has the table,
`benchmarks/logs/few_labels_cifar10.jsonl` the runs.
"""

import argparse
import collections
import hashlib
import json
import logging
import pathlib
import statistics
import time

import keras
import numpy as np

from keras_attention import AttentionTransferModel
from keras_attention.datasets import load_dataset
from keras_attention.distillation import DecoupledLogits
from keras_attention.models import WideResNet

MEAN = np.array([125.3, 123.0, 113.9], "float32")
DEVIATION = np.array([63.0, 62.1, 66.7], "float32")
PADDING = 4
PEAK = 0.1  # of the learning rate
STUDENT, TEACHER = (16, 1), (16, 2)
TEACHER_BATCH, STUDENT_BATCH = 128, 64
# Labeled images per class, and the optimizer steps of a student.
STEPS = {10: 600, 50: 1200, 100: 1800, 500: 3000}
METHODS = {
    "alone": None,
    "AT": {},
    "KD": {"alpha": 0.9, "beta": 0.0},
    "KD+AT": {"alpha": 0.9},
    "DKD": {"losses": [DecoupledLogits()]},
}
# Student's t at 97.5 %, for the interval of a mean over 2, 3, ... seeds.
QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


class Crops(keras.utils.PyDataset):
    """Yields batches of random crops of the padded images, half flipped.

    Every batch follows from the seed, the epoch and its index alone, so that
    the students of one seed see the same images, whatever their method.

    Args:
        images: Array of shape `(count, height, width, channels)`.
        labels: Array of shape `(count,)`.
        batch_size: Images per batch. There may be fewer images than that.
        steps: Batches per epoch. The images are repeated, each time in
            another order.
        seed: Seed of the order, the crops and the flips.
    """

    def __init__(self, images, labels, batch_size, steps, seed):
        super().__init__()
        edges = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))
        # [images, tops, lefts, channels, height, width], without a copy
        self.crops = np.lib.stride_tricks.sliding_window_view(
            np.pad(images, edges, "reflect"), images.shape[1:3], (1, 2)
        )
        self.labels = labels
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.start(0)

    @property
    def num_batches(self):
        return self.steps

    def start(self, epoch):
        """Shuffles the images for an epoch."""
        self.epoch = epoch
        random = np.random.default_rng((self.seed, epoch))
        rounds = -(-self.steps * self.batch_size // len(self.labels))
        self.order = np.concatenate(
            [random.permutation(len(self.labels)) for _ in range(rounds)]
        )

    def on_epoch_end(self):
        self.start(self.epoch + 1)

    def __getitem__(self, index):
        first = index * self.batch_size
        chosen = self.order[first : first + self.batch_size]
        random = np.random.default_rng((self.seed, self.epoch, index))
        top, left = random.integers(2 * PADDING + 1, size=(2, len(chosen)))
        x = np.moveaxis(self.crops[chosen, top, left], 1, -1)
        flipped = random.random(len(chosen)) < 0.5
        x[flipped] = x[flipped, :, ::-1]
        return np.ascontiguousarray(x), self.labels[chosen]


class Checkpoint(keras.callbacks.Callback):
    """Saves the model with its optimizer after every epoch."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        partial = self.path.with_name("partial.keras")
        self.model.save(partial)
        partial.replace(self.path)


class Log:
    """Finished runs in a file, one JSON object per line.

    A run whose settings are in the file is not repeated.
    """

    def __init__(self, path):
        self.path = path
        self.runs = []
        if path.exists():
            self.runs = list(map(json.loads, path.read_text().splitlines()))

    def measure(self, settings, run):
        """Returns the line of a run, and calls `run` if there is none."""
        for line in self.runs:
            if settings.items() <= line.items():
                return line
        print(", ".join(f"{k} {v}" for k, v in settings.items()), flush=True)
        start = time.perf_counter()
        found = run()
        minutes = round((time.perf_counter() - start) / 60, 2)
        line = {**settings, **found, "minutes": minutes}
        self.runs.append(line)
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"  {line['accuracy']:.2f} %, {minutes} minutes", flush=True)
        return line


class Experiment:
    """Trains the teacher and the students, once each."""

    def __init__(self, options):
        self.options = options
        self.folder = pathlib.Path(options.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(self.folder / "runs.jsonl")
        data = load_dataset("cifar10", options.data)
        self.train, self.test = (
            (standardize(images), labels) for images, labels in data[:2]
        )
        self.teacher = self.network(TEACHER, weight_decay=5e-4)

    def network(self, size, weight_decay):
        depth, width = size
        return WideResNet(
            depth,
            width,
            input_shape=self.train[0].shape[1:],
            kernel_regularizer=keras.regularizers.L2(weight_decay / 2),
            dtype=self.options.dtype,
        )

    def compile(self, model, steps):
        """Compiles with SGD under one cycle of the learning rate."""
        rise = max(1, steps // 5)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - rise, warmup_target=PEAK, warmup_steps=rise
        )
        model.compile(
            keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False if self.options.plain else "auto",
        )

    def accuracy(self, model):
        """Returns the accuracy on the test images, in percent."""
        found = model.evaluate(
            *self.test, batch_size=500, verbose=0, return_dict=True
        )
        return round(100 * found["accuracy"], 2)

    def prepare_teacher(self):
        """Trains or loads the teacher, and returns its line of the log."""
        path = self.options.teacher
        if path is None:
            name = f"{self.options.teacher_epochs} epochs"
            path = self.teacher_file(".weights.h5")
        else:
            path = pathlib.Path(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            name = f"{path.name} {digest[:8]}"

        def run():
            if self.options.teacher is None:
                self.train_teacher()
                self.teacher.save_weights(path)
            # A copy, because a compiled network asks for the optimizer's
            # state when it loads weights.
            model = self.network(TEACHER, weight_decay=5e-4)
            model.load_weights(path)
            self.compile(model, steps=2)
            return {"accuracy": self.accuracy(model)}

        settings = {"method": "teacher", "teacher": name}
        line = self.log.measure({**settings, "dtype": self.options.dtype}, run)
        self.teacher.load_weights(path)
        return line

    def teacher_file(self, suffix):
        epochs = self.options.teacher_epochs
        return self.folder / f"teacher_{epochs}_epochs{suffix}"

    def train_teacher(self):
        """Trains the teacher on all images, from the last epoch that ended."""
        path = self.teacher_file(".keras")
        steps = max(1, len(self.train[1]) // TEACHER_BATCH)
        batches = Crops(*self.train, TEACHER_BATCH, steps, seed=0)
        if path.exists():
            model = keras.saving.load_model(path)
            batches.start(int(model.optimizer.iterations) // steps)
        else:
            keras.utils.set_random_seed(0)
            model = self.network(TEACHER, weight_decay=5e-4)
            self.compile(model, steps * self.options.teacher_epochs)
        model.fit(
            batches,
            initial_epoch=batches.epoch,
            epochs=self.options.teacher_epochs,
            shuffle=False,
            callbacks=[Checkpoint(path)],
            verbose=2,
        )
        self.teacher.set_weights(model.get_weights())

    def student(self, method, count, seed, teacher):
        """Returns the line of a student trained with `count` images a class."""
        steps = self.options.steps or STEPS.get(count, max(STEPS.values()))
        settings = {
            "method": method,
            "images_per_class": count,
            "seed": seed,
            "steps": steps,
            "teacher": None if method == "alone" else teacher["teacher"],
            "dtype": self.options.dtype,
        }

        def run():
            chosen = choose(self.train[1], count, seed)
            batches = Crops(
                *(array[chosen] for array in self.train),
                STUDENT_BATCH,
                steps,
                seed,
            )
            keras.utils.set_random_seed(seed)
            student = model = self.network(STUDENT, weight_decay=5e-5)
            if METHODS[method] is not None:
                model = AttentionTransferModel(
                    student, self.teacher, **METHODS[method]
                )
            self.compile(model, steps)
            model.fit(batches, shuffle=False, verbose=0)
            return {"accuracy": self.accuracy(model)}

        return self.log.measure(settings, run)


def standardize(images):
    return (images.astype("float32") - MEAN) / DEVIATION


def choose(labels, count, seed):
    """Returns the positions of `count` random images of each class."""
    random = np.random.default_rng(seed)
    return np.concatenate(
        [
            random.permutation(np.flatnonzero(labels == label))[:count]
            for label in np.unique(labels)
        ]
    )


def interval(values):
    """Returns the mean and the half width of its 95 % interval, or `None`."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, None
    quantile = QUANTILES[min(len(values), len(QUANTILES) + 1) - 2]
    return mean, quantile * statistics.stdev(values) / len(values) ** 0.5


def cell(values):
    """Returns the text of a mean, of its interval and of the seeds."""
    if not values:
        return "–"
    mean, half = interval(values)
    if half is None:
        return f"{mean:.1f} (1 seed)"
    if len(values) == 2:  # an interval would say nothing
        return f"{mean:.1f} (2 seeds: {values[0]:.1f}, {values[1]:.1f})"
    return f"{mean:.1f} ± {half:.1f} ({len(values)})"


def students_of(lines, teacher):
    """Returns lists of accuracies by images per class, steps and method."""
    found = collections.defaultdict(list)
    for line in lines:
        if (
            line["method"] != "teacher"
            and line["teacher"] in (None, teacher["teacher"])
            and line["dtype"] == teacher["dtype"]
        ):
            size = line["images_per_class"], line["steps"]
            found[*size, line["method"]].append(line["accuracy"])
    return found


def table(found):
    """Returns the rows of a table: images per class by method."""
    methods = [m for m in METHODS if any(key[2] == m for key in found)]
    rows = [["images per class", "steps", *methods]]
    for count, steps in sorted({key[:2] for key in found}):
        cells = [cell(found.get((count, steps, m), [])) for m in methods]
        rows.append([str(count), f"{steps:,}", *cells])
    return rows


def draw(found, teacher, path):
    """Draws accuracy by images per class, one line per method.

    Bars are 95 % intervals. There is none for fewer than 3 seeds.
    """
    from matplotlib.figure import Figure

    figure = Figure((6, 4), layout="constrained")
    axes = figure.add_subplot()
    for method in METHODS:
        keys = sorted(key for key in found if key[2] == method)
        if not keys:
            continue
        means, halves = [], []
        for key in keys:
            mean, half = interval(found[key])
            means.append(mean)
            halves.append(half if len(found[key]) > 2 else 0)
        counts = [key[0] for key in keys]
        axes.errorbar(
            counts, means, halves, marker="o", capsize=3, label=method
        )
    axes.axhline(teacher["accuracy"], color="gray", linestyle="--", linewidth=1)
    axes.annotate(
        f"teacher {teacher['accuracy']:.1f}",
        (1, teacher["accuracy"]),
        (-4, -4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top",
        color="gray",
    )
    counts = sorted({key[0] for key in found})
    axes.set_xscale("log")
    axes.set_xticks(counts, map(str, counts))
    axes.minorticks_off()
    axes.set_xlabel("labeled images per class")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    figure.savefig(path, dpi=150)


def report(lines, teacher, figure):
    """Prints the table of one teacher, draws the figure, returns the rows."""
    found = students_of(lines, teacher)
    rows = table(found)
    print(
        f"\nTest accuracy in %, mean and 95 % interval (seeds). Teacher: "
        f"{teacher['teacher']}, {teacher['accuracy']:.1f} %, "
        f"{teacher['dtype']}.\n"
    )
    for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]):
        print(f"| {' | '.join(row)} |")
    draw(found, teacher, figure)
    return rows


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description="Few labeled images of CIFAR-10 and a trained teacher."
    )
    parser.add_argument(
        "--data",
        help="path that keras_attention.datasets takes; else a download",
    )
    parser.add_argument(
        "--folder",
        default="few_labels_cifar10",
        help="for the log, the teacher, the table and the figure",
    )
    parser.add_argument(
        "--teacher",
        metavar="WEIGHTS",
        help="a .weights.h5 file of the teacher; else it is trained",
    )
    parser.add_argument("--teacher-epochs", type=int, default=15)
    parser.add_argument(
        "--images", type=int, nargs="+", default=list(STEPS), help="per class"
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=METHODS
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, help="of each student, whatever the images"
    )
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument(
        "--plain", action="store_true", help="no XLA: short runs start sooner"
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    """Trains what the log does not have; prints and returns the table."""
    options = parse(arguments)
    # TensorFlow counts the graphs of all models as if they were of one.
    logging.getLogger("tensorflow").setLevel("ERROR")
    experiment = Experiment(options)
    teacher = experiment.prepare_teacher()
    for seed in range(options.seeds):
        for count in options.images:
            for method in options.methods:
                experiment.student(method, count, seed, teacher)
    figure = experiment.folder / "few_labels_cifar10.png"
    return report(experiment.log.runs, teacher, figure)


if __name__ == "__main__":
    main()
