"""The client's connections by TLS, to servers with certificates of a test."""

import concurrent.futures
import http.server
import json
import ssl
import threading

import grpc
import pytest
import trustme
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

from keras_attention.serving import ServingClient

pytestmark = pytest.mark.tensorflow
STATUS = {1: {"state": "AVAILABLE", "error": ""}}


class Status(model_service_pb2_grpc.ModelServiceServicer):
    def GetModelStatus(self, request, context):
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=1, state="AVAILABLE")
        return answer


class RestStatus(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        version = {"version": "1", "state": "AVAILABLE", "status": {}}
        body = json.dumps({"model_version_status": [version]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue_cert("localhost")


@pytest.fixture(scope="module")
def grpc_port(certificate):
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    key = certificate.private_key_pem.bytes()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(), server)
    credentials = grpc.ssl_server_credentials([(key, chain)])
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture(scope="module")
def rest_port(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    server = http.server.ThreadingHTTPServer(("localhost", 0), RestStatus)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["grpc", "rest"])
def address(request):
    port = request.getfixturevalue(f"{request.param}_port")
    return {"port": port, "protocol": request.param}


def pem(authority, tmp_path):
    path = tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_trusted_server_answers(address, authority, tmp_path, kind):
    path = kind(pem(authority, tmp_path))
    with ServingClient("localhost", tls=path, **address) as client:
        assert client.status("m") == STATUS


def test_a_server_of_another_authority_is_refused(address, tmp_path):
    path = pem(trustme.CA(), tmp_path)
    with (
        ServingClient("localhost", tls=path, retries=0, **address) as client,
        pytest.raises(ConnectionError, match=r"(?i)certificate"),
    ):
        client.status("m")


def test_the_systems_authorities_do_not_know_the_tests(address):
    with (
        ServingClient("localhost", tls=True, retries=0, **address) as client,
        pytest.raises(ConnectionError, match=r"(?i)certificate"),
    ):
        client.status("m")


def test_without_tls_there_is_no_answer(address):
    with (
        ServingClient("localhost", retries=0, **address) as client,
        pytest.raises(ConnectionError),
    ):
        client.status("m")


def test_bad_arguments(tmp_path):
    with pytest.raises(TypeError, match=r"`tls`.*PEM.*Received: tls=1"):
        ServingClient(tls=1)
    with pytest.raises(FileNotFoundError, match=r"Received: tls='.*none.pem'"):
        ServingClient(tls=tmp_path / "none.pem")
