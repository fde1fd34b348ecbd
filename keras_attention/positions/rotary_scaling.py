"""Frequencies of rotary positions for longer sequences than were trained.

`D` rotated features of a head, `b` the base `max_wavelength`, `s` the factor,
`f_i = b^(-2i/D)` the frequency of pair i, `L` the length of the training.
"""

import dataclasses
import math

import keras

from keras_attention.ops.attention.positions import rotary_frequencies
from keras_attention.positions.base_positions import Configuration
from keras_attention.validation import check_boolean
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


class RotaryScaling(Configuration):
    """Base of the scalings: an object with a factor."""

    factor: float
    #: Factor of the scores.
    score_factor: float = 1.0

    def __post_init__(self):
        check_number("factor", self.factor, 1)

    def frequencies(self, width: int, max_wavelength: float) -> list[float]:
        """Frequencies of the pairs of `width` features."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="keras_attention")
@dataclasses.dataclass(frozen=True)
class LinearScaling(RotaryScaling):
    """Divides every position by a factor: f_i / s.

    Args:
        factor: Float s, at least 1.

    Reference:
        Chen et al., Extending Context Window of Large Language Models via
        Positional Interpolation, 2023, arXiv:2306.15595, equation 4.

    Example:

    >>> scaling = keras_attention.positions.LinearScaling(2.0)
    >>> scaling.frequencies(width=4, max_wavelength=100.0)
    [0.5, 0.05]
    """

    factor: float

    def frequencies(self, width: int, max_wavelength: float) -> list[float]:
        plain = rotary_frequencies(width, max_wavelength)
        return [frequency / self.factor for frequency in plain]


@keras.saving.register_keras_serializable(package="keras_attention")
@dataclasses.dataclass(frozen=True)
class NTKScaling(RotaryScaling):
    """Raises the base: b · s^(D / (D - 2)), with which f_i are computed.

    The highest frequency stays as it is, the lowest is divided by s. The
    variant in which s grows with the sequence is not offered: it changes the
    keys that a cache holds already.

    Args:
        factor: Float s, at least 1.

    Reference:
        Peng et al., YaRN: Efficient Context Window Extension of Large
        Language Models, ICLR 2024, arXiv:2309.00071, definition 1.

    Example:

    >>> scaling = keras_attention.positions.NTKScaling(2.0)
    >>> scaling.frequencies(width=4, max_wavelength=100.0)
    [1.0, 0.05]
    """

    factor: float

    def frequencies(self, width: int, max_wavelength: float) -> list[float]:
        if width < 4:
            raise ValueError(
                "`NTKScaling` needs at least 4 rotated features of a head. "
                f"Received: {width}. Use `LinearScaling`, which is the same "
                "for one pair."
            )
        base = max_wavelength * self.factor ** (width / (width - 2))
        return rotary_frequencies(width, base)


@keras.saving.register_keras_serializable(package="keras_attention")
@dataclasses.dataclass(frozen=True)
class YaRNScaling(RotaryScaling):
    """Divides the low frequencies, keeps the high ones, sharpens the scores.

        f'_i = (1 - r_i) f_i + r_i f_i / s
        r_i = clip((i - low) / (high - low), 0, 1)
        low, high = D ln(L / (2π β)) / (2 ln b)   for β = beta_fast, beta_slow
        scores times (0.1 ln s + 1)²

    A pair that turns more than `beta_fast` times within the length of the
    training keeps its frequency, one that turns less than `beta_slow` times
    is interpolated.

    Args:
        factor: Float s, at least 1.
        original_max_length: Integer L, length of the sequences in training.
        beta_fast: Float. Defaults to `32.0`.
        beta_slow: Float, smaller than `beta_fast`. Defaults to `1.0`.
        attention_factor: Float, in place of 0.1 ln s + 1; its square is the
            factor of the scores. `1.0` leaves them as they are. Defaults to
            `None`.
        truncate: Boolean, whether low and high are rounded to whole pairs, as
            in the authors' code; gpt-oss does not round. Defaults to `True`.

    Reference:
        Peng et al., YaRN: Efficient Context Window Extension of Large
        Language Models, ICLR 2024, arXiv:2309.00071, section 3.2 and equation
        22. The ramp is that of the authors' code, linear in the number of the
        pair; equation 18 has one that is linear in the number of turns. The
        factor is one of all scores, as in the paper, where some code scales
        the rotated features of queries and keys: for `fraction=1.0` the two
        are equal.

    Example:

    >>> scaling = keras_attention.positions.YaRNScaling(4.0, 64)
    >>> [round(f, 4) for f in scaling.frequencies(8, 100.0)]
    [1.0, 0.2372, 0.05, 0.0079]
    """

    factor: float
    original_max_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self):
        super().__post_init__()
        check_positive_integer("original_max_length", self.original_max_length)
        check_number("beta_slow", self.beta_slow, 0, exclusive_minimum=True)
        check_number(
            "beta_fast", self.beta_fast, self.beta_slow, exclusive_minimum=True
        )
        if self.attention_factor is not None:
            check_number(
                "attention_factor",
                self.attention_factor,
                0,
                exclusive_minimum=True,
            )
        check_boolean("truncate", self.truncate)

    @property
    def score_factor(self) -> float:  # type: ignore[override]
        factor = self.attention_factor
        if factor is None:
            factor = 0.1 * math.log(self.factor) + 1
        return factor**2

    def frequencies(self, width: int, max_wavelength: float) -> list[float]:
        low, high = (
            width
            * math.log(self.original_max_length / (2 * math.pi * turns))
            / (2 * math.log(max_wavelength))
            for turns in (self.beta_fast, self.beta_slow)
        )
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        # The authors' code avoids a division by zero so.
        span = high - low if high != low else 1e-3
        plain = rotary_frequencies(width, max_wavelength)
        ramp = [
            min(max((pair - low) / span, 0.0), 1.0)
            for pair in range(len(plain))
        ]
        return [
            frequency * (1 - r) + frequency / self.factor * r
            for frequency, r in zip(plain, ramp, strict=True)
        ]


@keras.saving.register_keras_serializable(package="keras_attention")
@dataclasses.dataclass(frozen=True)
class Llama3Scaling(RotaryScaling):
    """Divides the low frequencies, keeps the high ones, as Llama 3.1 does.

        f'_i = (1 - r_i) f_i / s + r_i f_i
        r_i = clip((L f_i / 2π - low) / (high - low), 0, 1)

    Args:
        factor: Float s, at least 1. Defaults to `8.0`.
        low_frequency_factor: Float, turns within the length of the training
            up to which a pair is interpolated. Defaults to `1.0`.
        high_frequency_factor: Float, turns from which on a pair keeps its
            frequency. Defaults to `4.0`.
        original_max_length: Integer L, length of the sequences in training.
            Defaults to `8192`.

    Reference:
        Llama Team, The Llama 3 Herd of Models, 2024, arXiv:2407.21783, and
        the code that was published with the weights of Llama 3.1.

    Example:

    >>> scaling = keras_attention.positions.Llama3Scaling(4.0, 1.0, 4.0, 64)
    >>> [round(f, 4) for f in scaling.frequencies(8, 100.0)]
    [1.0, 0.2546, 0.0255, 0.0079]
    """

    factor: float = 8.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_max_length: int = 8192

    def __post_init__(self):
        super().__post_init__()
        check_number(
            "low_frequency_factor",
            self.low_frequency_factor,
            0,
            exclusive_minimum=True,
        )
        check_number(
            "high_frequency_factor",
            self.high_frequency_factor,
            self.low_frequency_factor,
            exclusive_minimum=True,
        )
        check_positive_integer("original_max_length", self.original_max_length)

    def frequencies(self, width: int, max_wavelength: float) -> list[float]:
        low, high = self.low_frequency_factor, self.high_frequency_factor
        scaled = []
        for frequency in rotary_frequencies(width, max_wavelength):
            turns = self.original_max_length * frequency / (2 * math.pi)
            r = min(max((turns - low) / (high - low), 0.0), 1.0)
            scaled.append((1 - r) * frequency / self.factor + r * frequency)
        return scaled
