import keras
import numpy as np
import pytest
from PIL import Image

from keras_attention.visualization import AttentionMapLogger
from keras_attention.visualization import plot_channel_gates
from support.visualization import image_model
from support.visualization import images


@pytest.fixture(scope="module")
def model():
    model = image_model()
    model.compile("sgd", "mse")
    return model


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def fit(model, logger, epochs=2):
    model.fit(
        images(4), np.ones((4, 2)), epochs=epochs, verbose=0, callbacks=[logger]
    )


def test_a_picture_an_epoch(model, tmp_path):
    logger = AttentionMapLogger(tmp_path / "new", images(2), ["conv"])
    fit(model, logger)
    files = sorted((tmp_path / "new").iterdir())
    assert [f.name for f in files] == ["epoch_0001.png", "epoch_0002.png"]
    first, second = map(read, files)
    assert first.shape == second.shape and (first != second).any()


def test_another_picture_of_another_model_every_second_epoch(model, tmp_path):
    other, seen = image_model(), []

    def draw(drawn):
        seen.append(drawn)
        return plot_channel_gates(drawn, images(2), [0, 1])

    logger = AttentionMapLogger(tmp_path, draw=draw, model=other, every=2)
    fit(model, logger, epochs=3)
    assert seen == [other]
    assert [f.name for f in tmp_path.iterdir()] == ["epoch_0002.png"]


@pytest.mark.tensorflow
def test_events_for_tensorboard(model, tmp_path):
    import tensorflow as tf

    logger = AttentionMapLogger(
        tmp_path, images(2), ["conv"], tensorboard=True, name="maps"
    )
    fit(model, logger)
    (file,) = tmp_path.iterdir()
    found = []
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            width, height, png = value.tensor.string_val
            image = tf.image.decode_png(png).numpy()
            assert image.shape[:2] == (int(height), int(width))
            found.append((value.tag, event.step, image.std() > 0))
    assert found == [("maps", 1, True), ("maps", 2, True)]


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="neither"):
        AttentionMapLogger(tmp_path)
    with pytest.raises(ValueError, match="both"):
        AttentionMapLogger(tmp_path, images(1), draw=print)
    with pytest.raises(ValueError, match="`layers` and `labels`"):
        AttentionMapLogger(tmp_path, draw=print, layers=["conv"])
    with pytest.raises(ValueError, match="every"):
        AttentionMapLogger(tmp_path, images(1), every=0)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="needs the JAX or torch backend",
)
def test_tensorboard_needs_tensorflow(tmp_path):
    with pytest.raises(RuntimeError, match="written with TensorFlow"):
        AttentionMapLogger(tmp_path, images(1), tensorboard=True)
