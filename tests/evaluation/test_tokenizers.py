import keras
import numpy as np
import pytest

from keras_attention.evaluation import TextVectorizationTokenizer
from keras_attention.evaluation import Vocabulary
from keras_attention.evaluation import language_model_data
from keras_attention.evaluation import load_tokenizer


def test_vocabulary_orders_by_frequency_and_keeps_contractions():
    made = Vocabulary.from_texts(["A b b hasn't.", "B saftig-grünes"])
    assert made.tokens[4:] == ["b", "a", "hasn't", ".", "saftig-grünes"]
    assert made.encode("HASN'T b ?") == [6, 4, 1]
    assert made.unknown_words("what hasn't?") == ["what", "?"]
    assert made.decode([2, 6, 4, 3, 4]) == "hasn't b"
    assert len(Vocabulary.from_texts(["a b c"], max_size=5)) == 5
    assert len(Vocabulary.from_texts(["a a b"], min_count=2)) == 5


def test_a_cased_word_is_looked_up_as_it_stands_first():
    made = Vocabulary(["[PAD]", "Polish", "polish"])
    assert made.encode("Polish polish POLISH") == [1, 2, 2]
    with pytest.raises(ValueError, match=r"no \[UNK\].*\['wax'\]"):
        made.encode("wax")


def test_vocabulary_file_round_trip(tmp_path):
    made = Vocabulary.from_texts(["a ’ b"])
    made.save(tmp_path / "v.txt")
    assert load_tokenizer(tmp_path / "v.txt").tokens == made.tokens
    (tmp_path / "bad.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"bad.txt: .*first token.*\[PAD\]"):
        load_tokenizer(tmp_path / "bad.txt")


def test_bad_vocabularies():
    with pytest.raises(ValueError, match="Received twice: 'a'"):
        Vocabulary(["[PAD]", "a", "a"])
    with pytest.raises(TypeError, match="must be strings"):
        Vocabulary(["[PAD]", 3])


def test_targets_are_one_ahead():
    x, y = language_model_data(Vocabulary.from_texts(["a b"]), ["a b", "b"])
    np.testing.assert_array_equal(x, [[2, 4, 5], [2, 5, 3]])
    np.testing.assert_array_equal(y, [[4, 5, 3], [5, 3, 0]])


@pytest.mark.tensorflow
def test_text_vectorization_from_a_file(tmp_path):
    layer = keras.layers.TextVectorization(
        vocabulary=["[BOS]", "[EOS]", "dogs", "bark"]
    )
    inputs = keras.Input((1,), dtype="string")
    keras.Sequential([inputs, layer]).save(tmp_path / "t.keras")
    found = load_tokenizer(tmp_path / "t.keras")
    assert found.encode("Dogs, bark!") == [4, 5]
    assert (found.begin, found.end, len(found)) == (2, 3, 6)
    assert found.unknown_words("dogs meow") == ["meow"]
    plain = TextVectorizationTokenizer(layer, "<s>", "</s>")
    assert plain.begin is None and plain.end is None


@pytest.mark.tensorflow
def test_bad_text_vectorization(tmp_path):
    with pytest.raises(TypeError, match="TextVectorization"):
        TextVectorizationTokenizer(keras.layers.Dense(2))
    layer = keras.layers.TextVectorization(
        vocabulary=["a"], output_mode="multi_hot"
    )
    with pytest.raises(ValueError, match="multi_hot"):
        TextVectorizationTokenizer(layer)
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plain.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="without one"):
        load_tokenizer(tmp_path / "m.keras")
