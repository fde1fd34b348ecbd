import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_attention as ka
from keras_attention.models import ResNet
from keras_attention.surgery import AttentionSite
from keras_attention.surgery import AttentionSites
from support.surgery import block
from support.surgery import names
from support.surgery import small_resnet


def test_all_sites_of_a_small_network():
    sites = ka.attention_sites(small_resnet())
    assert [(site.kind, site.name) for site in sites] == [
        ("conv", "stem"),
        ("conv", "a_relu1"),
        ("residual", "a_norm"),
        ("conv", "a_norm"),
        ("stage", "a_out"),
        ("conv", "b_short"),
        ("conv", "b_relu1"),
        ("residual", "b_norm"),
        ("conv", "b_norm"),
        ("stage", "b_out"),
    ]
    assert sites[4] == AttentionSite("a_out", "stage", (None, 16, 16, 4))


def test_prints_as_a_table():
    sites = [
        AttentionSite("a", "conv", (None, 8, 8, 4)),
        AttentionSite("nested/longer", "residual", (None, 16, 16, 4)),
    ]
    assert str(AttentionSites(sites)).splitlines() == [
        "kind      shape              after layer",
        "conv      (None, 8, 8, 4)    a",
        "residual  (None, 16, 16, 4)  nested/longer",
    ]


def test_sizes_that_are_open_give_the_same_sites():
    known = ResNet(18, input_shape=(64, 64, 3))
    unknown = ResNet(18, input_shape=(None, None, 3))
    for kind in ("residual", "stage", "conv"):
        assert names(unknown, kind) == names(known, kind)


def test_own_networks_name_their_stages():
    model = ResNet(18, input_shape=(32, 32, 3))
    assert names(model, "stage") == [f"stage{n}" for n in (1, 2, 3, 4)]
    assert names(model, "residual") == [
        f"stage{stage}_block{number}_norm2"
        for stage in (1, 2, 3, 4)
        for number in (1, 2)
    ]


def test_attention_goes_before_a_branch_is_dropped():
    class StochasticDepth(layers.Layer):
        def call(self, x):
            return x

    for drop in (
        layers.Dropout(0.5, noise_shape=(None, 1, 1, 1)),
        StochasticDepth(),
    ):
        inputs = keras.Input((8, 8, 4))
        model = keras.Model(inputs, block(inputs, 4, "a", drop=drop))
        assert names(model, "residual") == ["a_norm"]


def test_sum_written_as_an_operator():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    model = keras.Model(inputs, ops.relu(inputs + x))
    assert names(model, "residual") == ["conv"]


def test_three_are_added():
    inputs = keras.Input((8, 8, 4))
    branches = [
        layers.Conv2D(4, 3, padding="same", name=name)(inputs)
        for name in ("one", "two")
    ]
    model = keras.Model(inputs, layers.Add()([inputs, *branches]))
    assert names(model, "residual") == ["one", "two"]


def test_sums_that_are_no_residual_blocks():
    inputs = keras.Input((8, 8, 4), name="left")
    other = keras.Input((8, 8, 4), name="right")

    def conv(x, name):
        return layers.Conv2D(4, 3, padding="same", name=name)(x)

    left, right = conv(inputs, "a"), conv(other, "b")
    no_common_start = layers.Add()([left, conv(right, "c")])
    equals = layers.Add()([conv(left, "d"), conv(left, "e")])
    constant = left + 3.0
    doubled = layers.Add()([left, left])
    broadcast = layers.Add()(
        [right, layers.GlobalAveragePooling2D(keepdims=True)(conv(right, "f"))]
    )
    model = keras.Model(
        [inputs, other],
        [no_common_start, equals, constant, doubled, broadcast],
    )
    assert names(model, "residual") == []


def test_branch_that_is_used_elsewhere_is_no_residual():
    """As in a feature pyramid, where the deeper map goes on by itself."""
    inputs = keras.Input((8, 8, 4))
    start = layers.Conv2D(4, 3, padding="same", name="start")(inputs)
    deep = layers.Conv2D(4, 3, padding="same", name="deep")(start)
    merged = layers.Add()([start, deep])
    assert names(keras.Model(inputs, merged), "residual") == ["deep"]
    assert names(keras.Model(inputs, [merged, deep]), "residual") == []


def test_gates_inside_are_no_sites():
    """A squeezed image of one pixel has no places, its result has."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    pooled = ops.mean(x, axis=(1, 2), keepdims=True)
    squeezed = layers.Conv2D(2, 1, name="reduce")(pooled)
    squeezed = layers.Conv2D(4, 1, name="expand")(squeezed)
    gated = layers.Multiply(name="gated")([x, squeezed])
    flat = layers.Reshape((1, 1, 4))(layers.GlobalMaxPooling2D()(gated))
    outputs = layers.Conv2D(3, 1, name="classifier")(flat)
    model = keras.Model(inputs, outputs)
    assert names(model, "conv") == ["conv"]
    assert names(model, "stage") == ["gated"]


def test_decoder_from_a_vector_has_sites():
    inputs = keras.Input((5,))
    x = layers.Reshape((4, 4, 2))(layers.Dense(32)(inputs))
    x = layers.Conv2DTranspose(3, 3, 2, "same", name="up")(x)
    x = layers.Conv2D(1, 3, activation="tanh", name="image")(x)
    assert names(keras.Model(inputs, x), "stage") == ["up"]


def test_encoder_and_decoder():
    """The stage ends of a U-Net: down, bottom, and up again."""
    inputs = keras.Input((16, 16, 3))
    high = layers.Conv2D(4, 3, padding="same", name="high")(inputs)
    low = layers.MaxPooling2D()(high)
    low = layers.Conv2D(4, 3, padding="same", name="low")(low)
    up = layers.UpSampling2D()(low)
    merged = layers.Concatenate()([high, up])
    fused = layers.Conv2D(5, 3, padding="same", name="fused")(merged)
    outputs = layers.Conv2D(1, 1, name="map")(fused)
    found = names(keras.Model(inputs, outputs), "stage")
    assert found == ["high", "low", "fused"]


def test_channels_first():
    model = ResNet(18, input_shape=(32, 32, 3), data_format="channels_first")
    other = ResNet(18, input_shape=(32, 32, 3), data_format="channels_last")
    for kind in ("residual", "stage", "conv"):
        assert names(model, kind) == names(other, kind)


def test_conv_site_after_operations():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = ops.relu(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(4, 3, name="branching")(x)
    outputs = [layers.ReLU()(x), layers.Softmax()(x)]
    model = keras.Model(inputs, outputs)
    found = names(model, "conv")
    assert found[0].startswith("relu") and found[1] == "branching"


def test_nested_models_are_entered_once():
    backbone = small_resnet()
    left, right = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    model = keras.Model(
        [left, right], ops.concatenate([backbone(left), backbone(right)])
    )
    assert names(model, "residual") == [
        "small_resnet/a_norm",
        "small_resnet/b_norm",
    ]
    assert names(model, "stage") == ["small_resnet/a_out", "small_resnet/b_out"]


class Subclassed(keras.Model):
    def __init__(self, **parts):
        super().__init__(name="mine")
        for name, part in parts.items():
            setattr(self, name, part)

    def call(self, x):
        return x


def test_subclassed_models_are_told_what_to_pass():
    with pytest.raises(TypeError, match="functional part.*'small_resnet'.*"):
        ka.attention_sites(Subclassed(backbone=small_resnet()))
    with pytest.raises(TypeError, match=r"keras.Model\(inputs, outputs\)"):
        ka.attention_sites(Subclassed())


def test_functional_model_with_a_call_of_its_own():
    class Scaled(keras.Model):
        def call(self, inputs):
            return 2 * super().call(inputs)

    inputs = keras.Input((8, 8, 4))
    model = Scaled(inputs, layers.Conv2D(4, 3)(inputs))
    with pytest.raises(TypeError, match="Scaled"):
        ka.attention_sites(model)


def test_no_model_and_no_input():
    with pytest.raises(TypeError, match="must be a keras.Model"):
        ka.attention_sites(layers.Dense(3))
    with pytest.raises(ValueError, match="keras.Input"):
        ka.attention_sites(keras.Sequential([layers.Conv2D(4, 3)]))


def test_model_without_images():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    assert ka.attention_sites(model) == ()
    assert np.size(str(ka.attention_sites(model)).splitlines()) == 1
