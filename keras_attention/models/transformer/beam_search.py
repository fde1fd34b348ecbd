"""Greedy decoding and beam search over any model that goes step by step."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer


class Hypothesis(NamedTuple):
    """Tokens that were found, without the prompt and the end, and a score."""

    tokens: list[int]
    score: float


class CachedStep:
    """Feeds a model the newest tokens and keeps its cache.

    Args:
        run: `run(tokens, cache)` returns logits `(R, T, V)` and the cache.
        cache: to start with; every tensor has the rows as its first axis.
    """

    def __init__(self, run: Callable[..., Any], cache: Any):
        self.run = run
        self.cache = cache

    def __call__(self, tokens: np.ndarray, rows: np.ndarray | None) -> Any:
        if rows is None:
            newest = tokens
        else:
            newest = tokens[:, -1:]
            if (rows != np.arange(len(rows))).any():
                self.cache = keras.tree.map_structure(
                    lambda x: ops.take(x, rows, axis=0), self.cache
                )
        logits, self.cache = self.run(
            ops.convert_to_tensor(newest, dtype="int32"), self.cache
        )
        return ops.convert_to_numpy(logits[:, -1])


class WholeStep:
    """Feeds a model all tokens again, for mixers without a cache.

    Args:
        run: `run(tokens)` returns logits `(R, T, V)`.
        max_length: tokens are padded to it, so that the model meets one
            shape.
    """

    def __init__(self, run: Callable[..., Any], max_length: int):
        self.run = run
        self.max_length = max_length

    def __call__(self, tokens: np.ndarray, rows: np.ndarray | None) -> Any:
        length = tokens.shape[1]
        padded = np.pad(tokens, ((0, 0), (0, self.max_length - length)))
        logits = self.run(ops.convert_to_tensor(padded, dtype="int32"))
        return ops.convert_to_numpy(logits[:, length - 1])


def beam_search(
    step: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    prompts: Any,
    max_new_tokens: int,
    end: int | None = None,
    beam_size: int = 1,
    length_penalty: float = 0.6,
) -> list[Hypothesis]:
    """Continue each prompt by the tokens of the best score that is found.

    With one beam this is greedy decoding. A beam that ends is kept, with its
    log-probability divided by ((5 + length) / 6) ** length_penalty, where the
    end counts; a prompt is done when as many as there are beams have ended.

    Args:
        step: `step(tokens, rows)` returns logits of the next token, `(R, V)`.
            `tokens` are the beams so far, `(R, T)`, and `rows` tells which
            row of the last call each goes on from; `None` at first.
        prompts: integers `(count, T)`, without padding.
        max_new_tokens: largest number of tokens to add.
        end: the token that ends a text; `None` for texts that only end at
            the largest number.
        beam_size: number of beams of each prompt.
        length_penalty: exponent; 0 prefers short texts, larger ones long.

    Returns:
        The best hypothesis of each prompt.

    Raises:
        ValueError: If a prompt is padded, or empty, or for an argument out of
            range.

    Reference:
        Wu et al., Google's Neural Machine Translation System,
        arXiv:1609.08144, section 7, with the penalty of Vaswani et al.,
        arXiv:1706.03762, section 6.1.
    """
    check_positive_integer("max_new_tokens", max_new_tokens)
    check_positive_integer("beam_size", beam_size)
    check_number("length_penalty", length_penalty, 0)
    prompts = np.asarray(prompts)
    if prompts.ndim != 2 or not prompts.size or (prompts == 0).any():
        raise ValueError(
            "`prompts` must be token IDs of shape (count, length), all of "
            "one length and without padding. Received: shape "
            f"{prompts.shape} with {int((prompts == 0).sum())} zeros"
        )
    count, start = prompts.shape
    tokens = np.repeat(prompts, beam_size, axis=0)  # [B * K, T]
    # At first all beams of a prompt are one: only the first may go on.
    scores = np.full((count, beam_size), -np.inf)
    scores[:, 0] = 0
    finished: list[list[Hypothesis]] = [[] for _ in range(count)]
    rows = None
    for length in range(1, max_new_tokens + 1):
        logits = np.asarray(step(tokens, rows), "float64")
        size = logits.shape[-1]
        totals = scores[..., None] + _log_softmax(logits).reshape(
            count, beam_size, size
        )
        rows = np.arange(count * beam_size)
        chosen = np.zeros(count * beam_size, tokens.dtype)
        for prompt in range(count):
            if len(finished[prompt]) >= beam_size:
                continue
            flat = totals[prompt].ravel()
            beam = 0
            # Of twice as many candidates as beams, half may be ends.
            for rank, place in enumerate(_largest(flat, 2 * beam_size)):
                row, token = divmod(int(place), size)
                row += prompt * beam_size
                if token == end:
                    if rank < beam_size and np.isfinite(flat[place]):
                        finished[prompt].append(
                            Hypothesis(
                                tokens[row, start:].tolist(),
                                float(flat[place])
                                / _penalty(length, length_penalty),
                            )
                        )
                elif beam < beam_size:
                    target = prompt * beam_size + beam
                    rows[target], chosen[target] = row, token
                    scores[prompt, beam] = flat[place]
                    beam += 1
        tokens = np.concatenate([tokens[rows], chosen[:, None]], axis=1)
        if all(len(found) >= beam_size for found in finished):
            break
    for prompt, found in enumerate(finished):
        if len(found) < beam_size:
            for beam in range(beam_size):
                row = tokens[prompt * beam_size + beam, start:].tolist()
                score = float(scores[prompt, beam])
                penalty = _penalty(len(row), length_penalty)
                found.append(Hypothesis(row, score / penalty))
    return [max(found, key=lambda h: h.score) for found in finished]


def _penalty(length, exponent):
    return ((5 + length) / 6) ** exponent


def _log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _largest(values, count):
    """Places of the largest values, the largest first."""
    count = min(count, len(values))
    places = np.argpartition(-values, count - 1)[:count]
    return places[np.argsort(-values[places], kind="stable")]
