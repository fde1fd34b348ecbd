"""What TensorFlow Serving refuses, by its source: the tests' server and ours.

The server of the tests follows `json_tensor.cc`, `batching_session.cc` and
the reading of warm-up requests. What a user can run into gets a clear error
from the client, or is refused when the export is written.
"""

import json
import os
import shutil
import time
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.serving import AttentionSignature
from keras_attention.serving import ServingClient
from keras_attention.serving import ServingError
from keras_attention.serving import export_for_serving
from keras_attention.serving import run_export
from keras_attention.serving import warmup
from serving.server_process import ServerProcess

pytestmark = pytest.mark.tensorflow
LAYERS = keras.layers


def two_inputs():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    outputs = {"sum": LAYERS.Add()([a, b]), "a_again": LAYERS.Identity()(a)}
    return keras.Model({"a": a, "b": b}, outputs)


def one_input(dtype="float32"):
    x = keras.Input((2,), name="x", dtype=dtype)
    return keras.Model(x, LAYERS.Identity(name="same", dtype=dtype)(x))


class Mean(LAYERS.Layer):
    def call(self, x):
        return keras.ops.mean(x)

    def compute_output_shape(self, shape):
        return ()


def mean():
    x = keras.Input((2,), name="x")
    return keras.Model(x, Mean(name="mean")(x))


def filters():
    x = keras.Input((7, 8), name="x")
    layer = ka.LightweightConv1D(4, 3, name="mixer")
    return keras.Model(x, LAYERS.Dense(2, name="head")(layer(x)))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models = {
        "two": two_inputs(),
        "one": one_input(),
        "half": one_input("float16"),
        "integers": one_input("int32"),
        "mean": mean(),
        "filters": filters(),
    }
    attention = {"attention": AttentionSignature(["mixer:filters"])}
    for name, model in models.items():
        export_for_serving(
            model,
            folder / name,
            signatures=attention if name == "filters" else None,
            verify=False,
        )
    paths = {name: folder / name for name in models}
    with ServerProcess(folder, paths, batching=True) as process:
        process.folder = folder
        yield process


def post(server, model, body):
    """The answer to a request as it is sent, with its HTTP status."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    port = server.ports["rest"]
    url = f"http://localhost:{port}/v1/models/{model}:predict"
    try:
        with urllib.request.urlopen(url, body) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def client(server, protocol):
    return ServingClient("localhost", server.ports[protocol], protocol)


def test_rows_and_columns(server):
    rows = [{"a": [1, 2], "b": [3, 4]}, {"a": [5, 6], "b": [7, 8]}]
    assert post(server, "two", {"instances": rows}) == (
        200,
        {
            "predictions": [
                {"a_again": [1.0, 2.0], "sum": [4.0, 6.0]},
                {"a_again": [5.0, 6.0], "sum": [12.0, 14.0]},
            ]
        },
    )
    columns = {"a": [[1, 2]], "b": [[3, 4]]}
    assert post(server, "two", {"inputs": columns}) == (
        200,
        {"outputs": {"a_again": [[1.0, 2.0]], "sum": [[4.0, 6.0]]}},
    )
    for key, found in (("instances", "predictions"), ("inputs", "outputs")):
        assert post(server, "one", {key: [[1, 2]]}) == (
            200,
            {found: [[1.0, 2.0]]},
        )


@pytest.mark.parametrize(
    "model, body, words",
    [
        ("one", b"{", "JSON Parse"),
        ("one", [1], "Is not object"),
        ("one", {}, "Missing 'inputs' or 'instances'"),
        ("one", {"inputs": [[1, 2]], "instances": [[1, 2]]}, "only one of"),
        ("one", {"instances": []}, "No values in"),
        ("one", {"instances": [[1, 2], [3]]}, "Expecting shape"),
        ("one", {"inputs": [[1, 2], [3]]}, "unexpected size"),
        ("one", {"inputs": [[1, None]]}, "is not of expected type: float"),
        ("one", {"inputs": [[1, True]]}, "is not of expected type: float"),
        ("one", {"inputs": [[1, 2**24]]}, "without loss of precision"),
        ("one", {"inputs": [[1, "2"]]}, "is not of expected type: float"),
        ("integers", {"inputs": [[1, 2.0]]}, "is not of expected type: int32"),
        ("integers", {"inputs": [[1, 2**31]]}, "is not of expected type"),
        ("two", {"instances": [[1, 2]]}, "instances is a plain list"),
        ("two", {"inputs": [[1, 2]]}, "inputs is a plain value/list"),
        ("two", {"inputs": {"a": [[1, 2]]}}, "Missing named input: b"),
        ("two", {"instances": [{"a": [1, 2]}]}, "keys must be equal to: a,b"),
    ],
)
def test_requests_that_are_refused(server, model, body, words):
    status, message = post(server, model, body)
    assert status == 400 and words in message


def test_half_precision_has_no_json(server):
    status, message = post(server, "half", {"inputs": [[1.5, 2]]})
    assert status == 501 and "to type: half" in message
    x = np.array([[1.5, -2]], "float16")
    with (
        client(server, "rest") as rest,
        pytest.raises(ServingError, match="use protocol='grpc'") as caught,
    ):
        rest.predict("half", {"x": x})
    assert caught.value.code == "UNIMPLEMENTED"
    with client(server, "grpc") as grpc:
        found = grpc.predict("half", {"x": x})["same"]
    assert found.dtype == "float16"
    np.testing.assert_array_equal(found, x)


def test_numbers_of_another_kind_say_what_was_sent(server):
    with (
        client(server, "grpc") as grpc,
        pytest.raises(ServingError, match=r"float but double.*'x' of float64"),
    ):
        grpc.predict("one", {"x": np.ones((1, 2))})


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize(
    "value, error",
    [
        (None, TypeError),
        ([[1.0, None]], TypeError),
        ([[1.0], [2.0, 3.0]], ValueError),
        ([[{"a": 1}]], TypeError),
        (np.array([None]), TypeError),
        (np.array(["2020-01-01"], "datetime64[D]"), TypeError),
        (object(), TypeError),
    ],
)
def test_what_cannot_be_sent_is_refused_before(server, protocol, value, error):
    with client(server, protocol) as asking:
        with pytest.raises(error, match="'x' must"):
            asking.predict("one", {"x": value})
        for version in (2**63, 10**30):
            with pytest.raises(ValueError, match="below 2"):
                asking.predict("one", {"x": [[1.0, 2.0]]}, version=version)
        assert asking.predict("one", {"x": [[1.0, 2.0]]})["same"].shape == (
            1,
            2,
        )


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_outputs_have_the_batchs_axis(server, protocol):
    with client(server, protocol) as asking:
        with pytest.raises(ServingError, match="0 dimensions") as caught:
            asking.predict("mean", {"x": np.ones((2, 2), "float32")})
        assert caught.value.code == "FAILED_PRECONDITION"
        # Filters are one for all examples; the export repeats them.
        x = np.ones((3, 7, 8), "float32")
        found = asking.predict("filters", {"x": x}, "attention")
        assert found["mixer_filters"].shape == (3, 4, 3)
        np.testing.assert_array_equal(*found["mixer_filters"][:2])


def test_an_empty_batch(server):
    x = np.zeros((0, 2), "float32")
    with client(server, "grpc") as grpc:
        assert grpc.predict("one", {"x": x})["same"].shape == (0, 2)


def test_names_that_are_no_versions_are_passed_over(server):
    folder = server.folder / "one"
    for name in ("²", "٣", str(2**63), "1a"):
        shutil.copytree(
            server.folder / "one" / "1", server.folder / "one" / name
        )
    time.sleep(0.3)
    with client(server, "grpc") as grpc:
        assert set(grpc.status("one")) == {1}
    path = export_for_serving(one_input(), folder, verify=False)
    assert path.name == "2"


def test_more_warmup_than_a_server_replays(tmp_path, monkeypatch):
    """Refused when it is written; written all the same, no server loads it."""
    requests = [("serving_default", {"x": np.ones((1, 2), "float32")})] * 1001
    with pytest.raises(ValueError, match=r"at most 1,000.*1,001"):
        export_for_serving(one_input(), tmp_path / "m", warmup=requests)
    assert not (tmp_path / "m").exists()
    for limit, given in ((1000, requests[1:]), (2000, requests)):
        monkeypatch.setattr(warmup, "MAX_REQUESTS", limit)
        export_for_serving(
            one_input(), tmp_path / "m", warmup=given, verify=False
        )
    with (
        ServerProcess(tmp_path, {"m": tmp_path / "m"}) as server,
        client(server, "grpc") as grpc,
    ):
        # The newest is tried first, and then the one before.
        end = time.time() + 20
        while 1 not in (status := grpc.status("m")) and time.time() < end:
            time.sleep(0.1)
    assert status[1]["state"] == "AVAILABLE"
    assert "exceeds the maximum (1000)" in status[2]["error"]
    assert sorted(os.listdir(tmp_path / "m")) == ["1", "2"]


def test_an_export_says_which_output_has_no_batch(tmp_path):
    with pytest.warns(UserWarning, match="Received: 'mean' of 'serving_defa"):
        path = export_for_serving(mean(), tmp_path)
    x = np.array([[1, 2], [3, 6]], "float32")
    assert run_export(path, {"x": x})["mean"] == 3
