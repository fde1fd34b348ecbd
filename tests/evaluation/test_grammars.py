import re

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_attention.evaluation import AgreementGrammar
from keras_attention.evaluation import WordSenseGrammar
from keras_attention.evaluation.agreement_grammar import NOUNS
from keras_attention.evaluation.agreement_grammar import RELATIVE_VERBS
from keras_attention.evaluation.agreement_grammar import VERBS
from keras_attention.evaluation.word_sense_grammar import TOPICS

NUMBER = {form: number for pair in NOUNS for number, form in enumerate(pair)}
VERB_NUMBER = {
    form: number
    for pair in [*VERBS, *RELATIVE_VERBS]
    for number, form in enumerate(pair)
}
NAMES = ("singular", "plural")
seeds = st.integers(0, 2**31 - 1)
fast = settings(deadline=None, max_examples=25)


@fast
@given(seeds, st.integers(0, 24), st.integers(0, 3), st.booleans())
def test_agreement_items_are_what_their_metadata_say(
    seed, distance, attractors, held_out
):
    if 3 * attractors > distance:
        distance += 3 * attractors
    grammar = AgreementGrammar(seed=seed)
    items = grammar.items([distance], [attractors], 4, held_out)
    held_out_forms = {f for pair in grammar.held_out_nouns for f in pair}
    known = set(grammar.words)
    for item in items:
        words = item.reference.split()
        (wrong,) = item.contrastive
        assert words[:-1] == wrong.split()[:-1]
        assert set(words) | set(wrong.split()) <= known
        assert len(words) == distance + 3
        subject = NUMBER[words[1]]
        assert (words[1] in held_out_forms) == held_out
        assert NAMES[subject] == item.metadata["number"]
        assert VERB_NUMBER[words[-1]] == subject
        assert VERB_NUMBER[wrong.split()[-1]] == 1 - subject
        inner = [NUMBER[w] for w in words[2:] if w in NUMBER]
        assert len(inner) == item.metadata["nouns"]
        assert inner.count(1 - subject) == attractors
        assert item.metadata["distance"] == distance
        assert NAMES[[subject, *inner][-1]] == item.metadata["nearest_number"]
        # A clause's verb agrees with the clause's noun.
        for noun, verb in zip(words[2:], words[3:-1], strict=False):
            if verb in VERB_NUMBER:
                assert NUMBER[noun] == VERB_NUMBER[verb]
    counts = [item.metadata["number"] for item in items]
    assert counts.count("singular") == counts.count("plural") == 2


@fast
@given(seeds, st.integers(0, 10))
def test_held_out_nouns_are_trained_right_before_the_verb_only(seed, longest):
    grammar = AgreementGrammar(trained_distance=longest, seed=seed)
    held_out = {f for pair in grammar.held_out_nouns for f in pair}
    assert len(grammar.held_out_nouns) == 7
    assert not held_out & {f for pair in grammar.trained_nouns for f in pair}
    for text in grammar.training_texts(40):
        words = text.split()
        assert len(words) - 3 <= longest
        assert VERB_NUMBER[words[-1]] == NUMBER[words[1]]
        if held_out & set(words):
            assert len(words) == 3


def test_held_out_nouns_are_seen_in_training():
    grammar = AgreementGrammar()
    seen = {word for t in grammar.training_texts(2000) for word in t.split()}
    assert {f for pair in grammar.held_out_nouns for f in pair} <= seen


def test_distances_and_attractors_are_crossed():
    items = AgreementGrammar().items([0, 3, 7], [0, 1, 2], count=4)
    cells = {}
    for item in items:
        cell = item.metadata["distance"], item.metadata["attractors"]
        cells[cell] = cells.get(cell, 0) + 1
    assert cells == dict.fromkeys(
        [(0, 0), (3, 0), (3, 1), (7, 0), (7, 1), (7, 2)], 4
    )


def test_agreement_baselines():
    grammar = AgreementGrammar()
    near = grammar.baselines(grammar.items([3], [1], count=20))
    assert near["majority"].accuracy.value == 0.5
    assert near["nearest_noun"].accuracy.value == 0
    plain = grammar.baselines(grammar.items([3], [0], count=20))
    assert plain["nearest_noun"].accuracy.value == 1
    assert plain["nearest_noun"].by("distance")[3].total == 20


@fast
@given(seeds, st.integers(0, 24), st.booleans())
def test_sense_items_are_what_their_metadata_say(seed, distance, held_out):
    grammar = WordSenseGrammar(seed=seed)
    cues = {cue: topic for topic, many in TOPICS.items() for cue in many}
    for item in grammar.items([distance], 4, held_out, translation=True):
        words = item.source.split()
        (cue,) = [w for w in words if w in cues]
        (word,) = [w for w in words if w == item.metadata["word"]]
        assert abs(words.index(cue) - words.index(word)) == distance + 1
        assert item.metadata["cue_first"] == (
            words.index(cue) < words.index(word)
        )
        topic = cues[cue]
        assert item.reference == f"{word}-{topic}"
        assert {*item.contrastive} == {
            f"{word}-{other}" for other in TOPICS if other != topic
        }
        trained = grammar.trained_cues[word, topic]
        assert (cue in trained) != held_out
        assert grammar.senses[word][item.metadata["rank"] - 1] == topic
        assert {*words, *item.texts} <= set(grammar.words)


@fast
@given(seeds)
def test_held_out_pairs_are_not_trained(seed):
    grammar = WordSenseGrammar(trained_distance=3, seed=seed)
    cues = {cue: topic for topic, many in TOPICS.items() for cue in many}
    for source, sense in zip(*grammar.training_pairs(50), strict=True):
        word, topic = sense.split("-")
        (cue,) = [w for w in source.split() if w in cues]
        assert cue in grammar.trained_cues[word, topic]
        places = [source.split().index(w) for w in (word, cue)]
        assert abs(places[0] - places[1]) <= 4


def test_senses_are_skewed_and_the_baseline_knows_the_word_alone():
    grammar = WordSenseGrammar(skew=0.5)
    assert grammar.frequencies == [n / 15 for n in (8, 4, 2, 1)]
    _, senses = grammar.training_pairs(3000)
    most = [
        grammar.senses[s.split("-")[0]][0] == s.split("-")[1] for s in senses
    ]
    assert abs(sum(most) / 3000 - 8 / 15) < 0.04
    items = grammar.items([0, 4], count=40)
    rule = grammar.baselines(items)["most_frequent_sense"]
    assert rule.accuracy.value == 0.25
    assert [a.value for a in rule.by("frequency").values()] == [0, 0, 0, 1]
    # The rare sense of one word is the frequent one of another.
    assert len({topics[0] for topics in grammar.senses.values()}) > 1


@pytest.mark.parametrize("grammar", [AgreementGrammar, WordSenseGrammar])
def test_grammars_are_reproducible(grammar):
    a, b, other = grammar(seed=3), grammar(seed=3), grammar(seed=4)
    assert a.training_texts(20) == b.training_texts(20)
    assert a.items(count=2) == b.items(count=2)
    assert a.training_texts(20) != other.training_texts(20)
    assert a.training_texts(20) != a.training_texts(20, seed=1)
    assert a.items(count=2) != a.items(count=2, seed=1)
    # What was drawn before does not matter.
    b.training_texts(5)
    assert a.items(count=2) == b.items(count=2)


@pytest.mark.parametrize("grammar", [AgreementGrammar, WordSenseGrammar])
def test_vocabulary_and_training_data(grammar):
    made = grammar()
    vocabulary = made.vocabulary
    assert len(set(vocabulary.tokens)) == len(vocabulary)
    x, y = made.training_data(30)
    assert x.shape == y.shape and x.shape[0] == 30
    assert (x[:, 1:] == y[:, :-1])[x[:, 1:] > 0].all()
    assert x.max() < len(vocabulary) and 1 not in x
    for item in made.items(count=2):
        for text in item.texts:
            assert not vocabulary.unknown_words(text)
            assert vocabulary.decode(vocabulary.encode(text)) == text


def test_a_sentence_on_paper():
    text = AgreementGrammar(seed=1).items([6], [1], 1)[0].reference
    assert re.fullmatch(r"the \w+ (\w+ ){6}\w+", text)


@pytest.mark.parametrize(
    "call",
    [
        lambda: AgreementGrammar(trained_distance=-1),
        lambda: AgreementGrammar(held_out=1.0),
        lambda: AgreementGrammar(seed=-1),
        lambda: AgreementGrammar().items([2], [1]),
        lambda: AgreementGrammar().items([]),
        lambda: AgreementGrammar().items([3.5]),
        lambda: AgreementGrammar(held_out=0.0).items(),
        lambda: AgreementGrammar().items(count=0),
        lambda: AgreementGrammar().training_texts(0),
        lambda: WordSenseGrammar(skew=0),
        lambda: WordSenseGrammar(skew=1.5),
        lambda: WordSenseGrammar(held_out=0.0).items(),
        lambda: WordSenseGrammar().items([-1]),
        lambda: WordSenseGrammar().items(translation=1),
        lambda: WordSenseGrammar().training_pairs(0),
    ],
)
def test_bad_arguments(call):
    with pytest.raises((TypeError, ValueError), match="Received"):
        call()
