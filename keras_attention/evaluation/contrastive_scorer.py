"""Scores the texts of contrastive items with any model."""

import pathlib
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.evaluation.contrastive_results import ContrastiveResults
from keras_attention.evaluation.score_files import group_scores
from keras_attention.evaluation.score_files import read_finished_scores
from keras_attention.evaluation.vocabulary import frame
from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer

# Lengths are padded to multiples of this: a compiled model then meets few
# shapes, of each of which it makes a graph.
LENGTH_STEP = 8
# How far scores of a file may be from the model's own: other batches and
# other machines change digits, in half precision visibly.
TOLERANCE = 0.02
# How far scores that are taken over from a file may be from the model's, of
# which other batches and other machines change some digits.
TOLERANCE = 0.02


class ContrastiveScorer:
    """Force-scores texts: the sum of the log-probabilities of their tokens.

    A text is encoded, framed by the tokenizer's begin and end tokens where
    it has them, and padded with zeros on the right. The model is given all
    tokens but the last, `(B, T)`, and returns logits or log-probabilities of
    the next token, `(B, T, V)`: the scorer takes the log-softmax, which
    leaves log-probabilities as they are. Probabilities are refused. The score
    is

        sum over t of log p(token[t + 1] | token[0 .. t])

    the end token included, in the natural logarithm; with
    `length_normalized` its mean.

    Args:
        model: a Keras model, or any callable. A language model takes tokens
            `(B, T)`. A model of sequence to sequence takes a list
            `[source, target]` of tokens `(B, S)` and `(B, T)`; the source
            ends with its tokenizer's end token and has no begin token.
        tokenizer: a `Vocabulary`, a `TextVectorizationTokenizer`, or an
            object with their `encode(text)`, `unknown_words(text)`, `begin`
            and `end`.
        source_tokenizer: the same for the source; `None` for a language
            model.
        batch_size: number of texts that are scored at once.
        length_normalized: whether scores are divided by the number of tokens.
        unknown: what is done with an item whose texts have words that the
            tokenizer lacks. `"error"`: an error lists them. `"skip"`: the
            item is scored but not counted. `"keep"`: it counts.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Example:

    >>> from keras_attention.evaluation import ContrastiveItem
    >>> from keras_attention.evaluation import ContrastiveScorer
    >>> from keras_attention.evaluation import Vocabulary
    >>> vocabulary = Vocabulary.from_texts(["dogs bark", "dogs barks"])
    >>> def model(tokens):  # thinks that "bark" is more likely than "barks"
    ...     logits = np.zeros((*tokens.shape, len(vocabulary)), "float32")
    ...     logits[..., vocabulary.encode("bark")] = 3
    ...     return logits
    >>> scorer = ContrastiveScorer(model, vocabulary)
    >>> items = [ContrastiveItem("dogs bark", ["dogs barks"])]
    >>> print(scorer.evaluate(items, verbose=0))
    100.0% [20.7, 100.0] (1 of 1)
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        tokenizer: Any,
        source_tokenizer: Any = None,
        batch_size: int = 32,
        length_normalized: bool = False,
        unknown: str = "error",
    ):
        if not callable(model):
            raise TypeError(
                "`model` must be a Keras model or a callable. "
                f"Received: model={model!r}"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.source_tokenizer = source_tokenizer
        self.batch_size = check_positive_integer("batch_size", batch_size)
        self.length_normalized = check_boolean(
            "length_normalized", length_normalized
        )
        self.unknown = check_choice(
            "unknown", unknown, ("error", "skip", "keep")
        )

    def evaluate(
        self,
        items: Sequence[ContrastiveItem],
        scores_path: str | pathlib.Path | None = None,
        verbose: int = 1,
    ) -> ContrastiveResults:
        """Score the items and judge the scores.

        Args:
            items: the suite.
            scores_path: see `score`.
            verbose: 1 shows Keras' progress bar.

        Raises:
            ValueError: as `score`; if all items are left out; or, with
                `unknown="error"`, for words that the tokenizer lacks.
        """
        lacking = [item for item in items if self._unknown_words(item)]
        if lacking and self.unknown == "error":
            words = self.unknown_words(items)
            shown = ", ".join(repr(w) for w, _ in words.most_common(10))
            raise ValueError(
                f"{lacking[0].prefix}The tokenizer lacks words of the suite. "
                f"Received: {len(lacking)} of {len(items)} items with "
                f"{len(words)} unknown words: {shown}"
                f"{', ...' if len(words) > 10 else ''}. Set unknown='skip' to "
                "leave these items out, or 'keep' to score them as they are."
            )
        scores = self.score(items, scores_path, verbose)
        left_out = {id(item) for item in lacking if self.unknown == "skip"}
        decisions = [
            decision
            for item, values in zip(items, scores, strict=True)
            if id(item) not in left_out
            for decision in item.decide(values)
        ]
        return ContrastiveResults(decisions, left_out=len(left_out))

    def score(
        self,
        items: Sequence[ContrastiveItem],
        scores_path: str | pathlib.Path | None = None,
        verbose: int = 1,
    ) -> list[tuple[float, ...]]:
        """Return the scores of each item: the reference's, then the others'.

        Args:
            items: the suite.
            scores_path: file that the scores are written to as they come,
                one per line. Where it exists, its lines are taken over and the
                run continues after them; the last batch of them is scored
                again, to see that they are of this model and this suite.
            verbose: 1 shows Keras' progress bar.

        Raises:
            ValueError: naming the item, if its score is NaN or it lacks what
                the model needs; or naming file and line, if the file belongs
                to another suite or model.
        """
        rows = [(item, text) for item in items for text in item.texts]
        scores = []
        if scores_path is not None:
            scores = read_finished_scores(scores_path, len(rows))
            self._check_finished(scores, rows, scores_path)
        bar = keras.utils.Progbar(len(rows), verbose=verbose, unit_name="text")
        bar.update(len(scores))
        for start in range(len(scores), len(rows), self.batch_size):
            found = self._score_batch(rows[start : start + self.batch_size])
            scores.extend(found)
            if scores_path is not None:
                with open(scores_path, "a", encoding="utf-8") as stream:
                    stream.writelines(f"{value!r}\n" for value in found)
            bar.update(len(scores))
        return group_scores(scores, items)

    def unknown_words(self, items: Sequence[ContrastiveItem]) -> Counter:
        """Count the words of the items that the tokenizers lack."""
        return Counter(
            word for item in items for word in self._unknown_words(item)
        )

    def _unknown_words(self, item):
        words = [
            word
            for text in item.texts
            for word in self.tokenizer.unknown_words(text)
        ]
        if self.source_tokenizer is not None and item.source is not None:
            words += self.source_tokenizer.unknown_words(item.source)
        return words

    def _check_finished(self, scores, rows, path):
        start = max(0, len(scores) - self.batch_size)
        batch = rows[start : len(scores)]
        found = self._score_batch(batch) if batch else []
        for number, (score, own) in enumerate(
            zip(scores[start:], found, strict=True), start + 1
        ):
            if not np.isclose(score, own, rtol=TOLERANCE, atol=TOLERANCE):
                _, text = rows[number - 1]
                raise ValueError(
                    f"{path}:{number}: The scores to go on from are of "
                    f"another model or suite: {score} for {text!r}, to which "
                    f"this model gives {own}. Received: {path}. Name another "
                    "file, or delete it."
                )

    def _score_batch(self, batch):
        encoded = [self._encode(item, text) for item, text in batch]
        targets = [target for _, target in encoded]
        # A last batch that is smaller is filled up, for the same reason as
        # lengths are.
        filled = encoded + encoded[-1:] * (self.batch_size - len(encoded))
        tokens = _pad([target[:-1] for _, target in filled])
        inputs = tokens
        if self.source_tokenizer is not None:
            inputs = [_pad([source for source, _ in filled]), tokens]
        outputs = self._call(inputs, tokens.shape)[: len(batch)]
        scores = []
        for (item, text), target, output in zip(
            batch, targets, outputs, strict=True
        ):
            predicted = target[1:]
            if max(predicted) >= output.shape[-1]:
                raise ValueError(
                    f"{item.prefix}The model's outputs do not reach the "
                    f"tokenizer's numbers: {output.shape[-1]} outputs, token "
                    f"{max(predicted)}. Received: {text!r}. Use the tokenizer "
                    "that the model was trained with."
                )
            score = _sum_log_probabilities(output[: len(predicted)], predicted)
            if self.length_normalized:
                score /= len(predicted)
            if np.isnan(score) or score == np.inf:
                raise ValueError(
                    f"{item.prefix}The model's score is {score}, which cannot "
                    f"be compared. Received: {text!r}"
                )
            scores.append(score)
        return scores

    def _encode(self, item, text):
        if (item.source is None) != (self.source_tokenizer is None):
            expected, hint = (
                ("a source", "it has a source_tokenizer")
                if item.source is None
                else ("no source", "it has no source_tokenizer")
            )
            raise ValueError(
                f"{item.prefix}The scorer takes items with {expected}: {hint}."
                f" Received: {item}"
            )
        source = None
        if item.source is not None:
            tokenizer = self.source_tokenizer
            source = frame(tokenizer.encode(item.source), None, tokenizer.end)
        tokenizer = self.tokenizer
        target = frame(tokenizer.encode(text), tokenizer.begin, tokenizer.end)
        if len(target) < 2:
            raise ValueError(
                f"{item.prefix}A text must have at least two tokens, its "
                f"begin and end included. Received: {text!r}"
            )
        return source, target

    def _call(self, inputs, shape):
        """Logits or log-probabilities as an array `(B, T, V)`."""
        if isinstance(self.model, keras.Model):
            outputs = self.model.predict_on_batch(inputs)
        else:
            outputs = self.model(inputs)
        outputs = keras.ops.convert_to_numpy(outputs)
        if outputs.ndim != 3 or outputs.shape[:2] != shape:
            raise ValueError(
                "The model must return logits or log-probabilities of the "
                "next token, (batch, length, vocabulary): "
                f"({shape[0]}, {shape[1]}, V). Received: {outputs.shape}"
            )
        if outputs.dtype != "float64":
            outputs = outputs.astype("float32")
        if outputs.min() >= 0 and np.allclose(outputs.sum(-1), 1, atol=1e-2):
            raise ValueError(
                "The model must return logits or log-probabilities. Received: "
                "probabilities, which sum to 1. Leave out the last softmax, "
                "or take the logarithm."
            )
        return outputs


def _pad(rows):
    longest = max(map(len, rows))
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP
    return keras.utils.pad_sequences(
        rows, length, padding="post", dtype="int32"
    )


def _sum_log_probabilities(logits, targets):
    """Sum of the log-softmax at the targets: `(T, V)` and `(T)` to a float."""
    peak = logits.max(axis=-1, keepdims=True)
    # A row of -inf has no distribution: its NaN is reported by the caller.
    with np.errstate(invalid="ignore"):
        shifted = logits - peak
    sums = np.exp(shifted).sum(axis=-1, dtype="float64")
    chosen = shifted[np.arange(len(targets)), targets].astype("float64")
    return float((chosen - np.log(sums)).sum())
