"""Trainable parameters, to the unit, of every network that was published.

The figures are of the classifier for 1000 classes and images of 224 x 224.
"""

import functools

import pytest

import keras_attention as ka
from keras_attention.models import ResNet
from models_common import count_trainable

PLAIN = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


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


@pytest.mark.parametrize("depth", BLOCKS)
def test_plain_resnet(depth):
    expected = resnet_parameters(depth)
    assert expected == PLAIN.get(depth, expected)
    assert count_trainable(ResNet(depth)) == expected


@pytest.mark.parametrize("depth", [101, 152])
def test_squeeze_excite_at_depths_by_formula(depth):
    assert count_trainable(
        ResNet(depth, "squeeze_excite")
    ) == resnet_parameters(depth, squeeze_excite)


RESNETS = {
    "SE-ResNet-18": (18, "squeeze_excite", 11_778_592),
    "SE-ResNet-34": (34, "squeeze_excite", 21_958_868),
    "SE-ResNet-50": (50, "squeeze_excite", 28_088_024),
    "SE-ResNet-50, ratio 8": (
        50,
        partial("SqueezeExcite", ratio=8),
        30_603_912,
    ),
}


@pytest.mark.parametrize("network", RESNETS)
def test_resnet_with_attention(network):
    depth, attention, expected = RESNETS[network]
    assert count_trainable(ResNet(depth, attention)) == expected
