"""Attention maps of activations and of scores, as pure functions.

`B` batch, `C` channels, `M` maps of an example (1 for an activation, the heads
for scores), `P` positions: height times width, time, or queries times keys.
"""

import math
from typing import Any

from keras import ops

from keras_attention.ops.precision import widen
from keras_attention.types import Tensor

EPSILON = 1e-12
# Class, distillation and register tokens of vision transformers.
MOST_EXTRA_TOKENS = 8


def sum_map(activation: Any, power: float = 2, channel_axis: int = -1) -> Any:
    """F_sum^p: the sum over channels of |A|^p.

    Half precision is widened to float32 first: an activation of 300 squared
    passes the largest float16.

    Args:
        activation: `(B, ..., C)`.
        power: p, at least 1; the paper's F_sum is 1, its default F_sum² 2.
        channel_axis: where the channels are.

    Returns:
        `(B, ...)`: the activation's shape without the channels.
    """
    return ops.sum(_powered(widen(activation), power), axis=channel_axis)


def max_map(activation: Any, power: float = 2, channel_axis: int = -1) -> Any:
    """F_max^p: the largest |A|^p of the channels; see `sum_map`."""
    largest = ops.max(ops.abs(widen(activation)), axis=channel_axis)
    return _powered(largest, power)


# By the name that users give.
MAP_FUNCTIONS = {"sum": sum_map, "max": max_map}


def activation_maps(
    activation: Any,
    map_function: str = "sum",
    power: float = 2,
    channel_axis: int = -1,
) -> Any:
    """The one map of an activation: `(B, ..., C)` to `(B, 1, ...)`."""
    maps = MAP_FUNCTIONS[map_function](activation, power, channel_axis)
    return ops.expand_dims(maps, 1)


def score_maps(scores: Tensor, mean_of_heads: bool = False) -> Any:
    """The maps of attention scores: those of each head, or of their mean.

    Args:
        scores: `(B, heads, queries, keys)`.
        mean_of_heads: whether to average over the heads, so that layers with
            different numbers of heads can be compared.

    Returns:
        `(B, heads, queries, keys)` or `(B, 1, queries, keys)`.
    """
    scores = widen(scores)
    return ops.mean(scores, axis=1, keepdims=True) if mean_of_heads else scores


def resize_maps(maps: Any, size: Any) -> Any:
    """Average maps down to fewer positions, each axis by exact overlaps.

    A position of the result is the mean of what it covers, also where the
    sizes are no multiples of each other. An axis that has the size already
    is left as it is.

    Args:
        maps: `(B, M, ...)` with one or more position axes.
        size: the sizes of the position axes, none larger than that of `maps`.

    Returns:
        `(B, M, *size)`.
    """
    for axis, target in enumerate(size, start=2):
        source = maps.shape[axis]
        if source is not None and source == target:
            continue
        source = ops.shape(maps)[axis]
        overlaps = _overlaps(source, target, maps.dtype)  # [source, target]
        maps = ops.moveaxis(
            ops.matmul(ops.moveaxis(maps, axis, -1), overlaps), -1, axis
        )
    return maps


def smaller_maps(first: Any, second: Any) -> tuple[Any, Any]:
    """Averages two maps down to one size: on each axis, the smaller.

    Args:
        first: Maps of shape `(B, M, ...)`.
        second: Maps of the same rank.

    Returns:
        Both maps, of one size.
    """
    if first.shape[2:] == second.shape[2:]:
        return first, second
    axes = zip(
        zip(first.shape[2:], second.shape[2:], strict=True),
        zip(ops.shape(first)[2:], ops.shape(second)[2:], strict=True),
        strict=True,
    )
    size = [
        ops.minimum(*dynamic) if None in static else min(static)
        for static, dynamic in axes
    ]
    return resize_maps(first, size), resize_maps(second, size)


def token_grids(first: Any, second: Any) -> tuple[Any, Any]:
    """Turns maps of tokens into images where the other maps are images.

    The tokens of a vision transformer are the cells of a grid, row by row,
    behind a few tokens of the class or of registers, which are left out. The
    grid has the aspect ratio of the other map.

    Args:
        first: Maps of shape `(B, M, T)` or `(B, M, H, W)`.
        second: Maps of either shape.

    Returns:
        Both maps. If their ranks differ, both are of shape `(B, M, H, W)`.

    Raises:
        ValueError: If the tokens are no grid of the other map's aspect ratio
            with at most eight tokens before it.
    """
    ranks = len(first.shape), len(second.shape)
    if ranks == (3, 4):
        return _as_grid(first, second), second
    if ranks == (4, 3):
        return first, _as_grid(second, first)
    return first, second


def token_grid(
    count: int | None, height: int | None, width: int | None
) -> tuple[int, int]:
    """Returns the height and width of the grid that tokens form.

    Args:
        count: Number of tokens.
        height: Height of an image that they are compared with.
        width: Its width.

    Raises:
        ValueError: If the tokens are no grid of the image's aspect ratio with
            at most eight tokens before it, or a size is not known.
    """
    if None not in (count, height, width):
        step = math.gcd(height, width)
        unit = height // step, width // step
        scale = math.isqrt(count // math.prod(unit))
        grid = unit[0] * scale, unit[1] * scale
        if scale and count - math.prod(grid) <= MOST_EXTRA_TOKENS:
            return grid
    raise ValueError(
        "Maps of tokens are compared with maps of an image if the tokens are "
        "a grid of the same aspect ratio, behind at most "
        f"{MOST_EXTRA_TOKENS} other tokens, with known sizes. Received: "
        f"{count} tokens and a map of {height} x {width}"
    )


def _as_grid(tokens, image):
    grid = token_grid(tokens.shape[2], *image.shape[2:])
    tokens = tokens[:, :, tokens.shape[2] - math.prod(grid) :]
    return ops.reshape(tokens, (ops.shape(tokens)[0], tokens.shape[1], *grid))


def flat_maps(maps: Any) -> Any:
    """Flattens the positions of maps: `(B, M, ...)` to `(B, M, P)`."""
    positions = maps.shape[2:]
    if None in positions:
        return ops.reshape(maps, (ops.shape(maps)[0], maps.shape[1], -1))
    return ops.reshape(maps, (-1, maps.shape[1], math.prod(positions)))


def unit_maps(maps: Any) -> Any:
    """Flatten maps and scale each to length 1: `(B, M, ...)` to `(B, M, P)`.

    A map of zeros stays zero, with a finite gradient. The length is taken of
    the map over its largest value, so no square overflows; maps whose largest
    value is below 1e-12 are not blown up to length 1 but divided by 1e-12.
    """
    flat = flat_maps(maps)
    largest = ops.stop_gradient(ops.max(flat, axis=-1, keepdims=True))
    flat = flat / ops.maximum(largest, EPSILON)
    square = ops.sum(ops.square(flat), axis=-1, keepdims=True)
    # At least 1 but for the maps of (nearly) zeros, whose root has no
    # gradient.
    square = ops.where(largest < EPSILON, ops.ones_like(square), square)
    return flat * ops.rsqrt(square)


def _powered(x, power):
    if power == 1:
        return ops.abs(x)
    if power == 2:
        return ops.square(x)
    return ops.power(ops.abs(x), power)


def _overlaps(source, target, dtype):
    """What part of each of `source` cells lies in which of `target` cells."""
    cells = ops.cast(ops.arange(source), dtype)
    start = ops.expand_dims(cells, 1)  # [source, 1]
    ratio = ops.cast(source, dtype) / ops.cast(target, dtype)
    left = ops.expand_dims(ops.cast(ops.arange(target), dtype), 0) * ratio
    overlap = ops.minimum(start + 1, left + ratio) - ops.maximum(start, left)
    return ops.maximum(overlap, 0) / ratio
