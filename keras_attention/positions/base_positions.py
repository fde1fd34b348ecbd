"""What every object of this package can be asked."""

import dataclasses
from typing import Any

import keras

from keras_attention.types import Tensor


class Configuration:
    """Base of frozen dataclasses that Keras saves inside a layer."""

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Configuration):
                value = keras.saving.serialize_keras_object(value)
            config[field.name] = value
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes the object that `get_config` describes."""
        return cls(**config)


class BasePositions(Configuration):
    """Base of what positions do to queries, keys and scores.

    A subclass overrides what it does; by default that is nothing.
    """

    #: Factor of the scores.
    score_factor: float = 1.0
    #: Whether there is a bias by distance.
    uses_distances: bool = False

    def check_width(self, width: int, name: str = "key_dim") -> None:
        """Raise a `ValueError` if heads of this width cannot be used.

        Args:
            width: Integer, width of a head's queries and keys.
            name: String, the layer's argument for it, for the error.
        """

    def rotate(self, x: Tensor, positions: Any) -> Any:
        """Queries or keys `(B, T, N, D)` at positions `(T,)` or `(B, T)`."""
        return x

    def weight_shape(self, num_heads: int) -> tuple[int, int] | None:
        """Shape of the weight that the layer learns, `None` for none."""
        return None

    def bias(
        self,
        distances: Tensor,
        num_heads: int,
        causal: bool = False,
        weight: Any = None,
    ) -> Any:
        """Bias of the scores by distance, `None` for none.

        Args:
            distances: Integers `(..., R)`, key position minus query position.
            num_heads: Integer, number of heads N.
            causal: Boolean, whether no query attends to a later key.
            weight: The weight of `weight_shape`.

        Returns:
            Tensor `(..., N, R)`.
        """
        return None
