"""The networks of the papers, with attention where the papers put it."""

from keras_attention.models.multiply_adds import (
    count_multiply_adds as count_multiply_adds,
)
from keras_attention.models.resnet import ResNet as ResNet
from keras_attention.models.wide_resnet import WideResNet as WideResNet
