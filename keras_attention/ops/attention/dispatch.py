"""The paths of attention, and the choice between them.

`B` batch, `N` heads, `K` heads of keys and values, `T` queries, `S` keys, `D`
width of queries and keys, `E` width of values.

Several paths give one result. The plain one holds the `(B, N, T, S)` scores.
The chunked one (`chunked_attention.py`) holds those of one chunk of queries.
A backend's fused kernel (`torch_attention.py`, `cudnn_attention.py`) holds
none. A path is taken only if it says of all options in use that it honours
them; what nothing faster honours takes the plain or the chunked path.
"""

import contextlib
import contextvars
import dataclasses
import logging
import math
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NoReturn

import keras
from keras import ops

from keras_attention.ops.attention.chunked_attention import chunked_attention
from keras_attention.ops.attention.dot_product import attend_block
from keras_attention.ops.attention.dot_product import expand_relative_bias
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import position_mask
from keras_attention.ops.attention.masks import query_positions
from keras_attention.ops.attention.options import LEAST_BIAS
from keras_attention.ops.attention.options import AttentionOptions
from keras_attention.ops.precision import wide_dtype
from keras_attention.ops.precision import widen
from keras_attention.types import Tensor

# With more scores a head than this, chunks are taken: the plain path is a
# little faster below, and its scores are few.
PLAIN_LIMIT = 1024 * 1024
_only_plain = contextvars.ContextVar("only_plain", default=False)
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AttentionPath:
    """One implementation of attention, closed to options it does not name.

    Args:
        name: String, for errors and explanations.
        function: Callable of queries `(B, T, N, D)`, keys `(B, S, K, D)`,
            values `(B, S, K, E)` and options. It returns the output `(B, T,
            N, E)`, and the scores `(B, N, T, S)` or `None`.
        honours: Names of the options that `function` takes into account.
        find_obstacle: Callable of the same arguments. It returns why the path
            is not right for these tensors and values of options, or `None`.
            Defaults to one that finds nothing.
    """

    name: str
    function: Callable[..., Any]
    honours: frozenset[str]
    find_obstacle: Callable[..., str | None] = lambda *_: None

    def why_not(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        options: AttentionOptions,
    ) -> str | None:
        """Why the path cannot be taken; `None` if it can."""
        refused = sorted(options.in_use() - self.honours)
        if refused:
            return f"has no {', '.join(f'`{name}`' for name in refused)}"
        return self.find_obstacle(query, key, value, options)

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        options: AttentionOptions,
    ) -> Any:
        """Run the path.

        Raises:
            ValueError: If an option is in use that the path does not honour.
        """
        refused = sorted(options.in_use() - self.honours)
        if refused:
            raise ValueError(
                f"The path '{self.name}' of attention must only be given "
                f"options that it honours, {sorted(self.honours)}. Received: "
                f"{refused}. Use `implementation='auto'` or 'plain'."
            )
        return self.function(query, key, value, options)


@dataclasses.dataclass(frozen=True)
class AttentionExplanation:
    """Which path attention takes, and why no other one.

    Args:
        path: String, `"plain"`, `"chunked"`, `"torch"` or `"cudnn"`.
        reasons: Dictionary, the name of each path that comes first where it
            is possible, to the reason why it is not taken.
    """

    path: str
    reasons: dict[str, str]

    def __str__(self) -> str:
        lines = [f"attention takes the path '{self.path}'"]
        lines += [
            f"not '{name}': it {reason}"
            for name, reason in self.reasons.items()
        ]
        return "\n".join(lines)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Make `implementation="auto"` the plain path inside this context.

    For graphs that must have no loop, also where lengths are not known.
    """
    token = _only_plain.set(True)
    try:
        yield
    finally:
        _only_plain.reset(token)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttentionOptions,
    implementation: str = "auto",
) -> tuple[Any, Any]:
    """Attend along the fastest path that honours the options.

    Args:
        query: Queries, `(B, T, N, D)`.
        key: Keys, `(B, S, K, D)`.
        value: Values, `(B, S, K, E)`.
        options: Options; mask and bias with four axes. Keys that the mask
            leaves to no query must be finite.
        implementation: See `scaled_dot_product_attention`.

    Returns:
        Output `(B, T, N, E)`, and the scores `(B, N, T, S)` if they are
        asked for, else `None`.
    """
    path, reasons = choose_path(query, key, value, options, implementation)
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug("%s", AttentionExplanation(path.name, reasons))
    return path(query, key, value, _prepare(options, query, key))


def choose_path(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttentionOptions,
    implementation: str = "auto",
) -> tuple[AttentionPath, dict[str, str]]:
    """Choose the path for these tensors.

    Returns:
        The path, and the reasons against those that come before it.
    """
    if _only_plain.get() or implementation in ("plain", "chunked"):
        is_plain = options.return_scores or implementation != "chunked"
        reason = (
            "is left out of graphs for export"
            if implementation not in ("plain", "chunked")
            else "is not asked for"
        )
        return (PLAIN if is_plain else CHUNKED), {"fused": reason}
    reasons = {}
    obstacle = find_backend_obstacle()
    if implementation == "unfused":
        reasons["fused"] = "is not asked for"
    elif obstacle is not None:
        reasons["fused"] = obstacle
    else:
        for path in FUSED[keras.backend.backend()]:
            reason = path.why_not(query, key, value, options)
            if reason is None:
                return path, reasons
            reasons[path.name] = reason
    if implementation == "fused":
        raise_not_fused(reasons)
    own, reason = _choose_own_path(query, key, value, options)
    if reason is not None:
        reasons[CHUNKED.name] = reason
    return own, reasons


def find_backend_obstacle() -> str | None:
    """Why no fused kernel can be taken, whatever it is given."""
    backend = keras.backend.backend()
    return None if backend in FUSED else f"does not exist on {backend}"


def raise_not_fused(reasons: dict[str, str]) -> NoReturn:
    """Raise a `ValueError` that says why no fused kernel can be taken.

    Args:
        reasons: Dictionary, the name of each kernel to what is against it.
    """
    found = "; ".join(f"'{name}' {reason}" for name, reason in reasons.items())
    raise ValueError(
        'A fused kernel must be possible with `implementation="fused"`, in a '
        f"layer `flash_attention=True`. Received: {found}. Leave the argument "
        "out: the fastest path that is possible is then taken."
    )


def _choose_own_path(query, key, value, options):
    """The plain or the chunked path, and the reason against the latter."""
    reason = CHUNKED.why_not(query, key, value, options)
    queries, keys = query.shape[1], key.shape[1]
    known = queries is not None and keys is not None
    if reason is None and known and queries * keys <= PLAIN_LIMIT:
        reason = f"is not faster up to {PLAIN_LIMIT:,} scores a head"
    return (CHUNKED if reason is None else PLAIN), reason


def _attend_differentiably(query, key, value, options):
    """Output of a path that can be differentiated as often as wanted."""
    path, _ = _choose_own_path(query, key, value, options)
    return path(query, key, value, options)[0]


def _in_float32(function):
    """Make a path of a function of scaled queries and transposed keys.

    They are `(B, N, T, D)`, `(B, K, D, S)` and `(B, K, S, E)`, and of at
    least float32.
    """

    def run(query, key, value, options):
        dtype, scale = query.dtype, options.scale
        if options.additive is not None:
            scale = 1.0
        elif scale is None:
            scale = 1 / math.sqrt(query.shape[-1])
        output, scores = function(
            ops.transpose(widen(query) * scale, (0, 2, 1, 3)),
            ops.transpose(widen(key), (0, 2, 3, 1)),
            ops.transpose(widen(value), (0, 2, 1, 3)),
            options,
        )
        output = ops.cast(ops.transpose(output, (0, 2, 1, 3)), dtype)
        scores = ops.cast(scores, dtype) if options.return_scores else None
        return output, scores  # [B, T, N, E], [B, N, T, S]

    return run


def _plain(query, key, value, options):
    queries, keys = ops.shape(query)[2], ops.shape(key)[3]
    bias = options.bias
    if options.distance_bias is not None:
        by_distance = expand_relative_bias(options.distance_bias, queries, keys)
        bias = by_distance if bias is None else bias + by_distance
    by_position = position_mask(
        query_positions(queries, keys),
        ops.arange(keys, dtype="int32"),
        options.causal,
        options.window,
    )
    known = isinstance(keys, int) and isinstance(queries, int)
    return attend_block(
        query,
        key,
        value,
        options.replace(
            mask=combine_masks(options.mask, by_position),
            bias=bias,
            distance_bias=None,
        ),
        # A position attends to itself.
        never_empty=options.mask is None and known and keys >= queries,
    )


def _find_torch_obstacle(*arguments):
    from keras_attention.ops.attention.torch_attention import find_obstacle

    return find_obstacle(*arguments)


def _torch(query, key, value, options):
    from keras_attention.ops.attention.torch_attention import torch_attention

    return torch_attention(query, key, value, options, _attend_differentiably)


def _find_cudnn_obstacle(*arguments):
    from keras_attention.ops.attention.cudnn_attention import find_obstacle

    return find_obstacle(*arguments)


def _cudnn(query, key, value, options):
    from keras_attention.ops.attention.cudnn_attention import cudnn_attention

    return cudnn_attention(query, key, value, options, _attend_differentiably)


PLAIN = AttentionPath(
    "plain",
    _in_float32(_plain),
    honours=frozenset(
        {
            "mask",
            "bias",
            "distance_bias",
            "causal",
            "window",
            "scale",
            "logit_soft_cap",
            "sinks",
            "additive",
            "head_mixing",
            "dropout",
            "seed",
            "return_scores",
        }
    ),
)
CHUNKED = AttentionPath(
    "chunked",
    _in_float32(chunked_attention),
    honours=PLAIN.honours - {"additive", "return_scores"},
)
TORCH = AttentionPath(
    "torch",
    _torch,
    honours=frozenset({"mask", "bias", "causal", "window", "scale"}),
    find_obstacle=_find_torch_obstacle,
)
CUDNN = AttentionPath(
    "cudnn",
    _cudnn,
    honours=frozenset({"mask", "causal", "window", "scale"}),
    find_obstacle=_find_cudnn_obstacle,
)
FUSED = {"torch": (TORCH,), "jax": (CUDNN,)}


def _prepare(options, query, key):
    """Tensors of the options in the scores' dtype, with a sampled seed."""
    dtype = wide_dtype(query)
    changes = {
        name: ops.maximum(ops.cast(tensor, dtype), LEAST_BIAS)
        for name, tensor in options.by_score().items()
    }
    if options.distance_bias is not None:
        is_empty = 0 in (*query.shape[:3], key.shape[1])
        changes["distance_bias"] = (
            None
            if is_empty
            else ops.maximum(ops.cast(options.distance_bias, dtype), LEAST_BIAS)
        )
    if options.head_mixing is not None:
        changes["head_mixing"] = [
            ops.cast(kernel, dtype) for kernel in options.head_mixing
        ]
    if options.seed is not None:
        changes["seed"] = _draw_seed(options.seed)
    return options.replace(**changes)


def _draw_seed(seed):
    if isinstance(seed, keras.random.SeedGenerator):
        return seed.next()
    return ops.convert_to_tensor([int(seed) & 0x7FFFFFFF, 0], dtype="int32")
