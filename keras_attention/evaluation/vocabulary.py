"""Words and their numbers."""

import pathlib
import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.files.json_text import read_text

PADDING = "[PAD]"
UNKNOWN = "[UNK]"
BEGIN = "[BOS]"
END = "[EOS]"
SPECIAL = (PADDING, UNKNOWN, BEGIN, END)
# A word with its apostrophes and hyphens, or a mark of punctuation.
WORD = re.compile(r"\w+(?:['’\-]\w+)*|[^\w\s]")


class Vocabulary:
    """A tokenizer of whole words, kept in a text file, one token per line.

    A token's ID is its line in the file, from 0. `[PAD]` is the first, since
    Keras masks 0; `[UNK]`, `[BOS]` and `[EOS]` may be anywhere or be left out:
    a text then has no token at its beginning or end, and an unknown word is an
    error. Texts are split at spaces and punctuation; "hasn't" stays whole. A
    word is looked up as it is written, then in lower case.

    Args:
        tokens: all tokens in the order of their IDs.

    Raises:
        TypeError: If a token is not a string.
        ValueError: If `[PAD]` is not the first, or a token is there twice.

    Example:

    >>> from keras_attention.evaluation import Vocabulary
    >>> vocabulary = Vocabulary.from_texts(["The dog barks.", "The dogs bark."])
    >>> vocabulary.encode("The dog hasn't barked.")
    [4, 6, 1, 1, 5]
    >>> vocabulary.unknown_words("The dog hasn't barked.")
    ["hasn't", 'barked']
    >>> vocabulary.to_array(["dogs", "the dogs bark"])
    array([[2, 8, 3, 0, 0],
           [2, 4, 8, 9, 3]], dtype=int32)
    """

    def __init__(self, tokens: Sequence[str]):
        self.tokens = list(tokens)
        for token in self.tokens:
            if not isinstance(token, str):
                raise TypeError(
                    "`tokens` must be strings. Received: "
                    f"{token!r} (of type {type(token).__name__})"
                )
        self._ids = {token: n for n, token in enumerate(self.tokens)}
        if not self.tokens or self.tokens[0] != PADDING:
            raise ValueError(
                f"The first token of a vocabulary must be {PADDING}: 0 is "
                "what Keras masks. Received: first tokens "
                f"{self.tokens[:3]}"
            )
        if len(self._ids) < len(self.tokens):
            twice = [t for t, n in Counter(self.tokens).items() if n > 1]
            raise ValueError(
                "A token must be in a vocabulary once. Received twice: "
                + ", ".join(map(repr, twice[:5]))
            )
        self.unknown = self._ids.get(UNKNOWN)
        self.begin = self._ids.get(BEGIN)
        self.end = self._ids.get(END)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        max_size: int | None = None,
        min_count: int = 1,
    ) -> "Vocabulary":
        """Count the words of texts, in lower case, the frequent ones first.

        Args:
            texts: what to count.
            max_size: largest number of tokens, the special ones included.
            min_count: rarer words are left out.
        """
        counts = Counter(
            word.lower() for text in texts for word in split_words(text)
        )
        words = [w for w, n in counts.most_common() if n >= min_count]
        return cls([*SPECIAL, *words][:max_size])

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Vocabulary":
        """Read a file with one token per line; see the class."""
        try:
            text = read_text(path)
            return cls(text.removesuffix("\n").split("\n"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, path: str | pathlib.Path) -> None:
        """Write one token per line."""
        text = "".join(f"{token}\n" for token in self.tokens)
        pathlib.Path(path).write_text(text, "utf-8")

    def encode(self, text: str) -> list[int]:
        """The numbers of the words of a text, without begin and end.

        Raises:
            ValueError: If a word is unknown and there is no `[UNK]`.
        """
        ids = [self._find(word) for word in split_words(text)]
        if None in ids:
            raise ValueError(
                f"The vocabulary lacks words and has no {UNKNOWN}. Received: "
                f"{self.unknown_words(text)} in {text!r}"
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The words of numbers up to the end, without the special tokens."""
        words = []
        for number in ids:
            if number == self.end:
                break
            if self.tokens[number] not in (PADDING, BEGIN):
                words.append(self.tokens[number])
        return " ".join(words)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that are not in the vocabulary."""
        return [
            word
            for word in split_words(text)
            if word not in self._ids and word.lower() not in self._ids
        ]

    def to_array(self, texts: Iterable[str]) -> Any:
        """Numbers with begin and end, padded with zeros: `(count, length)`."""
        rows = [
            frame(self.encode(text), self.begin, self.end) for text in texts
        ]
        return keras.utils.pad_sequences(rows, padding="post", dtype="int32")

    def __len__(self) -> int:
        return len(self.tokens)

    def _find(self, word):
        found = self._ids.get(word)
        return (
            self._ids.get(word.lower(), self.unknown)
            if found is None
            else found
        )


def split_words(text: str) -> list[str]:
    """Split at spaces and punctuation; marks of punctuation are words."""
    return WORD.findall(text)


def frame(ids: Iterable[int], begin: int | None, end: int | None) -> list[int]:
    """Put begin and end around numbers, where there are such tokens."""
    framed = [begin, *ids, end]
    return [number for number in framed if number is not None]


def language_model_data(
    vocabulary: Vocabulary, texts: Iterable[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets to train a language model: targets are one ahead.

    Both are `(count, length)`, padded with zeros.
    """
    array = vocabulary.to_array(texts)
    return array[:, :-1], array[:, 1:]
