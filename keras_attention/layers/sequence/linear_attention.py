from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_recurrence import BaseRecurrence
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.sequence.linear_attention import linear_attention
from keras_attention.types import Cache
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean


@keras.saving.register_keras_serializable(package="keras_attention")
class LinearAttention(WeightedLayer, BaseRecurrence):
    """Multi-head attention whose cost is linear in the length.

        Q, K, V = x W + b, by head
        S ← S + φ(k) vᵀ,  z ← z + φ(k),  φ(x) = elu(x) + 1
        head = Sᵀ φ(q) / (z · φ(q))
        y = concatenation of the heads, projected

    The softmax of q · k is replaced by φ(q) · φ(k), so that keys and values
    can be summed up first. With `causal` each token reads the sums up to
    itself, in chunks, and decodes with a cache of constant size; otherwise it
    reads the sums of all tokens.

    A masked token is as if it were not there, wherever it is, and may hold
    anything, NaN included; its heads are zero.

    Args:
        num_heads: Integer, number of heads N.
        key_dim: Integer, width D of a head's queries and keys. Defaults to
            `None`, the input's width divided by `num_heads`.
        value_dim: Integer, width E of a head's values. Defaults to `None`,
            `key_dim`.
        causal: Boolean, whether a token attends to no later one. Defaults to
            `False`.
        use_bias: Boolean, whether the projections have biases. Defaults to
            `True`.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `(batch, T, width)`.
        mask: Boolean tensor `(batch, T)`, `False` for masked tokens. Keras
            passes the mask that the input carries.
        cache: What `initial_cache`, or the call before, returned. The inputs
            are then the new tokens; the next cache is returned too.

    Input shape:
        `(batch, T, width)`. Batch and T may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError: for an argument or a mask of the wrong type.
        ValueError: for an argument out of range, shapes that do not fit, a
            cache of another layer or batch, or decoding without `causal`.

    Reference:
        Katharopoulos et al., Transformers are RNNs: Fast Autoregressive
        Transformers with Linear Attention, ICML 2020, arXiv:2006.16236,
        section 3.

    Example:

    >>> layer = keras_attention.LinearAttention(4, causal=True)
    >>> x = np.random.normal(size=(2, 10, 16)).astype("float32")
    >>> y = layer(x)
    >>> cache = layer.initial_cache(batch_size=2)
    >>> start, cache = layer(x[:, :9], cache=cache)
    >>> last, cache = layer(x[:, 9:], cache=cache)
    >>> np.allclose(last[:, 0], y[:, 9], atol=1e-5)
    True
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        causal: bool = False,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(
            num_heads=num_heads, key_dim=key_dim, value_dim=value_dim, **kwargs
        )
        self.causal = check_boolean("causal", causal)
        self.use_bias = check_boolean("use_bias", use_bias)

    def build_weights(self, channels: int) -> None:
        key_dim, value_dim = self._head_dims

        def add(name, channels, width):
            return self.add_projection(
                name, channels, width, use_bias=self.use_bias
            )

        self.query = add("query", channels, self.num_heads * key_dim)
        self.key = add("key", channels, self.num_heads * key_dim)
        self.value = add("value", channels, self.num_heads * value_dim)
        self.output_projection = add(
            "output", self.num_heads * value_dim, channels
        )

    def mix(
        self, inputs: Tensor, mask: Tensor | None, cache: Cache | None
    ) -> tuple[Any, Any]:
        key_dim, value_dim = self._head_dims
        y, state = linear_attention(
            self.split_heads(self.query(inputs), key_dim, inputs),
            self.split_heads(self.key(inputs), key_dim, inputs),
            self.split_heads(self.value(inputs), value_dim, inputs),
            causal=self.causal,
            mask=mask,
            initial_state=None if cache is None else cache["state"],
        )
        y = ops.cast(self.join_heads(y), self.compute_dtype)
        return self.output_projection(y), {"state": state}

    def cache_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        key_dim, value_dim = self._head_dims
        # The last column is the sum of the keys.
        shape = (self.num_heads, key_dim, value_dim + 1)
        return {"state": (shape, self.state_dtype)}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "causal": self.causal,
            "use_bias": self.use_bias,
        }
