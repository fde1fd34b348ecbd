import json
import re

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.visualization import class_activation
from keras_attention.visualization import write_attention_page
from support.visualization import TOKENS
from support.visualization import WORDS
from support.visualization import count_calls
from support.visualization import image_model
from support.visualization import images
from support.visualization import language_model
from support.visualization import masked_model

LABEL = "</script><script>alert('{{data}}')</script>&amp;"


def content(path):
    """The JSON that a page shows."""
    found = re.search(
        r'<script id="data" type="application/json">(.*?)</script>',
        path.read_text("utf-8"),
        re.S,
    )
    return json.loads(found[1])


def plots(model):
    return {
        (layer["name"], plot["kind"], plot.get("name")): plot
        for layer in model["layers"]
        for plot in layer["plots"]
    }


def test_images(tmp_path):
    model = image_model()
    calls = count_calls(model)
    path = write_attention_page(
        tmp_path / "new" / "page.html", model, images(2), ["a", LABEL]
    )
    assert len(calls) == 1
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
    assert path.stat().st_size < 6e6
    page = content(path)
    assert [each["label"] for each in page["examples"]] == ["a", LABEL]
    assert page["models"][0]["name"] == "images"
    found = plots(page["models"][0])
    assert list(found) == [
        ("squeeze", "channels", None),
        ("cbam/channel_attention", "channels", None),
        ("cbam/spatial_attention", "map", "gate"),
        ("cbam", "map", "gate"),
        ("relu", "map", "map"),
        ("last", "map", "map"),
    ]
    taps = ["squeeze:gate", "cbam:gate", "last"]
    _, values = read_outputs(model, images(2), taps)
    squeeze, cbam, last = (np.asarray(value) for value in values.values())
    for key, expected in (
        (("squeeze", "channels", None), squeeze[:, 0, 0]),
        (("cbam", "map", "gate"), cbam.mean(-1)),
        (("last", "map", "map"), (last**2).sum(-1)),
    ):
        np.testing.assert_allclose(found[key]["values"], expected, rtol=1e-3)


def test_class_activation_and_predictions(tmp_path):
    model, x = image_model(), images(2).astype("float32")
    path = tmp_path / "page.html"
    names = ["cat", LABEL]
    write_attention_page(path, {"one": model}, x, class_names=names)
    (shown,) = content(path)["models"]
    expected = class_activation(model, x)
    texts = [
        f"{names[number]}, {row[number]:.0%}"
        for number, row in zip(
            expected.classes, expected.probabilities, strict=True
        )
    ]
    assert shown["predictions"] == texts
    (plot,) = [plot for key, plot in plots(shown).items() if "class" in key]
    assert plot["classes"] == texts
    np.testing.assert_allclose(plot["values"], expected.maps, rtol=1e-3)
    last = [layer for layer in shown["layers"] if layer["name"] == "last"]
    kinds = [plot.get("name") for plot in last[0]["plots"]]
    assert kinds == ["map", "class"]

    write_attention_page(
        path, model, x, layers=["cbam:gate", "conv"], class_names=names
    )
    (shown,) = content(path)["models"]
    assert ("conv", "map", "class") in plots(shown)
    for wrong, given in ((["a"], x), (names, TOKENS)):
        with pytest.raises(ValueError, match="`class_names`"):
            shown_by = model if given is x else masked_model()
            write_attention_page(path, shown_by, given, class_names=wrong)


def test_a_softmax_that_is_not_found_has_predictions_alone(tmp_path):
    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(3, 3, name="conv")

        def call(self, x):
            return keras.ops.softmax(keras.ops.mean(self.conv(x), (1, 2)))

    model, x = Hidden(), images(2)
    outputs = np.asarray(keras.ops.convert_to_numpy(model(x)))
    path = write_attention_page(
        tmp_path / "page.html", model, x, class_names="abc"
    )
    (shown,) = content(path)["models"]
    assert list(plots(shown)) == [("conv", "map", "map")]
    assert shown["predictions"] == [
        f"{'abc'[row.argmax()]}, {row.max():.0%}" for row in outputs
    ]


def test_sentences(tmp_path):
    model = masked_model()
    path = write_attention_page(
        tmp_path / "page.html", {"one": model}, TOKENS, words=[WORDS[:5]]
    )
    page = content(path)
    (example,) = page["examples"]
    assert example["words"] == WORDS and example["label"] == " ".join(WORDS[:5])
    found = plots(page["models"][0])
    assert list(found) == [("ours", "scores", None), ("theirs", "scores", None)]
    _, values = read_outputs(model, TOKENS, ["ours:scores"])
    expected = np.asarray(values["ours:scores"], "float64")
    shown = np.array(found["ours", "scores", None]["values"], "float64")
    np.testing.assert_allclose(
        shown, np.where(expected == 0, np.nan, expected), rtol=1e-3
    )
    padded = (TOKENS[0] == 0).tolist()
    assert found["ours", "scores", None]["padding"] == [[padded, padded]]


@pytest.mark.parametrize("mixer", ["dynamic", "lightweight"])
def test_filters(tmp_path, mixer):
    model = language_model(mixer)
    model(TOKENS)
    path = write_attention_page(tmp_path / "page.html", model, TOKENS)
    found = plots(content(path)["models"][0])
    assert len(found) == 2
    (name, kind, _), plot = next(iter(found.items()))
    assert kind == "filters" and plot["offsets"] == [-2, -1, 0]
    _, values = read_outputs(model, TOKENS, [f"{name}:filters"])
    expected = np.asarray(values[f"{name}:filters"])
    if mixer == "dynamic":
        expected = expected.swapaxes(1, 2)
    np.testing.assert_allclose(plot["values"], expected, rtol=1e-3)


@pytest.mark.parametrize("sub_sample", [True, False])
def test_scores_of_positions_are_a_map_of_what_is_looked_at(
    tmp_path, sub_sample
):
    layer = ka.NonLocal(sub_sample=sub_sample, name="non_local")
    model = keras.Sequential(
        [keras.Input((6, 5, 4)), layer, ka.GlobalContext(2, name="context")]
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 4))
    path = write_attention_page(tmp_path / "page.html", model, x)
    found = plots(content(path)["models"][0])
    taps = ["non_local:scores", "context:scores"]
    _, values = read_outputs(model, x, taps)
    size = (2, 3, 2) if sub_sample else (2, 6, 5)
    expected = np.asarray(values["non_local:scores"]).mean(1).reshape(size)
    shown = found["non_local", "map", "scores"]["values"]
    np.testing.assert_allclose(shown, expected, rtol=1e-3)
    np.testing.assert_allclose(
        found["context", "map", "scores"]["values"],
        np.asarray(values["context:scores"]),
        rtol=1e-3,
    )


def test_large_maps_are_averaged(tmp_path):
    model = keras.Sequential(
        [keras.Input((112, 8, 3)), keras.layers.ReLU(name="relu")]
    )
    x = np.random.default_rng(0).normal(size=(1, 112, 8, 3))
    path = write_attention_page(tmp_path / "p.html", model, x, layers=["relu"])
    (plot,) = plots(content(path)["models"][0]).values()
    expected = (np.maximum(x, 0) ** 2).sum(-1).reshape(1, 56, 2, 8).mean(2)
    np.testing.assert_allclose(plot["values"], expected, rtol=1e-3)


def test_no_text_leaves_its_place(tmp_path):
    path = write_attention_page(
        tmp_path / "page.html",
        {LABEL: masked_model()},
        TOKENS,
        [LABEL],
        [[LABEL] * 5],
        title=LABEL,
    )
    text = path.read_text("utf-8")
    assert "alert('{{data}}')</script>" not in text
    page = content(path)
    assert page["title"] == page["models"][0]["name"] == LABEL
    assert page["examples"][0]["words"][0] == LABEL


def test_numbers_that_are_none(tmp_path):
    layers = [keras.Input((4, 4, 1)), keras.layers.ReLU(name="relu")]
    model = keras.Sequential(layers)
    x = np.full((1, 4, 4, 1), np.inf)
    path = write_attention_page(
        tmp_path / "page.html", model, x, layers=["relu"]
    )
    (plot,) = plots(content(path)["models"][0]).values()
    assert plot["values"][0][0][0] is None


def test_bad_arguments(tmp_path):
    path, model = tmp_path / "page.html", masked_model()
    with pytest.raises(ValueError, match="must be images"):
        write_attention_page(path, model, np.ones((2, 3)))
    with pytest.raises(ValueError, match="`words` must have one entry"):
        write_attention_page(path, model, TOKENS, words=[])
    with pytest.raises(ValueError, match="no more than the tokens"):
        write_attention_page(path, model, TOKENS, words=[["a"] * 8])
    with pytest.raises(ValueError, match="2 labels for 1 images"):
        write_attention_page(path, image_model(), images(1), ["a", "b"])
    plain = keras.Sequential([keras.layers.Embedding(11, 4)])
    with pytest.raises(ValueError, match="has no gates, scores"):
        write_attention_page(path, plain, TOKENS)
    plain = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.ReLU()])
    with pytest.raises(ValueError, match="not built.*call it once first"):
        write_attention_page(path, plain, images(1))
    assert not plain.built
    with pytest.raises(TypeError, match="`model` must be a Keras model"):
        write_attention_page(path, "model.keras", images(1))
    with pytest.raises(TypeError, match=r"One layer is \['conv'\]"):
        write_attention_page(path, image_model(), images(1), layers="conv")
    assert not list(tmp_path.iterdir())
