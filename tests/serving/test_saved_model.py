import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.serving import export_for_serving
from keras_attention.serving import saved_model
from support.networks import first_of

pytestmark = pytest.mark.tensorflow


def model(inputs_as_dict=False):
    image = keras.Input((None, None, 3), name="image")
    extra = keras.Input((4,), name="extra")
    x = ka.SqueezeExcite(1)(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Concatenate()([x, extra])
    outputs = [
        keras.layers.Dense(5, name="head")(x),
        keras.layers.Dense(2, name="aux")(x),
    ]
    inputs = [image, extra]
    if inputs_as_dict:
        inputs = {"image": image, "extra": extra}
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def small():
    inputs = keras.Input((4,), name="features")
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(inputs))


@pytest.mark.parametrize("inputs_as_dict", first_of([False, True], 1))
def test_named_inputs_and_outputs_equal_eager(tmp_path, inputs_as_dict):
    import tensorflow as tf

    given = model(inputs_as_dict)
    exported = tf.saved_model.load(export_for_serving(given, tmp_path))
    serve = exported.signatures["serving_default"]
    for batch, height in ((2, 5), (1, 9)):
        image = np.random.rand(batch, height, 7, 3).astype("float32")
        extra = np.random.rand(batch, 4).astype("float32")
        inputs = [image, extra]
        if inputs_as_dict:
            inputs = {"image": image, "extra": extra}
        head, aux = given(inputs)
        answer = serve(image=tf.constant(image), extra=tf.constant(extra))
        assert set(answer) == {"head", "aux"}
        np.testing.assert_allclose(answer["head"], head, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(answer["aux"], aux, rtol=1e-5, atol=1e-6)


def test_answers_without_this_package(tmp_path, small):
    path = export_for_serving(small, tmp_path)
    code = (
        "import sys, tensorflow as tf;"
        f"m = tf.saved_model.load({str(path)!r});"
        "y = m.signatures['serving_default'](features=tf.ones((2, 4)));"
        "sys.exit('keras_attention' in sys.modules or "
        "list(y) != ['head'] or y['head'].shape != (2, 3))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_next_free_version(tmp_path, small):
    assert export_for_serving(small, tmp_path).name == "1"
    assert export_for_serving(small, tmp_path, version=7).name == "7"
    assert export_for_serving(small, tmp_path).name == "8"
    assert sorted(os.listdir(tmp_path)) == ["1", "7", "8"]


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_version_that_exists_is_kept(tmp_path, small):
    export_for_serving(small, tmp_path, version=3)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="version=3"):
        export_for_serving(small, tmp_path, version=3)
    assert contents(tmp_path) == before


def test_a_version_is_replaced_when_asked(tmp_path, small):
    export_for_serving(small, tmp_path, version=3)
    (tmp_path / "3" / "mark").write_text("old")
    export_for_serving(small, tmp_path, version=3, overwrite=True)
    assert not (tmp_path / "3" / "mark").exists()
    assert os.listdir(tmp_path) == ["3"]


def test_an_export_that_fails_leaves_what_was_there(
    tmp_path, small, monkeypatch
):
    export_for_serving(small, tmp_path, version=3)
    before = contents(tmp_path)

    def write(model, signatures, path):
        (path / "saved_model.pb").write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(saved_model, "_write", write)
    with pytest.raises(OSError, match="No space"):
        export_for_serving(small, tmp_path, version=3, overwrite=True)
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["3"]


@pytest.mark.slow
def test_a_rename_that_fails_puts_the_old_version_back(
    tmp_path, small, monkeypatch
):
    export_for_serving(small, tmp_path, version=3)
    before = contents(tmp_path)
    rename, calls = os.rename, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError("I/O error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="I/O error"):
        export_for_serving(small, tmp_path, version=3, overwrite=True)
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["3"]


def test_half_a_model_is_never_under_a_version(tmp_path, small, monkeypatch):
    seen, write = [], saved_model._write

    def watched(model, signatures, path):
        write(model, signatures, path)
        seen.extend(os.listdir(tmp_path))

    monkeypatch.setattr(saved_model, "_write", watched)
    export_for_serving(small, tmp_path)
    assert len(seen) == 1 and not seen[0].isdigit()


def test_a_version_made_meanwhile_is_kept(tmp_path, small, monkeypatch):
    write = saved_model._write

    def racing(model, signatures, path):
        write(model, signatures, path)
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "other").write_text("kept")

    monkeypatch.setattr(saved_model, "_write", racing)
    with pytest.raises(FileExistsError, match="version=1"):
        export_for_serving(small, tmp_path, version=1)
    assert (tmp_path / "1" / "other").read_text() == "kept"


def test_a_folder_that_cannot_be_made(tmp_path, small):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError):
        export_for_serving(small, tmp_path / "file" / "models")


def test_an_export_that_answers_otherwise_is_not_published(tmp_path):
    """An operation that only behaves so in this process."""

    @keras.saving.register_keras_serializable("test")
    class InThisProcess(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return x + (1.0 if tf.executing_eagerly() else 2.0)

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    inputs = keras.Input((4,), name="features")
    lying = keras.Model(inputs, InThisProcess(name="lies")(inputs))
    with pytest.raises(ValueError, match=r"'lies'.*differs by up to 1"):
        export_for_serving(lying, tmp_path)
    assert not os.listdir(tmp_path)
    assert export_for_serving(lying, tmp_path, verify=False).exists()


def test_a_model_that_needs_real_inputs_says_so(tmp_path):
    inputs = keras.Input((None,), name="tokens", dtype="int32")
    x = keras.layers.Embedding(8, 4)(inputs)
    x = keras.layers.Conv1D(2, 40, name="wide")(x)
    model = keras.Model(inputs, x)
    with pytest.raises(ValueError, match="verify=False"):
        export_for_serving(model, tmp_path)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_are_told_where_to_export(
    tmp_path, small, monkeypatch, backend
):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        export_for_serving(small, tmp_path)


def test_bad_arguments(tmp_path, small):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match="must be a keras.Model"):
        export_for_serving("model.keras", tmp_path)
    with pytest.raises(ValueError, match="without inputs"):
        export_for_serving(Subclassed(), tmp_path)
    with pytest.raises(ValueError, match="version=0"):
        export_for_serving(small, tmp_path, version=0)
    with pytest.raises(TypeError, match="AttentionSignature"):
        export_for_serving(small, tmp_path, signatures={"a": "stage1"})
    with pytest.raises(TypeError, match="verify"):
        export_for_serving(small, tmp_path, verify=1)
    with pytest.raises(ValueError, match="'onnx', 'litert', 'openvino'"):
        export_for_serving(small, tmp_path, format="pb")
    with pytest.raises(TypeError, match="overwrite"):
        export_for_serving(small, tmp_path, overwrite=1)
    assert not os.listdir(tmp_path)
