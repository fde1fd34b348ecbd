"""Networks over time and over volumes."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_attention as ka
from support.surgery import names


def network(rank, data_format="channels_last"):
    conv = getattr(layers, f"Conv{rank}D")
    sizes = (8, 10, 12)[:rank]
    shape = (*sizes, 4) if data_format == "channels_last" else (4, *sizes)
    arguments = {"padding": "same", "data_format": data_format}
    axis = -1 if data_format == "channels_last" else 1
    inputs = keras.Input(shape)
    x = conv(4, 3, name="stem", **arguments)(inputs)
    y = conv(4, 3, name="conv", **arguments)(x)
    y = layers.BatchNormalization(axis=axis, name="norm")(y)
    x = layers.Add(name="sum")([x, y])
    x = conv(6, 3, strides=2, name="down", **arguments)(x)
    return keras.Model(inputs, layers.Flatten()(x))


@pytest.mark.parametrize("rank", [1, 3])
def test_sites(rank):
    model = network(rank)
    assert names(model, "residual") == ["norm"]
    assert names(model, "stage") == ["sum", "down"]
    assert names(model, "conv") == ["stem", "norm", "down"]
    first = network(rank, "channels_first")
    for kind in ("residual", "stage", "conv"):
        assert names(first, kind) == names(model, kind)


@pytest.mark.parametrize(
    "attention",
    [
        lambda: ka.LightweightConv1D(2, 3),
        lambda: ka.DynamicConv1D(2, 3),
        lambda: ka.MultiHeadAttention(2),
        layers.LayerNormalization,
    ],
)
def test_layers_for_sequences(attention):
    model = network(1)
    x = np.random.default_rng(0).normal(size=(3, 8, 4)).astype("float32")
    for at in ("residual", "stage", "conv"):
        gated = ka.insert_attention(model, attention, at, preserve_outputs=True)
        np.testing.assert_array_equal(gated(x), model(x))
        assert len(ka.attention_layers(gated)) == len(names(model, at))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("attention", ["eca", "simam", "global_context"])
def test_layers_of_any_rank(attention, rank, data_format):
    model = network(rank, data_format)
    for at in ("residual", "stage", "conv", ["sum"]):
        gated = ka.insert_attention(model, attention, at, preserve_outputs=True)
        inserted = ka.attention_layers(gated)
        assert len(inserted) == (1 if at == ["sum"] else len(names(model, at)))
        for wrapper in inserted:
            assert len(wrapper.layer.input_spec.axes) == 1
            assert wrapper.layer.input_spec.ndim == rank + 2
            assert wrapper.layer.data_format == data_format
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))
    if data_format == "channels_last":  # Convolved on every device.
        x = x.astype("float32")
        np.testing.assert_array_equal(gated(x), model(x))


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("at", ["residual", "conv", ["sum"]])
def test_layers_for_images_are_refused(rank, at):
    model = network(rank)
    with pytest.raises(ValueError, match="takes images.*layer '.*'cbam'"):
        ka.insert_attention(model, "coordinate_attention", at)


def test_layers_for_sequences_are_refused_for_images():
    with pytest.raises(
        ValueError, match="sequence of rank 3.*'norm_attention'"
    ):
        ka.insert_attention(network(2), lambda: ka.LightweightConv1D(2, 3))
    # Also in a nested model, and by the path.
    inputs = keras.Input((8, 10, 4))
    outer = keras.Model(inputs, network(2)(inputs))
    with pytest.raises(ValueError, match="expects a sequence of rank 3"):
        ka.insert_attention(outer, lambda: ka.LightweightConv1D(2, 3))


def test_images_first_where_both_are_inside():
    """A vision Transformer behind convolutions keeps its sites of images."""
    inputs = keras.Input((8, 10, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    tokens = layers.Reshape((80, 4))(x)
    y = layers.MultiHeadAttention(2, 2)(tokens, tokens)
    model = keras.Model(inputs, layers.Add()([tokens, y]))
    assert names(model, "residual") == []
    assert names(model, "stage") == names(model, "conv") == ["conv"]
