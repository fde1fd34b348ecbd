"""Attention along some axes of a tensor, as attention of sequences.

A tensor `(B, ..., width)` has axes along which its positions attend to each
other, and free ones along which they do not. Batch and free axes become one
axis B', and the axes of attention another one, in the order in which they are
given: `(B', T, width)`.
"""

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import shapes_broadcast


@dataclasses.dataclass(frozen=True)
class AttentionAxes:
    """Which axes of a tensor are attended along.

    Args:
        rank: Integer, rank of the tensor, with batch and width.
        axes: Tuple of integers from 1 to `rank - 2`.
    """

    rank: int
    axes: tuple[int, ...]

    @property
    def free(self) -> tuple[int, ...]:
        """Axes that are neither batch, nor width, nor attended along."""
        return tuple(n for n in range(1, self.rank - 1) if n not in self.axes)

    def fold_shape(self, shape: Shape) -> tuple:
        """Shape of `fold` of a tensor of this shape."""
        return (
            _product(shape[n] for n in (0, *self.free)),
            _product(shape[n] for n in self.axes),
            *shape[self.rank - 1 :],
        )

    def fold(self, x: Tensor) -> Any:
        """`(B, ..., *)` to `(B', T, *)`; a mask has no axis after these."""
        if isinstance(x, keras.KerasTensor):
            return keras.KerasTensor(self.fold_shape(x.shape), x.dtype)
        rest = range(self.rank - 1, len(x.shape))
        shape = self.fold_shape(ops.shape(x))
        x = ops.transpose(x, (0, *self.free, *self.axes, *rest))
        return ops.reshape(x, shape)

    def unfold(self, y: Tensor, query_shape: Shape) -> Any:
        """`(B', T, *)` to `(B, ..., *)`, the first axes as of the query."""
        order = (0, *self.free, *self.axes)
        rest = ops.shape(y)[2:]
        y = ops.reshape(y, (*(query_shape[n] for n in order), *rest))
        back = [order.index(n) for n in range(len(order))]
        return ops.transpose(y, (*back, *range(len(order), len(y.shape))))

    def scores_shape(
        self, query_shape: Shape, key_shape: Shape, num_heads: int | None
    ) -> tuple:
        """`(B, free axes, N, axes of the queries, axes of the keys)`.

        Without N if `num_heads` is `None`.
        """
        return (
            *(query_shape[n] for n in (0, *self.free)),
            *(() if num_heads is None else (num_heads,)),
            *(query_shape[n] for n in self.axes),
            *(key_shape[n] for n in self.axes),
        )

    def unfold_scores(
        self, scores: Tensor, query_shape: Shape, key_shape: Shape
    ) -> Any:
        """`(B', N, T, S)` or `(B', T, S)` to the shape of `scores_shape`."""
        heads = scores.shape[1] if len(scores.shape) == 4 else None
        shape = self.scores_shape(query_shape, key_shape, heads)
        return ops.reshape(scores, shape)

    def fold_scores(
        self,
        name: str,
        x: Tensor,
        query_shape: Shape,
        key_shape: Shape,
        num_heads: int | None,
    ) -> Any:
        """Mask or bias of the scores to `(B', N, T, S)`, sizes 1 allowed.

        The last axes are those of attention, of the queries and of the keys.
        What comes before is the first axes of the scores.

        Args:
            name: String, name of the argument, for the error.
            x: Mask or bias; every axis may have size 1.
            query_shape: Shape of the query as it was given.
            key_shape: Shape of the key as it was given.
            num_heads: Integer, number of heads of the queries; `None` for
                scores that have no axis of heads.

        Raises:
            ValueError: If the shapes do not broadcast.
        """
        has_heads = num_heads is not None
        full = self.scores_shape(query_shape, key_shape, num_heads)
        count = len(self.axes)
        missing = len(full) - len(x.shape)
        split = len(x.shape) - 2 * count
        if missing < 0 or split < 0:
            shape = None
        else:
            shape = (*x.shape[:split], *[1] * missing, *x.shape[split:])
        known = tuple(n if isinstance(n, int) else None for n in full)
        if shape is None or not shapes_broadcast(shape, known):
            names = "batch, free axes, " + "heads, " * has_heads
            raise ValueError(
                f"`{name}` must end in the axes of attention, of the queries "
                f"and then of the keys, {known[-2 * count :]}, before which "
                f"there may be the first axes of {known} ({names}queries, "
                "keys), and where any size may be 1. "
                f"Received: {name} of shape {tuple(x.shape)}"
            )
        queries = len(full) - 2 * count
        heads = queries - has_heads
        groups = [
            range(heads),
            range(heads, queries),
            range(queries, queries + count),
            range(queries + count, len(full)),
        ]
        target = list(shape)
        for group in groups:
            if any(shape[n] != 1 for n in group):
                for n in group:
                    target[n] = full[n]
        folded = tuple(_product(target[n] for n in group) for group in groups)
        if isinstance(x, keras.KerasTensor):
            return keras.KerasTensor(folded, x.dtype)
        x = ops.expand_dims(x, tuple(range(split, split + missing)))
        return ops.reshape(ops.broadcast_to(x, tuple(target)), folded)


def _product(sizes):
    sizes = list(sizes)
    return None if any(n is None for n in sizes) else math.prod(sizes)
