"""Positions in attention: rotated queries and keys, and biases by distance.

`B` batch, `T` positions, `N` heads, `D` width of a head.
"""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import DTypeLike
from keras_attention.types import Tensor
from keras_attention.validation import check_choice
from keras_attention.validation import shapes_broadcast

LAYOUTS = ("interleaved", "half")


def rotary_embedding(
    x: Tensor,
    positions: Any,
    max_wavelength: float = 10_000.0,
    layout: str = "interleaved",
    frequencies: Sequence[float] | None = None,
) -> Any:
    """Rotates pairs of features by angles that grow with the position.

    Pair i of D/2 at position p turns by p · max_wavelength^(-2i/D), so the
    product of a query and a key depends on their distance alone. The angles
    are computed in at least float32.

    Args:
        x: Float tensor of shape `(B, T, N, D)`; D even.
        positions: Integers of shape `(T,)` or `(B, T)`.
        max_wavelength: Float, base of the geometric progression of the
            angles. Defaults to `10000.0`.
        layout: `"interleaved"`, where pair i is the features 2i and 2i + 1,
            as in the paper; or `"half"`, where it is i and i + D/2, as in
            Llama, Hugging Face's Transformers and KerasHub. Defaults to
            `"interleaved"`.
        frequencies: Floats, radians that each pair turns by from one position
            to the next, in place of those of `max_wavelength`. With fewer
            than D/2 of them, the last features are left as they are.
            Defaults to `None`.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ValueError: If D is odd, the shapes do not fit, or there are more
            frequencies than pairs.

    Reference:
        Su et al., RoFormer, arXiv:2104.09864, equations 15 and 34.

    Example:

    >>> x = np.ones((2, 5, 3, 4), "float32")
    >>> y = keras_attention.ops.rotary_embedding(x, np.arange(5))
    >>> y = keras.ops.convert_to_numpy(y)
    >>> np.allclose(np.linalg.norm(y, axis=-1), 2)  # it only rotates
    True
    """
    check_choice("layout", layout, LAYOUTS)
    x = ops.convert_to_tensor(x)
    positions = ops.convert_to_tensor(positions)
    shapes = tuple(x.shape), tuple(positions.shape)
    fits = (
        len(shapes[0]) == 4
        and shapes[0][3] % 2 == 0
        and len(shapes[1]) in (1, 2)
        and shapes_broadcast(shapes[1], shapes[0][2 - len(shapes[1]) : 2])
    )
    if not fits:
        raise ValueError(
            "`x` must have the shape (batch, length, heads, width) with an "
            "even width, and `positions` (length,) or (batch, length). "
            f"Received: x of shape {shapes[0]}, positions of shape {shapes[1]}"
        )
    if frequencies is None:
        frequencies = rotary_frequencies(x.shape[-1], max_wavelength)
    width = 2 * len(frequencies)
    if width > x.shape[-1]:
        raise ValueError(
            "`frequencies` must be at most one for each pair of features. "
            f"Received: {len(frequencies)} frequencies for x of shape "
            f"{shapes[0]}"
        )
    wide = widen(x)
    positions = ops.expand_dims(ops.cast(positions, wide.dtype), (-2, -1))
    angles = positions * ops.cast(list(frequencies), wide.dtype)
    cosine, sine = ops.cos(angles), ops.sin(angles)  # [(B,) T, 1, D/2]
    if layout == "half":
        first, second = (
            wide[..., : width // 2],
            wide[..., width // 2 : width],
        )
    else:
        first, second = wide[..., 0:width:2], wide[..., 1:width:2]
    turned = first * cosine - second * sine, first * sine + second * cosine
    if layout == "half":
        parts = [*turned]
    else:
        pairs = ops.stack(turned, axis=-1)  # [B, T, N, D/2, 2]
        parts = [ops.reshape(pairs, (*ops.shape(x)[:-1], width))]
    if width < x.shape[-1]:
        parts.append(wide[..., width:])
    rotated = parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
    return ops.cast(rotated, x.dtype)


def rotary_frequencies(width: int, max_wavelength: float) -> list[float]:
    """Radians that each pair of `width` features turns by at each position."""
    pairs = width // 2
    return [max_wavelength ** (-i / pairs) for i in range(pairs)]


def alibi_slopes(num_heads: int, max_bias: float = 8.0) -> list[float]:
    """Slope of each head: how much a step of distance costs.

    For a power of two the slopes are 2^(-b/N), 2^(-2b/N), …, 2^-b, where b is
    `max_bias`. For other numbers they are those of the next lower power, and
    every second one of twice that power, as in the authors' code.

    Reference:
        Press et al., Train Short, Test Long, arXiv:2108.12409, section 3.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-max_bias * (i + 1) / power) for i in range(power)]
    if power < num_heads:
        more = alibi_slopes(2 * power, max_bias)
        slopes += more[0::2][: num_heads - power]
    return slopes


def alibi_bias(
    distances: Tensor,
    num_heads: int,
    max_bias: float = 8.0,
    dtype: DTypeLike = "float32",
) -> Any:
    """Bias -slope · |distance|: `(..., R)` to `(..., N, R)`.

    Args:
        distances: integers, key position minus query position.
        num_heads: number of heads N.
        max_bias: the smallest slope is 2 to the power of minus this.
        dtype: of the result.
    """
    slopes = ops.cast(alibi_slopes(num_heads, max_bias), dtype)
    cost = ops.cast(ops.abs(distances), dtype)
    return -ops.expand_dims(slopes, -1) * ops.expand_dims(cost, -2)


def relative_buckets(
    distances: Tensor,
    num_buckets: int = 32,
    max_distance: int = 128,
    bidirectional: bool = True,
) -> Any:
    """Bucket of each distance: one per short distance, shared by longer ones.

    Half of the buckets hold one distance each. The other half grow
    logarithmically up to `max_distance`; all that is farther shares the last.
    If `bidirectional`, half of all buckets are for keys behind the query and
    half for keys before it; otherwise all later keys share bucket 0.

    Args:
        distances: integers, key position minus query position.
        num_buckets: number of buckets.
        max_distance: distance from which on all share one bucket.
        bidirectional: whether later keys have buckets of their own.

    Returns:
        Integers in `[0, num_buckets)`, of the shape of `distances`.

    Reference:
        Raffel et al., Exploring the Limits of Transfer Learning (T5),
        arXiv:1910.10683, section 2.1, and the authors' code.
    """
    offset = 0
    if bidirectional:
        num_buckets //= 2
        offset = ops.where(distances > 0, num_buckets, 0)
        distances = ops.abs(distances)
    else:
        distances = ops.maximum(-distances, 0)
    exact = num_buckets // 2
    ratio = ops.cast(ops.maximum(distances, 1), "float32") / exact
    growth = ops.log(ratio) / math.log(max_distance / exact)
    far = exact + ops.cast(growth * (num_buckets - exact), "int32")
    far = ops.minimum(far, num_buckets - 1)
    near = ops.cast(distances, "int32")
    return ops.where(near < exact, near, far) + ops.cast(offset, "int32")


def sinusoidal_positions(
    positions: Any, width: int, max_wavelength: float = 10_000.0
) -> Any:
    """Sines and cosines of positions, to be added to embeddings.

    Features 2i and 2i + 1 of position p are the sine and the cosine of
    p · max_wavelength^(-2i/D).

    Args:
        positions: integers of any shape.
        width: D, even.
        max_wavelength: base of the geometric progression of the angles.

    Returns:
        Tensor of the positions' shape and a last axis of D, in float32.

    Reference:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, section
        3.5.
    """
    frequencies = ops.cast(rotary_frequencies(width, max_wavelength), "float32")
    angles = ops.cast(positions, "float32")[..., None] * frequencies
    waves = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(waves, (*ops.shape(angles)[:-1], width))
