import dataclasses
from typing import Any

import keras

from keras_attention.ops.attention.positions import alibi_bias
from keras_attention.positions.base_positions import BasePositions
from keras_attention.types import Tensor
from keras_attention.validation import check_number


@keras.saving.register_keras_serializable(package="keras_attention")
@dataclasses.dataclass(frozen=True)
class ALiBi(BasePositions):
    """Subtracts from each score a multiple of the distance.

        bias[n, i, j] = -slope_n · |i - j|

    The slope differs by head: 2^(-b/N), 2^(-2b/N), …, 2^-b for N heads, where
    N is a power of two and b is `max_bias`.

    Args:
        max_bias: Float b. Defaults to `8.0`, as in the paper.

    Raises:
        ValueError: If `max_bias` is not positive.

    Reference:
        Press et al., Train Short, Test Long: Attention with Linear Biases
        Enables Input Length Extrapolation, ICLR 2022, arXiv:2108.12409,
        section 3; numbers of heads that are not a power of two as in the
        authors' code. The paper is causal; later keys cost as much here.

    Example:

    >>> positions = keras_attention.positions.ALiBi(max_bias=4.0)
    >>> layer = keras_attention.MultiHeadAttention(4, positions=positions)
    >>> tuple(layer(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    max_bias: float = 8.0

    uses_distances = True

    def __post_init__(self):
        check_number("max_bias", self.max_bias, 0, exclusive_minimum=True)

    def bias(
        self,
        distances: Tensor,
        num_heads: int,
        causal: bool = False,
        weight: Any = None,
    ) -> Any:
        return alibi_bias(distances, num_heads, self.max_bias)
