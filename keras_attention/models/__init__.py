"""The networks of the papers, with attention where the papers put it."""

from keras_attention.models.wide_resnet import WideResNet as WideResNet
