"""The files of the published suites, in the forms their authors give them."""

import json

import pytest

from keras_attention import evaluation as ev

LINGEVAL97 = """[
  {
    "source": "The market falls",
    "reference": "Der Markt fällt",
    "origin": "newstest.1",
    "errors": [
      {"type": "np_agreement", "contrastive": "Die Markt fällt",
       "distance": 1, "frequency": 2020},
      {"type": "polarity_particle_nicht_ins",
       "contrastive": "Der Markt fällt nicht"},
      {"type": "subj_verb_agreement", "contrastive": "Der Markt fallen",
       "distance": "0", "frequency": 3}
    ]
  },
  {"source": "Yes", "reference": "Ja", "origin": "newstest.2", "errors": []}
]
"""
CONTRAWSD = """[
  {"source": "Der Absatz", "reference": "the sales", "ambig word": "Absatz",
   "sense": "sales", "original translation": "sales",
   "frequency of sense/ambig word in wmt16": "12/40",
   "errors": [{"contrastive": "the heel"}, {"contrastive": "the paragraph"}]},
  {"source": "Die Bank", "reference": "the bench", "ambig word": "Bank",
   "sense": "bench", "errors": [{"contrastive": "the bank"}]}
]
"""
BLIMP = [
    {
        "sentence_good": "A niece of most senators hasn't left.",
        "sentence_bad": "A niece of most senators haven't left.",
        "UID": "distractor_agreement_relational_noun",
        "dependency_length": 5,
        "pairID": "0",
    },
    {
        "sentence_good": "The women meet.",
        "sentence_bad": "The woman meet.",
        "UID": "irregular_plural_subject_verb_agreement_2",
        "pairID": "1",
    },
]
MARVIN_LINZEN = (
    "test case\tgrammatical\tungrammatical\n"
    "prep_anim--sing_MS_MV_plur_ES\tthe farmer across from the parents laughs."
    "\tthe farmer across from the parents laugh.\n"
    "simple_agrmt--sing_MS_MV--0\tthe author is tall.\tthe author are tall.\n"
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="suite.json"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


def test_lingeval97_judges_each_error_in_the_order_of_lines(write):
    items = ev.read_lingeval97(write(LINGEVAL97))
    assert items[0].source == "The market falls"
    assert items[0].origin.endswith("suite.json:2")
    assert items[1].origin.endswith("suite.json:15")
    # Costs, as the authors publish them: the reference, its errors, the next.
    path = write("2.5\n3.0\n2.5\n1.0\n0.1\n", "scores")
    scores = ev.read_scores(path, items, costs=True)
    assert scores == [(-2.5, -3.0, -2.5, -1.0), (-0.1,)]
    results = ev.ContrastiveResults.from_scores(items, scores)
    assert [d.correct for d in results.decisions] == [True, False, False]
    by = results.by("distance", bins=ev.DISTANCE_BINS)
    assert [(name, a.correct, a.total) for name, a in by.items()] == [
        ("0", 0, 1),
        ("1", 1, 1),
    ]
    assert results.by("paradigm")["np_agreement"].correct == 1


def test_contrawsd_must_beat_every_sense(write):
    items = ev.read_contrawsd(write(CONTRAWSD))
    assert items[0].metadata["frequency"] == 12
    assert items[0].metadata["word_frequency"] == 40
    assert items[0].metadata["paradigm"] == "Absatz:sales"
    path = write("2\n3\n2\n1\n5\n", "scores")
    results = ev.ContrastiveResults.from_scores(
        items, ev.read_scores(path, items, costs=True)
    )
    assert [d.correct for d in results.decisions] == [False, True]
    by = results.by("frequency", bins=ev.CONTRAWSD_FREQUENCY_BINS)
    assert list(by) == ["0-20"] and by["0-20"].total == 1


def test_blimp_file_and_folder(write, tmp_path):
    lines = [json.dumps(entry) for entry in BLIMP]
    path = write(lines[0] + "\n\n" + lines[1] + "\n", "b.jsonl")
    write(lines[0] + "\n", "a.jsonl")
    items = ev.read_blimp(path)
    assert [item.origin.rsplit(":")[-1] for item in items] == ["1", "3"]
    assert items[0].metadata["distance"] == 5
    assert "distance" not in items[1].metadata
    assert items[1].texts == ("The women meet.", "The woman meet.")
    assert len(ev.read_blimp(tmp_path)) == 3


def test_marvin_linzen(write):
    items = ev.read_marvin_linzen(write(MARVIN_LINZEN, "pairs.txt"))
    assert items[0].metadata == {
        "paradigm": "prep_anim",
        "condition": "sing_MS_MV_plur_ES",
    }
    assert items[1].texts == ("the author is tall.", "the author are tall.")
    assert items[1].origin.endswith("pairs.txt:3")


@pytest.mark.parametrize(
    "text, read, save",
    [
        (LINGEVAL97, ev.read_lingeval97, ev.write_lingeval97),
        (CONTRAWSD, ev.read_contrawsd, ev.write_contrawsd),
        (
            "".join(json.dumps(entry) + "\n" for entry in BLIMP),
            ev.read_blimp,
            ev.write_blimp,
        ),
        (MARVIN_LINZEN, ev.read_marvin_linzen, ev.write_marvin_linzen),
    ],
)
def test_what_is_written_reads_the_same(write, tmp_path, text, read, save):
    items = read(write(text))
    save(tmp_path / "copy", items)
    assert read(tmp_path / "copy") == items


def test_generated_suites_can_be_written(tmp_path):
    agreement = ev.AgreementGrammar().items([4], [1], count=2)
    ev.write_blimp(tmp_path / "a.jsonl", agreement)
    again = ev.read_blimp(tmp_path / "a.jsonl")
    assert [i.texts for i in again] == [i.texts for i in agreement]
    assert again[0].metadata["attractors"] == 1
    senses = ev.WordSenseGrammar().items([4], count=2, translation=True)
    ev.write_contrawsd(tmp_path / "s.json", senses)
    again = ev.read_contrawsd(tmp_path / "s.json")
    assert [i.texts for i in again] == [i.texts for i in senses]
    assert again[0].metadata["frequency"] == senses[0].metadata["frequency"]


def test_scores_round_trip(tmp_path):
    items = [
        ev.ContrastiveItem("a", ["b", "c"]),
        ev.ContrastiveItem("a", ["b", "c"]),
    ]
    scores = [(-1 / 3, -2.0, float("-inf")), (-1e-300, 0.0, -7.25)]
    ev.write_scores(tmp_path / "s", scores)
    assert ev.read_scores(tmp_path / "s", items) == scores


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"source": "The', '"sauce": "The', r"json:2: .*key 'source'"),
        ('"type": "np_agr', '"kind": "np_agr', r"json:2: .*key 'type'"),
        ("np_agreement", "np_agrement", r"json:2: .*mean 'np_agreement'"),
        ('"errors": []', '"errors": [3]', r"json:15: .*object. Received: 3"),
        ('"Ja"', "7", r"json:15: 'reference' must be of type str"),
        ('"distance": 1', '"distance": "far"', r"json:2: 'distance' must be"),
        ('"source": "Yes",', '"source" "Yes",', r"json:15: Not valid JSON"),
        ("  },\n", "  }\n", r"json:15: .*expected ','"),
        ("[\n  {", "{", r"json:1: .*JSON list"),
        ("\n]\n", "\n]]", "text after the list"),
        ("\n]\n", "", "Not valid JSON"),
    ],
)
def test_bad_lingeval97(write, old, new, message):
    assert old in LINGEVAL97
    with pytest.raises(ValueError, match=message):
        ev.read_lingeval97(write(LINGEVAL97.replace(old, new, 1)))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"sense": "sales",', "", r"json:2: .*'sense'"),
        ("12/40", "12 of 40", r"json:2: .*'12 of 40'"),
        ('[{"contrastive": "the bank"}]', "[]", r"json:6: .*at least one"),
    ],
)
def test_bad_contrawsd(write, old, new, message):
    with pytest.raises(ValueError, match=message):
        ev.read_contrawsd(write(CONTRAWSD.replace(old, new, 1)))


def test_bad_blimp(write, tmp_path):
    good = json.dumps(BLIMP[0])
    for line, message in [
        ("{", "jsonl:2 cannot be read: it is not valid JSON"),
        ("[]", "jsonl:2: .*JSON object"),
        (good.replace("sentence_bad", "bad"), "jsonl:2: .*'sentence_bad'"),
    ]:
        with pytest.raises(ValueError, match=message):
            ev.read_blimp(write(f"{good}\n{line}\n", "x.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"'\.jsonl'"):
        ev.read_blimp(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        ev.read_blimp(tmp_path / "nothing.jsonl")


def test_bad_marvin_linzen(write, tmp_path):
    header = MARVIN_LINZEN.splitlines()[0]
    for text, message in [
        ("", "txt:1: .*columns"),
        ("a\tb\n", "txt:1: .*columns"),
        (header + "\nx\ty\n", "txt:2: .*3 columns.*Received: 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            ev.read_marvin_linzen(write(text, "x.txt"))
    (tmp_path / "x.pickle").write_bytes(b"\x80\x04N.")
    (tmp_path / "renamed.txt").write_bytes(b"\x80\x04N.")
    for name in ("x.pickle", "renamed.txt"):
        with pytest.raises(ValueError, match="Pickles are not read"):
            ev.read_marvin_linzen(tmp_path / name)


def test_writers_refuse_items_of_another_kind(tmp_path):
    plain = ev.ContrastiveItem("a", ["b"])
    several = ev.ContrastiveItem("a", ["b", "c"])
    for save, item in [
        (ev.write_blimp, several),
        (ev.write_marvin_linzen, several),
        (ev.write_marvin_linzen, ev.ContrastiveItem("a\tb", ["b"])),
        (ev.write_lingeval97, plain),
        (ev.write_contrawsd, plain),
        (
            ev.write_lingeval97,
            ev.ContrastiveItem("a", ["b"], "s", pair_metadata=[{}]),
        ),
    ]:
        with pytest.raises(ValueError, match="Received"):
            save(tmp_path / "x", [item])
        assert not (tmp_path / "x").exists()


def test_bad_scores(write):
    items = [ev.ContrastiveItem("a", ["b"])]
    with pytest.raises(ValueError, match="2 for these 1 items.*with 3 lines"):
        ev.read_scores(write("1\n2\n3\n", "s"), items)
    with pytest.raises(ValueError, match="s:2: .*'x'"):
        ev.read_scores(write("1\nx\n", "s"), items)
