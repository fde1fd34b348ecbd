"""A plugin of pytest that puts our layers in the place of Keras'.

It is for a process of its own: `test_keras_suites.py` runs Keras' tests so.
"""

import keras
from keras.src import layers

import keras_attention as ka


@keras.saving.register_keras_serializable(package="tests")
class GroupedQueryAttention(ka.MultiHeadAttention):
    """Keras' names of the arguments, which `from_config` reads too."""

    def __init__(
        self,
        head_dim=None,
        num_query_heads=None,
        num_key_value_heads=None,
        **arguments,
    ):
        names = {
            "key_dim": head_dim,
            "num_heads": num_query_heads,
            "num_kv_heads": num_key_value_heads,
        }
        super().__init__(**{**names, **arguments})


layers.MultiHeadAttention = ka.MultiHeadAttention
layers.GroupedQueryAttention = GroupedQueryAttention
layers.Attention = ka.ScaledDotProductAttention
layers.AdditiveAttention = ka.AdditiveAttention
