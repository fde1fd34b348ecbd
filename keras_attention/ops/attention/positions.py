"""Positions in attention: rotated queries and keys, and biases by distance.

`B` batch, `T` positions, `N` heads, `D` width of a head.
"""

import math
from typing import Any

from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import DTypeLike
from keras_attention.types import Tensor
from keras_attention.validation import shapes_broadcast


def rotary_embedding(
    x: Tensor, positions: Any, max_wavelength: float = 10_000.0
) -> Any:
    """Rotates pairs of features by angles that grow with the position.

    The pair (2i, 2i + 1) at position p turns by p · max_wavelength^(-2i/D),
    so the product of a query and a key depends on their distance alone. The
    angles are computed in at least float32.

    Args:
        x: Float tensor of shape `(B, T, N, D)`; D even.
        positions: Integers of shape `(T,)` or `(B, T)`.
        max_wavelength: Float, base of the geometric progression of the
            angles. Defaults to `10000.0`.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ValueError: If D is odd, or the shapes do not fit.

    Reference:
        Su et al., RoFormer, arXiv:2104.09864, equations 15 and 34.

    Example:

    >>> x = np.ones((2, 5, 3, 4), "float32")
    >>> y = keras_attention.ops.rotary_embedding(x, np.arange(5))
    >>> y = keras.ops.convert_to_numpy(y)
    >>> np.allclose(np.linalg.norm(y, axis=-1), 2)  # it only rotates
    True
    """
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
    wide = widen(x)
    pairs = x.shape[-1] // 2
    frequencies = ops.cast(
        [max_wavelength ** (-i / pairs) for i in range(pairs)], wide.dtype
    )
    positions = ops.expand_dims(ops.cast(positions, wide.dtype), (-2, -1))
    angles = positions * frequencies
    cosine, sine = ops.cos(angles), ops.sin(angles)  # [(B,) T, 1, D/2]
    even, odd = wide[..., 0::2], wide[..., 1::2]
    rotated = ops.stack(
        [even * cosine - odd * sine, even * sine + odd * cosine], axis=-1
    )  # [B, T, N, D/2, 2]
    return ops.cast(ops.reshape(rotated, ops.shape(x)), x.dtype)


def alibi_slopes(num_heads: int) -> list[float]:
    """Slope of each head: how much a step of distance costs.

    For a power of two the slopes are 2^(-8/N), 2^(-16/N), …, 2^-8. For other
    numbers they are those of the next lower power, and every second one of
    twice that power, as in the authors' code.

    Reference:
        Press et al., Train Short, Test Long, arXiv:2108.12409, section 3.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    if power < num_heads:
        slopes += alibi_slopes(2 * power)[0::2][: num_heads - power]
    return slopes


def alibi_bias(
    distances: Tensor, num_heads: int, dtype: DTypeLike = "float32"
) -> Any:
    """Bias -slope · |distance|: `(..., R)` to `(..., N, R)`.

    Args:
        distances: integers, key position minus query position.
        num_heads: number of heads N.
        dtype: of the result.
    """
    slopes = ops.cast(alibi_slopes(num_heads), dtype)
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
    pairs = width // 2
    frequencies = ops.cast(
        [max_wavelength ** (-i / pairs) for i in range(pairs)], "float32"
    )
    angles = ops.cast(positions, "float32")[..., None] * frequencies
    waves = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(waves, (*ops.shape(angles)[:-1], width))
