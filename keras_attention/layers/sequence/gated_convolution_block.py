from typing import Any

import keras

from keras_attention.layers.sequence.dynamic_conv_1d import DynamicConv1D
from keras_attention.layers.sequence.lightweight_conv_1d import (
    LightweightConv1D,
)
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_probability
from keras_attention.validation import check_seed
from keras_attention.validation import check_sequence_rank

CONVOLUTIONS = {"lightweight": LightweightConv1D, "dynamic": DynamicConv1D}


@keras.saving.register_keras_serializable(package="keras_attention")
class GatedConvolutionBlock(WeightedLayer):
    """Projection, gate, convolution over time, projection.

    What replaces self-attention in the models of the paper, for
    D channels:

        a, b = split(dropout(x) W1 + b1)        # D to 2 D
        z = convolution(a * sigmoid(b))         # padding zeroed
        y = dropout(z W2 + b2)                  # D to D

    It has 3·D² + 3·D weights and those of the convolution, H·K or D·H·K.
    Without the gate W1 has D columns: 2·D² + 2·D. The residual sum and layer
    normalization are the surrounding model's.

    Args:
        num_heads: H, the heads of the convolution.
        kernel_size: K, its taps.
        convolution: `"lightweight"` or `"dynamic"`: `LightweightConv1D` or
            `DynamicConv1D`.
        glu: whether there is a gate.
        causal: whether an output depends on no later input.
        weight_softmax: whether the filters are normalized.
        weight_dropout: share of the filters' weights dropped in training.
        shared_dropout: see `LightweightConv1D`; `None` is the convolution's
            own default, true for `"lightweight"` alone.
        renormalize_padding: see `LightweightConv1D`.
        input_dropout: share of the inputs dropped in training.
        dropout: share of the outputs dropped in training.
        use_bias: whether the two projections have biases.
        seed: integer that makes dropout reproducible.
        **kwargs: `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: sequence tensor.
        mask: booleans of shape `(batch, time)`; taken from the input if it
            is not given, and passed on.
        cache: for decoding with a causal block; see `LightweightConv1D`.
        training: whether dropout is applied.

    Input shape:
        `(batch, time, channels)`. Batch and time may be `None`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range; at
            build, if the channels are not a multiple of `num_heads`; at call,
            for a cache of another shape or a block that is not causal.

    Reference:
        Wu et al., Pay Less Attention with Lightweight and Dynamic
        Convolutions, ICLR 2019, arXiv:1901.10430, section 3 and figure 2.

    Example:

    >>> block = keras_attention.GatedConvolutionBlock(16, 31)
    >>> block.build((None, None, 1024))
    >>> f"{block.count_params():,}"
    '3,149,296'
    """

    def __init__(
        self,
        num_heads: int,
        kernel_size: int,
        convolution: str = "lightweight",
        glu: bool = True,
        causal: bool = False,
        weight_softmax: bool = True,
        weight_dropout: float = 0.0,
        shared_dropout: bool | None = None,
        renormalize_padding: bool = False,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        use_bias: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.convolution = check_choice(
            "convolution", convolution, CONVOLUTIONS
        )
        self.glu = check_boolean("glu", glu)
        self.causal = causal
        self.weight_softmax = weight_softmax
        self.weight_dropout = weight_dropout
        self.shared_dropout = shared_dropout
        self.renormalize_padding = renormalize_padding
        self.input_dropout = check_probability("input_dropout", input_dropout)
        self.dropout = check_probability("dropout", dropout)
        self.use_bias = check_boolean("use_bias", use_bias)
        self.seed = check_seed(seed)
        self.supports_masking = True
        # Checks the arguments that are the convolution's, before `build`.
        self._make_convolution()

    def build(self, input_shape: Shape) -> None:
        self.mixer = self._make_convolution()
        self.mixer.build(input_shape)
        channels = input_shape[-1]
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: channels})
        self.expand = self._dense(channels * (2 if self.glu else 1), "expand")
        self.expand.build(input_shape)
        self.project = self._dense(channels, "project")
        self.project.build(input_shape)
        # Three seeds: equal ones would drop the same values in each place.
        self.drop_inputs = self._dropout(self.input_dropout, 1, "drop_inputs")
        self.drop_outputs = self._dropout(self.dropout, 2, "drop_outputs")

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: dict | None = None,
        training: bool | None = None,
    ) -> Any:
        # Keras sets `inputs_mask`, not `mask`, if there is also a cache.
        mask = inputs_mask if mask is None else mask
        inputs, mask = self.mixer.prepare(inputs, mask, cache)
        x = self.drop_inputs(inputs, training=training)
        x = self.expand(x)
        if self.glu:
            x = keras.activations.glu(x)
        x = self.mixer(x, mask=mask, cache=cache, training=training)
        if cache is not None:
            x, cache = x
        x = self.drop_outputs(self.project(x), training=training)
        return x if cache is None else (x, cache)

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> Cache:
        """Return the cache with which decoding starts.

        It is the convolution's; see `LightweightConv1D.initial_cache`.
        """
        if not self.built:
            raise ValueError(
                "The cache has the block's number of channels, which is not "
                f"known before layer '{self.name}' is built. Call the layer, "
                "or its `build`, first."
            )
        return self.mixer.initial_cache(batch_size, max_length)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return check_sequence_rank(self, input_shape)

    def compute_output_spec(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        inputs_mask: Tensor | None = None,
        cache: Cache | None = None,
        **arguments: Any,
    ) -> Any:
        mask = inputs_mask if mask is None else mask
        return self.mixer.compute_output_spec(inputs, mask=mask, cache=cache)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "kernel_size": self.kernel_size,
            "convolution": self.convolution,
            "glu": self.glu,
            "causal": self.causal,
            "weight_softmax": self.weight_softmax,
            "weight_dropout": self.weight_dropout,
            "shared_dropout": self.shared_dropout,
            "renormalize_padding": self.renormalize_padding,
            "input_dropout": self.input_dropout,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "seed": self.seed,
        }

    def _make_convolution(self):
        arguments = self.sublayer_arguments(name="convolution", seed=self.seed)
        if self.shared_dropout is not None:
            arguments["shared_dropout"] = self.shared_dropout
        return CONVOLUTIONS[self.convolution](
            num_heads=self.num_heads,
            kernel_size=self.kernel_size,
            causal=self.causal,
            weight_softmax=self.weight_softmax,
            weight_dropout=self.weight_dropout,
            renormalize_padding=self.renormalize_padding,
            **arguments,
        )

    def _dense(self, units, name):
        return keras.layers.Dense(
            units,
            **self.sublayer_arguments(use_bias=self.use_bias, name=name),
        )

    def _dropout(self, rate, offset, name):
        seed = None if self.seed is None else self.seed + offset
        return keras.layers.Dropout(
            rate, seed=seed, name=name, dtype=self.dtype_policy
        )
