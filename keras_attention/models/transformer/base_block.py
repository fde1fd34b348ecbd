"""What the encoder's and the decoder's block share."""

from typing import Any

import keras

from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.models.transformer.mixers import has_cache
from keras_attention.models.transformer.mixers import mix
from keras_attention.models.transformer.mixers import serialize_layer
from keras_attention.types import Cache
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_boolean
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_probability
from keras_attention.validation import check_sequence_shape


class BaseBlock(WeightedLayer):
    """Base of the blocks: a mixer, a feed-forward network, residual sums.

    The arguments are described in the subclasses.
    """

    def __init__(
        self,
        mixer: keras.layers.Layer,
        feed_forward_dim: int,
        dropout: float = 0.0,
        activation: Any = "relu",
        norm_first: bool = False,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.mixer = check_layer("mixer", mixer)
        self.feed_forward_dim = check_positive_integer(
            "feed_forward_dim", feed_forward_dim
        )
        self.dropout = check_probability("dropout", dropout)
        self.activation = keras.activations.get(activation)
        self.norm_first = check_boolean("norm_first", norm_first)
        self.epsilon = check_number(
            "epsilon", epsilon, 0, exclusive_minimum=True
        )
        self.supports_masking = True

    def build_parts(self, input_shape: Shape) -> None:
        """Build the mixer, the feed-forward network and their norms."""
        width = check_sequence_shape(self, input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: width})
        if not self.mixer.built:
            self.mixer.build(tuple(input_shape))
        self.expand = keras.layers.Dense(
            self.feed_forward_dim,
            **self.sublayer_arguments(
                activation=self.activation, name="expand"
            ),
        )
        self.expand.build((None, None, width))
        self.project = keras.layers.Dense(
            width, **self.sublayer_arguments(name="project")
        )
        self.project.build((None, None, self.feed_forward_dim))
        self.mixer_norm = self.make_norm(input_shape, "mixer_norm")
        self.feed_forward_norm = self.make_norm(
            input_shape, "feed_forward_norm"
        )
        self.mixer_dropout = self.make_dropout("mixer_dropout")
        self.feed_forward_dropout = self.make_dropout("feed_forward_dropout")

    def make_norm(self, input_shape: Shape, name: str) -> keras.layers.Layer:
        norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon, name=name, dtype=self.dtype_policy
        )
        norm.build(tuple(input_shape))
        return norm

    def make_dropout(self, name: str) -> keras.layers.Layer:
        return keras.layers.Dropout(
            self.dropout, name=name, dtype=self.dtype_policy
        )

    def mix_positions(
        self,
        x: Tensor,
        mask: Tensor | None,
        cache: Cache | None,
        training: bool | None,
    ) -> tuple[Tensor, Any]:
        """The mixer's part of the block: output and next cache."""
        y = self.mixer_norm(x) if self.norm_first else x
        y = mix(self.mixer, y, mask, cache, training)
        if cache is not None:
            y, cache = y
        x = x + self.mixer_dropout(y, training=training)
        return x if self.norm_first else self.mixer_norm(x), cache

    def feed_forward(self, x: Tensor, training: bool | None) -> Tensor:
        """The feed-forward part of the block."""
        y = self.feed_forward_norm(x) if self.norm_first else x
        y = self.project(self.expand(y))
        x = x + self.feed_forward_dropout(y, training=training)
        return x if self.norm_first else self.feed_forward_norm(x)

    def initial_cache(
        self, batch_size: int, max_length: int | None = None
    ) -> Cache:
        """Return the mixer's cache for decoding.

        Raises:
            ValueError: If the mixer has none.
        """
        if not has_cache(self.mixer):
            raise ValueError(
                "Decoding step by step needs a mixer with `initial_cache` and "
                "an argument `cache`. Received: mixer of type "
                f"{type(self.mixer).__name__} in layer '{self.name}'"
            )
        return self.mixer.initial_cache(batch_size, max_length)

    def compute_output_shape(self, input_shape: Shape, *others: Any) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mixer": serialize_layer(self.mixer),
            "feed_forward_dim": self.feed_forward_dim,
            "dropout": self.dropout,
            "activation": keras.activations.serialize(self.activation),
            "norm_first": self.norm_first,
            "epsilon": self.epsilon,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        for key in ("mixer", "cross_attention"):
            if isinstance(config.get(key), dict):
                config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


def check_layer(name: str, layer: Any) -> keras.layers.Layer:
    """Return `layer`; raise a `TypeError` unless it is a keras layer."""
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"`{name}` must be a keras layer of this block's own. "
            f"Received: {name}={layer!r}"
        )
    return layer
