"""Attention by a C kernel of our own, on TensorFlow, JAX and torch.

An experiment: g++ compiles it when it is first called. It holds float32, heads
of 64 features and `causal`, and needs AVX-512. `docs/c_kernel.md` says what it
gave.
"""

import ctypes
import functools
import pathlib
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import keras

SOURCES = pathlib.Path(__file__).parent
WIDTH = 64  # Of a head.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


class Sizes(ctypes.Structure):
    """The structure of that name in `attention.h`."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "queries", "keys")),
        ("heads", ctypes.c_int64),
        ("causal", ctypes.c_bool),
        ("scale", ctypes.c_float),
    ]


def is_available() -> bool:
    """Whether this machine can compile and run it."""
    try:
        subprocess.run(["g++", "--version"], check=True, capture_output=True)
        return "avx512f" in pathlib.Path("/proc/cpuinfo").read_text()
    except (OSError, subprocess.CalledProcessError):
        return False


def attend(query: Any, key: Any, value: Any, causal: bool) -> Any:
    """Scaled dot-product attention, which can be differentiated once.

    Args:
        query: Float32 tensor `(batch, queries, heads, 64)`.
        key: Float32 tensor `(batch, keys, heads, 64)`.
        value: As `key`.
        causal: Whether a query attends to no later key, the last query being
            at the last key.
    """
    make = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    return make[keras.backend.backend()](causal)(query, key, value)


def build(
    name: str, load: Callable[[str], Any], include: str | None = None
) -> Any:
    """Compile a source file, and return what `load` makes of the library."""
    includes = () if include is None else ("-isystem", include)
    source = str(SOURCES / f"{name}.cc")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{name}.so"
        subprocess.run(
            ["g++", *FLAGS, *includes, source, "-o", path], check=True
        )
        return load(path)


@functools.cache
def _tensorflow_operations():
    import tensorflow as tf

    return build("tensorflow", tf.load_op_library, tf.sysconfig.get_include())


def _tensorflow(causal: bool) -> Callable[..., Any]:
    import tensorflow as tf

    operations = _tensorflow_operations()
    options = {"causal": causal, "scale": WIDTH**-0.5}

    @tf.custom_gradient
    def call(query, key, value):
        output, logsumexp = operations.kernel_attention(
            query, key, value, **options
        )
        output = tf.ensure_shape(output, query.shape)

        def gradient(upstream):
            return operations.kernel_attention_gradient(
                query, key, value, output, upstream, logsumexp, **options
            )

        return output, gradient

    return call


@functools.cache
def _add_jax_targets():
    import jax

    library = build("jax", ctypes.CDLL, jax.ffi.include_dir())
    for name in ("AttentionForward", "AttentionBackward"):
        target = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(name, target, platform="cpu")


def _jax(causal: bool) -> Callable[..., Any]:
    import jax
    import numpy as np

    _add_jax_targets()
    options = {"causal": causal, "scale": np.float32(WIDTH**-0.5)}

    def like(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    def forward(query, key, value):
        batch, length, heads, _ = query.shape
        sums = jax.ShapeDtypeStruct((batch, heads, length), query.dtype)
        run = jax.ffi.ffi_call("AttentionForward", (like(query), sums))
        output, logsumexp = run(query, key, value, **options)
        return output, (query, key, value, output, logsumexp)

    def backward(kept, upstream):
        *inputs, output, logsumexp = kept
        run = jax.ffi.ffi_call("AttentionBackward", tuple(map(like, inputs)))
        return tuple(run(*inputs, output, upstream, logsumexp, **options))

    call = jax.custom_vjp(lambda *inputs: forward(*inputs)[0])
    call.defvjp(forward, backward)
    return call


@functools.cache
def _torch_library():
    return build("torch", ctypes.CDLL)


def _torch(causal: bool) -> Callable[..., Any]:
    import torch

    library = _torch_library()

    def run(name, query, key, *tensors):
        batch, length, heads, width = query.shape
        sizes = (batch, length, key.shape[1], heads, causal, width**-0.5)
        pointers = (x.data_ptr() for x in (query, key, *tensors))
        getattr(library, name)(
            ctypes.byref(Sizes(*sizes)), *map(ctypes.c_void_p, pointers)
        )

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(context, *inputs):
            inputs = [x.contiguous() for x in inputs]
            batch, length, heads, _ = inputs[0].shape
            output = torch.empty_like(inputs[0])
            logsumexp = torch.empty(batch, heads, length)
            run("attention_forward", *inputs, output, logsumexp)
            context.save_for_backward(*inputs, output, logsumexp)
            return output

        @staticmethod
        def backward(context, upstream):
            *inputs, output, logsumexp = context.saved_tensors
            gradients = [torch.empty_like(x) for x in inputs]
            kept = (*inputs, output, upstream.contiguous(), logsumexp)
            run("attention_backward", *kept, *gradients)
            return tuple(gradients)

    return Attention.apply
