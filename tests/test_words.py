"""Public text uses the words of the field, as Keras' documentation does.

The test reads the pages, and in the package, the examples and the benchmarks
all docstrings, comments and other strings: errors, help, figure labels.
"""

import io
import json
import pathlib
import re
import tokenize

ROOT = pathlib.Path(__file__).parents[1]
# What a reader would have to guess, and the field's word for it.
WORDS = {
    r"taught|teach|teaches|teaching": "train, distill",
    r"rooms?": "subpackage, module; space",
    r"anew": "again",
    r"token numbers?": "token IDs",
    r"(?:is|are|be|was|were) no numbers?": "is NaN or infinite",
    r"pictures?": "image, figure, plot",
    r"drawn": "plotted; sampled",
    r"stands?": "is placed, is",
    r"beside": "next to, compared with, in addition to",
    r"had from": "available from",
    r"one an example": "one per example",
    r"mixers? of positions": "token mixer, sequence mixer",
    r"insertion (?:places|sites)": "insertion points",
    r"(?:query|queries)(?: that)? sees?": "attends to",
    r"hidden keys?": "masked keys",
    r"out of the house": "export, deploy",
    r"a (?:big|small) one": "a large model, a small model",
    r"taps?": "intermediate output",
    # American spelling, as in Keras.
    r"(?:un)?labelled": "labeled",
    r"neighbours?(?:hoods?)?": "neighbor",
    r"cent(?:re|res|red)": "center, centered",
    r"colours?": "color",
    r"behaviours?": "behavior",
    r"grey": "gray",
}
# Where a word is the field's own: files, and phrases that are skipped.
FILTERS = re.compile(
    r"conv|delta_net|filters\.py|symbols\.md|page\.js"
)  # filter taps
PHRASES = re.compile(r"\bstands? (?:for|out)\b|\bevery tap of the learned\b")
# One of the grammar's prepositions.
ALLOWED = {"keras_attention/evaluation/agreement_grammar.py": {"beside"}}
FORBIDDEN = re.compile(
    rf"\b(?:{'|'.join(WORDS)})\b".replace(" ", r"\s+"), re.IGNORECASE
)
# Before Python 3.12 an f-string is one token, with the names in its braces.
FSTRING = getattr(tokenize, "FSTRING_MIDDLE", None)
STRINGS = {tokenize.STRING, tokenize.COMMENT, FSTRING}
FOLDERS = {
    "docs": ("md", "py"),
    "examples": ("py", "md", "ipynb"),
    "benchmarks": ("py", "md"),
    "keras_attention": ("py", "html", "js"),
}


def public_files():
    yield from ROOT.glob("*.md")
    for folder, suffixes in FOLDERS.items():
        for suffix in suffixes:
            for path in (ROOT / folder).rglob(f"*.{suffix}"):
                if "_build" not in path.parts:
                    yield path


def texts_of(path):
    """Yield `(line, text)`: a page, cells, or the strings and comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        for number, cell in enumerate(json.loads(text)["cells"]):
            yield number, "".join(cell["source"])
    elif path.suffix != ".py":
        yield 1, text
    else:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in STRINGS:
                string = token.string
                if re.match(r"[rR]?[fF]", string) and token.type != FSTRING:
                    string = re.sub(r"\{[^{}]*\}", "{}", string)
                yield token.start[0], string


def forbidden_words(path, root=ROOT):
    """Yield a line for each forbidden word in a file."""
    if not FORBIDDEN.search(path.read_text(encoding="utf-8")):
        return  # Without the time that tokenizing takes.
    name = path.relative_to(root).as_posix()
    for line, text in texts_of(path):
        text = PHRASES.sub(lambda match: "\n" * match[0].count("\n"), text)
        for match in FORBIDDEN.finditer(text):
            word = match[0].lower()
            if word.startswith("tap") and FILTERS.search(name):
                continue
            if word not in ALLOWED.get(name, ()):
                at = line + text.count("\n", 0, match.start())
                yield f"{name}:{at}: {word!r}, not {replacement(match[0])}"


def replacement(words):
    return next(
        f"a word of the field: {field}"
        for pattern, field in WORDS.items()
        if re.fullmatch(pattern.replace(" ", r"\s+"), words, re.IGNORECASE)
    )


def test_public_text_has_the_words_of_the_field():
    found = [line for path in public_files() for line in forbidden_words(path)]
    assert not found, "\n".join(["Say it otherwise:", *sorted(found)])


def test_the_words_are_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        'beside = 1  # not taught\nraise ValueError(f"No {beside} token\\n")\n'
        'x = """It stands for x.\n\nTwo token\nnumbers"""\n'
    )
    found = [line.split(", not")[0] for line in forbidden_words(path, tmp_path)]
    assert found == ["module.py:1: 'taught'", "module.py:5: 'token\\nnumbers'"]
