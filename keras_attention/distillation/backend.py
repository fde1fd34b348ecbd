"""What Keras has no backend-neutral word for: gradients and replicas."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


def replica_count() -> int:
    """Return how many replicas share one step's batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def check_replicas(model: keras.Model) -> None:
    """Check that `fit` can train a model on the replicas of its strategy.

    Raises:
        ValueError: for what would end in an error out of TensorFlow's graph,
            after which the process is of no use.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return
    known = strategy.extended.variable_created_in_scope
    if not all(known(v.value) for v in model.student.variables):
        raise ValueError(
            "Under a strategy of several replicas the student is made in its "
            "`scope()`, as the model is. Received: student "
            f"'{model.student.name}' made outside of it"
        )
    refused = None
    if model.steps_per_execution > 1:
        refused = f"steps_per_execution={model.steps_per_execution}", "1"
    elif model.jit_compile:
        refused = "jit_compile=True", 'False or "auto"'
    if refused is not None:
        raise ValueError(
            f"Keras has no such step for the {replicas} replicas of a "
            f"{type(strategy).__name__}. Received: {refused[0]}. Compile the "
            f"model with {refused[0].split('=')[0]}={refused[1]}."
        )
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "Keras' `fit` does not work on several machines with TensorFlow. "
            f"Received: a {type(strategy).__name__} of {replicas} replicas. "
            "Take the loop of `examples/several_machines_tensorflow.py`, or "
            "the JAX backend with keras.distribution.DataParallel."
        )


@contextmanager
def no_gradient() -> Iterator[None]:
    """Keep what is computed inside out of gradients, where that saves work."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield


@contextmanager
def watched(inputs: Any) -> Iterator[tuple[Any, Callable[[Any], Any] | None]]:
    """Watch an input while a model is called inside the body.

    Yields:
        `(inputs, gradient)`: the tensor to call the model with, and the
        function that turns a scalar into its gradient at it. On JAX it is
        `None`: gradients belong to functions there.

    Raises:
        ValueError: If the input is not one tensor of floats.
    """
    if keras.tree.is_nested(inputs) or not keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(inputs.dtype)
    ):
        raise ValueError(
            "Gradients at the inputs are compared for models with one input "
            "of floats. Received: "
            f"{keras.tree.map_structure(lambda x: str(x.dtype), inputs)}. Set "
            "gradient_transfer=0 and symmetry=0."
        )
    backend = keras.backend.backend()
    if backend == "jax":
        yield inputs, None
    elif backend == "torch":
        import torch

        inputs = inputs.detach().requires_grad_(True)
        yield (
            inputs,
            lambda value: torch.autograd.grad(value, inputs, create_graph=True)[
                0
            ],
        )
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            yield inputs, lambda value: tape.gradient(value, inputs)


def update_if(
    condition: Any,
    update: Callable[..., None],
    variables: Iterable[Any],
    *arguments: Any,
    is_xla: bool = False,
) -> None:
    """Updates variables where a condition holds on all replicas of a step.

    Args:
        condition: A scalar boolean.
        update: Assigns to the variables.
        variables: All that it assigns to.
        *arguments: What it is called with: tensors in lists.
        is_xla: Whether the step is compiled by XLA, which copies all that
            enters or leaves a branch. A choice between two values is a part
            of the operation that makes them. Defaults to `False`.
    """

    def nothing():
        pass

    if is_xla and not _has_strategy():
        before = [(each, keras.ops.copy(each)) for each in variables]
        update(*arguments)
        for variable, value in before:
            variable.assign(keras.ops.where(condition, variable.value, value))
        return
    if not _has_strategy():
        keras.ops.cond(condition, lambda: update(*arguments), nothing)
        return
    import tensorflow as tf

    def across(strategy, condition, *arguments):
        def update_all():
            strategy.extended.call_for_each_replica(update, arguments)

        # Variables are assigned across replicas, so no replica may decide.
        conditions = strategy.experimental_local_results(condition)
        tf.cond(tf.reduce_all(tf.stack(conditions)), update_all, nothing)

    tf.distribute.get_replica_context().merge_call(
        across, (condition, *arguments)
    )


def _has_strategy():
    """Whether a step is run by a strategy, be it of one replica."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.has_strategy()
