"""How published weights are named and laid out: the parts of a `Format`.

A `Format` says for each weight of a layer which arrays it is made of. The
name of a weight is the end of its path in the layer; the name of an array is
that in the source, after the prefix.
"""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Entry:
    """How a weight is made of arrays.

    Args:
        required: names of arrays that the source must have.
        optional: names of arrays that it may have.
        convert: function of these, in this order, with `None` for what is
            missing. It returns the weight, or `None` for zeros.
        input_axes: `None`; or, for a weight with an axis of heads, how many
            of its first axes are one in what `convert` returns, while the
            others are another one.
    """

    required: tuple[str, ...]
    convert: Callable[..., np.ndarray | None]
    optional: tuple[str, ...] = ()
    input_axes: int | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return self.required + self.optional

    def within(self, module: str) -> "Entry":
        """Return the entry of a layer inside a module."""
        return replace(
            self,
            required=tuple(module + key for key in self.required),
            optional=tuple(module + key for key in self.optional),
        )

    def by_head(self, input_axes: int) -> "Entry":
        """Return the entry of a weight with an axis of heads."""
        return replace(self, input_axes=input_axes)


@dataclass(frozen=True)
class Format:
    """One published form of a layer's weights.

    Args:
        entries: for each weight by name, what it is made of.
        without_effect: arrays that change no output.
        outside: arrays of modules that are not part of the layer.
        settings: attributes that the layer must have, which is what the form
            computes.
        origin: who publishes it, for errors about `settings`.
    """

    entries: Mapping[str, Entry]
    without_effect: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def within(self, weights: str, module: str) -> "Format":
        """Return the format of a layer and a module inside others."""
        return Format(
            {
                weights + name: entry.within(module)
                for name, entry in self.entries.items()
            },
            tuple(module + key for key in self.without_effect),
            tuple(module + key for key in self.outside),
            self.settings,
            self.origin,
        )

    def requiring(self, origin: str, **settings: Any) -> "Format":
        """Return a format that only layers of these attributes can read."""
        return replace(self, settings=settings, origin=origin)


def joined(*formats: Format) -> Format:
    """Return one format of several parts."""
    return Format(
        {name: e for form in formats for name, e in form.entries.items()},
        tuple(key for form in formats for key in form.without_effect),
        tuple(key for form in formats for key in form.outside),
    )


def matrix(*keys: str, scale: float = 1.0) -> Entry:
    """Columns, side by side, of matrices `(outputs, inputs)` of torch.

    Convolutions of one position, `(outputs, inputs, 1, 1)`, are such too.
    """
    return Entry(
        keys,
        lambda *parts: (
            scale
            * np.concatenate(
                [part.reshape(len(part), -1).T for part in parts], axis=-1
            )
        ),
    )


def vector(*keys: str, scale: float = 1.0) -> Entry:
    """One vector per channel, or zeros where the source has no bias."""

    def convert(*parts):
        if all(part is None for part in parts):
            return None
        return scale * np.concatenate([part.ravel() for part in parts])

    return Entry((), convert, keys)


def as_is(*keys: str) -> Entry:
    return Entry(keys, lambda array: array)


def ravelled(key: str) -> Entry:
    return Entry((key,), np.ravel)


def constant(value: float) -> Entry:
    """A value that the published layer has no weight for."""
    return Entry((), lambda: np.array([value]))


def filters(key: str, flipped: bool = False) -> Entry:
    """Filters `(outputs, inputs, height, width)` of torch.

    Args:
        key: name of the array.
        flipped: whether the inputs are in the other order.
    """
    step = -1 if flipped else 1
    return Entry((key,), lambda x: x[:, ::step].transpose(2, 3, 1, 0))


def columns(*keys: str, inputs: int = 1) -> Entry:
    """Kernels of Keras' einsum layers: the first axes are the inputs'."""
    return Entry(
        keys,
        lambda *parts: np.concatenate(
            [
                part.reshape(int(np.prod(part.shape[:inputs])), -1)
                for part in parts
            ],
            axis=-1,
        ),
    )


NORMALIZATION = Format(
    {
        "gamma": as_is("weight"),
        "beta": as_is("bias"),
        "moving_mean": as_is("running_mean"),
        "moving_variance": as_is("running_var"),
    }
)
DENSE = Format({"kernel": matrix("weight"), "bias": vector("bias")})
CONVOLUTION = Format({"kernel": filters("weight"), "bias": vector("bias")})


def two_dense(first: str, second: str) -> Format:
    return joined(
        DENSE.within("reduce/", f"{first}."),
        DENSE.within("expand/", f"{second}."),
    )
