"""Attention transfer on several machines, with the TensorFlow backend.

Claim: the processes together take the steps of one process, with its losses.
Batch normalization alone differs: each process has the statistics of its own
part of the batch.

Keras' own `fit` does not work under a MultiWorkerMirroredStrategy. `train` in
this file does what it would do: Keras' step, run by the strategy. With JAX,
`fit` itself works, and batch normalization too: `several_machines.py`.

    python examples/several_machines_tensorflow.py            # one process

Once for each process, with TF_CONFIG as TensorFlow has it (Kubeflow and other
launchers set it):

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:1234", "10.0.0.2:1234"]},
      "task": {"type": "worker", "index": 0}}' \\
      python examples/several_machines_tensorflow.py

Every process prints a line of JSON with the losses; with `--save` the first
one writes the student.
"""

import argparse
import json
import os

import tensorflow as tf

# The strategy is made before anything runs, and so before Keras is imported.
STRATEGY = (
    tf.distribute.MultiWorkerMirroredStrategy()
    if "TF_CONFIG" in os.environ
    else tf.distribute.get_strategy()
)

import keras  # noqa: E402

from keras_attention import AttentionTransferModel  # noqa: E402
from keras_attention.datasets import load_dataset  # noqa: E402
from keras_attention.models import WideResNet  # noqa: E402


def train(model, dataset, epochs, strategy):
    """Train a compiled model as `fit` would; return the history.

    Args:
        model: made and compiled in the strategy's scope.
        dataset: a `tf.data.Dataset` of whole batches, the same in every
            process; each of them takes its part of every batch.
        epochs: their number.
        strategy: a `tf.distribute.Strategy`.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    shares = strategy.experimental_distribute_dataset(
        dataset.with_options(options)
    )
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(batch):
        strategy.run(model.train_step, args=(batch,))

    history = []
    for _ in range(epochs):
        model.reset_metrics()
        for batch in shares:
            step(batch)
        results = model.get_metrics_result()
        history.append({name: float(results[name]) for name in results})
    return history


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of an epoch, if not all")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--save", metavar="FILE.keras")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    x, y = load_dataset("digits").train
    dataset = tf.data.Dataset.from_tensor_slices((x.astype("float32") / 16, y))
    dataset = dataset.batch(options.batch_size, drop_remainder=True)
    if options.steps:
        dataset = dataset.take(options.steps)
    with STRATEGY.scope():
        teacher = WideResNet(10, 2, input_shape=x.shape[1:])
        student = WideResNet(10, 1, input_shape=x.shape[1:])
        model = AttentionTransferModel(student, teacher)
        model.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    print(json.dumps(train(model, dataset, options.epochs, STRATEGY)))
    cluster = STRATEGY.cluster_resolver
    if options.save and (cluster is None or cluster.task_id == 0):
        student.save(options.save)


if __name__ == "__main__":
    main()
