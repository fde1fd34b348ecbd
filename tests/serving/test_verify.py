import pathlib
import sys

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.serving import c_api
from keras_attention.serving import export_for_serving
from keras_attention.serving import read_signatures
from keras_attention.serving import run_export
from keras_attention.serving import verify_export

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Dense(2, name="logits")(ka.SqueezeExcite(1)(image))
    model = keras.Model(image, x)
    path = export_for_serving(model, tmp_path_factory.mktemp("model"))
    return model, path


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(3, 7, 5, 3)).astype("float32")


def test_c_api_equals_eager(exported, image):
    model, path = exported
    verify_export(path, {"image": image}, {"logits": model(image)})
    answer = run_export(path, {"image": image[:1, :2]})
    np.testing.assert_allclose(
        answer["logits"], model(image[:1, :2]), rtol=1e-5, atol=1e-6
    )


def test_difference_is_found(exported, image):
    model, path = exported
    expected = np.array(model(image))
    expected[1, 2, 3, 1] += 0.01
    with pytest.raises(ValueError, match=r"'logits'.*differs by up to 1.0"):
        verify_export(path, {"image": image}, {"logits": expected})
    with pytest.raises(ValueError, match=r"another shape.*\(3, 7, 5, 2\)"):
        verify_export(path, {"image": image}, {"logits": expected[:1]})
    with pytest.raises(ValueError, match=r"not give the output 'probs'"):
        verify_export(path, {"image": image}, {"probs": expected})


def test_nan_is_a_difference(exported, image):
    model, path = exported
    expected = np.array(model(image))
    with pytest.raises(ValueError, match="differs"):
        verify_export(path, {"image": image * np.nan}, {"logits": expected})


def test_signatures_are_read(exported):
    signatures = read_signatures(exported[1])
    assert set(signatures) == {"serving_default"}
    (image,) = signatures["serving_default"]["inputs"].values()
    assert image["dtype"] == "float32"
    assert image["shape"] == [None, None, None, 3]
    assert set(signatures["serving_default"]["outputs"]) == {"logits"}


def test_wrong_requests(exported, image, tmp_path):
    _, path = exported
    with pytest.raises(ValueError, match="Did you mean 'serving_default'"):
        run_export(path, {"image": image}, "serving_defualt")
    with pytest.raises(ValueError, match=r"takes the inputs image.*picture"):
        run_export(path, {"picture": image})
    with pytest.raises(FileNotFoundError, match="saved_model.pb"):
        run_export(tmp_path, {"image": image})
    with pytest.raises(ValueError, match="'image' must have the shape"):
        run_export(path, {"image": image[0]})


def test_damaged_export(exported, tmp_path):
    _, path = exported
    (tmp_path / "saved_model.pb").write_bytes(
        (path / "saved_model.pb").read_bytes()[:-500]
    )
    with pytest.raises(ValueError, match="damaged"):
        read_signatures(tmp_path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="int64").reshape(2, 3),
        np.array(2.5, "float16"),
        np.zeros((0, 3), "float32"),
        np.array([[b"a\x00b\x00", b""]], object),
    ],
)
def test_arrays_survive_json(array):
    found = c_api.from_json(c_api.to_json(array))
    assert found.shape == array.shape and found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_strings_of_any_length_go_through_the_c_api(tmp_path):
    import tensorflow as tf

    class Reverse(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "x")])
        def serve(self, x):
            return {"length": tf.strings.length(x), "same": x + "!"}

    module = Reverse()
    tf.saved_model.save(
        module, tmp_path, signatures={"serving_default": module.serve}
    )
    x = np.array([b"", b"ab\x00c\x00", b"y" * 100], object)
    answer = run_export(tmp_path, {"x": x})
    assert answer["length"].tolist() == [0, 5, 100]
    assert answer["same"].tolist() == [text + b"!" for text in x]


def test_runner_imports_no_framework():
    source = pathlib.Path(c_api.__file__).read_text()
    imported = {
        line.split()[1].split(".")[0]
        for line in source.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int32", [1.0, 3.5]),
        ("int32", [1.0, float("nan")]),
        ("int32", [1, 2**40]),
        ("uint8", [1, -1]),
        ("bool", [0, 2]),
        ("float16", [1.0, 1e6]),
    ],
)
def test_no_input_becomes_another_number(dtype, value, tmp_path):
    x = keras.Input((2,), dtype=dtype, name="x")
    y = keras.layers.Dense(1, name="y")(keras.ops.cast(x, "float32"))
    model = keras.Model(x, y)
    path = export_for_serving(model, tmp_path, verify=False)
    for kind in (list, np.array):
        with pytest.raises(ValueError, match="'x' must be numbers of.*become"):
            run_export(path, {"x": kind([value])})
    with pytest.raises(ValueError, match="'x' must be numbers of.*become"):
        export_for_serving(model, tmp_path, warmup={"x": np.array([value])})
    exact = np.array([[1.0, 0.0]])
    answer = run_export(path, {"x": exact})["y"]
    np.testing.assert_allclose(answer, model(exact.astype(dtype)), rtol=1e-5)
