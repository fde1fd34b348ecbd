import dataclasses
from typing import Any

import keras

from keras_attention.ops.attention.positions import LAYOUTS
from keras_attention.ops.attention.positions import rotary_embedding
from keras_attention.ops.attention.positions import rotary_frequencies
from keras_attention.positions.base_positions import BasePositions
from keras_attention.positions.rotary_scaling import RotaryScaling
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import check_number


@keras.saving.register_keras_serializable(package="keras_attention")
@dataclasses.dataclass(frozen=True)
class Rotary(BasePositions):
    """Rotates queries and keys by angles that grow with their positions.

    Pair i of the D features of a head turns at position p by
    p · max_wavelength^(-2i/D), so a score depends on the distance alone.

    Args:
        layout: Which features are a pair. `"interleaved"`: 2i and 2i + 1, as
            in the paper, GPT-J and DeepSeek. `"half"`: i and i + D/2, as in
            Llama, Hugging Face's Transformers (`rotate_half`), KerasHub and
            Flax. Weights that were trained with one give wrong numbers with
            the other. Defaults to `"interleaved"`.
        fraction: Float in (0, 1], part of each head's features, the first
            ones, that is rotated, as `partial_rotary_factor` of GPT-NeoX and
            Phi. D is then the number of these features. Defaults to `1.0`.
        max_wavelength: Float, base of the geometric progression of the
            angles, elsewhere called `rope_theta`. Defaults to `10000.0`.
        scaling: How the frequencies are changed for sequences that are longer
            than those of the training: `LinearScaling`, `NTKScaling`,
            `YaRNScaling` or `Llama3Scaling` of `keras_attention.positions`.
            Defaults to `None`.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range.

    Reference:
        Su et al., RoFormer: Enhanced Transformer with Rotary Position
        Embedding, 2021, arXiv:2104.09864, equations 15 and 34.

    Example:

    >>> from keras_attention.positions import Rotary, YaRNScaling
    >>> positions = Rotary(layout="half", scaling=YaRNScaling(4.0, 4096))
    >>> layer = keras_attention.MultiHeadAttention(4, positions=positions)
    >>> tuple(layer(np.ones((2, 5, 32), "float32")).shape)
    (2, 5, 32)
    """

    layout: str = "interleaved"
    fraction: float = 1.0
    max_wavelength: float = 10_000.0
    scaling: RotaryScaling | None = None

    def __post_init__(self):
        check_choice("layout", self.layout, LAYOUTS)
        check_number("fraction", self.fraction, 0, 1, exclusive_minimum=True)
        check_number(
            "max_wavelength", self.max_wavelength, 1, exclusive_minimum=True
        )
        if isinstance(self.scaling, dict):
            scaling = keras.saving.deserialize_keras_object(self.scaling)
            object.__setattr__(self, "scaling", scaling)
        if not isinstance(self.scaling, RotaryScaling | None):
            raise TypeError(
                "`scaling` must be None or an object such as "
                "`keras_attention.positions.LinearScaling(2.0)`. Received: "
                f"scaling={self.scaling!r} (of type "
                f"{type(self.scaling).__name__})"
            )

    @property
    def score_factor(self) -> float:  # type: ignore[override]
        return 1.0 if self.scaling is None else self.scaling.score_factor

    def rotated_width(self, width: int) -> int:
        """Number of features of a head that are rotated."""
        return int(width * self.fraction)

    def check_width(self, width: int, name: str = "key_dim") -> None:
        rotated = self.rotated_width(width)
        if rotated < 2 or rotated % 2:
            raise ValueError(
                "Rotary positions rotate pairs of features, so the number of "
                "rotated features of a head must be even and at least 2. "
                f"Received: {name}={width} with fraction={self.fraction}, "
                f"{rotated} features. Change the width of the heads or "
                "`fraction`."
            )

    def frequencies(self, width: int) -> list[float]:
        """Radians that each pair of a head turns by at each position."""
        rotated = self.rotated_width(width)
        if self.scaling is None:
            return rotary_frequencies(rotated, self.max_wavelength)
        return self.scaling.frequencies(rotated, self.max_wavelength)

    def rotate(self, x: Tensor, positions: Any) -> Any:
        return rotary_embedding(
            x,
            positions,
            layout=self.layout,
            frequencies=self.frequencies(x.shape[-1]),
        )
