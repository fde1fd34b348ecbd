"""Trainable parameters, to the unit, of every network that was published.

The figures are of the classifier for 1000 classes and images of 224 x 224.
"""

import functools
import math

import pytest

import keras_attention as ka
from keras_attention.models import MobileNetV1
from keras_attention.models import MobileNetV2
from keras_attention.models import ResNet
from support.networks import count_trainable
from support.networks import first_of

PLAIN = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# By hand and by stage, as in the authors' code.
KERNELS = (3, 5, 5, 7)


def partial(name, **arguments):
    return functools.partial(getattr(ka, name), **arguments)


def resnet_parameters(depth, attention=lambda channels: 0):
    """The count from the architecture; `attention` per block's channels."""
    bottleneck = depth >= 50
    total, before = 49 * 3 * 64 + 2 * 64, 64
    for stage, blocks in enumerate(BLOCKS[depth]):
        inner = 64 * 2**stage
        after = 4 * inner if bottleneck else inner
        for block in range(blocks):
            if bottleneck:
                total += before * inner + 9 * inner * inner + inner * after
                total += 2 * (inner + inner + after)
            else:
                total += 9 * before * inner + 9 * inner * inner + 4 * inner
            if block == 0 and before != after:
                total += before * after + 2 * after
            total += attention(after)
            before = after
    return total + before * 1000 + 1000


def squeeze_excite(channels, ratio=16):
    hidden = channels // ratio
    return 2 * channels * hidden + hidden + channels


@pytest.mark.parametrize("depth", first_of(BLOCKS, 1))
def test_plain_resnet(depth):
    expected = resnet_parameters(depth)
    assert expected == PLAIN.get(depth, expected)
    assert count_trainable(ResNet(depth)) == expected


def cbam(channels):
    """An MLP as squeeze-and-excitation's, 7x7 of two maps, one norm."""
    return squeeze_excite(channels) + 7 * 7 * 2 + 2


def eca(channels):
    size = int((math.log2(channels) + 1) / 2)
    return max(3, size + 1 - size % 2)


def bam(channels):
    units = channels // 16
    channel = 2 * channels * units + 3 * units + channels
    dilated = 9 * units * units + 3 * units
    return channel + channels * units + 3 * units + 2 * dilated + units + 1


FORMULAS = {"squeeze_excite": squeeze_excite, "cbam": cbam, "eca": eca}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "attention"),
    [
        (101, "squeeze_excite"),
        (152, "squeeze_excite"),
        (34, "cbam"),
        (101, "cbam"),
        (18, "eca"),
        (34, "eca"),
        (101, "eca"),
    ],
)
def test_depths_by_formula(depth, attention):
    expected = resnet_parameters(depth, FORMULAS[attention])
    assert count_trainable(ResNet(depth, attention)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 101])
def test_bam_after_three_stages_by_formula(depth):
    ends = [256, 512, 1024] if depth >= 50 else [64, 128, 256]
    expected = resnet_parameters(depth) + sum(map(bam, ends))
    assert count_trainable(ResNet(depth, "bam")) == expected


RESNETS = {
    "SE-ResNet-18": (18, "squeeze_excite", 11_778_592),
    "SE-ResNet-34": (34, "squeeze_excite", 21_958_868),
    "SE-ResNet-50": (50, "squeeze_excite", 28_088_024),
    "SE-ResNet-50, ratio 8": (
        50,
        partial("SqueezeExcite", ratio=8),
        30_603_912,
    ),
    "CBAM-ResNet-18": (18, "cbam", 11_779_392),
    "CBAM-ResNet-50": (50, "cbam", 28_089_624),
    "BAM-ResNet-50": (50, "bam", 25_915_099),
    "ECA-ResNet-50": (50, "eca", 25_557_118),
    "ECA-ResNet-50, kernels by hand": (
        50,
        [partial("EfficientChannelAttention", kernel_size=k) for k in KERNELS],
        25_557_112,
    ),
}


@pytest.mark.parametrize("network", first_of(RESNETS, 1))
def test_resnet_with_attention(network):
    depth, attention, expected = RESNETS[network]
    assert count_trainable(ResNet(depth, attention)) == expected


@pytest.mark.slow
def test_plain_mobilenets():
    assert count_trainable(MobileNetV1()) == 4_231_976
    assert count_trainable(MobileNetV2()) == 3_504_872


def test_cbam_after_both_convolutions_of_mobilenet_v1():
    """The 5.07M of the paper."""
    outputs = [64, 128, 128, 256, 256] + 6 * [512] + 2 * [1024]
    inputs = [32, *outputs[:-1]]
    expected = 4_231_976 + sum(map(cbam, inputs + outputs))
    assert round(expected / 1e6, 2) == 5.07
    assert count_trainable(MobileNetV1(attention="cbam")) == expected


def test_eca_on_the_projected_outputs_of_mobilenet_v2():
    """One tap below 96 channels, three from there on: 31 weights."""
    kernel = functools.partial(partial, "EfficientChannelAttention")
    attention = 4 * [kernel(kernel_size=1)] + 3 * [kernel(kernel_size=3)]
    model = MobileNetV2(attention=attention)
    assert count_trainable(model) == 3_504_903 == 3_504_872 + 31
