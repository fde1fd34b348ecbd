import keras
import numpy as np
import pytest
from keras import layers

import keras_attention
from keras_attention.models import ResNet
from keras_attention.models import count_multiply_adds


def model_of(*stack, shape):
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Dense(7), (11, 5), 11 * 5 * 7),
        (layers.Conv1D(7, 3, padding="same"), (11, 5), 11 * 3 * 5 * 7),
        (layers.Conv2D(7, 3, strides=2), (11, 13, 5), 5 * 6 * 9 * 5 * 7),
        (layers.Conv2D(6, 3, groups=2), (5, 5, 4), 9 * 9 * 2 * 6),
        (layers.Conv3D(7, 2), (3, 4, 5, 2), 2 * 3 * 4 * 8 * 2 * 7),
        (layers.DepthwiseConv2D(3), (5, 7, 11), 3 * 5 * 9 * 11),
        (
            layers.DepthwiseConv1D(3, depth_multiplier=2),
            (7, 11),
            5 * 3 * 11 * 2,
        ),
        (
            layers.SeparableConv2D(7, 3),
            (5, 6, 11),
            3 * 4 * (9 * 11 + 11 * 7),
        ),
        (
            layers.Conv2DTranspose(7, 3, strides=2),
            (5, 6, 11),
            5 * 6 * 9 * 11 * 7,
        ),
        (
            layers.EinsumDense("abc,cde->abde", (None, 3, 5)),
            (7, 11),
            7 * 11 * 3 * 5,
        ),
        (
            layers.EinsumDense("...bc,bcd->...d", 3),
            (7, 11),
            7 * 11 * 3,
        ),
        (layers.BatchNormalization(), (5, 7), 0),
        (layers.Activation("relu"), (5, 7), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_each_kind_of_layer(layer, shape, expected):
    assert count_multiply_adds(model_of(layer, shape=shape)) == expected


def test_layers_inside_layers_and_models_count():
    inner = model_of(
        layers.Conv2D(16, 1), keras_attention.SqueezeExcite(), shape=(5, 7, 3)
    )
    outer = model_of(inner, layers.Conv2D(2, 1), shape=(5, 7, 3))
    expected = 35 * 3 * 16 + (16 * 1 + 1 * 16) + 35 * 16 * 2
    assert count_multiply_adds(outer) == expected


def test_a_layer_called_twice_counts_twice():
    image = keras.Input((5,))
    shared = layers.Dense(5)
    model = keras.Model(image, shared(shared(image)))
    assert count_multiply_adds(model) == 50


def test_several_inputs():
    inputs = {
        "a": keras.Input((3,), name="a"),
        "b": keras.Input((5,), name="b"),
    }
    summed = layers.Dense(7)(inputs["a"]) + layers.Dense(7)(inputs["b"])
    model = keras.Model(inputs, summed)
    assert count_multiply_adds(model) == 7 * 8


def test_unknown_sizes_are_given():
    model = model_of(layers.Conv2D(7, 1), shape=(None, None, 3))
    assert count_multiply_adds(model, (5, 11, 3)) == 55 * 21
    with pytest.raises(ValueError, match="Give `input_shape`"):
        count_multiply_adds(model)
    with pytest.raises(ValueError, match="all defined"):
        count_multiply_adds(model, (None, 5, 3))


def test_a_layer_by_itself():
    assert count_multiply_adds(layers.Dense(3), (5,)) == 15
    with pytest.raises(ValueError, match="Give `input_shape`"):
        count_multiply_adds(layers.Dense(3))
    with pytest.raises(ValueError, match="Give `input_shape`"):
        count_multiply_adds(keras.Sequential([layers.Dense(3)]))


def test_the_model_is_left_as_it_was():
    model = model_of(layers.Dense(3), shape=(5,))
    before = model.get_weights()
    count_multiply_adds(model)
    assert "call" not in vars(model.layers[0])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("downsample_in", "expected"),
    [("1x1", 3_857_973_248), ("3x3", 4_089_184_256)],
)
def test_resnet_50_as_in_the_papers(downsample_in, expected):
    model = ResNet(50, downsample_in=downsample_in)
    assert count_multiply_adds(model) == expected


@pytest.mark.slow
def test_cbam_resnet_50_as_in_the_paper():
    """The MLP runs twice, once for each pooling."""
    assert count_multiply_adds(ResNet(50, "cbam")) == 3_864_362_102


@pytest.mark.parametrize("shared", [True, False])
def test_the_convolution_across_channels_counts(shared):
    layer = keras_attention.EfficientChannelAttention(5, shared=shared)
    assert count_multiply_adds(layer, (7, 5, 32)) == 5 * 32
