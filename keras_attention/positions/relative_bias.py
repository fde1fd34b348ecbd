import dataclasses
from typing import Any

import keras
from keras import ops

from keras_attention.ops.attention.positions import relative_buckets
from keras_attention.positions.base_positions import BasePositions
from keras_attention.types import Tensor
from keras_attention.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_attention")
@dataclasses.dataclass(frozen=True)
class RelativeBias(BasePositions):
    """Adds a learned number for each head and bucket of distances, as T5.

    Half of the buckets hold one distance each, the other half grow
    logarithmically up to `max_distance`. Unless the layer is causal, half of
    all buckets are for later keys.

    Args:
        num_buckets: Integer, number of buckets, at least 4. Defaults to `32`.
        max_distance: Integer, distance from which on all share one bucket.
            Defaults to `128`.

    Raises:
        ValueError: If an argument is out of range, or `max_distance` is not
            larger than half of `num_buckets`.

    Reference:
        Raffel et al., Exploring the Limits of Transfer Learning with a
        Unified Text-to-Text Transformer, JMLR 2020, arXiv:1910.10683, section
        2.1. T5 shares one table between all layers; here each has its own.

    Example:

    >>> positions = keras_attention.positions.RelativeBias(num_buckets=8)
    >>> layer = keras_attention.MultiHeadAttention(4, positions=positions)
    >>> tuple(layer(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    num_buckets: int = 32
    max_distance: int = 128

    uses_distances = True

    def __post_init__(self):
        check_positive_integer("num_buckets", self.num_buckets, 4)
        check_positive_integer("max_distance", self.max_distance)
        if self.max_distance <= self.num_buckets // 2:
            raise ValueError(
                "`max_distance` must be larger than half of `num_buckets`, "
                "whose buckets hold one distance each. Received: "
                f"max_distance={self.max_distance}, "
                f"num_buckets={self.num_buckets}"
            )

    def weight_shape(self, num_heads: int) -> tuple[int, int]:
        return self.num_buckets, num_heads

    def bias(
        self,
        distances: Tensor,
        num_heads: int,
        causal: bool = False,
        weight: Any = None,
    ) -> Any:
        buckets = relative_buckets(
            distances, self.num_buckets, self.max_distance, not causal
        )
        return ops.swapaxes(ops.take(weight, buckets, axis=0), -1, -2)
