from typing import Any

import keras
from keras import ops

from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.models.transformer.convolution_mixer import (
    check_mixer_cache,
)
from keras_attention.models.transformer.convolution_mixer import output_spec
from keras_attention.models.transformer.convolution_mixer import zero_cache
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import replace_masked_tokens
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_sequence_shape


@keras.saving.register_keras_serializable(package="keras_attention")
class RecurrentMixer(WeightedLayer):
    """LSTM over time, in one direction or both.

    A causal layer has one LSTM of U units. Otherwise half of the units read
    the sequence from its end. If U is not the number of channels D, a dense
    layer brings the output back to D. Masked positions do not change the
    state, and the output of the LSTM there is 0.

    Args:
        units: U; `None` is the number of channels D.
        causal: whether an output depends on no later input.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: sequence tensor.
        mask: booleans of shape `(batch, time)`.
        cache: for decoding with a causal layer: what `initial_cache`, or the
            step before, returned. The call then also returns the next cache.
        training: unused by the LSTM, which has no dropout here.

    Input shape:
        `(batch, time, channels)`. Batch and time may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range; at
            build, for an odd number of units that read in both directions.

    Reference:
        Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation
        9, 1997.

    Example:

    >>> from keras_attention.models.transformer import RecurrentMixer
    >>> layer = RecurrentMixer(causal=True)
    >>> tuple(layer(np.ones((2, 7, 16), "float32")).shape)
    (2, 7, 16)
    >>> layer.count_params()  # 4 * 16 * (16 + 16 + 1)
    2112
    """

    def __init__(
        self,
        units: int | None = None,
        causal: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = check_optional_integer("units", units)
        self.causal = check_boolean("causal", causal)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        width = check_sequence_shape(self, input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: width})
        units = self.units or width
        if not self.causal and units % 2:
            raise ValueError(
                "A layer that reads in both directions needs an even number "
                f"of units. Received: units={units} in layer '{self.name}'"
            )
        self._width, self._units = width, units
        arguments = self.sublayer_arguments(name="lstm", return_sequences=True)
        if self.causal:
            self.lstm = keras.layers.LSTM(units, return_state=True, **arguments)
        else:
            half = keras.layers.LSTM(units // 2, **arguments)
            self.lstm = keras.layers.Bidirectional(
                half, name="lstm", dtype=self.dtype_policy
            )
        self.lstm.build((None, None, width))
        if units != width:
            self.project = keras.layers.Dense(
                width, **self.sublayer_arguments(name="project")
            )
            self.project.build((None, None, units))

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: Cache | None = None,
        training: bool | None = None,
    ) -> Any:
        # Keras sets `inputs_mask`, not `mask`, if there is also a cache.
        mask = inputs_mask if mask is None else mask
        inputs, mask = replace_masked_tokens(inputs, mask)
        if 0 in inputs.shape[:2]:
            return inputs if cache is None else (inputs, cache)
        state = None
        if cache is not None:
            check_mixer_cache(self, cache, inputs.shape)
            state = [cache["hidden"], cache["cell"]]
        length, padding = ops.shape(inputs)[1], mask
        if ops.is_tensor(length):
            # A sequence that turns out to be empty gets a position, which is
            # cut off: the LSTM's loop needs one.
            more = ops.maximum(1 - length, 0)
            inputs = ops.pad(inputs, ((0, 0), (0, more), (0, 0)))
            if mask is not None:
                padding = ops.pad(mask, ((0, 0), (0, more)))
        if self.causal:
            x, *after = self.lstm(
                inputs, initial_state=state, mask=padding, training=training
            )
        else:
            x = self.lstm(inputs, mask=padding, training=training)
        x = x[:, :length]
        if mask is not None:
            # Keras repeats the output before, which a step may not know.
            x = replace_masked(x, mask)
        if self._units != self._width:
            x = self.project(x)
        if cache is None:
            return x
        if ops.is_tensor(length):
            pairs = zip(after, state, strict=True)
            after = [ops.where(length > 0, new, old) for new, old in pairs]
        return x, dict(zip(("hidden", "cell"), after, strict=True))

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> Cache:
        """Return the cache with which decoding starts: the LSTM's state.

        Args:
            batch_size: number of sequences.
            max_length: not needed; the cache has one size.

        Raises:
            ValueError: If the layer is not causal or not built.
        """
        return zero_cache(self, batch_size)

    def cache_shapes(self, batch_size: int | None) -> dict[str, Shape]:
        """Shapes of the cache's tensors."""
        return dict.fromkeys(("hidden", "cell"), (batch_size, self._units))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        **arguments: Any,
    ) -> Any:
        return output_spec(self, inputs, mask, cache)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "causal": self.causal,
        }
