"""Attention transfer on several machines, with the JAX backend.

Claim: the processes together take the steps of one process, with its losses;
batch normalization has the statistics of the whole batch.

    export KERAS_BACKEND=jax
    python examples/several_machines.py                        # one process

The same command, once for each process, each with the address of the first:

    python examples/several_machines.py --coordinator 10.0.0.1:1234 \\
        --processes 2 --process 0                    # and --process 1

A launcher says this by the environment. Slurm: `srun python ...` is enough.
Kubernetes: a Job with `completionMode: Indexed` numbers its pods; set
KERAS_DISTRIBUTION_NUM_PROCESSES, and KERAS_DISTRIBUTION_JOB_ADDRESSES to the
service of pod 0. Ray, or any other: set KERAS_DISTRIBUTION_JOB_ADDRESSES,
KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID for each.

Every process takes all devices that it sees. A line of JSON with the losses
is the last that the first one prints; with `--save` it writes the student.
One process takes about a minute of CPU time.
"""

import argparse
import json
import os

import jax
import keras
import numpy as np

from keras_attention import AttentionTransferModel
from keras_attention.datasets import load_dataset
from keras_attention.models import WideResNet


class Share(keras.utils.PyDataset):
    """This process' part of every batch.

    All processes draw one order from one seed, so that the parts make up the
    batch that a single process would have.

    Args:
        x: all inputs.
        y: all labels.
        batch_size: Batch size of all processes together; what is over at the
            end of an epoch is left out, as another size would be another
            program.
        shuffle: whether each epoch has an order of its own.
    """

    def __init__(self, x, y, batch_size, shuffle=True):
        super().__init__()
        self.processes, self.process = jax.process_count(), jax.process_index()
        if batch_size % self.processes:
            raise ValueError(
                f"A batch is shared out among {self.processes} processes. "
                f"Received: batch_size={batch_size}"
            )
        self.x, self.y, self.batch_size = x, y, batch_size
        self.random = np.random.default_rng(0)
        self.order = np.arange(len(x))
        self.shuffle = shuffle

    @property
    def num_batches(self):
        return len(self.order) // self.batch_size

    def __getitem__(self, index):
        size = self.batch_size // self.processes
        start = index * self.batch_size + self.process * size
        chosen = self.order[start : start + size]
        return self.x[chosen], self.y[chosen]

    def on_epoch_end(self):
        if self.shuffle:
            self.random.shuffle(self.order)


def join(options):
    """Make this process one of several, if it is to be."""
    if options.processes == 1:
        return
    # JAX finds under Slurm what is still missing here.
    keras.distribution.initialize(
        options.coordinator, options.processes, options.process
    )


def train(options):
    """Train a teacher, then its student; return what came out."""
    keras.utils.set_random_seed(0)
    # Each process gives its own part of a batch.
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    data = load_dataset("digits")
    x, y = data.train
    train = Share(x.astype("float32") / 16, y, options.batch_size)
    x, y = data.test
    test = Share(x.astype("float32") / 16, y, options.batch_size, False)
    shape = train.x.shape[1:]
    teacher = WideResNet(10, 2, input_shape=shape)
    student = WideResNet(10, 1, input_shape=shape)
    history = {}
    for name, model in (
        ("teacher", teacher),
        ("student", AttentionTransferModel(student, teacher)),
    ):
        model.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        model.fit(
            train,
            epochs=options.epochs,
            steps_per_epoch=options.steps,
            verbose=0,
        )
        found = model.evaluate(test, verbose=0, return_dict=True)
        history[name] = {**model.history.history, "test": found}
    return student, history


def main():
    environment = os.environ.get
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        default=environment("KERAS_DISTRIBUTION_JOB_ADDRESSES"),
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=environment("KERAS_DISTRIBUTION_NUM_PROCESSES")
        or environment("SLURM_NTASKS", "1"),
    )
    parser.add_argument(
        "--process",
        type=int,
        default=environment("KERAS_DISTRIBUTION_PROCESS_ID")
        or environment("SLURM_PROCID")
        or environment("JOB_COMPLETION_INDEX"),
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, help="of an epoch, if not all")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--save", metavar="FILE.keras")
    options = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error("set KERAS_BACKEND=jax")
    join(options)
    student, history = train(options)
    if jax.process_index() == 0:
        if options.save:
            student.save(options.save)
        print(json.dumps(history))


if __name__ == "__main__":
    main()
