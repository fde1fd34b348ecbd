import concurrent.futures
import io
import os
import shutil
import signal
import threading
import time

import keras
import numpy as np
import pytest
from PIL import Image

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.serving import AttentionSignature
from keras_attention.serving import ImageBytesSignature
from keras_attention.serving import ServingClient
from keras_attention.serving import ServingError
from keras_attention.serving import TextSignature
from keras_attention.serving import export_for_serving
from keras_attention.serving import read_signatures
from serving.server_process import ServerProcess

pytestmark = pytest.mark.tensorflow
PROTOCOLS = ("grpc", "rest")


def vision_model():
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = ka.SqueezeExcite(2, name="se")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(5, name="head")(x))


def text_model():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    return keras.Model(tokens, keras.layers.Embedding(8, 3, name="e")(tokens))


def constant_model(value):
    """Answers `value` for each of the features, so a version shows."""
    inputs = keras.Input((2,), name="x")
    layer = keras.layers.Rescaling(0.0, offset=value, name="version")
    return keras.Model(inputs, layer(inputs))


@pytest.fixture(scope="module")
def vectorizer():
    return keras.layers.TextVectorization(
        vocabulary=["a", "big", "dog"], output_sequence_length=7
    )


@pytest.fixture(scope="module")
def models(vectorizer):
    return {"vision": vision_model(), "text": text_model()}


@pytest.fixture(scope="module")
def server(tmp_path_factory, models, vectorizer):
    folder = tmp_path_factory.mktemp("models")
    signatures = {
        "vision": {
            "attention": AttentionSignature(["conv", "se:gate"]),
            "image_bytes": ImageBytesSignature((12, 8)),
        },
        "text": {"text": TextSignature(vectorizer)},
    }
    models = {**models, "moving": constant_model(1.0)}
    for name, model in models.items():
        export_for_serving(
            model, folder / name, None, signatures.get(name), verify=False
        )
    paths = {name: folder / name for name in models}
    with ServerProcess(folder, paths) as process:
        process.folder = folder
        yield process


@pytest.fixture(params=PROTOCOLS)
def client(request, server):
    port = server.ports[request.param]
    with ServingClient("localhost", port, request.param) as client:
        yield client


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def check(answer, expected):
    assert set(answer) == set(expected)
    for name, value in expected.items():
        value = np.asarray(value)
        assert answer[name].dtype == value.dtype
        np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-6)


def test_the_server_of_the_tests_needs_no_framework(server):
    assert server.imported == []


def test_prediction(client, models):
    for shape in ((2, 7, 5, 3), (1, 11, 13, 3)):
        x = images(*shape)
        answer = client.predict("vision", {"image": x})
        check(answer, {"head": models["vision"](x)})
        answer = client.predict("vision", {"image": x.tolist()}, version=1)
        check(answer, {"head": models["vision"](x)})


def test_attention(client, models):
    x = images(3, 7, 11, 3)
    answer = client.predict("vision", {"image": x}, "attention")
    outputs, values = read_outputs(models["vision"], x, ["conv", "se:gate"])
    expected = {
        "head": outputs,
        "conv_map": (np.array(values["conv"]) ** 2).sum(-1),
        "se_gate": values["se:gate"],
    }
    check(answer, expected)


def test_image_bytes(client, models):
    picture = (np.arange(12 * 8 * 3) % 251).reshape(12, 8, 3).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    for given in ([file.getvalue()], np.array([file.getvalue()], object)):
        answer = client.predict("vision", {"image_bytes": given}, "image_bytes")
        check(answer, {"head": models["vision"](picture[None] / 255.0)})


def test_bytes_that_are_no_image_are_an_error(client, models):
    for wrong in (b"no image", b"", b"\x89PNG\r\n\x1a\n\x00"):
        with pytest.raises(ServingError, match="(?i)image|png") as caught:
            client.predict("vision", {"image_bytes": [wrong]}, "image_bytes")
        assert caught.value.code == "INVALID_ARGUMENT"
    test_prediction(client, models)


def test_text(client, models, vectorizer):
    text = ["A big dog!", "unknown"]
    for given in (text, [t.encode() for t in text], np.array(text)):
        answer = client.predict("text", {"text": given}, "text")
        check(answer, {"e": models["text"](vectorizer(text))})
    tokens = [[1, 2, 3]]
    answer = client.predict("text", {"tokens": tokens})
    check(answer, {"e": models["text"](np.array(tokens))})


def test_wrong_requests_are_refused_and_the_next_is_served(client, models):
    x = images(2, 7, 5, 3)
    wrong = [
        ({"image": x[0]}, "serving_default", "INVALID_ARGUMENT"),
        ({"image": x[..., :2]}, "serving_default", "INVALID_ARGUMENT"),
        ({"image": np.array([b"text"], object)},)
        + ("serving_default",)
        + ("INVALID_ARGUMENT",),
        ({"picture": x}, "serving_default", "INVALID_ARGUMENT"),
        ({"image": x}, "atention", "INVALID_ARGUMENT"),
    ]
    if client.protocol == "grpc":  # JSON has no such difference.
        wrong.append(
            ({"image": x.astype("float64")},) + wrong[0][1:],
        )
    for inputs, signature, code in wrong:
        with pytest.raises(ServingError) as caught:
            client.predict("vision", inputs, signature)
        assert caught.value.code == code and str(caught.value)
        check(
            client.predict("vision", {"image": x}),
            {"head": models["vision"](x)},
        )


def test_the_graph_checks_shapes(client):
    """On some processors TensorFlow's convolution ends the process instead."""
    x = images(2, 7, 5, 3)
    for wrong in (x[0], x[None], x[..., :2]):
        with pytest.raises(
            ServingError, match=r"expected shape \[\?,\?,\?,3\]"
        ):
            client.predict("vision", {"image": wrong})


def test_models_and_versions_that_are_not_there(client):
    with pytest.raises(ServingError, match="vison") as caught:
        client.predict("vison", {"image": images(1, 5, 5, 3)})
    assert caught.value.code == "NOT_FOUND"
    x = images(1, 5, 5, 3)
    for version in (7, "stable"):
        with pytest.raises(ServingError, match=str(version)):
            client.predict("vision", {"image": x}, version=version)
        with pytest.raises(ServingError, match=str(version)):
            client.metadata("vision", version)
    with pytest.raises(ServingError):
        client.status("vison")


def test_metadata_are_those_of_the_export(client, server):
    for name in ("vision", "text"):
        expected = read_signatures(server.folder / name / "1")
        assert client.metadata(name) == expected
        assert client.metadata(name, version=1) == expected


def test_status(client):
    found = client.status("vision")
    assert found == {1: {"state": "AVAILABLE", "error": ""}}


def test_requests_of_many_threads(client, models):
    def ask(number):
        x = images(1 + number % 3, 5 + number % 5, 7, 3)
        signature = ("serving_default", "attention")[number % 2]
        return x, client.predict("vision", {"image": x}, signature)["head"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for x, answer in pool.map(ask, range(64)):
            np.testing.assert_allclose(
                answer, models["vision"](x), rtol=1e-5, atol=1e-6
            )


def asking(client, stop, found, errors):
    while not stop.is_set():
        try:
            answer = client.predict("moving", {"x": np.ones((3, 2), "float32")})
            found.append(float(answer["version"].mean()))
        except Exception as error:
            errors.append(error)


def wait_for(condition):
    end = time.time() + 20
    while not condition():
        assert time.time() < end
        time.sleep(0.02)


def test_a_new_version_appears_while_requests_run(client, server):
    newest = max(client.status("moving"))
    stop, found, errors = threading.Event(), [], []
    threads = [
        threading.Thread(target=asking, args=(client, stop, found, errors))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(found) > 5)
    export_for_serving(
        constant_model(newest + 1.0), server.folder / "moving", verify=False
    )
    wait_for(lambda: newest + 1 in found)
    broken = server.folder / "moving" / str(newest + 2)
    hidden = server.folder / ".broken"
    hidden.mkdir()
    (hidden / "saved_model.pb").write_bytes(b"half a model")
    os.rename(hidden, broken)
    wait_for(lambda: client.status("moving").get(newest + 2))
    so_far = len(found)
    wait_for(lambda: len(found) > so_far + 5)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(found) == {float(newest), newest + 1.0}
    assert set(found[so_far:]) == {newest + 1.0}
    status = client.status("moving")
    assert status[newest]["state"] == "END"
    assert status[newest + 1]["state"] == "AVAILABLE"
    assert status[newest + 2]["state"] == "END" and status[newest + 2]["error"]
    shutil.rmtree(broken)
    # The next test's version must be one that the server has not tried.
    export_for_serving(
        constant_model(newest + 3.0),
        server.folder / "moving",
        newest + 3,
        verify=False,
    )
    wait_for(lambda: (newest + 3) in client.status("moving"))


def test_deadline(client, server, models):
    """The server stands still, and later goes on as if nothing had been."""
    x = images(1, 5, 5, 3)
    port = server.ports[client.protocol]
    with ServingClient("localhost", port, client.protocol, 1.5) as hasty:
        hasty.predict("vision", {"image": x})
        os.kill(server.process.pid, signal.SIGSTOP)
        os.waitpid(server.process.pid, os.WUNTRACED)  # Until it has stopped.
        try:
            start = time.time()
            with pytest.raises(TimeoutError, match="within 1.5 s"):
                hasty.predict("vision", {"image": x})
            assert 1.4 < time.time() - start < 6
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
    check(client.predict("vision", {"image": x}), {"head": models["vision"](x)})


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_down_and_comes_back(tmp_path, protocol):
    export_for_serving(constant_model(5.0), tmp_path / "m", verify=False)
    paths = {"m": tmp_path / "m"}
    inputs = {"x": np.ones((1, 2), "float32")}
    with ServerProcess(tmp_path, paths) as first:
        port = first.ports[protocol]
        client = ServingClient("127.0.0.1", port, protocol, retries=1)
        assert client.predict("m", inputs)["version"].max() == 5
    with pytest.raises(ConnectionError, match=f"{port}.* 2 attempts"):
        client.predict("m", inputs)
    with (
        client,
        ServerProcess(
            tmp_path, paths, [port * (p == protocol) for p in PROTOCOLS]
        ),
    ):
        time.sleep(1.1)  # No longer than gRPC waits to connect again.
        assert client.predict("m", inputs)["version"].max() == 5
