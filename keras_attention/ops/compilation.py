"""What compiles the computation: the fastest way depends on it."""

from typing import Any

import keras


def inside_xla() -> bool:
    """Whether what is now being computed or traced is compiled by XLA.

    TensorFlow has no public way to ask. Where its own way is missing the
    answer is no, which costs time under XLA and nothing else.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    try:
        from tensorflow.python.ops import control_flow_util
    except ImportError:
        return False
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def is_traced(x: Any) -> bool:
    """Whether the values of a tensor are not known while Python runs."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return not hasattr(x, "numpy")
    if backend == "jax":
        import jax

        return isinstance(x, jax.core.Tracer)
    if backend == "torch":
        import torch

        # Keras finds the shapes of outputs with tensors of device "meta".
        return x.device.type == "meta" or torch.compiler.is_compiling()
    return False
