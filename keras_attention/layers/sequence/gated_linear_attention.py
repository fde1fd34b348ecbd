from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_recurrence import BaseRecurrence
from keras_attention.layers.sequence.base_recurrence import rms_normalize
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.precision import widen
from keras_attention.ops.sequence.linear_attention import gated_linear_attention
from keras_attention.types import Cache
from keras_attention.types import Tensor
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_attention")
class GatedLinearAttention(WeightedLayer, BaseRecurrence):
    """Linear attention whose state is forgotten by learned gates.

        Q, K, V, G = x W, by head
        α = sigmoid(x W₁ W₂ + b)^(1 / gate_divisor)
        S ← diag(α) S + k vᵀ,  head = Sᵀ q / √D
        y = (swish(G) * norm of each head) W

    Each token decides, for every feature of the keys, how much of what was
    stored is kept. Training costs time linear in the length, in chunks;
    decoding needs a cache of constant size.

    A masked token is as if it were not there, wherever it is, and may hold
    anything, NaN included.

    Args:
        num_heads: Integer, number of heads N.
        key_dim: Integer, width D of a head's queries and keys. Defaults to
            `None`, half the input's width divided by `num_heads`.
        value_dim: Integer, width E of a head's values. Defaults to `None`,
            the input's width divided by `num_heads`.
        gate_rank: Integer, columns of W₁. Defaults to `16`.
        gate_divisor: Float, τ, which makes gates forget slowly. Defaults to
            `16.0`.
        epsilon: Float, added to the mean square of a head. Defaults to
            `1e-5`.
        **kwargs: `kernel_initializer`, `bias_initializer`, of b,
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
        ValueError: for an argument out of range, shapes that do not fit, or a
            cache of another layer or batch.

    Reference:
        Yang et al., Gated Linear Attention Transformers with
        Hardware-Efficient Training, ICML 2024, arXiv:2312.06635, section 4.4.
        As in the authors' code the norm has no mean, G no bias, and queries
        are scaled.

    Example:

    >>> layer = keras_attention.GatedLinearAttention(4)
    >>> x = np.random.normal(size=(2, 10, 16)).astype("float32")
    >>> y = layer(x)
    >>> cache = layer.initial_cache(batch_size=2)
    >>> start, cache = layer(x[:, :9], cache=cache)
    >>> last, cache = layer(x[:, 9:], cache=cache)
    >>> np.allclose(last[:, 0], y[:, 9], atol=1e-5)
    True
    """

    causal = True

    def __init__(
        self,
        num_heads: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        gate_rank: int = 16,
        gate_divisor: float = 16.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(
            num_heads=num_heads, key_dim=key_dim, value_dim=value_dim, **kwargs
        )
        self.gate_rank = check_positive_integer("gate_rank", gate_rank)
        self.gate_divisor = check_number(
            "gate_divisor", gate_divisor, 0, exclusive_minimum=True
        )
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )

    def default_head_dims(self, channels: int) -> tuple[int, int]:
        width = max(channels // self.num_heads, 1)
        return self.key_dim or max(width // 2, 1), self.value_dim or width

    def build_weights(self, channels: int) -> None:
        key_dim, value_dim = self._head_dims
        keys, values = self.num_heads * key_dim, self.num_heads * value_dim
        self.query = self.add_projection("query", channels, keys)
        self.key = self.add_projection("key", channels, keys)
        self.value = self.add_projection("value", channels, values)
        self.gate = self.add_projection("gate", channels, values)
        self.decay_down = self.add_projection(
            "decay_down", channels, self.gate_rank
        )
        self.decay_up = self.add_projection(
            "decay_up", self.gate_rank, keys, use_bias=True
        )
        self.head_scale = self.add_weight(
            name="head_scale", shape=(value_dim,), initializer="ones"
        )
        self.output_projection = self.add_projection("output", values, channels)

    def mix(
        self, inputs: Tensor, mask: Tensor | None, cache: Cache | None
    ) -> tuple[Any, Any]:
        key_dim, value_dim = self._head_dims
        logits = ops.cast(self.decay_down(inputs), self.compute_dtype)
        logits = self.decay_up(logits)
        logits = widen(self.split_heads(logits, key_dim, inputs))
        log_decay = ops.log_sigmoid(logits) / self.gate_divisor
        # The heads come out in the queries' dtype. Before their norm they may
        # be larger than float16 holds.
        query = widen(self.split_heads(self.query(inputs), key_dim, inputs))
        heads, state = gated_linear_attention(
            query,
            self.split_heads(self.key(inputs), key_dim, inputs),
            self.split_heads(self.value(inputs), value_dim, inputs),
            log_decay,
            mask=mask,
            initial_state=None if cache is None else cache["state"],
        )
        heads = rms_normalize(heads, self.epsilon, self.head_scale)
        y = ops.silu(widen(self.gate(inputs))) * self.join_heads(heads)
        y = self.output_projection(ops.cast(y, self.compute_dtype))
        return y, {"state": state}

    def cache_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        shape = (self.num_heads, *self._head_dims)
        return {"state": (shape, self.state_dtype)}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gate_rank": self.gate_rank,
            "gate_divisor": self.gate_divisor,
            "epsilon": self.epsilon,
        }
