import math
from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_recurrence import BaseRecurrence
from keras_attention.layers.sequence.base_recurrence import rms_normalize
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.ops.precision import widen
from keras_attention.ops.sequence.gated_delta_rule import gated_delta_rule
from keras_attention.ops.sequence.head_convolution import (
    lightweight_convolution,
)
from keras_attention.types import Cache
from keras_attention.types import Tensor
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer

# As in the authors' code: of the state's decay at the start, and of the
# length of keys and queries.
LARGEST_RATE, STEPS, LENGTH_EPSILON = 16.0, (1e-3, 0.1), 1e-6


@keras.saving.register_keras_serializable(package="keras_attention")
class GatedDeltaNet(KernelLayer, BaseRecurrence):
    """Gated delta network: a memory that is corrected and can be cleared.

        Q, K, V = swish(convolution(x W)), by head; Q, K of length 1
        β = sigmoid(x W),  α = exp(−exp(a) softplus(x W + b))
        S ← α (I − β k kᵀ) S + β k vᵀ,  head = Sᵀ q / √D
        y = (swish(x W) * norm of each head) W

    The state maps keys to values. A token first takes out what is stored
    under its key, to the part β, and then stores its own value; α clears all
    of it. A short causal convolution goes before. Training costs time linear
    in the length, in chunks; decoding needs a cache of constant size.

    A masked token is as if it were not there, wherever it is, for the
    convolution too, and may hold anything, NaN included.

    Args:
        num_heads: Integer, number of heads N.
        key_dim: Integer, width D of a head's queries and keys. Defaults to
            `None`, the input's width divided by `num_heads`.
        value_dim: Integer, width E of a head's values. Defaults to `None`,
            twice `key_dim`.
        kernel_size: Integer, taps of the convolution. Defaults to `4`.
        epsilon: Float, added to the mean square of a head. Defaults to
            `1e-5`.
        **kwargs: `kernel_initializer`, of the projections,
            `kernel_regularizer`, and the arguments of `keras.layers.Layer`.

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
        Yang et al., Gated Delta Networks: Improving Mamba2 with Delta Rule,
        ICLR 2025, arXiv:2412.06464, section 3. Initial values of a and b, and
        the epsilons, are those of the authors' code.

    Example:

    >>> layer = keras_attention.GatedDeltaNet(4)
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
        kernel_size: int = 4,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(
            num_heads=num_heads, key_dim=key_dim, value_dim=value_dim, **kwargs
        )
        self.kernel_size = check_positive_integer("kernel_size", kernel_size)
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )

    def default_head_dims(self, channels: int) -> tuple[int, int]:
        key_dim = self.key_dim or max(channels // self.num_heads, 1)
        return key_dim, self.value_dim or 2 * key_dim

    def build_weights(self, channels: int) -> None:
        key_dim, value_dim = self._head_dims
        heads = self.num_heads
        keys, values = heads * key_dim, heads * value_dim
        self.query = self.add_projection("query", channels, keys)
        self.key = self.add_projection("key", channels, keys)
        self.value = self.add_projection("value", channels, values)
        self.gate = self.add_projection("gate", channels, values)
        self.beta = self.add_projection("beta", channels, heads)
        self.decay = self.add_projection("decay", channels, heads)
        self._channels = 2 * keys + values
        bound = self.kernel_size**-0.5
        self.convolution = self.add_weight(
            name="convolution",
            shape=(self._channels, self.kernel_size),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            regularizer=self.kernel_regularizer,
        )
        # In float32, whatever the layer computes in: they are exponentiated.
        self.log_rate = self.add_weight(
            name="log_rate",
            shape=(heads,),
            initializer=_draw_log_rates,
            autocast=False,
        )
        self.step_bias = self.add_weight(
            name="step_bias",
            shape=(heads,),
            initializer=_draw_step_biases,
            autocast=False,
        )
        self.head_scale = self.add_weight(
            name="head_scale", shape=(value_dim,), initializer="ones"
        )
        self.output_projection = self.add_projection("output", values, channels)

    def mix(
        self, inputs: Tensor, mask: Tensor | None, cache: Cache | None
    ) -> tuple[Any, Any]:
        key_dim, value_dim = self._head_dims
        keys = self.num_heads * key_dim
        projected = ops.concatenate(
            [self.query(inputs), self.key(inputs), self.value(inputs)], axis=-1
        )
        projected = ops.cast(projected, self.compute_dtype)
        mixed, kept = self._convolve(projected, mask, cache)
        query, key, value = ops.split(ops.silu(mixed), [keys, 2 * keys], -1)
        rate = ops.exp(widen(ops.convert_to_tensor(self.log_rate)))
        step_bias = widen(ops.convert_to_tensor(self.step_bias))
        step = widen(self.decay(inputs)) + step_bias
        heads, state = gated_delta_rule(
            _unit_length(self.split_heads(query, key_dim, inputs)),
            _unit_length(self.split_heads(key, key_dim, inputs)),
            self.split_heads(value, value_dim, inputs),
            -rate * ops.softplus(step),
            ops.sigmoid(widen(self.beta(inputs))),
            mask=mask,
            initial_state=None if cache is None else cache["state"],
        )
        heads = rms_normalize(heads, self.epsilon, self.head_scale)
        y = ops.silu(widen(self.gate(inputs))) * self.join_heads(heads)
        y = self.output_projection(ops.cast(y, self.compute_dtype))
        return y, {"state": state, "inputs": kept}

    def cache_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        shape = (self.num_heads, *self._head_dims)
        kept = (self.kernel_size - 1, self._channels)
        return {
            "state": (shape, self.state_dtype),
            "inputs": (kept, self.compute_dtype),
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "epsilon": self.epsilon,
        }

    def _convolve(self, x, mask, cache):
        """Convolve the tokens that are not masked, as if they were all.

        Args:
            x: Tensor `(B, T, X)`.
            mask: Booleans `(B, T)` or `None`.
            cache: Cache or `None`.

        Returns:
            Tensor `(B, T, X)`, and the last tokens, `(B, K - 1, X)`.
        """
        batch, length, channels = ops.shape(x)
        kept = self.kernel_size - 1
        if cache is None:
            before = ops.zeros((batch, kept, channels), x.dtype)
        else:
            before = ops.cast(cache["inputs"], x.dtype)
        places = None
        if mask is not None and 0 not in x.shape[:2]:
            # Those that are not masked move to the front, in their order.
            counted = ops.cast(mask, "int32")
            places = ops.cumsum(counted, axis=1)
            order = ops.argsort(
                (1 - counted) * length + ops.arange(length, dtype="int32"),
                axis=1,
            )
            x = _take(x, order)
        x = ops.concatenate([before, x], axis=1)  # [B, K - 1 + T, X]
        y = lightweight_convolution(widen(x), self.convolution, "valid")
        if places is None:
            return y, x[:, length:]
        y = _take(y, ops.maximum(places - 1, 0))
        last = places[:, -1:] + ops.arange(kept, dtype="int32")
        return y, _take(x, last)


def _take(x, index):
    """`(B, T, X)` at `(B, M)`: `(B, M, X)`."""
    return ops.take_along_axis(x, index[..., None], axis=1)


def _unit_length(x):
    x = widen(x)
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(square + LENGTH_EPSILON)


def _draw_log_rates(shape, dtype=None):
    smallest = 1e-4  # Not 0, whose logarithm is infinite.
    rates = keras.random.uniform(shape, smallest, LARGEST_RATE, dtype=dtype)
    return ops.log(rates)


def _draw_step_biases(shape, dtype=None):
    """Biases whose softplus is sampled uniformly on a logarithmic scale."""
    low, high = map(math.log, STEPS)
    steps = ops.exp(keras.random.uniform(shape, low, high, dtype=dtype))
    return steps + ops.log(-ops.expm1(-steps))
