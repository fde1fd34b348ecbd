"""Other formats, each in its own runtime."""

import json
import os
import shutil
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_attention as ka
from keras_attention.cli import cli
from keras_attention.serving import AttentionSignature
from keras_attention.serving import export_for_serving
from keras_attention.serving import formats
from keras_attention.serving import run_export
from keras_attention.serving import saved_model

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


def needed(name):
    try:
        formats.check_format(name, verify=True)
    except ImportError as error:
        return pytest.param(name, marks=pytest.mark.skip(reason=str(error)))
    return name


@pytest.fixture(scope="module", params=map(needed, formats.FILES))
def format(request):
    return request.param


def vision_model():
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(image)
    x = keras.layers.BatchNormalization()(x)
    x = ka.SqueezeExcite(2)(x)
    x = ka.CBAM(2)(x)
    x = ka.EfficientChannelAttention()(x)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    head = keras.layers.Dense(5, activation="softmax", name="head")(pooled)
    return keras.Model(image, [head, keras.layers.Dense(2, name="aux")(pooled)])


def sequence_model():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(50, 16, mask_zero=True)(tokens)
    x = ka.MultiHeadAttention(4, causal=True)(x)
    x = ka.LightweightConv1D(4, 3)(x)
    return keras.Model(tokens, keras.layers.Dense(7, name="logits")(x))


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


CASES = {
    "vision": (
        vision_model,
        "image",
        [random(2, 16, 11, 3), random(1, 7, 13, 3), random(5, 32, 32, 3)],
    ),
    "sequence": (
        sequence_model,
        "tokens",
        [
            np.random.default_rng(1).integers(1, 50, (2, 7)).astype("int32"),
            np.array([[3, 5, 7, 11, 0, 0], [13, 17, 19, 23, 29, 31]], "int32"),
        ],
    ),
}


@pytest.fixture(scope="module")
def exported(format, tmp_path_factory):
    """Both models and their exports, which take seconds to write."""
    folder = tmp_path_factory.mktemp(format)
    found = {}
    for case, (make, *_) in CASES.items():
        model = make()
        path = export_for_serving(model, folder / case, format=format)
        found[case] = model, path
    return found


@pytest.mark.parametrize("case", CASES)
def test_answers_are_the_models(exported, format, case):
    _, name, inputs = CASES[case]
    model, path = exported[case]
    assert path.name == "1" and os.listdir(path.parent) == ["1"]
    assert formats.find_format(path) == format
    for x in inputs:
        answer = run_export(path, {name: x})
        expected = keras.tree.flatten(model(x, training=False))
        assert sorted(answer) == sorted(model.output_names)
        for key, value in zip(model.output_names, expected, strict=True):
            np.testing.assert_allclose(answer[key], value, rtol=1e-4, atol=1e-5)


def test_what_a_file_takes_and_gives(exported, format):
    _, path = exported["vision"]
    ((name, tensors),) = formats.read_format(path, format).items()
    assert name == "serving_default"
    assert tensors["inputs"] == {
        "image": {"dtype": "float32", "shape": [None, None, None, 3]}
    }
    assert set(tensors["outputs"]) == {"head", "aux"}
    assert tensors["outputs"]["head"]["dtype"] == "float32"
    with pytest.raises(ValueError, match="takes the inputs image.*picture"):
        run_export(path, {"picture": np.ones((1, 4, 4, 3))})
    with pytest.raises(ValueError, match="'image' must have the shape"):
        run_export(path, {"image": np.ones((1, 4, 4, 2))})
    with pytest.raises(ValueError, match="'image' must be numbers of float32"):
        run_export(path, {"image": np.full((1, 4, 4, 3), b"x", object)})


def test_an_export_that_differs_is_not_written(
    exported, tmp_path, format, monkeypatch
):
    def copy(model, folder, format):
        shutil.copytree(path, folder, dirs_exist_ok=True)

    _, path = exported["vision"]
    monkeypatch.setattr(saved_model, "write_format", copy)
    with pytest.raises(ValueError, match="'head' .*differs by up to"):
        export_for_serving(vision_model(), tmp_path, format=format)
    assert not os.listdir(tmp_path)


def test_a_damaged_file(exported, tmp_path, format):
    name = formats.FILES[format]
    whole = (exported["vision"][1] / name).read_bytes()
    for data in (b"no model at all", whole[: len(whole) // 2], b""):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RuntimeError, match="cannot be loaded"):
            formats.read_format(tmp_path, format)


def test_command_line(exported, tmp_path, format):
    model, path = exported["sequence"]
    tokens = CASES["sequence"][2][0]
    np.save(tmp_path / "tokens.npy", tokens)
    arguments = ["predict", path.parent, tmp_path / "tokens.npy", "--json"]
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)["outputs"]["logits"]
    np.testing.assert_allclose(found, model(tokens), rtol=1e-4, atol=1e-5)

    inputs = keras.Input((3,), name="x")
    small = keras.Model(inputs, keras.layers.Dense(2, name="y")(inputs))
    small.save(tmp_path / "model.keras")
    arguments = ["export", tmp_path / "model.keras", tmp_path / "out"]
    arguments += ["--format", format]
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "1" / formats.FILES[format]).exists()


def test_what_the_formats_do_not_have(tmp_path, format):
    def refused(model, words, **options):
        with pytest.raises(ValueError, match=words):
            export_for_serving(model, tmp_path, format=format, **options)
        assert not tmp_path.exists() or not os.listdir(tmp_path)

    model = vision_model()
    signature = {"attention": AttentionSignature(["conv"])}
    refused(model, "one signature", signatures=signature)
    refused(model, "one signature", warmup={"image": random(1, 8, 8, 3)})
    text = keras.Input((1,), dtype="string", name="text")
    vectorizer = keras.layers.TextVectorization(vocabulary=["a", "b"])
    refused(keras.Model(text, vectorizer(text)), "operations on text")
    x = keras.Input((4,))
    half = keras.layers.Dense(2, dtype="mixed_float16")
    nested = keras.Sequential([keras.Input((4,)), half])
    refused(keras.Model(x, nested(x)), "takes a model of float32.*float16")


def test_an_operation_that_litert_has_not(tmp_path):
    """Its converter's message names it; nothing is written."""

    class Determinant(keras.layers.Layer):
        def call(self, x):
            return keras.ops.det(x)

        def compute_output_shape(self, shape):
            return shape[:1]

    x = keras.Input((3, 3))
    model = keras.Model(x, Determinant()(x))
    with pytest.raises(ValueError, match="(?s)as litert.*Determinant"):
        export_for_serving(model, tmp_path, format="litert", verify=False)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", formats.FILES)
def test_a_missing_extra_is_named(tmp_path, monkeypatch, name):
    model = vision_model()
    monkeypatch.setitem(sys.modules, formats.RUNTIMES[name], None)
    with pytest.raises(ImportError, match=rf"layers\[{name}\]"):
        export_for_serving(model, tmp_path / "x", format=name)
    assert not (tmp_path / "x").exists()


def test_without_a_runtime_the_check_may_be_left_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ImportError, match="verify=False"):
        export_for_serving(sequence_model(), tmp_path, format="litert")
    path = export_for_serving(
        sequence_model(), tmp_path, format="litert", verify=False
    )
    assert (path / "model.tflite").exists()
    assert sorted(os.listdir(tmp_path)) == ["1"]
