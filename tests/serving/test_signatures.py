import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from keras_attention.serving import AttentionSignature
from keras_attention.serving import ImageBytesSignature
from keras_attention.serving import TextSignature
from keras_attention.serving import export_for_serving
from keras_attention.serving import read_signatures
from keras_attention.serving import run_export
from keras_attention.serving.signatures import name_outputs
from support.networks import first_of

pytestmark = pytest.mark.tensorflow


def vision_model(size=(None, None)):
    image = keras.Input((*size, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = ka.SqueezeExcite(2, name="se")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(5, name="head")(x))


def test_attention_is_given_beside_the_prediction(tmp_path):
    model = vision_model()
    path = export_for_serving(
        model,
        tmp_path,
        signatures={"attention": AttentionSignature(["conv", "se:gate"])},
    )
    assert set(read_signatures(path)) == {"serving_default", "attention"}
    x = np.random.default_rng(1).normal(size=(3, 7, 11, 3)).astype("float32")
    answer = run_export(path, {"image": x}, "attention")
    assert set(answer) == {"head", "conv_map", "se_gate"}
    outputs, values = read_outputs(model, x, ["conv", "se:gate"])
    expected = {
        "head": outputs,
        "conv_map": (np.array(values["conv"]) ** 2).sum(-1),
        "se_gate": values["se:gate"],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-5)


def test_attention_of_what_has_none(tmp_path):
    model = vision_model()
    with pytest.raises(ValueError, match="Did you mean 'conv'"):
        signature = {"attention": AttentionSignature(["convv"])}
        export_for_serving(model, tmp_path, signatures=signature)
    with pytest.raises(ValueError, match="'head' with an output of shape"):
        signature = {"attention": AttentionSignature(["head"])}
        export_for_serving(model, tmp_path, signatures=signature)
    with pytest.raises(TypeError, match="names='conv'"):
        AttentionSignature("conv")
    with pytest.raises(ValueError, match="must name a layer"):
        AttentionSignature([])


@pytest.mark.parametrize("encode", first_of(["encode_jpeg", "encode_png"], 1))
def test_encoded_images(tmp_path, encode):
    import tensorflow as tf

    model = vision_model((12, 8))
    path = export_for_serving(
        model,
        tmp_path,
        signatures={"image_bytes": ImageBytesSignature(None, "-1,1")},
    )
    images = np.random.default_rng(1).integers(
        256, size=(2, 24, 16, 3), dtype="uint8"
    )
    encoded = [getattr(tf.io, encode)(image).numpy() for image in images]
    answer = run_export(
        path, {"image_bytes": np.array(encoded, object)}, "image_bytes"
    )
    decoded = np.stack([tf.io.decode_image(one).numpy() for one in encoded])
    resized = tf.image.resize(decoded.astype("float32"), (12, 8))
    np.testing.assert_allclose(
        answer["head"], model(resized / 127.5 - 1), rtol=1e-4, atol=1e-5
    )


def test_bytes_that_are_no_image_are_an_error(tmp_path):
    model = vision_model((12, 8))
    signature = {"image_bytes": ImageBytesSignature()}
    path = export_for_serving(model, tmp_path, signatures=signature)
    with pytest.raises(RuntimeError, match="image"):
        run_export(path, {"image_bytes": [b"no image"]}, "image_bytes")


def test_channels_first_images_are_turned():
    """The graph, since TensorFlow has no such convolutions on the CPU."""
    image = keras.Input((3, 12, 8), name="image")
    model = keras.Model(image, keras.layers.Identity(name="same")(image))
    signature = ImageBytesSignature()
    (encoded,) = signature.example(model).values()
    (same,) = signature.function(model)(encoded).values()
    assert same.shape == (2, 3, 12, 8)


def test_models_that_take_no_encoded_image():
    tokens = keras.Input((None,), name="tokens")
    model = keras.Model(tokens, keras.layers.Identity()(tokens))
    with pytest.raises(ValueError, match="a model of one image"):
        ImageBytesSignature().function(model)
    with pytest.raises(ValueError, match="Give `image_size"):
        ImageBytesSignature().function(vision_model())
    with pytest.raises(ValueError, match="image_size=12"):
        ImageBytesSignature(12)
    with pytest.raises(TypeError, match="pixels"):
        ImageBytesSignature(pixels=1 / 255)


def test_text(tmp_path):
    vectorizer = keras.layers.TextVectorization(
        vocabulary=["a", "big", "dog"], output_sequence_length=7
    )
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    model = keras.Model(tokens, keras.layers.Embedding(8, 3, name="e")(tokens))
    path = export_for_serving(
        model, tmp_path, signatures={"text": TextSignature(vectorizer)}
    )
    text = ["A big dog!", "unknown"]
    answer = run_export(
        path, {"text": np.array([t.encode() for t in text], object)}, "text"
    )
    np.testing.assert_allclose(answer["e"], model(vectorizer(text)), rtol=1e-6)
    with pytest.raises(TypeError, match="TextVectorization"):
        TextSignature("vocabulary.txt")


def test_outputs_of_one_layer_have_names_of_their_own():
    inputs = keras.Input((4,), name="x")
    dense = keras.layers.Dense(4, name="dense")
    once = dense(inputs)
    twice = keras.Model(inputs, [once, dense(once), inputs])
    named = name_outputs(twice, twice(np.ones((1, 4))))
    assert list(named) == ["dense", "dense_output_1", "x"]
