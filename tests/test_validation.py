import types

import keras
import numpy as np
import pytest

from keras_attention.validation import check_boolean
from keras_attention.validation import check_choice
from keras_attention.validation import check_choices
from keras_attention.validation import check_data_format
from keras_attention.validation import check_image_shape
from keras_attention.validation import check_labels
from keras_attention.validation import check_number
from keras_attention.validation import check_odd_integer
from keras_attention.validation import check_positive_integer
from keras_attention.validation import check_positive_integers
from keras_attention.validation import check_probability
from keras_attention.validation import nearest


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(7)])
def test_positive_integer(value):
    checked = check_positive_integer("heads", value)
    assert checked == value and type(checked) is int


@pytest.mark.parametrize("value", [0, -3])
def test_integer_below_one(value):
    with pytest.raises(
        ValueError, match=f"`heads`.*at least 1. Received: heads={value}$"
    ):
        check_positive_integer("heads", value)


def test_integer_below_another_minimum():
    assert check_positive_integer("size", 0, minimum=0) == 0
    with pytest.raises(ValueError, match="at least 3. Received: size=2$"):
        check_positive_integer("size", 2, minimum=3)


@pytest.mark.parametrize("value", [2.0, "2", None, True, [2], np.float32(2)])
def test_not_an_integer(value):
    with pytest.raises(
        TypeError, match=rf"`heads`.*of type {type(value).__name__}\)"
    ):
        check_positive_integer("heads", value)


def test_positive_integers():
    assert check_positive_integers("rates", [np.int64(2), 1]) == (2, 1)
    with pytest.raises(TypeError, match=r"list or tuple.*rates=2 \(of type i"):
        check_positive_integers("rates", 2)
    with pytest.raises(TypeError, match="`rates` must be an integer"):
        check_positive_integers("rates", (1, 2.0))
    with pytest.raises(ValueError, match="rates=0"):
        check_positive_integers("rates", (1, 0))
    with pytest.raises(ValueError, match=r"none twice.*rates=\(3, 3\)"):
        check_positive_integers("rates", (3, 3))
    with pytest.raises(ValueError, match=r"at least 2 int.*rates=\[3\]"):
        check_positive_integers("rates", [3], least=2)


def test_odd_integer():
    checked = check_odd_integer("size", np.int64(7))
    assert checked == 7 and type(checked) is int
    for value in (2, 0, -3):
        with pytest.raises(ValueError, match=f"`size`.*size={value}$"):
            check_odd_integer("size", value)
    with pytest.raises(TypeError, match="`size` must be an integer"):
        check_odd_integer("size", 3.0)


@pytest.mark.parametrize("value", [0, 1, -2.5, np.float32(0.25), np.int8(3)])
def test_number(value):
    checked = check_number("power", value)
    assert checked == value and type(checked) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_number_that_is_not_finite(value):
    with pytest.raises(ValueError, match=f"finite.*Received: power={value}"):
        check_number("power", value)


@pytest.mark.parametrize("value", ["1", None, True, 1j, [1.0]])
def test_not_a_number(value):
    with pytest.raises(
        TypeError, match=rf"`power`.*of type {type(value).__name__}\)"
    ):
        check_number("power", value, minimum=0)


def test_number_bounds():
    assert check_number("p", 2, minimum=2, maximum=2) == 2
    with pytest.raises(ValueError, match=r"number >= 2\. Received: p=1.9"):
        check_number("p", 1.9, minimum=2)
    with pytest.raises(ValueError, match=r"number <= 2\. Received: p=2.1"):
        check_number("p", 2.1, maximum=2)
    with pytest.raises(ValueError, match=r"> 2 and <= 3\. Received: p=2$"):
        check_number("p", 2, minimum=2, maximum=3, exclusive_minimum=True)
    with pytest.raises(ValueError, match=r">= 2 and < 3\. Received: p=3$"):
        check_number("p", 3, minimum=2, maximum=3, exclusive_maximum=True)


def test_probability():
    assert check_probability("dropout", 0) == 0.0
    assert check_probability("dropout", 0.999) == 0.999
    for value in (-0.1, 1, 1.5):
        with pytest.raises(
            ValueError, match=rf">= 0 and < 1\. Received: dropout={value}"
        ):
            check_probability("dropout", value)


def test_boolean():
    assert check_boolean("causal", True) is True
    assert check_boolean("causal", False) is False
    for value in (1, 0, None, "True", np.bool_(True)):
        with pytest.raises(TypeError, match="`causal` must be True or False"):
            check_boolean("causal", value)


def test_choice():
    assert check_choice("combine", "add", ("add", "max")) == "add"
    assert check_choice("extent", None, (None, 2)) is None
    with pytest.raises(
        ValueError,
        match="'multiply', 'add'. Received: combine='multipy'. "
        r"Did you mean 'multiply'\?",
    ):
        check_choice("combine", "multipy", ("multiply", "add"))
    with pytest.raises(ValueError, match="Received: extent=3"):
        check_choice("extent", 3, iter([None, 2, 4]))


def test_choices():
    assert check_choices("pools", ["max", "avg"], ("avg", "max")) == (
        "max",
        "avg",
    )
    with pytest.raises(TypeError, match="list or tuple.*pools='avg'"):
        check_choices("pools", "avg", ("avg", "max"))
    with pytest.raises(ValueError, match="at least one of 'avg', 'max'"):
        check_choices("pools", (), iter(["avg", "max"]))
    with pytest.raises(ValueError, match="none twice"):
        check_choices("pools", ("avg", "avg"), ("avg", "max"))
    with pytest.raises(ValueError, match="Did you mean 'max'"):
        check_choices("pools", ("avg", "mx"), ("avg", "max"))


def test_data_format():
    assert check_data_format(None) == keras.config.image_data_format()
    assert check_data_format("channels_first") == "channels_first"
    assert check_data_format("channels_last") == "channels_last"
    with pytest.raises(ValueError, match="Received: data_format='NCHW'"):
        check_data_format("NCHW")


def test_default_data_format_follows_keras():
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        assert check_data_format(None) == "channels_first"
    finally:
        keras.config.set_image_data_format(before)


def layer(data_format):
    return types.SimpleNamespace(name="gate", data_format=data_format)


def test_image_shape():
    last, first = layer("channels_last"), layer("channels_first")
    assert check_image_shape(last, (None, None, 5, 3)) == 3
    assert check_image_shape(first, (None, 3, 5, None)) == 3
    for shape in [(None, 5, 3), (1, 2, 3, 4, 5), ()]:
        with pytest.raises(ValueError, match="rank 4.*layer 'gate'"):
            check_image_shape(last, shape)
    with pytest.raises(ValueError, match="channels_last.*layer 'gate'"):
        check_image_shape(last, (None, 3, 5, None))
    with pytest.raises(ValueError, match="channels_first.*layer 'gate'"):
        check_image_shape(first, (None, None, 5, 3))
    with pytest.raises(ValueError, match=r"\(height, width\).*(2, 0, 5, 3)"):
        check_image_shape(last, (2, 0, 5, 3))
    with pytest.raises(ValueError, match=r"\(time\).*(2, 3, 0)"):
        check_image_shape(first, (2, 3, 0), (3, 4))
    assert check_image_shape(last, (0, 1, 5, 3)) == 3


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a", "b", "c"], ["a", "b", "c"]),
        ([1, "b", None], [1, "b", None]),
        (range(3), [0, 1, 2]),
        (np.array([4, 5, 6]), [4, 5, 6]),
        (np.array([[4], [5], [6]]), [4, 5, 6]),
        (np.eye(5)[[3, 0, 4]], [3, 0, 4]),
        (np.eye(2, dtype=bool)[[1, 0, 1]], [1, 0, 1]),
        ([[0, 1], [1, 0], [0, 1]], [1, 0, 1]),
        ([np.int64(2), np.int64(3), np.int64(4)], [2, 3, 4]),
    ],
)
def test_labels(labels, expected):
    found = check_labels(labels, 3)
    assert found == expected and not any(np.ndim(label) for label in found)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([[0.2, 0.8], [1, 0], [0, 1]]),
        np.array([[1, 1], [1, 0], [0, 1]]),
        np.zeros((3, 2)),
        np.zeros((3, 2, 2)),
        [["a", "b"]] * 3,
        [[1], [1, 2], [3]],
        "abc",
        7,
    ],
)
def test_labels_that_are_neither_classes_nor_one_hot(labels):
    with pytest.raises(ValueError, match="one-hot rows.*Received"):
        check_labels(labels, 3)


def test_labels_are_one_for_each_image():
    with pytest.raises(ValueError, match="2 labels for 3 images"):
        check_labels(["a", "b"], 3)
    with pytest.raises(ValueError, match="for each input"):
        check_labels(np.eye(2), 3, "input")


@pytest.mark.parametrize("value", [2.0, True, np.float32(2), np.ones(2), [2]])
def test_choices_are_of_their_type(value):
    with pytest.raises(ValueError, match="`extent` must be one of None, 2, 4"):
        check_choice("extent", value, (None, 2, 4))
    assert type(check_choice("extent", np.int64(4), (None, 2, 4))) is int
    assert check_choice("extent", None, (None, 2, 4)) is None


def test_nearest():
    names = ["block3_out", "block2_out", "head"]
    assert nearest("haed", names) == " Did you mean 'head'?"
    offered = nearest("block3_ot", names)
    assert offered.startswith(" Did you mean 'block3_out' or 'block2_out'")
    assert nearest("zzz", names) == ""
    assert nearest("x", []) == ""
