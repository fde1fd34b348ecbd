"""The requests of `ServingClient` over gRPC."""

import contextlib
import json
import pathlib

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_attention.serving.serving_error import ServingError
from keras_attention.serving.verify import Arrays
from keras_attention.serving.verify import signature_tensors

SERVICES = ("PredictionService", "ModelService")


class GrpcTransport:
    """A channel with TensorFlow Serving's two services."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float,
        retries: int,
        tls: bool | pathlib.Path,
    ):
        self._where = f"{host}:{port}"
        self._timeout = timeout
        self._attempts = retries + 1
        self._channel = _channel(
            self._where,
            tls,
            [
                ("grpc.service_config", json.dumps(_policy(retries))),
                ("grpc.enable_retries", int(retries > 0)),
                # A server that comes back is found within a second.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(
            self._channel
        )
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self,
        model: str,
        inputs: Arrays,
        signature: str,
        version: int | str | None,
    ) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        _specify(request.model_spec, model, version)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            if not isinstance(value, list | tuple):
                value = np.asarray(value)
            # What is a list gets TensorFlow's own dtypes: float32, int32.
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            with self._errors():
                answer = self._predictions.Predict(
                    request, timeout=self._timeout
                )
        except ServingError as error:
            if error.code != "INVALID_ARGUMENT":
                raise
            sent = ", ".join(
                f"'{name}' of {tf.dtypes.as_dtype(tensor.dtype).name} "
                f"{[dim.size for dim in tensor.tensor_shape.dim]}"
                for name, tensor in request.inputs.items()
            )
            raise ServingError(
                f"{error} Sent: {sent}. `metadata` tells what the signature "
                "takes; NumPy's numbers are float64 unless they are cast.",
                error.code,
            ) from error
        return {k: tf.make_ndarray(v) for k, v in answer.outputs.items()}

    def metadata(
        self, model: str, version: int | str | None
    ) -> dict[str, dict]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            metadata_field=["signature_def"]
        )
        _specify(request.model_spec, model, version)
        with self._errors():
            answer = self._predictions.GetModelMetadata(
                request, timeout=self._timeout
            )
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return signature_tensors(found.signature_def)

    def status(self, model: str) -> dict[int, dict[str, str]]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        with self._errors():
            answer = self._models.GetModelStatus(request, timeout=self._timeout)
        states = get_model_status_pb2.ModelVersionStatus.State
        return {
            found.version: {
                "state": states.Name(found.state),
                "error": found.status.error_message,
            }
            for found in sorted(
                answer.model_version_status, key=lambda found: found.version
            )
        }

    def close(self) -> None:
        self._channel.close()

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(
                    f"The server at {self._where} gave no answer within "
                    f"{self._timeout} s: {details}"
                ) from error
            if code == grpc.StatusCode.UNAVAILABLE:
                raise ConnectionError(
                    f"The server at {self._where} could not be reached, with "
                    f"up to {self._attempts} attempts: {details}"
                ) from error
            raise ServingError(details, code.name) from error


def _channel(where, tls, options):
    if not tls:
        return grpc.insecure_channel(where, options)
    authorities = None if tls is True else tls.read_bytes()
    credentials = grpc.ssl_channel_credentials(authorities)
    return grpc.secure_channel(where, credentials, options)


def _policy(retries):
    """gRPC's service config: which errors are tried again, and when."""
    config = {
        "name": [{"service": f"tensorflow.serving.{s}"} for s in SERVICES]
    }
    if retries:
        config["retryPolicy"] = {
            "maxAttempts": retries + 1,
            "initialBackoff": "0.1s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
    return {"methodConfig": [config]}


def _specify(spec, model, version):
    spec.name = model
    if isinstance(version, str):
        spec.version_label = version
    elif version is not None:
        spec.version.value = version
