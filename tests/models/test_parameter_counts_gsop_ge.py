"""Trainable parameters, to the unit, of GSoP-Nets and Gather-Excite networks.

The figures are of the classifier for 1000 classes and images of 224 x 224.
"""

import functools

import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models import ResNet
from support.networks import count_trainable
from support.networks import first_of

PLAIN = 25_557_032
STAGES = {256: (3, 56), 512: (4, 28), 1024: (6, 14), 2048: (3, 7)}
CHANNEL = {256: 230_784, 512: 394_880, 1024: 723_072, 2048: 1_379_456}
POSITION = {256: 66_368, 512: 99_136, 1024: 164_672, 2048: 295_744}


def count(layer, channels):
    layer.build((None, None, None, channels))
    return sum(int(np.prod(w.shape)) for w in layer.trainable_weights)


def channel_gsop(channels, reduced=128):
    reduce = channels * reduced + reduced
    rows = 4 * reduced * reduced + 4 * reduced
    return reduce + 4 * reduced + rows + 4 * reduced * channels + channels


def position_gsop(channels, reduced=128, cells=64):
    reduce = channels * reduced + reduced
    rows = 4 * cells * cells + 4 * cells
    norms = 2 * reduced + 2 * cells
    return reduce + norms + rows + 4 * cells * cells + cells


@pytest.mark.parametrize("channels", STAGES)
def test_blocks(channels):
    assert channel_gsop(channels) == CHANNEL[channels]
    assert position_gsop(channels) == POSITION[channels]
    assert count(ka.ChannelGSoP(), channels) == CHANNEL[channels]
    assert count(ka.PositionGSoP(), channels) == POSITION[channels]
    both = CHANNEL[channels] + POSITION[channels]
    for fusion in ("average", "add", "max"):
        assert count(ka.GSoP(fusion=fusion), channels) == both


@pytest.mark.parametrize(
    ("channels", "size"), [(256, 11), (512, 9), (1024, 7), (2048, 5)]
)
def test_blocks_that_concatenate(channels, size):
    convolution = size * 64 * channels + channels
    expected = CHANNEL[channels] + POSITION[channels]
    expected += 2 * convolution + 2 * channels
    assert count(ka.GSoP(fusion="concat"), channels) == expected


GSOP_NETS = {
    "Net1": ("channel_gsop", 28_285_224),
    "Net1 with strides": (
        [
            functools.partial(ka.ChannelGSoP, strides=2),
            *["channel_gsop"] * 3,
        ],
        28_285_224,
    ),
    "Net1 as published": ([None, *["channel_gsop"] * 3], 28_054_440),
    "positions": ("position_gsop", PLAIN + sum(POSITION.values())),
    "both": ("gsop", PLAIN + sum(CHANNEL.values()) + sum(POSITION.values())),
}


@pytest.mark.parametrize("network", first_of(GSOP_NETS, 1))
def test_gsop_net(network):
    attention, expected = GSOP_NETS[network]
    model = ResNet(50, attention)
    assert count_trainable(model) == expected
    assert model.get_layer("stage4").output.shape == (None, 14, 14, 2048)
    assert {
        layer.name for layer in model.layers if "attention" in layer.name
    } == {
        f"stage{stage}_block{blocks}_attention"
        for stage, (blocks, _) in enumerate(STAGES.values(), 1)
        if not isinstance(attention, list) or attention[stage - 1]
    }


@pytest.mark.slow
def test_gsop_net_2():
    """Net1 with 2048 channels reduced to 256 and 32,896 features."""
    classifier, features = 2048 * 1000 + 1000, 256 * 257 // 2
    expected = 28_285_224 - classifier
    expected += 2048 * 256 + 2 * 256 + features * 1000 + 1000
    model = ResNet(50, "channel_gsop", pooling="covariance")
    assert features == 32_896
    assert model.get_layer("logits").input.shape == (None, features)
    assert model.get_layer("pool").iterations == 3
    assert count_trainable(model) == expected == 59_658_024


GATHER_EXCITE = {
    "θ⁻ global": ({}, 25_557_032),
    "θ⁻ e=8": ({"extent": 8}, 25_557_032),
    "θ global": ({"learned_gather": True}, 31_106_600),
    "θ⁺ global": (
        {"learned_gather": True, "learned_excite": True},
        33_637_592,
    ),
    "θ e=2": ({"extent": 2, "learned_gather": True}, 25_723_176),
    "θ e=4": ({"extent": 4, "learned_gather": True}, 25_889_320),
    "θ e=8": ({"extent": 8, "learned_gather": True}, 26_055_464),
    "excite alone": ({"learned_excite": True}, 28_088_024),  # SE-ResNet-50
}


@pytest.mark.parametrize("kind", first_of(GATHER_EXCITE, 1))
def test_gather_excite(kind):
    arguments, expected = GATHER_EXCITE[kind]
    attention = functools.partial(ka.GatherExcite, **arguments)
    model = ResNet(50, attention)
    assert count_trainable(model) == expected
    assert model.get_layer("stage4").output.shape == (None, 7, 7, 2048)
    assert sum("attention" in layer.name for layer in model.layers) == 16


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 101])
def test_gather_excite_at_depths_by_formula(depth):
    """Each block adds a kernel of its map and a batch normalization."""
    blocks = {18: (2, 2, 2, 2), 101: (3, 4, 23, 3)}[depth]
    expansion = 4 if depth == 101 else 1
    gates = sum(
        number * expansion * 64 * 2**stage * (size**2 + 2)
        for stage, (number, size) in enumerate(
            zip(blocks, (56, 28, 14, 7), strict=True)
        )
    )
    attention = functools.partial(ka.GatherExcite, learned_gather=True)
    plain = {18: 11_689_512, 101: 44_549_160}[depth]
    assert count_trainable(ResNet(depth, attention)) == plain + gates


@pytest.mark.parametrize(
    ("name", "layer"),
    first_of(
        [
            ("ge", ka.GatherExcite),
            ("gsop", ka.GSoP),
            ("channel_gsop", ka.ChannelGSoP),
            ("position_gsop", ka.PositionGSoP),
            ("gather_excite", ka.GatherExcite),
        ],
        2,
    ),
)
def test_names(name, layer):
    model = ResNet(18, name, input_shape=(16, 16, 3), stem="small")
    assert type(model.get_layer("stage1_block2_attention")) is layer
    in_first_block = any(
        "block1_attention" in layer.name for layer in model.layers
    )
    assert in_first_block == (layer is ka.GatherExcite)
