import pytest

from keras_attention.evaluation import ContrastiveItem


def test_the_reference_must_beat_every_other_text():
    item = ContrastiveItem("a", ["b", "c"], metadata={"distance": 3})
    decide = lambda *scores: [d.correct for d in item.decide(scores)]  # noqa: E731
    assert decide(-1.0, -2.0, -3.0) == [True]
    assert decide(-2.0, -1.0, -3.0) == [False]
    assert decide(-2.0, -3.0, -1.0) == [False]
    assert item.decide([-1, -2, -3])[0].metadata == {"distance": 3}


def test_ties_are_wrong():
    item = ContrastiveItem("a", ["b"])
    assert not item.decide([-1.5, -1.5])[0].correct
    infinite = float("-inf")
    assert not item.decide([infinite, infinite])[0].correct


def test_pairs_are_decisions_of_their_own():
    item = ContrastiveItem(
        "a",
        ["b", "c"],
        metadata={"origin": "x"},
        pair_metadata=[{"distance": 1}, {"distance": 2}],
    )
    decisions = item.decide([-2.0, -3.0, -1.0])
    assert [d.correct for d in decisions] == [True, False]
    assert [d.metadata for d in decisions] == [
        {"origin": "x", "distance": 1},
        {"origin": "x", "distance": 2},
    ]


def test_join_source():
    item = ContrastiveItem("x", ["y"], source="s", metadata={"rank": 1})
    joined = item.join_source("means")
    assert joined.texts == ("s means x", "s means y")
    assert joined.source is None and joined.metadata == {"rank": 1}
    assert joined.join_source("means") is joined


def test_bad_items():
    with pytest.raises(TypeError, match="a sequence of texts"):
        ContrastiveItem("a", "b")
    with pytest.raises(TypeError, match="f:3: .* must be strings.*None"):
        ContrastiveItem("a", [None], origin="f:3")
    with pytest.raises(ValueError, match="f:3: .*at least one contrastive"):
        ContrastiveItem("a", [], origin="f:3")
    with pytest.raises(ValueError, match="1 for 2 texts"):
        ContrastiveItem("a", ["b", "c"], pair_metadata=[{}])
    with pytest.raises(ValueError, match="f:3: .*Received: 3 scores"):
        ContrastiveItem("a", ["b"], origin="f:3").decide([1, 2, 3])
