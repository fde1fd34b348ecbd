"""Models, names, versions and files that an export once got wrong."""

import os
import resource

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.serving import AttentionSignature
from keras_attention.serving import ImageBytesSignature
from keras_attention.serving import export_for_serving
from keras_attention.serving import read_signatures
from keras_attention.serving import run_export
from keras_attention.serving import saved_model
from support.networks import first_of

pytestmark = pytest.mark.tensorflow
LAYERS = keras.layers


def small(name="x"):
    x = keras.Input((4,), name=name)
    return keras.Model(x, LAYERS.Dense(3, name="head")(x))


def answers(model, path, inputs, **expected):
    found = run_export(path, inputs)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_outputs_are_named_by_their_keys(tmp_path):
    x = keras.Input((4,), name="x")
    a, b, c = (LAYERS.Dense(n, name=f"d{n}")(x) for n in (2, 3, 5))
    model = keras.Model(x, {"K": a, "deep": {"er": b, "est": [c]}})
    path = export_for_serving(model, tmp_path)
    outputs = read_signatures(path)["serving_default"]["outputs"]
    assert set(outputs) == {"K", "deep_er", "deep_est_0"}
    values = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    expected = model(values)
    answers(
        model,
        path,
        {"x": values},
        K=expected["K"],
        deep_er=expected["deep"]["er"],
        deep_est_0=expected["deep"]["est"][0],
    )
    twice = keras.Model(x, {"a_b": a, "a": {"b": b}})
    with pytest.raises(ValueError, match="two outputs called 'a_b'"):
        export_for_serving(twice, tmp_path)
    assert os.listdir(tmp_path) == ["1"]


def test_outputs_of_layers_with_like_names_are_all_there(tmp_path):
    x = keras.Input((4,), name="x")
    dense = LAYERS.Dense(4, name="dense")
    other = LAYERS.Dense(4, name="dense_output_1")
    once = dense(x)
    model = keras.Model(x, [other(x), once, dense(once)])
    path = export_for_serving(model, tmp_path)
    values = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    first, second, third = model(values)
    answers(
        model,
        path,
        {"x": values},
        dense_output_1=first,
        dense=second,
        dense_output_2=third,
    )


@pytest.mark.parametrize(
    "layer",
    [
        lambda: LAYERS.RandomFlip(seed=1),
        lambda: LAYERS.RandomRotation(0.5, seed=1),
        lambda: LAYERS.GaussianNoise(1.0, seed=1),
        lambda: LAYERS.Dropout(0.5, seed=1),
        lambda: LAYERS.BatchNormalization(),
    ],
)
def test_inference_mode(tmp_path, layer):
    image = keras.Input((6, 5, 3), name="image")
    model = keras.Model(image, LAYERS.Identity(name="same")(layer()(image)))
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")
    path = export_for_serving(model, tmp_path)
    answers(model, path, {"image": x}, same=model(x, training=False))


def test_taps_with_one_name_are_refused(tmp_path):
    inner = keras.Sequential(
        [keras.Input((6, 5, 3)), LAYERS.Conv2D(2, 3, name="b")], name="a"
    )
    image = keras.Input((6, 5, 3), name="image")
    x = inner(image)
    x = LAYERS.Conv2D(2, 1, name="a_b")(x)
    x = LAYERS.Conv2D(2, 1, name="head_map")(x)
    head = LAYERS.Conv2D(2, 1, name="head")
    model = keras.Model(image, [x, head(x)])
    for taps in (["a/b", "a_b"], ["head"]):
        with pytest.raises(ValueError, match=r"name of its own.*both called"):
            export_for_serving(
                model,
                tmp_path,
                signatures={"attention": AttentionSignature(taps)},
            )
        assert not os.listdir(tmp_path)
    signature = AttentionSignature(["a/b", "a/b"])
    path = export_for_serving(
        model, tmp_path, signatures={"attention": signature}
    )
    outputs = read_signatures(path)["attention"]["outputs"]
    assert set(outputs) == {"head_map", "head", "a_b_map"}


def test_an_export_that_fails_leaves_no_folders(tmp_path):
    wrong = {"attention": AttentionSignature(["nowhere"])}
    with pytest.raises(ValueError, match="nowhere"):
        export_for_serving(small(), tmp_path / "a" / "b", signatures=wrong)
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="nowhere"):
        export_for_serving(small(), tmp_path / "mine", signatures=wrong)
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(TypeError, match="must map names to signatures"):
        export_for_serving(small(), tmp_path / "c", signatures="attention")


def test_names_of_signatures_and_of_layers(tmp_path):
    signature = AttentionSignature(["head"])
    for name in ("größe", "a b", ""):
        with pytest.raises(ValueError, match="name of a signature"):
            export_for_serving(small(), tmp_path, signatures={name: signature})
    image = keras.Input((6, 5, 3), name="image")
    x = LAYERS.Conv2D(2, 3, name="größe")(image)
    model = keras.Model(image, LAYERS.Conv2D(2, 3, name="head")(x))
    with pytest.raises(ValueError, match="'größe_map' of the layer"):
        export_for_serving(
            model,
            tmp_path,
            signatures={"attention": AttentionSignature(["größe"])},
        )
    assert not os.listdir(tmp_path)


def test_a_sequential_model_built_by_one_example_takes_any_batch(tmp_path):
    model = keras.Sequential([LAYERS.Dense(3, name="head")], name="built")
    model(np.ones((1, 4), "float32"))
    path = export_for_serving(model, tmp_path)
    ((name, tensor),) = read_signatures(path)["serving_default"][
        "inputs"
    ].items()
    assert tensor["shape"] == [None, 4]
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    answers(model, path, {name: x}, head=model(x))


def test_a_state_for_each_example_keeps_the_batch(tmp_path):
    layer = LAYERS.GRU(3, stateful=True, name="gru")
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 4)), layer])
    path = export_for_serving(model, tmp_path, verify=False)
    (tensor,) = read_signatures(path)["serving_default"]["inputs"].values()
    assert tensor["shape"] == [2, 5, 4]


@pytest.mark.parametrize(
    "name", first_of(["größe", "self", "a feature", "1st", "class", "_x"], 2)
)
def test_names_that_no_server_can_have(tmp_path, name):
    with pytest.raises(ValueError, match="letters, digits") as caught:
        export_for_serving(small(name), tmp_path)
    assert repr(name) in str(caught.value)
    assert not os.listdir(tmp_path)
    with pytest.raises(ValueError, match="letters, digits"):
        export_for_serving(small("a-b"), tmp_path)
    x = keras.Input((4,), name="x")
    outputs = {name: LAYERS.Dense(2)(x)}
    if name in ("self", "class"):  # No argument of a function: allowed.
        export_for_serving(keras.Model(x, outputs), tmp_path / "kept")
    else:
        with pytest.raises(ValueError, match="letters, digits"):
            export_for_serving(keras.Model(x, outputs), tmp_path)
    # The remedy of the message.
    inner = small(name)
    renamed = keras.Model(x, {"head": inner(x)})
    path = export_for_serving(renamed, tmp_path)
    values = np.ones((2, 4), "float32")
    answers(renamed, path, {"x": values}, head=inner(values))


def test_versions_that_no_server_counts(tmp_path):
    for version in (2**63, 2**64, 10**30):
        with pytest.raises(ValueError, match=r"below 2\*\*63"):
            export_for_serving(small(), tmp_path, version=version)
    for name in ("²", "٣", "1a", str(2**63), "-3"):
        (tmp_path / name).mkdir()
    assert export_for_serving(small(), tmp_path, verify=False).name == "1"
    last = 2**63 - 1
    path = export_for_serving(small(), tmp_path, last, verify=False)
    assert path.name == str(last)
    with pytest.raises(ValueError, match="No version is left"):
        export_for_serving(small(), tmp_path, verify=False)
    assert not list(tmp_path.glob(".writing-*"))


@pytest.mark.parametrize("kind", ["folder", "dangling", "file"])
def test_a_link_is_replaced_and_what_it_leads_to_is_kept(tmp_path, kind):
    versions, target = tmp_path / "versions", tmp_path / "target"
    versions.mkdir()
    if kind == "folder":
        target.mkdir()
        (target / "precious").write_text("kept")
    elif kind == "file":
        target.write_text("kept")
    (versions / "1").symlink_to(target)
    with pytest.raises(FileExistsError):
        export_for_serving(small(), versions, 1, verify=False)
    path = export_for_serving(
        small(), versions, 1, verify=False, overwrite=True
    )
    assert not path.is_symlink() and (path / "saved_model.pb").exists()
    assert os.listdir(versions) == ["1"]
    if kind == "folder":
        assert (target / "precious").read_text() == "kept"
    assert export_for_serving(small(), versions, verify=False).name == "2"


def test_links_among_what_killed_exports_left(tmp_path, monkeypatch):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "precious").write_text("kept")
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / ".writing-a").symlink_to(tmp_path / "target")
    (folder / ".writing-b").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(saved_model, "_is_stale", lambda path: True)
    export_for_serving(small(), folder, verify=False)
    assert os.listdir(folder) == ["1"]
    assert (tmp_path / "target" / "precious").read_text() == "kept"


def test_a_disk_that_is_full_when_the_warmup_is_written(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    x = keras.Input((100_000,), name="x")
    model = keras.Model(x, LAYERS.Rescaling(2.0, name="twice")(x))
    export_for_serving(model, tmp_path, verify=False)
    warmup = {"x": np.random.default_rng(0).random((4, 100_000), "float32")}
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))
    try:
        with pytest.raises(OSError, match="warm-up.*could not be written"):
            export_for_serving(model, tmp_path, warmup=warmup)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert os.listdir(tmp_path) == ["1"]


def test_a_range_of_pixels_that_is_not_the_models(tmp_path):
    image = keras.Input((8, 8, 3), name="image")
    x = LAYERS.Rescaling(1 / 255, name="scale")(image)
    model = keras.Model(image, LAYERS.GlobalAveragePooling2D(name="mean")(x))

    def export(pixels, **options):
        signatures = {"image_bytes": ImageBytesSignature(pixels=pixels)}
        return export_for_serving(
            model, tmp_path, signatures=signatures, **options
        )

    with pytest.raises(ValueError, match=r"0 to 255 \(the model's layer 's"):
        export("0,1")
    assert not tmp_path.exists() or not os.listdir(tmp_path)
    assert export("0,1", verify=False).name == "1"
    for pixels in (None, "0,255"):
        path = export(pixels)
    import tensorflow as tf

    picture = np.full((8, 8, 3), (255, 102, 51), "uint8")
    contents = tf.io.encode_png(picture).numpy()
    found = run_export(path, {"image_bytes": [contents]}, "image_bytes")
    np.testing.assert_allclose(found["mean"], [[1, 0.4, 0.2]], rtol=1e-6)


def test_integers_are_not_scaled(tmp_path):
    import tensorflow as tf

    image = keras.Input((8, 8, 3), name="image", dtype="uint8")
    x = LAYERS.Rescaling(1 / 255)(image)
    model = keras.Model(image, LAYERS.GlobalAveragePooling2D(name="mean")(x))
    path = export_for_serving(
        model, tmp_path, signatures={"image_bytes": ImageBytesSignature()}
    )
    picture = np.full((16, 5, 3), (255, 102, 51), "uint8")
    contents = tf.io.encode_png(picture).numpy()
    found = run_export(path, {"image_bytes": [contents]}, "image_bytes")
    np.testing.assert_allclose(found["mean"], [[1, 0.4, 0.2]], rtol=1e-6)


@pytest.fixture(scope="module")
def at_most_600_pixels(tmp_path_factory):
    """An export that takes images of 600 pixels or fewer."""
    image = keras.Input((4, 4, 3), name="image")
    model = keras.Model(
        image, LAYERS.GlobalAveragePooling2D(name="mean")(image)
    )
    return export_for_serving(
        model,
        tmp_path_factory.mktemp("pixels"),
        signatures={"image_bytes": ImageBytesSignature(max_pixels=600)},
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp"])
def test_the_graph_refuses_too_many_pixels_by_the_header(
    at_most_600_pixels, kind
):
    import io

    from PIL import Image

    path = at_most_600_pixels

    def encoded(width, height):
        file = io.BytesIO()
        Image.new("RGB", (width, height), "white").save(file, kind)
        return file.getvalue()

    taken = [encoded(20, 30), encoded(300, 2)]
    found = run_export(path, {"image_bytes": taken}, "image_bytes")
    np.testing.assert_allclose(found["mean"], np.ones((2, 3)), rtol=0.02)
    for size in ((21, 30), (20, 31)):
        with pytest.raises(RuntimeError, match="more pixels than the limit"):
            run_export(path, {"image_bytes": [encoded(*size)]}, "image_bytes")


def test_run_export_says_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no export"):
        run_export(tmp_path, {"x": np.ones((1, 4))})
    with pytest.raises(FileNotFoundError, match="no export"):
        ka.serving.read_signatures(tmp_path / "none")
