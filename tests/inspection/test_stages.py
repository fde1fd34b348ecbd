"""One answer to what the stages of a model are, for all who ask."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import layers

import keras_attention as ka
from keras_attention.distillation.pairs import choose_pairs
from keras_attention.inspection import list_layers
from keras_attention.inspection import residual_blocks
from keras_attention.inspection import stages
from keras_attention.models import ResNet
from keras_attention.models import WideResNet
from keras_attention.visualization.attention_maps import read_maps


def conv(filters, name, strides=1):
    return layers.Conv2D(
        filters, 3, strides, "same", activation="relu", name=name
    )


def unet(size=24):
    inputs = keras.Input((size, size, 3))
    skips, x = [], inputs
    for level, filters in enumerate((3, 5)):
        x = conv(filters, f"down{level}a")(x)
        x = conv(filters, f"down{level}b")(x)
        skips.append(x)
        x = layers.MaxPooling2D(name=f"pool{level}")(x)
    x = conv(7, "bottom")(x)
    for level, filters in ((1, 5), (0, 3)):
        x = layers.Conv2DTranspose(filters, 2, 2, name=f"raise{level}")(x)
        x = layers.Concatenate(name=f"join{level}")([skips[level], x])
        x = conv(filters, f"up{level}a")(x)
        x = conv(filters, f"up{level}b")(x)
    outputs = layers.Conv2D(2, 1, activation="softmax", name="classes")(x)
    return keras.Model(inputs, outputs, name="unet")


def convnext():
    inputs = x = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 4, 4, name="patches")(x)
    x = layers.LayerNormalization(name="patches_norm")(x)
    for stage, filters in enumerate((4, 6)):
        if stage:
            x = layers.LayerNormalization(name="down_norm")(x)
            x = layers.Conv2D(filters, 2, 2, name="down")(x)
        for block in range(2):
            y = layers.DepthwiseConv2D(7, padding="same")(x)
            y = layers.LayerNormalization()(y)
            y = layers.Dense(4 * filters, activation="gelu")(y)
            y = layers.Dense(filters)(y)
            x = layers.Add(name=f"add{stage}{block}")([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def yolo():
    """Stages as of YOLOv8: a map is split, one part convolved, all joined."""
    inputs = keras.Input((32, 32, 3))
    x = conv(4, "stem", 2)(inputs)
    for level in range(2):
        x = conv(6, f"down{level}", 2)(x)
        x = conv(8, f"pre{level}")(x)
        short, deep = keras.ops.split(x, 2, axis=-1)
        deep = deep + conv(4, f"late{level}")(conv(4, f"early{level}")(deep))
        x = layers.Concatenate(name=f"join{level}")([short, deep])
        x = conv(6, f"end{level}")(x)
    return keras.Model(inputs, x, name="yolo")


def split_at_the_end():
    """The parts of a split map are reduced: its stage ends before it."""
    inputs = keras.Input((16, 16, 3))
    parts = keras.ops.split(conv(6, "whole")(inputs), 2, axis=-1)
    parts = [conv(3, f"part{n}", 2)(part) for n, part in enumerate(parts)]
    return keras.Model(inputs, layers.Concatenate(name="join")(parts))


def application(name):
    make = getattr(keras.applications, name)
    return lambda: make(weights=None, input_shape=(64, 64, 3), classes=3)


# What makes the network, and the ends of its stages.
NETWORKS = {
    "WideResNet": (
        lambda: WideResNet(10, 1, input_shape=(16, 16, 3)),
        ["stage1", "stage2", "stage3"],
    ),
    "ResNet": (
        lambda: ResNet(18, input_shape=(64, 64, 3)),
        ["stage1", "stage2", "stage3", "stage4"],
    ),
    "U-Net": (unet, ["down0b", "down1b", "bottom", "up1b", "up0b"]),
    "YOLO": (yolo, ["end0", "end1"]),
    "split": (split_at_the_end, ["whole", "join"]),
    "ConvNeXt": (convnext, ["add01", "add11"]),
    "ResNet50": (
        application("ResNet50"),
        [
            "conv2_block3_out",
            "conv3_block4_out",
            "conv4_block6_out",
            "conv5_block3_out",
        ],
    ),
    "MobileNetV2": (
        application("MobileNetV2"),
        [
            "expanded_conv_project_BN",
            "block_2_add",
            "block_5_add",
            "block_12_add",
            "out_relu",
        ],
    ),
    "EfficientNetB0": (
        application("EfficientNetB0"),
        [
            "block1a_project_bn",
            "block2b_add",
            "block3b_add",
            "block5c_add",
            "top_activation",
        ],
    ),
}


# Large networks of the kinds that the others are of.
LARGE = ("ResNet", "ResNet50", "EfficientNetB0")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
        for name in NETWORKS
    ],
)
def test_insertion_transfer_and_figures_agree(name):
    make, expected = NETWORKS[name]
    model = make()
    found = stages(model)
    assert [stage.name for stage in found] == expected
    sites = ka.attention_sites(model)
    at_stage = [site for site in sites if site.kind == "stage"]
    assert [site.name for site in at_stage] == expected
    assert [site.shape[1:] for site in at_stage] == [
        (*stage.size, stage.channels) for stage in found
    ]
    pairs = choose_pairs(model, keras.models.clone_model(model), "groups")
    assert [(p.student, p.teacher) for p in pairs] == [(n, n) for n in expected]
    assert [p.student_size for p in pairs] == [stage.size for stage in found]
    images = np.zeros((1, *model.input_shape[1:]), "float32")
    maps = read_maps(model, images, None)
    assert list(maps) == expected
    assert [each.shape[1:] for each in maps.values()] == [
        stage.size for stage in found
    ]


def test_resolutions_sizes_and_channels():
    found = stages(unet())
    assert [stage.resolution for stage in found] == [
        (Fraction(1, n),) * 2 for n in (1, 2, 4, 2, 1)
    ]
    assert [stage.size for stage in found] == [
        (n, n) for n in (24, 12, 6, 12, 24)
    ]
    assert [stage.channels for stage in found] == [3, 5, 7, 5, 3]


def test_open_sizes_are_those_of_the_other_model():
    model = WideResNet(10, 1, input_shape=(None, None, 3))
    like = WideResNet(10, 1, input_shape=(12, 20, 3))
    assert [stage.size for stage in stages(model)][-1] == (32, 32)
    assert [stage.size for stage in stages(model, like)] == [
        (12, 20),
        (6, 10),
        (3, 5),
    ]


def test_encoder_pairs_with_the_encoder_of_a_decoder():
    encoder = unet()
    encoder = keras.Model(encoder.input, encoder.get_layer("bottom").output)
    pairs = choose_pairs(encoder, unet(), "groups")
    assert [p.teacher for p in pairs] == ["down0b", "down1b", "bottom"]


def test_feature_pyramid():
    """Lateral and top-down maps are no second end of the backbone's stage."""
    inputs = keras.Input((32, 32, 3))
    c1 = conv(3, "c1", 2)(inputs)
    c2 = conv(5, "c2", 2)(c1)
    c3 = conv(7, "c3", 2)(c2)
    p3 = layers.Conv2D(2, 1, name="lateral3")(c3)
    p2 = layers.UpSampling2D()(p3)
    p2 = layers.Add(name="p2")([layers.Conv2D(2, 1, name="lateral2")(c2), p2])
    heads = [conv(2, f"head{n}")(p) for n, p in ((2, p2), (3, p3))]
    model = keras.Model(inputs, heads)
    assert [s.name for s in stages(model)] == ["c1", "c2", "lateral3", "p2"]
    assert residual_blocks(model) == []


def test_blocks_end_with_their_activation():
    model = application("ResNet50")()
    blocks = residual_blocks(model)
    assert len(blocks) == 16
    assert blocks[2].name == "conv2_block3_out"
    assert blocks[2].addition == "conv2_block3_add"
    assert blocks[2].resolution == (Fraction(1, 4),) * 2


class Subclassed(keras.Model):
    """Two stages by hand, the second residual, and one of a backbone."""

    def __init__(self, backbone=None):
        super().__init__()
        self.backbone = backbone
        self.scale = layers.Rescaling(2.0, name="scale")
        self.first = conv(3, "first", 2)
        self.pool = layers.MaxPooling2D(name="pool")
        self.second = conv(3, "second")
        self.add = layers.Add(name="add")
        self.relu = layers.ReLU(name="relu")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        x = self.scale(x)
        if self.backbone is not None:
            x = self.backbone(x)
        x = self.pool(self.first(x))
        x = self.relu(self.add([x, self.second(x)]))
        return self.head(keras.ops.mean(x, axis=(1, 2)))


def test_model_without_a_graph():
    model = Subclassed()
    with pytest.raises(ValueError, match="must be built"):
        stages(model)
    model(np.zeros((1, 16, 16, 3), "float32"))
    found = stages(model)
    assert [stage.name for stage in found] == ["first", "relu"]
    assert [stage.size for stage in found] == [(8, 8), (4, 4)]
    (block,) = residual_blocks(model)
    assert (block.name, block.addition) == ("relu", "add")


def test_graph_inside_a_model_without_one():
    backbone = WideResNet(10, 1, input_shape=(32, 32, 3), classes=None)
    backbone.name = "backbone"
    model = Subclassed(backbone)
    model(np.zeros((1, 32, 32, 3), "float32"))
    assert [stage.name for stage in stages(model)] == [
        "backbone/stage1",
        "backbone/stage2",
        "backbone/stage3",
        "first",
        "relu",
    ]
    assert stages(model)[0].size == (32, 32)
    assert len(residual_blocks(model)) == 4


def test_networks_over_time_and_over_volumes():
    for rank, kinds in ((1, layers.Conv1D), (3, layers.Conv3D)):
        size = (32,) * rank
        inputs = x = keras.Input((*size, 2))
        for n in range(3):
            name = f"conv{n}"
            x = kinds(3, 3, 2 if n else 1, "same", name=name)(x)
        model = keras.Model(inputs, layers.Flatten()(x))
        found = stages(model)
        assert [s.name for s in found] == ["conv0", "conv1", "conv2"]
        assert [s.size for s in found] == [(n,) * rank for n in (32, 16, 8)]


def test_models_without_feature_maps():
    dense = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    assert stages(dense) == [] and residual_blocks(dense) == []


def test_long_kernels_over_an_open_time():
    """As of networks on raw audio: an example of 16 is too short."""
    inputs = x = keras.Input((None, 1))
    for n, size in enumerate((40, 5)):
        x = layers.Conv1D(3, size, 4, name=f"conv{n}")(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, x)
    found = stages(model)
    assert [stage.size for stage in found] == [(23,), (5,)]
    assert [row.shape for row in list_layers(model)][1] == (None, None, 3)
    twin = keras.models.clone_model(model)
    pairs = choose_pairs(model, twin, "groups")
    assert [pair.student for pair in pairs] == ["conv0", "conv1"]
