"""Attention as pictures. Needs the extra `visualization`."""

from keras_attention.visualization.accuracy_by_distance import (
    plot_accuracy_by_distance as plot_accuracy_by_distance,
)
from keras_attention.visualization.attention_maps import (
    plot_attention_maps as plot_attention_maps,
)
