"""Clients whose server fails, answers nonsense, or is asked for nonsense."""

import builtins
import concurrent.futures
import http.server
import pathlib
import threading

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

import keras_attention as ka
from keras_attention.serving import ServingClient
from keras_attention.serving import ServingError

pytestmark = pytest.mark.tensorflow
PROTOCOLS = ("grpc", "rest")


class Unavailable(grpc.GenericRpcHandler):
    """A gRPC server that is unavailable at first."""

    def __init__(self, failures):
        self.failures, self.asked = failures, 0

    def service(self, details):
        def answer(request, context):
            self.asked += 1
            if self.asked <= self.failures:
                context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
            return predict_pb2.PredictResponse()

        return grpc.unary_unary_rpc_method_handler(
            answer, None, predict_pb2.PredictResponse.SerializeToString
        )


@pytest.mark.parametrize("retries, failures", [(0, 1), (2, 2), (2, 3), (4, 4)])
def test_grpc_asks_again_as_often_as_told(retries, failures):
    handler = Unavailable(failures)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with ServingClient("127.0.0.1", port, retries=retries) as client:
        if failures > retries:
            with pytest.raises(ConnectionError, match="loading"):
                client.predict("m", {"x": 1.0})
        else:
            assert client.predict("m", {"x": 1.0}) == {}
    assert handler.asked == min(failures, retries) + 1
    server.stop(0)


@pytest.mark.parametrize("retries, failures", [(0, 1), (2, 2), (2, 3)])
def test_rest_asks_again_as_often_as_told(retries, failures):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            late = len(asked) > failures
            body = b'{"model_version_status": []}'
            body = body if late else b'{"error": "loading"}'
            self.send_response(200 if late else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        with ServingClient("127.0.0.1", port, "rest", 5, retries) as client:
            if failures > retries:
                with pytest.raises(ConnectionError, match="loading"):
                    client.status("m")
            else:
                assert client.status("m") == {}
        server.shutdown()
        thread.join()
    assert asked == ["/v1/models/m"] * (min(failures, retries) + 1)


def test_an_answer_that_is_no_json_is_an_error():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(500, "the proxy is out of order")

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with (
            ServingClient(
                "127.0.0.1", server.server_address[1], "rest"
            ) as client,
            pytest.raises(ServingError, match="proxy") as caught,
        ):
            client.status("m")
        server.shutdown()
        thread.join()
    assert caught.value.code == "INTERNAL"


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"host": "http://localhost"}, ValueError, "a name or an address"),
        ({"port": 0}, ValueError, "port=0"),
        ({"protocol": "soap"}, ValueError, "'grpc', 'rest'"),
        ({"timeout": 0}, ValueError, "timeout=0"),
        ({"retries": 5}, ValueError, "at most 4"),
        ({"retries": -1}, ValueError, "retries=-1"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        ServingClient(**arguments)


def test_bad_requests_are_not_sent():
    with ServingClient(protocol="rest") as client:
        with pytest.raises(TypeError, match="must map the names"):
            client.predict("m", np.ones(3))
        with pytest.raises(ValueError, match="version=0"):
            client.predict("m", {"x": 1.0}, version=0)


def test_usual_ports():
    assert [ServingClient(protocol=p).port for p in PROTOCOLS] == [8500, 8501]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_missing_extra_is_named(protocol, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **others):
        if name == f"keras_attention.serving.{protocol}_transport":
            raise ImportError("No module named 'grpc'")
        return real(name, *arguments, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"'grpc'.*\[serving\].*--no-deps"):
        ServingClient(protocol=protocol)


def test_rest_needs_no_tensorflow():
    folder = pathlib.Path(ka.__file__).parent / "serving"
    source = (folder / "rest_transport.py").read_text()
    assert "tensorflow" not in source.lower().replace("tensorflow serving", "")
