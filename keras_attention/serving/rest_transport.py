"""The requests of `ServingClient` over REST."""

import base64
import contextlib
import json
import pathlib
import urllib.parse
from typing import Any

import numpy as np
import urllib3

from keras_attention.serving.serving_error import ServingError
from keras_attention.serving.verify import Arrays

# TensorFlow Serving's HTTP statuses, in gRPC's words.
CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
DTYPES = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_HALF": "float16",
    # NumPy has no such numbers; each of them is one of float32's.
    "DT_BFLOAT16": "float32",
}

# Names of the dtypes that JSON cannot carry.
HALF = ("half", "bfloat16")


class RestTransport:
    """TensorFlow Serving's REST interface, version 1."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float,
        retries: int,
        tls: bool | pathlib.Path,
    ):
        host = f"[{host}]" if ":" in host else host
        self._where = f"{'https' if tls else 'http'}://{host}:{port}"
        self._timeout = timeout
        self._attempts = retries + 1
        self._known: dict[Any, Any] = {}
        self._pool = urllib3.PoolManager(
            maxsize=16,
            ca_certs=str(tls) if isinstance(tls, pathlib.Path) else None,
            timeout=urllib3.Timeout(total=timeout),
            retries=_Retry(
                retries,
                # Asking for a prediction twice does no harm.
                allowed_methods=("GET", "POST"),
                status_forcelist=(502, 503),
                backoff_factor=0.1,
                backoff_max=1,
                redirect=0,
                raise_on_status=False,
            ),
        )

    def predict(
        self,
        model: str,
        inputs: Arrays,
        signature: str,
        version: int | str | None,
    ) -> dict[str, np.ndarray]:
        body = {
            "signature_name": signature,
            "inputs": {k: _to_json(v) for k, v in inputs.items()},
        }
        url = _url(model, version)
        found = self._ask("POST", f"{url}:predict", body)["outputs"]
        for known in self._signatures(model, version):
            outputs = known.get(signature, {"outputs": {}})["outputs"]
            # A single output comes without its name.
            named = {next(iter(outputs)): found} if len(outputs) == 1 else found
            if isinstance(named, dict) and set(named) == set(outputs):
                return {
                    name: _to_array(value, outputs[name]["dtype"])
                    for name, value in named.items()
                }
        raise ServingError(
            f"The server at {self._where} answered otherwise than its "
            f"metadata of '{signature}' say: expected {', '.join(outputs)}",
            "INTERNAL",
        )

    def metadata(
        self, model: str, version: int | str | None
    ) -> dict[str, dict]:
        answer = self._ask("GET", f"{_url(model, version)}/metadata")
        known = answer["metadata"]["signature_def"]["signature_def"]
        return {
            name: {
                "inputs": _tensors(signature.get("inputs", {})),
                "outputs": _tensors(signature.get("outputs", {})),
            }
            for name, signature in sorted(known.items())
            if not name.startswith("__")
        }

    def status(self, model: str) -> dict[int, dict[str, str]]:
        answer = self._ask("GET", _url(model, None))
        found = {
            int(status["version"]): {
                "state": status["state"],
                "error": status["status"].get("error_message", ""),
            }
            for status in answer["model_version_status"]
        }
        return dict(sorted(found.items()))

    def close(self) -> None:
        self._pool.clear()

    def _signatures(self, model, version):
        """The metadata that are known of a version, then those of now."""
        key = model, version
        if isinstance(version, int) and key in self._known:
            yield self._known[key]
        self._known[key] = self.metadata(model, version)
        yield self._known[key]

    def _ask(self, method, path, body=None):
        with self._errors():
            answer = self._pool.request(
                method,
                self._where + path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            text = answer.data.decode(errors="replace")
        if answer.status in (502, 503):
            raise ConnectionError(
                f"The server at {self._where} was unavailable at each of "
                f"{self._attempts} attempts: {_message(text)}"
            )
        if answer.status != 200:
            code = CODES.get(answer.status, f"HTTP_{answer.status}")
            message = _message(text)
            if any(dtype in message for dtype in HALF):
                message += (
                    " TensorFlow Serving's REST interface has no half "
                    "precision: use protocol='grpc', or export a model whose "
                    "inputs and outputs are float32."
                )
            raise ServingError(message, code)
        try:
            return json.loads(text)
        except ValueError as error:
            raise ServingError(
                f"The server at {self._where} answered with no JSON: "
                f"{text[:200]!r}",
                "INTERNAL",
            ) from error

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            # A refused connection is one of urllib3's timeouts too.
            refused = isinstance(reason, urllib3.exceptions.NewConnectionError)
            late = isinstance(reason, urllib3.exceptions.TimeoutError)
            if late and not refused:
                raise TimeoutError(
                    f"The server at {self._where} gave no answer within "
                    f"{self._timeout} s."
                ) from error
            raise ConnectionError(
                f"The server at {self._where} could not be reached, with up "
                f"to {self._attempts} attempts: {reason}"
            ) from error


class _Retry(urllib3.Retry):
    """Does not repeat what the server was too slow for."""

    def increment(self, *arguments, error=None, **others):
        if isinstance(error, urllib3.exceptions.ReadTimeoutError):
            raise error
        return super().increment(*arguments, error=error, **others)


def _url(model, version):
    path = f"/v1/models/{urllib.parse.quote(model, safe='')}"
    if isinstance(version, str):
        return f"{path}/labels/{urllib.parse.quote(version, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def _message(text):
    """The server's own message, of an answer that is an error."""
    try:
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text.strip()[:500]


def _tensors(infos):
    tensors = {}
    for name, info in sorted(infos.items()):
        sizes = [int(x["size"]) for x in info["tensor_shape"].get("dim", [])]
        dtype = info["dtype"]
        tensors[name] = {
            "tensor": info["name"],
            "dtype": DTYPES.get(dtype, dtype.removeprefix("DT_").lower()),
            "shape": [None if size < 0 else size for size in sizes],
        }
    return tensors


def _to_json(value):
    """Nested lists of numbers; bytes as TensorFlow Serving has them."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_to_json(part) for part in value]
    if isinstance(value, str | bool | int | float):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        return _to_json(array.tolist())
    if array.dtype.kind not in "fiub":  # bfloat16
        array = array.astype("float32")
    return array.tolist()


def _to_array(value, dtype):
    if dtype != "string":
        return np.asarray(value, dtype)
    strings, shape = [], _shape(value)
    _collect(value, strings)
    array = np.empty(len(strings), object)
    array[:] = strings
    return array.reshape(shape)


def _shape(value):
    if not isinstance(value, list):
        return ()
    return (len(value), *(_shape(value[0]) if value else ()))


def _collect(value, strings):
    if isinstance(value, list):
        for part in value:
            _collect(part, strings)
    elif isinstance(value, dict):
        strings.append(base64.b64decode(value["b64"]))
    else:
        strings.append(value.encode())
