import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_attention.evaluation import CONTRAWSD_FREQUENCY_BINS
from keras_attention.evaluation import DISTANCE_BINS
from keras_attention.evaluation import LINGEVAL97_FREQUENCY_BINS
from keras_attention.evaluation import Accuracy
from keras_attention.evaluation import ContrastiveItem
from keras_attention.evaluation import ContrastiveResults
from keras_attention.evaluation import Decision


def test_wilson_interval_of_a_published_example():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 and 0 of 20.
    low, high = Accuracy(81, 263).interval
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = Accuracy(0, 20).interval
    assert (round(low, 4), round(high, 4)) == (0, 0.1611)


@given(st.integers(1, 10**6), st.data(), st.floats(0.01, 0.999))
def test_interval_holds_the_value(total, data, confidence):
    correct = data.draw(st.integers(0, total))
    accuracy = Accuracy(correct, total, confidence)
    low, high = accuracy.interval
    assert 0 <= low <= accuracy.value + 1e-12
    assert accuracy.value - 1e-12 <= high <= 1


@pytest.mark.parametrize(
    "arguments",
    [(1, 0), (3, 2), (-1, 2), (1, 2, 1.0), (1, 2, 0.0), (0.5, 2), (1, True)],
)
def test_bad_counts(arguments):
    with pytest.raises((TypeError, ValueError), match="Received"):
        Accuracy(*arguments)


def results(*rows):
    return ContrastiveResults(Decision(known, ok) for known, ok in rows)


def test_groups_and_crossed_groups():
    found = results(
        ({"distance": 10, "attractors": 1}, True),
        ({"distance": 2, "attractors": 0}, True),
        ({"distance": 2, "attractors": 1}, False),
        ({}, False),
    )
    assert (found.accuracy.correct, found.accuracy.total) == (2, 4)
    by = found.by("distance")
    assert list(by) == [2, 10]
    assert [(a.correct, a.total) for a in by.values()] == [(1, 2), (1, 1)]
    assert list(found.by("distance", "attractors")) == [(2, 0), (2, 1), (10, 1)]
    table = found.table("distance", "attractors").splitlines()
    assert table[0].split() == [
        "all",
        "50.0%",
        "[15.0,",
        "85.0]",
        "(2",
        "of",
        "4)",
    ]
    assert table[2].startswith("distance 2, attractors 1")


@pytest.mark.parametrize(
    "bins, value, name",
    [
        (DISTANCE_BINS, 0, "0"),
        (DISTANCE_BINS, 15, "15"),
        (DISTANCE_BINS, 16, ">15"),
        (LINGEVAL97_FREQUENCY_BINS, 2, "2"),
        (LINGEVAL97_FREQUENCY_BINS, 3, "3-5"),
        (LINGEVAL97_FREQUENCY_BINS, 10000, "5001-10000"),
        (LINGEVAL97_FREQUENCY_BINS, 10001, ">10000"),
        (CONTRAWSD_FREQUENCY_BINS, 20, "0-20"),
        (CONTRAWSD_FREQUENCY_BINS, 21, "21-50"),
    ],
)
def test_published_bins(bins, value, name):
    assert list(results(({"x": value}, True)).by("x", bins=bins)) == [name]


def test_bad_groups():
    with pytest.raises(ValueError, match="Did you mean 'distance'"):
        results(({"distance": 1}, True)).by("distanc")
    with pytest.raises(ValueError, match="there are none"):
        results(({}, True)).by("distance")
    with pytest.raises(ValueError, match="3 items left out"):
        ContrastiveResults([], left_out=3)
    with pytest.raises(ValueError, match="1 items for 2 items"):
        item = ContrastiveItem("a", ["b"])
        ContrastiveResults.from_scores([item, item], [[1, 2]])
