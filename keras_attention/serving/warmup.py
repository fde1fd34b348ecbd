"""Requests that TensorFlow Serving replays when it has loaded a model."""

import os
import pathlib
from collections.abc import Sequence

from keras_attention.serving.verify import Arrays


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
        requests: `(signature, inputs by name)`, a few of the usual kind. At
            most 1,000 are replayed.
        model_name: name of the model at the server; it is not checked there.

    Returns:
        The file's path.

    Raises:
        ImportError: if the protocol's messages are not installed.
    """
    try:
        from tensorflow_serving.apis import predict_pb2
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests need the package tensorflow-serving-api. It "
            "asks for `tensorflow`; beside tensorflow-cpu install it alone: "
            "pip install --no-deps tensorflow-serving-api"
        ) from error
    import tensorflow as tf

    folder = pathlib.Path(directory) / "assets.extra"
    folder.mkdir(exist_ok=True)
    path = folder / "tf_serving_warmup_requests"
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
    return path
