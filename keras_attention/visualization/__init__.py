"""Plots of attention. Needs the extra `visualization`, pages `view`."""

from keras_attention.visualization.accuracy_by_distance import (
    plot_accuracy_by_distance as plot_accuracy_by_distance,
)
from keras_attention.visualization.attention_heads import (
    plot_attention_heads as plot_attention_heads,
)
from keras_attention.visualization.attention_map_logger import (
    AttentionMapLogger as AttentionMapLogger,
)
from keras_attention.visualization.attention_maps import (
    plot_attention_maps as plot_attention_maps,
)
from keras_attention.visualization.attention_page import (
    write_attention_page as write_attention_page,
)
from keras_attention.visualization.channel_gates import (
    plot_channel_gates as plot_channel_gates,
)
from keras_attention.visualization.class_activation import (
    ClassActivation as ClassActivation,
)
from keras_attention.visualization.class_activation import (
    class_activation as class_activation,
)
from keras_attention.visualization.class_activation_plot import (
    plot_class_activation as plot_class_activation,
)
from keras_attention.visualization.filters import plot_filters as plot_filters
from keras_attention.visualization.head_summary import (
    plot_head_summary as plot_head_summary,
)
from keras_attention.visualization.transfer_history import (
    plot_transfer_history as plot_transfer_history,
)
