"""SqueezeExcite beside KerasCV's layer of the same name."""

import keras
import numpy as np
import pytest

import keras_attention as ka

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def keras_cv():
    return pytest.importorskip("keras_cv", reason="needs the extra 'keras-cv'")


def layers(keras_cv, channels, hidden_units):
    """Our layer and theirs with one set of random weights."""
    ours = ka.SqueezeExcite(
        hidden_units=hidden_units, data_format="channels_last"
    )
    theirs = keras_cv.layers.SqueezeAndExcite2D(
        channels, bottleneck_filters=hidden_units
    )
    theirs(np.zeros((1, 7, 5, channels), "float32"))
    ours.build((None, None, None, channels))
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=w.shape) for w in theirs.get_weights()]
    theirs.set_weights(weights)
    # Their kernels are of 1x1 convolutions: (1, 1, in, out) for (in, out).
    ours.set_weights(
        [
            weight.reshape(mine.shape)
            for mine, weight in zip(ours.get_weights(), weights, strict=True)
        ]
    )
    return ours, theirs


@pytest.mark.parametrize(
    ("channels", "hidden_units"), [(22, 11), (16, 4), (7, 1)]
)
def test_outputs_and_gradients_equal_theirs(keras_cv, channels, hidden_units):
    import tensorflow as tf

    ours, theirs = layers(keras_cv, channels, hidden_units)
    generator = np.random.default_rng(1)
    x = generator.normal(size=(3, 7, 5, channels)).astype("float32")
    results = []
    for layer in (ours, theirs):
        image = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(image)
            y = layer(image)
            loss = tf.reduce_sum(y**2)
        sources = [image, *(v.value for v in layer.trainable_weights)]
        results.append([y, *tape.gradient(loss, sources)])
    for mine, peers in zip(*results, strict=True):
        mine, peers = map(keras.ops.convert_to_numpy, (mine, peers))
        np.testing.assert_allclose(
            mine, peers.reshape(mine.shape), rtol=1e-4, atol=1e-5
        )


def test_their_defaults_are_a_ratio_of_4(keras_cv):
    theirs = keras_cv.layers.SqueezeAndExcite2D(24)
    theirs(np.zeros((1, 7, 5, 24), "float32"))
    ours = ka.SqueezeExcite(ratio=4)
    ours.build((None, None, None, 24))
    assert ours.count_params() == theirs.count_params()
    assert [np.size(w) for w in ours.get_weights()] == [
        np.size(w) for w in theirs.get_weights()
    ]
