"""Requests that TensorFlow Serving replays when it has loaded a model."""

import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from keras_attention.serving.signatures import Signature
from keras_attention.serving.verify import Arrays
from keras_attention.serving.verify import convert
from keras_attention.validation import nearest

# TensorFlow Serving's WarmupConsts::kMaxNumRecords.
MAX_REQUESTS = 1000


def warmup_requests(
    warmup: Arrays | Sequence[tuple[str, Arrays]],
    default: str,
    model: keras.Model,
    signatures: Mapping[str, Signature],
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Return `(signature, inputs)` with the dtypes that the server takes.

    A server does not load a version whose requests fail.

    Args:
        warmup: a list of `(signature, inputs by name)`, or only the inputs.
        default: the signature then meant.
        model: the model that is exported.
        signatures: its signatures by name.

    Raises:
        ValueError: for a signature or an input that does not exist, one that
            is missing, a shape that the model does not take, and more than
            1,000 requests.
    """
    if isinstance(warmup, Mapping):
        warmup = [(default, warmup)]
    if len(warmup) > MAX_REQUESTS:
        raise ValueError(
            f"`warmup` must have at most {MAX_REQUESTS:,} requests: a server "
            "does not load a version with more. "
            f"Received: {len(warmup):,} requests"
        )
    requests = []
    for name, inputs in warmup:
        if name not in signatures:
            raise ValueError(
                "A warm-up request must be for one of the signatures "
                f"{', '.join(signatures)}. Received: {name!r}."
                f"{nearest(name, signatures)}"
            )
        specs = {spec.name: spec for spec in signatures[name].inputs(model)}
        if set(inputs) != set(specs):
            raise ValueError(
                f"A warm-up request for '{name}' must have the inputs "
                f"{', '.join(specs)}. Received: {', '.join(inputs)}"
            )
        requests.append(
            (name, {k: _fit(k, inputs[k], s) for k, s in specs.items()})
        )
    return requests


def _fit(name, value, spec):
    value = convert(name, value, spec.dtype.name)
    if not spec.shape.is_compatible_with(value.shape):
        raise ValueError(
            f"The input '{name}' of a warm-up request must have the shape "
            f"{spec.shape}. Received: {value.shape}"
        )
    return value


def write_warmup(
    directory: str | os.PathLike,
    requests: Sequence[tuple[str, Arrays]],
    model_name: str = "",
) -> pathlib.Path:
    """Write the requests where TensorFlow Serving looks for them.

    The first requests to a model are slow, since much is set up when it first
    runs. The server replays these before it answers anyone.

    Args:
        directory: the folder of one version, `.../model/1`.
        requests: `(signature, inputs by name)` of `warmup_requests`, a few of
            the usual kind. At most 1,000 are replayed.
        model_name: name of the model at the server; it is not checked there.

    Returns:
        The file's path.

    Raises:
        ImportError: If the protocol's messages are not installed.
    """
    try:
        from tensorflow_serving.apis import predict_pb2
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests need the package tensorflow-serving-api, and "
            "what it builds on: pip install 'keras-attention-layers[serving]' "
            "&& pip install --no-deps tensorflow-serving-api. (By itself it "
            "would install `tensorflow` over tensorflow-cpu.)"
        ) from error
    import tensorflow as tf

    folder = pathlib.Path(directory) / "assets.extra"
    folder.mkdir(exist_ok=True)
    path = folder / "tf_serving_warmup_requests"
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for signature, inputs in requests:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model_name
                request.model_spec.signature_name = signature
                for name, value in inputs.items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())
    except tf.errors.OpError as error:
        raise OSError(
            f"The warm-up requests could not be written to '{path}': "
            f"{error.message}"
        ) from error
    return path
