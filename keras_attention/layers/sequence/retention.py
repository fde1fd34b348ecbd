from typing import Any

import keras
from keras import ops

from keras_attention.layers.sequence.base_recurrence import BaseRecurrence
from keras_attention.layers.sequence.base_recurrence import rms_normalize
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.ops.precision import widen
from keras_attention.ops.sequence.linear_attention import retention
from keras_attention.types import Cache
from keras_attention.types import Tensor
from keras_attention.validation import check_number


@keras.saving.register_keras_serializable(package="keras_attention")
class Retention(KernelLayer, BaseRecurrence):
    """Multi-scale retention of RetNet: attention that decays with distance.

        Q, K = rotated (x W), by head;  V, G = x W
        S ← γ S + k vᵀ,  head = Sᵀ q / √D,  γ = 1 − 2^(−5 − h)
        y = (swish(G) * norm of each head) W

    Each head h forgets at a rate of its own. Queries and keys are rotated by
    their positions, and heads normalized by their mean square. Training costs
    time linear in the length, in chunks; decoding needs a cache of constant
    size.

    A masked token is as if it were not there, wherever it is: it decays
    nothing, takes no position, and may hold anything, NaN included.

    In half precision only projections are rounded; decays, states and norms
    are in float32. But the norm makes what cancels out as large as anything
    else: the first token's head is the sign of q · k times the value, and
    where q · k is near 0, rounding the weights to bfloat16 turns it over.
    With random weights, one token in 22 was off by half of the largest output,
    the others by less than 1.3%; in float16 all by less than 0.1%.

    Args:
        num_heads: Integer, number of heads N.
        key_dim: Integer, even, width D of a head's queries and keys. Defaults
            to `None`, the input's width divided by `num_heads`.
        value_dim: Integer, width E of a head's values. Defaults to `None`,
            twice `key_dim`.
        max_wavelength: Float, base of the rotary frequencies. Defaults to
            `10000.0`.
        epsilon: Float, added to the mean square of a head. Defaults to
            `1e-6`.
        **kwargs: `kernel_initializer`, `kernel_regularizer`, and the
            arguments of `keras.layers.Layer`.

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
        Sun et al., Retentive Network: A Successor to Transformer for Large
        Language Models, 2023, arXiv:2307.08621, section 2. As in the authors'
        code, frequency i of D/2 is max_wavelength^(-i / (D/2 - 1)), and the
        group norm has neither mean nor weights. The normalization of scores
        is left out, which has no effect before it.

    Example:

    >>> layer = keras_attention.Retention(4)
    >>> x = np.random.normal(size=(2, 10, 16)).astype("float32")
    >>> y = layer(x)
    >>> layer.count_params()  # 8 * 16 * 16
    2048
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
        max_wavelength: float = 10_000.0,
        epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        super().__init__(
            num_heads=num_heads, key_dim=key_dim, value_dim=value_dim, **kwargs
        )
        self.max_wavelength = check_number(
            "max_wavelength", max_wavelength, 0, exclusive_minimum=True
        )
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )
        if key_dim is not None:
            self._check_is_even(key_dim)

    def default_head_dims(self, channels: int) -> tuple[int, int]:
        key_dim = self.key_dim or max(channels // self.num_heads, 1)
        return key_dim, self.value_dim or 2 * key_dim

    def build_weights(self, channels: int) -> None:
        key_dim, value_dim = self._head_dims
        self._check_is_even(key_dim)
        keys, values = self.num_heads * key_dim, self.num_heads * value_dim
        self.query = self.add_projection("query", channels, keys)
        self.key = self.add_projection("key", channels, keys)
        self.value = self.add_projection("value", channels, values)
        self.gate = self.add_projection("gate", channels, values)
        self.output_projection = self.add_projection("output", values, channels)

    def mix(
        self, inputs: Tensor, mask: Tensor | None, cache: Cache | None
    ) -> tuple[Any, Any]:
        key_dim, value_dim = self._head_dims
        positions, last = self._positions(inputs, mask, cache)
        query, key = (
            self.split_heads(dense(inputs), key_dim, inputs)
            for dense in (self.query, self.key)
        )
        # The heads come out in the queries' dtype. Before their norm they may
        # be larger than float16 holds.
        heads, state = retention(
            widen(self._rotate(query, positions)),
            self._rotate(key, positions),
            self.split_heads(self.value(inputs), value_dim, inputs),
            mask=mask,
            initial_state=None if cache is None else cache["state"],
        )
        heads = self.join_heads(rms_normalize(heads, self.epsilon))
        y = ops.silu(widen(self.gate(inputs))) * heads
        y = self.output_projection(ops.cast(y, self.compute_dtype))
        return y, {"state": state, "position": last}

    def cache_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        shape = (self.num_heads, *self._head_dims)
        return {"state": (shape, self.state_dtype), "position": ((), "int32")}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "epsilon": self.epsilon,
        }

    def _check_is_even(self, key_dim):
        if key_dim % 2:
            raise ValueError(
                "The width of a head must be even: pairs of features are "
                f"rotated. Received: key_dim={key_dim} for layer "
                f"'{self.name}'. Give `key_dim`."
            )

    def _positions(self, inputs, mask, cache):
        """Position of each token, `(b, T)`, and that of the next one, (B,).

        Counted over tokens that are not masked.
        """
        batch, length = ops.shape(inputs)[:2]
        first = (
            ops.zeros((batch,), "int32") if cache is None else cache["position"]
        )
        if mask is None:
            places = ops.arange(length, dtype="int32")[None]
            last = first + length
        else:
            counted = ops.cast(mask, "int32")
            places = ops.cumsum(counted, axis=1) - 1
            last = first + ops.sum(counted, axis=1)
        if cache is not None:
            places = places + first[:, None]
        return places, last

    def _rotate(self, x, positions):
        """Rotate pairs of neighboring features, in at least float32."""
        wide = widen(x)
        pairs = x.shape[-1] // 2
        steps = max(pairs - 1, 1)
        frequencies = ops.cast(
            [self.max_wavelength ** (-i / steps) for i in range(pairs)],
            wide.dtype,
        )
        angles = ops.cast(positions, wide.dtype)[..., None, None] * frequencies
        cosine, sine = ops.cos(angles), ops.sin(angles)  # [b, T, 1, D / 2]
        even, odd = wide[..., 0::2], wide[..., 1::2]
        rotated = ops.stack(
            [even * cosine - odd * sine, odd * cosine + even * sine], axis=-1
        )
        return ops.reshape(rotated, ops.shape(x))
