"""Attention as pictures. Needs the extra `visualization`."""

from keras_attention.visualization.attention_maps import (
    plot_attention_maps as plot_attention_maps,
)
