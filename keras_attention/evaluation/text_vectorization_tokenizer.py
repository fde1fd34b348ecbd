"""Keras' own TextVectorization as a tokenizer."""

import pathlib
from typing import Any

import keras

from keras_attention.evaluation.vocabulary import BEGIN
from keras_attention.evaluation.vocabulary import END
from keras_attention.evaluation.vocabulary import Vocabulary
from keras_attention.files import check_keras_file


class TextVectorizationTokenizer:
    """Encodes texts with a `keras.layers.TextVectorization`.

    The layer must give integers, `output_mode="int"`. It splits and cleans
    texts in its own way; by default it strips punctuation and case.

    Args:
        layer: the layer, its vocabulary set or adapted.
        begin_token: token of its vocabulary that begins a text. Where the
            vocabulary lacks it, texts have no beginning, and the first word
            is not scored.
        end_token: token of its vocabulary that ends a text, in the same way.

    Raises:
        TypeError: If `layer` is no `TextVectorization`.
        ValueError: If it does not give integers.
    """

    def __init__(
        self, layer: Any, begin_token: str = BEGIN, end_token: str = END
    ):
        if not isinstance(layer, keras.layers.TextVectorization):
            raise TypeError(
                "`layer` must be a keras.layers.TextVectorization. "
                f"Received: layer={layer!r}"
            )
        mode = layer.get_config()["output_mode"]
        if mode != "int":
            raise ValueError(
                "`layer` must give integers: TextVectorization("
                f"output_mode='int'). Received: output_mode={mode!r}"
            )
        self.layer = layer
        self._tokens = list(layer.get_vocabulary())
        ids = {str(token): n for n, token in enumerate(self._tokens)}
        self.unknown = 1
        self.begin = ids.get(begin_token)
        self.end = ids.get(end_token)

    @classmethod
    def load(
        cls, path: str | pathlib.Path, **arguments: Any
    ) -> "TextVectorizationTokenizer":
        """Read a `.keras` file of a model that has a TextVectorization.

        Args:
            path: Path of the file.
            **arguments: of the constructor.

        Raises:
            ValueError: If the model has no such layer.
        """
        check_keras_file(path)
        model = keras.saving.load_model(path, compile=False)
        for layer in [model, *getattr(model, "layers", [])]:
            if isinstance(layer, keras.layers.TextVectorization):
                return cls(layer, **arguments)
        raise ValueError(
            "A tokenizer's .keras file holds a model with a "
            f"TextVectorization layer. Received: {path} with a "
            f"{type(model).__name__} without one"
        )

    def encode(self, text: str) -> list[int]:
        """The numbers of the words of a text, without begin and end."""
        ids = keras.ops.convert_to_numpy(self.layer([text]))[0]
        return [int(number) for number in ids if number != 0]

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that are not in the layer's vocabulary."""
        return [w for w in text.split() if self.unknown in self.encode(w)]

    def __len__(self) -> int:
        return len(self._tokens)


def load_tokenizer(path: str | pathlib.Path) -> Any:
    """Read a tokenizer: a `.keras` file of a TextVectorization, or a list.

    Args:
        path: a file that ends in `.keras`; any other is read as a
            `Vocabulary`, one token per line.
    """
    if pathlib.Path(path).suffix == ".keras":
        return TextVectorizationTokenizer.load(path)
    return Vocabulary.load(path)
