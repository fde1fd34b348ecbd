"""Attention transfer on CIFAR-10, as in the paper.

Claim: a student that is trained to have its teacher's attention maps makes
fewer errors than one that sees the labels alone. Table 1 of Zagoruyko and
Komodakis (ICLR 2017, arXiv:1612.03928), and with `--maps` their table of map
functions.

    python examples/attention_transfer_cifar10.py            # the whole recipe
    python examples/attention_transfer_cifar10.py --maps     # map functions
    python examples/attention_transfer_cifar10.py --epochs 4 --subset 5000 \\
        --seeds 1 --pairs 16-1:16-2 --maps --plain           # a short run

The recipe: batches of 128, SGD at 0.1 with momentum 0.9 and weight decay 5e-4,
times 0.2 after 30, 60 and 80% of 200 epochs; images are padded by 4 with their
reflection, cropped and flipped. AT has beta 1e3. KD has alpha 0.9 and
temperature 4. In AT+KD, beta falls with the learning rate; the paper says only
that it decays. One teacher of a kind is trained; students of one seed start
from the same weights and see the same images.

Each finished run is a line of `runs.jsonl` in `--folder`; what is there is
not run again, so a run that was stopped goes on, and seeds can be added.

The result of the short run, about 3 minutes of two cores a network; it is far
from the paper's 78,000 steps, and with one seed it ranks nothing. Errors in
percent on the first 5,000 test images, after 156 steps:

    WRN-16-1 < WRN-16-2  student 54.7  AT 57.6  KD 56.2  AT+KD 58.5
                         teacher 52.0
    map functions        none 54.7  F_sum 53.5  F_sum² 57.6  F_sum⁴ 64.7
                         F_max 55.0

The teacher is hardly trained when it is distilled, and the students follow it
as the recipe for 200 epochs says. The complete recipe has not been run: it
takes days on two cores.
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np

from keras_attention import AttentionTransferModel
from keras_attention.datasets import load_dataset
from keras_attention.models import WideResNet

MEAN, DEVIATION = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
PADDING, CROP = 4, 32
DROPS, FACTOR = (0.3, 0.6, 0.8), 0.2
METHODS = ("student", "AT", "KD", "AT+KD", "teacher")
# Errors in percent, median of 5 runs.
PAPER = {
    ("16-1", "16-2"): (8.77, 7.93, 7.41, 7.51, 6.31),
    ("16-1", "40-1"): (8.77, 8.25, 8.39, 8.01, 6.58),
    ("16-2", "40-2"): (6.31, 5.85, 6.08, 5.71, 5.23),
}
MAPS = {
    "none": None,
    "F_sum": ("sum", 1),
    "F_sum²": ("sum", 2),
    "F_sum⁴": ("sum", 4),
    "F_max": ("max", 1),
}
PAPER_MAPS = (8.77, 7.99, 7.93, 8.09, 8.08)


class Augmented(keras.utils.PyDataset):
    """Batches of crops of the padded images, flipped or not.

    Every batch is sampled from the seed, the epoch and its number: students of
    one seed see the same images.
    """

    def __init__(self, images, labels, batch_size, seed):
        super().__init__()
        edges = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))
        padded = np.pad(images, edges, "reflect")
        # [images, tops, lefts, channels, CROP, CROP], without a copy
        self.crops = np.lib.stride_tricks.sliding_window_view(
            padded, (CROP, CROP), (1, 2)
        )
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = -1
        self.on_epoch_end()

    @property
    def num_batches(self):
        return len(self.labels) // self.batch_size

    def on_epoch_end(self):
        self.epoch += 1
        random = np.random.default_rng((self.seed, self.epoch))
        self.order = random.permutation(len(self.labels))

    def __getitem__(self, index):
        start = index * self.batch_size
        chosen = self.order[start : start + self.batch_size]
        random = np.random.default_rng((self.seed, self.epoch, index))
        top, left = random.integers(2 * PADDING + 1, size=(2, len(chosen)))
        x = np.moveaxis(self.crops[chosen, top, left], 1, -1)
        flipped = random.random(len(chosen)) < 0.5
        x[flipped] = x[flipped, :, ::-1]
        return np.ascontiguousarray(x), self.labels[chosen]


class Experiment:
    """Trains what the tables need, once each, and remembers the errors."""

    def __init__(self, options):
        self.options = options
        self.folder = pathlib.Path(options.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "runs.jsonl"
        self.done, self.used = {}, {}
        if self.file.exists():
            lines = self.file.read_text().splitlines()
            for run in map(json.loads, lines):
                self.done[run["key"]] = run
        data = load_dataset("cifar10", options.data)
        (x, y), (x_test, y_test) = (
            (images[: options.subset], labels[: options.subset])
            for images, labels in (data.train, data.test)
        )
        self.train = self.normalized(x), y
        self.test = self.normalized(x_test), y_test

    def normalized(self, images):
        wide = (images.astype("float32") - MEAN) / DEVIATION
        return wide.astype("float32")

    def error(self, method, student, teacher, seed, maps="F_sum²"):
        """Error in percent of a student at the end of its training."""
        if method == "teacher":
            return self.run(self.key("student", teacher, None, 0), teacher, 0)
        if method == "student":
            return self.run(
                self.key(method, student, None, seed), student, seed
            )
        key = self.key(f"{method} {maps}", student, teacher, seed)
        if method == "KD":
            key = self.key(method, student, teacher, seed)
        settings = {"alpha": 0.0 if method == "AT" else 0.9, "beta": 0.0}
        if method != "KD":
            function, power = MAPS[maps]
            settings.update(map_function=function, power=power, beta=1e3)
        if method == "AT+KD":
            settings["beta"] = self.schedule(1e3)
        return self.run(key, student, seed, teacher, settings)

    def key(self, method, student, teacher, seed):
        pair = f" < WRN-{teacher}" if teacher else ""
        short = self.options
        return (
            f"WRN-{student}{pair}, {method}, seed {seed}, {short.epochs} "
            f"epochs of {len(self.train[1])} images"
        )

    def schedule(self, start):
        """What falls with the learning rate."""
        steps = self.options.epochs * (
            len(self.train[1]) // self.options.batch_size
        )
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [round(part * steps) for part in DROPS],
            [start * FACTOR**drops for drops in range(len(DROPS) + 1)],
        )

    def run(self, key, name, seed, teacher=None, settings=None):
        """Train one network, unless that has been done."""
        path = self.folder / f"{key}.weights.h5"
        if key in self.done:
            self.used[key] = self.done[key]
            return self.done[key]["error"]
        if teacher is not None:  # First, that has a bar of its own.
            taught_by = self.trained(teacher)
        print(key, flush=True)
        start = time.perf_counter()
        keras.utils.set_random_seed(seed)
        network = model = wide_resnet(name)
        if teacher is not None:
            model = AttentionTransferModel(network, taught_by, **settings)
        model.compile(
            keras.optimizers.SGD(self.schedule(0.1), momentum=0.9),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False if self.options.plain else "auto",
        )
        batches = Augmented(*self.train, self.options.batch_size, seed)
        model.fit(batches, epochs=self.options.epochs)
        found = model.evaluate(
            *self.test, batch_size=500, verbose=0, return_dict=True
        )
        network.save_weights(path)
        run = {
            "key": key,
            "error": 100 * (1 - found["accuracy"]),
            "minutes": (time.perf_counter() - start) / 60,
        }
        self.done[key] = self.used[key] = run
        with open(self.file, "a") as file:
            file.write(json.dumps(run) + "\n")
        print(f"  {run['error']:.2f}% errors, {run['minutes']:.1f} minutes")
        return run["error"]

    def trained(self, name):
        """The teacher, trained now or before."""
        self.error("teacher", None, name, 0)
        network = wide_resnet(name)
        key = self.key("student", name, None, 0)
        network.load_weights(self.folder / f"{key}.weights.h5")
        return network


def wide_resnet(name):
    depth, width = map(int, name.split("-"))
    return WideResNet(
        depth, width, kernel_regularizer=keras.regularizers.L2(2.5e-4)
    )


def table(rows):
    """Rows of cells as a table of Markdown."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(errors):
    """A median, and with it the ends if there are several."""
    text = f"{np.median(errors):.2f}"
    if len(errors) > 1:
        text += f" ({min(errors):.2f}–{max(errors):.2f})"
    return text


def transfer_rows(experiment, pairs, seeds):
    """Our table 1, next to the paper's."""
    rows = [["student ← teacher", "whose", *METHODS]]
    for student, teacher in pairs:
        errors = {method: [] for method in METHODS}
        for seed in range(seeds):
            for method in METHODS:
                errors[method].append(
                    experiment.error(method, student, teacher, seed)
                )
        errors["teacher"] = errors["teacher"][:1]
        name = f"WRN-{student} ← WRN-{teacher}"
        rows.append([name, "ours", *map(percent, errors.values())])
        if (student, teacher) in PAPER:
            paper = PAPER[student, teacher]
            rows.append([name, "paper", *(f"{x:.2f}" for x in paper)])
    return rows


def map_rows(experiment, student, teacher, seeds):
    """Our table of map functions, next to the paper's."""
    errors = {maps: [] for maps in MAPS}
    for seed in range(seeds):
        for maps in MAPS:
            method = "student" if MAPS[maps] is None else "AT"
            errors[maps].append(
                experiment.error(method, student, teacher, seed, maps)
            )
    rows = [
        [f"WRN-{student} ← WRN-{teacher}", *MAPS],
        ["ours", *map(percent, errors.values())],
    ]
    if (student, teacher) == ("16-1", "16-2"):
        rows.append(["paper", *(f"{x:.2f}" for x in PAPER_MAPS)])
    return rows


def pair(text):
    student, _, teacher = text.partition(":")
    return student, teacher


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description="Attention transfer on CIFAR-10."
    )
    parser.add_argument(
        "--data", help="see keras_attention.datasets; else it is downloaded"
    )
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument(
        "--subset", type=int, help="the first images of each part alone"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument(
        "--pairs",
        type=pair,
        nargs="*",
        default=list(PAPER),
        metavar="STUDENT:TEACHER",
        help="depth-width, such as 16-1:16-2; else the paper's three",
    )
    parser.add_argument(
        "--maps",
        action="store_true",
        help="the table of map functions too, for the first pair",
    )
    parser.add_argument(
        "--plain", action="store_true", help="no XLA: short runs start sooner"
    )
    parser.add_argument("--folder", default="attention_transfer_cifar10")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Print the tables, and return the rows of each by its title."""
    options = parse(arguments)
    experiment = Experiment(options)
    tables = {
        "Errors in percent": transfer_rows(
            experiment, options.pairs, options.seeds
        )
    }
    if options.maps:
        tables["Errors in percent by map function"] = map_rows(
            experiment, *options.pairs[0], options.seeds
        )
    for title, rows in tables.items():
        print(f"\n{title}.\n\n{table(rows)}")
    minutes = sum(run["minutes"] for run in experiment.used.values())
    print(f"\nTraining took {minutes:.0f} min, {len(experiment.used)} runs")
    return tables


if __name__ == "__main__":
    main()
