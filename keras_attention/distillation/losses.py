"""Distances of attention transfer and distillation, one for each example.

Pure functions of tensors. `B` batch, `M` maps of an example, `P` positions of
a map, `N` relation heads, `T` tokens.

Masked positions take no part in a distance, whatever they hold; positions of
weight 0 neither. Other weights multiply what a position contributes.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_attention.ops.attention_maps import unit_maps
from keras_attention.ops.precision import widen

EPSILON = 1e-12
# Below this, scores are no longer told apart in their logarithms.
SMALLEST_SCORE = 1e-30
# What the smallest map has in the authors' experiments on 32 x 32 images: 1e3
# divided by its 8 x 8 positions.
SCALE_FREE_WEIGHT = 1e3 / 64


def attention_distance(
    student: Any,
    teacher: Any,
    reduction: str = "mean",
    mask: Any = None,
    weights: Any = None,
) -> Any:
    """Computes the distance of two attention maps of each example.

    Both maps are scaled to length 1. `"mean"` is the mean over positions of
    the squared difference, as in the authors' code. `"sum"` is their sum,
    2 - 2 cos, which is between 0 and 2 for every number of positions.
    `"paper"` is half the length of the difference, equation 2 with its factor
    1/2. The distances of several maps of an example are averaged.

    Args:
        student: Maps of shape `(B, M, P)`.
        teacher: Maps of shape `(B, M, P)`.
        reduction: `"mean"`, `"sum"` or `"paper"`. Defaults to `"mean"`.
        mask: Booleans that broadcast to `(B, M, P)`, `False` where a position
            is left out. Defaults to `None`, all positions.
        weights: Floats that broadcast to `(B, M, P)`. Defaults to `None`.

    Returns:
        Tensor of shape `(B,)`.

    Source: Zagoruyko and Komodakis, arXiv:1612.03928, equation 2.

    Example:

    >>> from keras_attention.distillation import attention_distance
    >>> student = np.array([[[3.0, 0.0]]])
    >>> teacher = np.array([[[0.0, 5.0]]])
    >>> float(attention_distance(student, teacher, "sum")[0])
    2.0
    """
    student, teacher = (
        unit_maps(_replace_masked(maps, mask)) for maps in (student, teacher)
    )
    square = ops.square(ops.subtract(student, teacher))
    if weights is not None:
        square = square * ops.cast(weights, square.dtype)
    return ops.mean(REDUCTIONS[reduction](square, mask), axis=-1)


def _mean_of_positions(square, mask):
    if mask is None:
        return ops.mean(square, axis=-1)
    mask = ops.broadcast_to(mask, ops.shape(square))
    count = ops.sum(ops.cast(mask, square.dtype), axis=-1)
    return ops.sum(square, axis=-1) / ops.maximum(count, 1)


def _sum_of_positions(square, mask):
    return ops.sum(square, axis=-1)


def _half_length_of_positions(square, mask):
    return half_length(square)


# By the name that users give: squares `(B, M, P)` to distances `(B, M)`.
REDUCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "mean": _mean_of_positions,
    "sum": _sum_of_positions,
    "paper": _half_length_of_positions,
}


def distillation_distance(
    student: Any, teacher: Any, temperature: float = 4.0
) -> Any:
    """Computes T² KL(teacher || student) of softened class probabilities.

    Args:
        student: Logits of shape `(..., classes)`, or logarithms of
            probabilities, whose softmax is the same.
        teacher: Logits of the same shape.
        temperature: T, by which both are divided. Defaults to 4.

    Returns:
        Tensor of shape `(...)`.

    Source: Hinton et al., arXiv:1503.02531, section 2.
    """
    student, teacher = (
        ops.log_softmax(ops.divide(widen(logits), temperature), axis=-1)
        for logits in (student, teacher)
    )
    return temperature**2 * _divergence(teacher, student)


def decoupled_distance(
    student: Any,
    teacher: Any,
    target: Any,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
    temperature: float = 4.0,
) -> Any:
    """Computes the distance of decoupled knowledge distillation (DKD).

    T² (α KL(b_T || b_S) + β KL(p_T || p_S)), where b is the probability of
    the target class against all others, and p the probabilities of the other
    classes alone, both at temperature T.

    Args:
        student: Logits of shape `(..., classes)`.
        teacher: Logits of the same shape.
        target: One-hot target classes of the same shape.
        target_weight: α. Defaults to 1.
        non_target_weight: β. Defaults to 8.
        temperature: T. Defaults to 4.

    Returns:
        Tensor of shape `(...)`.

    Source: Zhao et al., arXiv:2203.08679, equation 7.
    """
    student, teacher = (
        ops.divide(widen(logits), temperature) for logits in (student, teacher)
    )
    target = ops.cast(target, student.dtype)
    binary, others = [], []
    for logits in (student, teacher):
        logits = ops.log_softmax(logits, axis=-1)
        # Far below every logarithm of a probability, and finite.
        without = logits - 1e9 * target
        rest = ops.logsumexp(without, axis=-1)
        chosen = ops.sum(logits * target, axis=-1)
        binary.append(ops.stack([chosen, rest], axis=-1))
        others.append(ops.log_softmax(without, axis=-1) * (1 - target))
    of_target = _divergence(binary[1], binary[0])
    probability = ops.exp(others[1]) * (1 - target)
    of_others = ops.sum(probability * (others[1] - others[0]), axis=-1)
    return temperature**2 * (
        target_weight * of_target + non_target_weight * of_others
    )


def bernoulli_distance(
    student: Any, teacher: Any, temperature: float = 4.0
) -> Any:
    """Computes T² KL(teacher || student) of independent labels.

    The mean over labels, as `keras.losses.BinaryCrossentropy` takes it.

    Args:
        student: Logits of shape `(..., labels)`.
        teacher: Logits of the same shape.
        temperature: T, by which both are divided. Defaults to 4.

    Returns:
        Tensor of shape `(...)`.
    """
    student, teacher = (
        ops.divide(widen(logits), temperature) for logits in (student, teacher)
    )
    probability = ops.sigmoid(teacher)
    present = ops.log_sigmoid(teacher) - ops.log_sigmoid(student)
    absent = ops.log_sigmoid(-teacher) - ops.log_sigmoid(-student)
    divergence = probability * present + (1 - probability) * absent
    return temperature**2 * ops.mean(divergence, axis=-1)


def squared_distance(student: Any, teacher: Any) -> Any:
    """Computes the mean squared difference: `(..., C)` twice to `(...)`."""
    difference = ops.subtract(widen(student), widen(teacher))
    return ops.mean(ops.square(difference), axis=-1)


def scores_distance(
    student: Any,
    teacher: Any,
    distance: str = "squared",
    query_mask: Any = None,
    key_mask: Any = None,
) -> Any:
    """Computes the distance of attention scores at each query.

    Args:
        student: Scores of shape `(B, N, T, S)`: probabilities over keys.
        teacher: Scores of the same shape.
        distance: `"squared"`, the mean over keys of the squared difference,
            or `"kl"`, KL(teacher || student). Defaults to `"squared"`.
        query_mask: Booleans of shape `(B, T)`, `False` where a query is left
            out. Defaults to `None`.
        key_mask: Booleans of shape `(B, S)`. Defaults to `None`.

    Returns:
        Tensor of shape `(B, T)`, averaged over heads.

    Source: Jiao et al., arXiv:1909.10351, equation 7 (squared); Wang et al.,
    arXiv:2002.10957, equation 5 (KL).
    """
    student, teacher = widen(student), widen(teacher)
    valid = None
    if key_mask is not None:
        valid = ops.expand_dims(key_mask, (1, 2))  # [B, 1, 1, S]
    if query_mask is not None:
        rows = ops.expand_dims(query_mask, (1, 3))  # [B, 1, T, 1]
        valid = rows if valid is None else ops.logical_and(valid, rows)
    if valid is not None:
        valid = ops.broadcast_to(valid, ops.shape(student))
        student, teacher = (
            ops.where(valid, x, ops.zeros_like(x)) for x in (student, teacher)
        )
    return ops.mean(SCORE_DISTANCES[distance](student, teacher, valid), axis=1)


def _squared_scores(student, teacher, valid):
    return _mean_of_positions(ops.square(student - teacher), valid)


def _divergence_of_scores(student, teacher, valid):
    logarithms = [
        ops.log(ops.maximum(x, SMALLEST_SCORE)) for x in (teacher, student)
    ]
    return ops.sum(teacher * (logarithms[0] - logarithms[1]), axis=-1)


SCORE_DISTANCES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "squared": _squared_scores,
    "kl": _divergence_of_scores,
}


def relation_scores(values: Any, num_heads: int, mask: Any = None) -> Any:
    """Computes the self-relation of vectors: softmax(X Xᵀ / √d).

    Args:
        values: Queries, keys or values of shape `(B, T, heads, width)`.
        num_heads: Number of relation heads, into which `heads * width` is
            split again.
        mask: Booleans of shape `(B, T)`, `False` where a token is left out.
            Defaults to `None`.

    Returns:
        Logarithms of the relations, of shape `(B, num_heads, T, T)`.

    Source: Wang et al., arXiv:2012.15828, equation 4.
    """
    values = widen(values)
    if mask is not None:
        kept = ops.expand_dims(mask, (2, 3))
        values = ops.where(kept, values, ops.zeros_like(values))
    batch, length = ops.shape(values)[:2]
    total = values.shape[2] * values.shape[3]
    width = total // num_heads
    values = ops.reshape(values, (batch, length, num_heads, width))
    values = ops.transpose(values, (0, 2, 1, 3)) * width**-0.25
    logits = ops.matmul(values, ops.swapaxes(values, -1, -2))  # [B, N, T, T]
    if mask is not None:
        keys = ops.expand_dims(mask, (1, 2))
        logits = ops.where(keys, logits, ops.full_like(logits, -1e9))
    return ops.log_softmax(logits, axis=-1)


def relation_distance(student: Any, teacher: Any) -> Any:
    """Computes KL(teacher || student) of relations at each token.

    Args:
        student: Logarithms of relations, of shape `(B, N, T, T)`.
        teacher: The same of the teacher.

    Returns:
        Tensor of shape `(B, T)`, averaged over relation heads.
    """
    return ops.mean(_divergence(teacher, student), axis=1)


def gradient_distance(student: Any, teacher: Any) -> Any:
    """Half the length of the difference: `(B, ...)` twice to `(B,)`."""
    difference = ops.subtract(widen(student), widen(teacher))
    flat = ops.reshape(difference, (ops.shape(difference)[0], -1))
    return half_length(ops.square(flat))


def half_length(squares: Any) -> Any:
    """Half the root of the sum over the last axis.

    Epsilon inside the root makes the gradient at zero finite, and is taken
    off again: zero stays zero.
    """
    total = ops.sum(squares, axis=-1)
    return 0.5 * (ops.sqrt(total + EPSILON) - EPSILON**0.5)


def weighted_mean(
    values: Any,
    weights: Any = None,
    mask: Any = None,
    reduction: str | None = None,
) -> Any:
    """Computes a mean, weighted and masked as Keras weights losses.

    Args:
        values: Tensor of shape `(B, ...)`.
        weights: Weights of the leading axes of `values`. The sum is divided
            by the number of values, not by that of the weights. Defaults to
            `None`.
        mask: Zeros and ones, or booleans, of the leading axes. What is 0 adds
            neither to the sum nor to the number, even if it is not finite.
            Defaults to `None`.
        reduction: `"sum"`, or `"mean_with_sample_weight"` to divide by the
            sum of the weights, as a `keras.losses.Loss` does. Defaults to
            `None`, the mean.

    Returns:
        Scalar tensor.
    """
    values, count = ops.convert_to_tensor(values), None
    if weights is not None:
        weights = _aligned(ops.cast(weights, values.dtype), values)
    if mask is not None:
        mask = ops.cast(_aligned(mask, values), "bool")
        mask = ops.broadcast_to(mask, ops.shape(values))
        count = ops.sum(ops.cast(mask, values.dtype))
        values = ops.where(mask, values, ops.zeros_like(values))
    if weights is not None:
        values = values * weights
    if reduction == "sum":
        return ops.sum(values)
    if reduction == "mean_with_sample_weight" and weights is not None:
        weights = ops.broadcast_to(weights, ops.shape(values))
        if mask is not None:
            weights = ops.where(mask, weights, ops.zeros_like(weights))
        return ops.sum(values) / ops.maximum(ops.sum(weights), EPSILON)
    if count is None:
        return ops.mean(values)
    return ops.sum(values) / ops.maximum(count, 1)


def _divergence(teacher, student):
    """KL of the last axis, of logarithms of probabilities."""
    return ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


def _replace_masked(maps, mask):
    if mask is None:
        return maps
    mask = ops.broadcast_to(mask, ops.shape(maps))
    return ops.where(mask, maps, ops.zeros_like(maps))


def _aligned(weights, values):
    missing = len(values.shape) - len(weights.shape)
    if missing < 0:
        extra = weights.shape[len(values.shape) :]
        if any(size != 1 for size in extra):
            raise ValueError(
                "Weights and masks must have the leading axes of what they "
                f"weigh. Received: weights of shape {tuple(weights.shape)} "
                f"for values of shape {tuple(values.shape)}"
            )
        return ops.reshape(weights, ops.shape(weights)[: len(values.shape)])
    axes = tuple(range(len(weights.shape), len(values.shape)))
    return ops.expand_dims(weights, axes) if missing else weights
