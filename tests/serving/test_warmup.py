import builtins
import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_attention.serving import ImageBytesSignature
from keras_attention.serving import export_for_serving

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((3,), name="features")
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(inputs))


@pytest.fixture(scope="module")
def images():
    inputs = keras.Input((2, 2, 3), name="image")
    return keras.Model(inputs, keras.layers.Flatten(name="flat")(inputs))


def records(path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        arrays = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        yield request.model_spec, arrays


@pytest.mark.parametrize("as_list", [False, True])
def test_requests_are_where_the_server_looks(tmp_path, model, as_list):
    # Integers: the server would refuse them as they are.
    inputs = {"features": np.array([[1, 2, 3], [5, 7, 11]])}
    warmup = [("serving_default", inputs)] * 2 if as_list else inputs
    path = export_for_serving(model, tmp_path, warmup=warmup)
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    found = list(records(file))
    assert len(found) == (2 if as_list else 1)
    for spec, arrays in found:
        assert spec.name == model.name
        assert spec.signature_name == "serving_default"
        assert list(arrays) == ["features"]
        np.testing.assert_array_equal(arrays["features"], inputs["features"])
        assert arrays["features"].dtype == "float32"


@pytest.mark.slow
def test_requests_of_encoded_images(tmp_path, images):
    file = io.BytesIO()  # Its last bytes are zeros.
    Image.new("RGB", (5, 3), "black").save(file, "bmp")
    inputs = {"image_bytes": [file.getvalue()]}
    path = export_for_serving(
        images,
        tmp_path,
        signatures={"image_bytes": ImageBytesSignature()},
        warmup=[("image_bytes", inputs)],
    )
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    ((spec, arrays),) = records(file)
    assert spec.signature_name == "image_bytes"
    assert arrays["image_bytes"].tolist() == inputs["image_bytes"]


def test_without_requests_there_is_no_file(tmp_path, model):
    path = export_for_serving(model, tmp_path, verify=False)
    assert not (path / "assets.extra").exists()


@pytest.mark.parametrize(
    "warmup, words",
    [
        ({"other": np.zeros((1, 3))}, "must have the inputs features.*other"),
        ([("other", {})], "one of the signatures serving_default.*'other'"),
        (
            {"features": np.zeros((1, 5))},
            r"must have the shape \(None, 3\).*\(1, 5\)",
        ),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_requests_of_another_model(tmp_path, model, warmup, words, verify):
    with pytest.raises(ValueError, match=words):
        export_for_serving(model, tmp_path, warmup=warmup, verify=verify)
    assert not list(tmp_path.iterdir())


def test_missing_package_is_named(tmp_path, model, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **others):
        if name.startswith("tensorflow_serving"):
            raise ImportError(name)
        return real(name, *arguments, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"\[serving\].*--no-deps"):
        export_for_serving(
            model, tmp_path, warmup={"features": np.zeros((1, 3))}
        )
    assert not list(tmp_path.iterdir())
