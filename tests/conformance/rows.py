"""The table of layers: one row, or more, for every public layer.

The tests of this folder loop over it. A layer that is public and has no row
fails the run. Several rows of one layer name its variants.
"""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras_attention as ka

IMAGE = (2, 7, 5, 32)
SEQUENCE = (2, 11, 24)


@dataclass(frozen=True)
class Row:
    """A layer, what it is made with, and what it is given.

    Attributes:
        layer: the public class.
        arguments: of its constructor.
        shape: of its input, channels last.
        variant: told apart from other rows of the class by this word.
        static_size: the layer needs a known height and width, or length.
        half_tolerance: largest error allowed in half precision, as a part of
            the largest output.
        make: makes the layer of a wrapper, whose argument is a layer that
            must be new each time. `None` calls the class.
    """

    layer: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = IMAGE
    variant: str = ""
    static_size: bool = False
    half_tolerance: float = 2e-2
    make: Callable[..., Any] | None = None

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 4

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.layer.__name__, self.variant)))


def blend_in(data_format, **kwargs):
    """A `BlendIn` whose layer has the data format and dtype of the row."""
    dtype = kwargs.get("dtype")
    inner = ka.SqueezeExcite(data_format=data_format, dtype=dtype, name="se")
    return ka.BlendIn(inner, **kwargs)


ROWS = [
    Row(ka.BlendIn, make=blend_in),
    Row(ka.SqueezeExcite),
    Row(ka.SqueezeExcite, {"divisor": 8, "use_bias": False}, variant="divisor"),
]
