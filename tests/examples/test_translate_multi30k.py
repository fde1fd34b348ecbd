import gzip
import json

import pytest

from support.examples import load_example

PAIRS = {
    "train": [
        ("A man walks home .", "Ein Mann geht nach Hause ."),
        ("Two men walk home .", "Zwei Männer gehen nach Hause ."),
        ("A dog runs home .", "Ein Hund läuft nach Hause ."),
        ("Two dogs run home .", "Zwei Hunde laufen nach Hause ."),
    ]
    * 3,
    "val": [("A man runs home .", "Ein Mann läuft nach Hause .")],
    "test_2016_flickr": [
        ("A man runs home .", "Ein Mann läuft nach Hause ."),
        ("Two dogs walk home .", "Zwei Hunde gehen nach Hause ."),
        ("A dog walks home .", "Ein Hund geht nach Hause ."),
    ],
}


@pytest.fixture
def example(monkeypatch):
    for package in ("sacrebleu", "HanTa", "ablaut", "lemminflect"):
        pytest.importorskip(
            package,
            reason=f"{package} comes with the extra `translation`: "
            "pip install 'keras-attention-layers[translation]'",
        )
    return load_example(monkeypatch, "translate_multi30k")


@pytest.fixture
def folder(tmp_path):
    for split, pairs in PAIRS.items():
        for place, language in enumerate(("en", "de")):
            path = tmp_path / f"{split}.{language}.gz"
            with gzip.open(path, "wt", encoding="utf-8") as stream:
                stream.writelines(f"{pair[place]}\n" for pair in pairs)
    return tmp_path


@pytest.mark.parametrize(
    "language, text, expected",
    [
        ("de", "Ein Mann läuft .", [(2, "laufen", "singular")]),
        ("de", "Zwei Männer gehen heim .", [(2, "geht", "plural")]),
        ("de", "Der Hund war müde .", [(2, "waren", "singular")]),
        ("de", "Ein roter Ball .", []),
        ("en", "A man walks .", [(2, "walk", "singular")]),
        ("en", "Two men are tired .", [(2, "is", "plural")]),
        ("en", "The children were tired .", [(2, "was", "plural")]),
        ("en", "A red ball .", []),
    ],
)
def test_numbers_are_flipped(example, language, text, expected):
    flipper = example.NumberFlipper(language)
    assert list(flipper.flip(text.split())) == expected


def test_pairs_keep_to_the_words_that_the_model_knows(example):
    vocabulary = example.Vocabulary.from_texts(
        ["ein mann läuft laufen zwei männer gehen nach hause ."]
    )
    sources, references = zip(
        ("A man runs .", "Ein Mann läuft."),
        ("Two men walk home .", "Zwei Männer gehen nach Hause."),
        strict=True,
    )
    items = example.contrastive_pairs(
        sources, references, vocabulary, example.NumberFlipper("de")
    )
    # "geht" is no word of the vocabulary.
    (item,) = items
    assert item.texts == ("Ein Mann läuft .", "Ein Mann laufen .")
    assert item.source == "A man runs ."
    assert item.metadata == {"origin": "test_2016_flickr.1"}
    assert item.pair_metadata[0]["number"] == "singular"


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("source", ["en", "de"])
def test_the_smallest_setting(example, folder, capsys, source):
    arguments = ["--data", str(folder), "--source", source, "--epochs", "1"]
    arguments += ["--width", "8", "--mixers", "lightweight"]
    arguments += ["--decode-batch", "1", "--suite", str(folder / "suite")]
    example.main(arguments)
    shown = capsys.readouterr().out
    header, _, row = shown.splitlines()[-3:]
    assert header.startswith("| mixer | parameters | loss | BLEU | words/s")
    assert row.startswith("| lightweight | ") and "of 3)" in row
    suite = json.loads((folder / "suite").read_text())
    assert [entry["errors"][0]["number"] for entry in suite] == [
        "singular",
        "plural",
        "singular",
    ]
