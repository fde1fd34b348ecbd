"""Asks a model server: TensorFlow Serving, or one of its protocols."""

import os
import pathlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from keras_attention.serving.verify import Arrays
from keras_attention.validation import check_choice
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer

PORTS = {"grpc": 8500, "rest": 8501}
# A version at the server is an int64.
MAX_VERSION = 2**63 - 1
# gRPC makes no more attempts than five, whatever it is told.
MAX_RETRIES = 4


class ServingClient:
    """Asks TensorFlow Serving for predictions, over gRPC or REST.

    gRPC is the faster one and sends numbers as they are. REST needs no
    TensorFlow on the client's side; its numbers go as text, and since its
    answers have neither dtypes nor the name of a single output, the model's
    metadata are asked for too: once if a version is named, otherwise at each
    request. Both may be used by several threads at one time.

    A server that cannot be reached, or that says that it is unavailable, is
    asked again after 0.1, 0.2, 0.4 and 0.8 s, by gRPC's and urllib3's own
    policies. What it refuses or is too slow for is not asked twice.

    Args:
        host: the server's name or address.
        port: its port, or `None` for TensorFlow Serving's own: 8500 for
            gRPC and 8501 for REST.
        protocol: `"grpc"`, which needs tensorflow-serving-api and
            TensorFlow, or `"rest"`, which needs urllib3.
        timeout: seconds that a call may take; by gRPC with all its retries,
            by REST each attempt.
        retries: how often a call is repeated, 0 to 4.
        tls: whether the connection is encrypted, and the server's name
            proved by its certificate. A path is that of a PEM file with the
            authorities that are trusted; `True` trusts those of the system,
            by gRPC those that gRPC brings.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.
        FileNotFoundError: If there is no file of authorities.
        ImportError: If what the protocol needs is not installed.

    Example:

    >>> client = ServingClient("localhost", protocol="rest")
    >>> client
    ServingClient('localhost', 8501, 'rest')
    >>> # client.predict("student", {"image": images})["predictions"]
    >>> client.close()
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int | None = None,
        protocol: str = "grpc",
        timeout: float = 10.0,
        retries: int = 3,
        tls: bool | str | os.PathLike = False,
    ):
        if not isinstance(host, str) or not host or "/" in host:
            raise ValueError(
                "`host` must be a name or an address alone, such as "
                f"'localhost'. Received: host={host!r}"
            )
        self.host = host
        self.protocol = check_choice("protocol", protocol, PORTS)
        self.port = PORTS[protocol] if port is None else port
        check_positive_integer("port", self.port)
        self.timeout = check_number("timeout", timeout, 0, None, True)
        self.retries = check_positive_integer("retries", retries, minimum=0)
        if retries > MAX_RETRIES:
            raise ValueError(
                f"`retries` must be at most {MAX_RETRIES}: gRPC makes no more "
                f"than {MAX_RETRIES + 1} attempts. Received: retries={retries}"
            )
        self.tls = _check_tls(tls)
        self._transport = _transport(protocol)(
            host, self.port, self.timeout, retries, self.tls
        )

    def predict(
        self,
        model: str,
        inputs: Arrays,
        signature: str = "serving_default",
        version: int | str | None = None,
    ) -> dict[str, np.ndarray]:
        """Return what a signature of a model answers, by name.

        Args:
            model: the model's name at the server.
            inputs: the signature's inputs by name: arrays, or lists, of
                whose numbers those with a point are float32 and those
                without int32. Encoded images are `bytes`; an array of bytes
                must be one of objects, since NumPy's own lose zeros.
            signature: name of the signature.
            version: number of a version, the label of one, or `None` for
                the newest.

        Returns:
            Arrays by the names of the outputs; strings as objects, `bytes`.

        Raises:
            TypeError, ValueError: If an input is `None`, has values that are
                neither numbers nor texts, or lists of several lengths.
            ServingError: If the server refuses; with its message, and for
                numbers of the wrong kind with what was sent.
            TimeoutError: If no answer came in time.
            ConnectionError: If no attempt reached the server.
        """
        if not isinstance(inputs, Mapping) or not inputs:
            raise TypeError(
                "`inputs` must map the names of the signature's inputs to "
                f"arrays. Received: {type(inputs).__name__}"
            )
        values = {name: _value(name, x) for name, x in inputs.items()}
        return self._transport.predict(
            model, values, signature, _version(version)
        )

    def metadata(
        self, model: str, version: int | str | None = None
    ) -> dict[str, dict]:
        """Return the signatures of a model.

        Args:
            model: the model's name at the server.
            version: as for `predict`.

        Returns:
            A dictionary for each signature, by its name. `"inputs"` and
            `"outputs"` in it have the tensors by name, and a tensor has a
            `"dtype"` and a `"shape"`, with `None` for an open size.

        Raises:
            ServingError, TimeoutError, ConnectionError: as `predict`.
        """
        return self._transport.metadata(model, _version(version))

    def status(self, model: str) -> dict[int, dict[str, str]]:
        """Return the versions of a model, and how they are.

        Returns:
            A dictionary for each version, by its number. `"state"` in it is
            START, LOADING, AVAILABLE, UNLOADING or END, and `"error"` says
            why a version could not be loaded.

        Raises:
            ServingError, TimeoutError, ConnectionError: as `predict`.
        """
        return self._transport.status(model)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> "ServingClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ServingClient({self.host!r}, {self.port}, {self.protocol!r})"


def _value(name, value):
    """Return an input as it is given; refuse what no server can be sent."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        array = value
    elif isinstance(value, bytes | str | bool | int | float):
        return value
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"The input '{name}' must be an array, or lists of one "
                f"length. Received: {error}"
            ) from error
    if array.dtype == object:
        for part in array.flat:
            if not isinstance(part, bytes | str):
                raise TypeError(
                    f"The input '{name}' must have numbers, or texts and "
                    f"bytes. Received: {type(part).__name__} in {name}"
                )
    elif array.dtype.kind not in "fiubSUV" or array.dtype.names:
        raise TypeError(
            f"The input '{name}' must have numbers, or texts and bytes. "
            f"Received: an array of {array.dtype}"
        )
    is_list = isinstance(value, list | tuple)
    # Lists are sent with the dtypes that the protocol gives them.
    return value if is_list else array


def _check_tls(tls):
    if isinstance(tls, bool):
        return tls
    if not isinstance(tls, str | os.PathLike):
        raise TypeError(
            "`tls` must be True, False, or the path of a PEM file of "
            f"authorities. Received: tls={tls!r}"
        )
    path = pathlib.Path(tls)
    if not path.is_file():
        raise FileNotFoundError(
            "`tls` must be True, False, or the path of a PEM file of "
            f"authorities that exists. Received: tls={str(path)!r}"
        )
    return path


def _transport(protocol) -> Any:
    """Return the class that speaks the protocol."""
    try:
        if protocol == "rest":
            from keras_attention.serving.rest_transport import RestTransport

            return RestTransport
        from keras_attention.serving.grpc_transport import GrpcTransport

        return GrpcTransport
    except ImportError as error:
        raise ImportError(
            f"ServingClient(protocol={protocol!r}) needs more packages "
            f"({error}): pip install 'keras-attention-layers[serving]' && "
            "pip install --no-deps tensorflow-serving-api. (By itself the "
            "latter would install `tensorflow` over tensorflow-cpu; "
            "protocol='rest' does without it.)"
        ) from error


def _version(version):
    if version is None or (isinstance(version, str) and version):
        return version
    check_positive_integer("version", version)
    if version > MAX_VERSION:
        raise ValueError(
            "`version` must be below 2**63: servers count in int64. "
            f"Received: version={version}"
        )
    return version
