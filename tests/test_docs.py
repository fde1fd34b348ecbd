"""The pages of docs/ say what the package does: code, numbers, figures."""

import importlib.util
import pathlib
import re

import matplotlib
import pytest

import keras_attention
from keras_attention.catalogue import mechanisms
from keras_attention.positions.get import SHORT

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CODE = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
SHAPES = {"56×56×256": (56, 56, 256), "14×14×1024": (14, 14, 1024)}
HEADINGS = [
    "Formula",
    "When to use it",
    "Cost",
    "In the paper",
    "Where this differs",
    "In code",
]


def relative(path):
    return str(path.relative_to(DOCS))


def mechanism_pages():
    return [p for p in (DOCS / "mechanisms").glob("*.md") if p.stem != "index"]


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if CODE.search(p.read_text())], ids=relative
)
def test_code_runs(page, tmp_path, monkeypatch):
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text(), {}
    for snippet in CODE.finditer(text):
        line = text[: snippet.start(1)].count("\n")
        code = "\n" * line + snippet.group(1)
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.slow
def test_costs_are_those_of_the_package():
    counted = {
        (found.layer.__name__, name): (found.parameters, found.multiply_adds)
        for name, shape in SHAPES.items()
        for found in mechanisms(shape)
    }
    row = re.compile(r"^\| `(\w+)` \| (\S+) \| ([\d,]+) \| ([\d,]+) \|$", re.M)
    written = {
        (layer, shape): tuple(int(n.replace(",", "")) for n in numbers)
        for page in mechanism_pages()
        for layer, shape, *numbers in row.findall(page.read_text())
    }
    assert written == counted


@pytest.mark.slow
def test_the_table_of_choices_has_the_costs_of_its_layers():
    text = (DOCS / "choosing.md").read_text()
    images = text[text.index("## Images") : text.index("## Where")]
    written = {
        layer: (parameters, additions)
        for layer, parameters, additions in re.findall(
            r"^\| `(\w+)` \| [^|]+ \| ([\d,]+) \| ([\d,]+) \|", images, re.M
        )
    }
    costs = {
        found.layer.__name__: (
            f"{found.parameters:,}",
            f"{found.multiply_adds:,}",
        )
        for found in mechanisms((56, 56, 256))
    }
    assert len(written) > 10
    assert written == {layer: costs[layer] for layer in written}


def test_the_times_of_the_choices_are_those_of_the_results():
    text = (DOCS / "choosing.md").read_text()
    written = dict(
        re.findall(r"^\| `(\w+)` (?:\| [^|]+ ){3}\| ([\d.]+) \|", text, re.M)
    )
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    section = results.split("## Image layers\n")[1].split("\n## ")[0]
    measured = re.findall(
        r"^\| (\w+) \| graph \| forward\+backward \| [\d.]+ \| 7N "
        r"\| ([\d.]+) ",
        section,
        re.M,
    )
    found = {name: f"{float(ratio):.1f}" for name, ratio in measured}
    assert len(written) > 10
    assert written == {name: found[name] for name in written}


def test_every_layer_has_its_page():
    heads = "".join(
        page.read_text().split("\n")[2] for page in mechanism_pages()
    )
    public = {
        name
        for name, value in vars(keras_attention.layers).items()
        if isinstance(value, type)
    } | {kind.__name__ for kind in SHORT.values()}
    assert (
        set(re.findall(r"`(\w+)`", heads)) - {"AttentionTransferModel"}
        == public
    )


@pytest.mark.parametrize("page", mechanism_pages(), ids=relative)
def test_pages_of_mechanisms_are_alike(page):
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
    assert f"](../figures/{page.stem}.svg)" in text


def test_figures_are_what_their_script_draws():
    spec = importlib.util.spec_from_file_location(
        "figures", DOCS / "figures.py"
    )
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    drawn = {
        page.stem: figures.draw(figures.read_diagram(page.read_text()))
        for page in mechanism_pages()
    }
    kept = {
        path.stem: path.read_text(encoding="utf-8")
        for path in (DOCS / "figures").glob("*.svg")
    }
    assert drawn == kept


def test_the_gallery_has_every_figure():
    text = (DOCS / "gallery.md").read_text()
    figures = [
        name.removeprefix("plot_")
        for name in vars(keras_attention.visualization)
        if name.startswith("plot_")
    ]
    shown = re.findall(r"^!\[.+\]\(gallery/(\w+)\.png\)$", text, re.M)
    assert sorted(shown) == sorted(figures)
    kept = [path.stem for path in (DOCS / "gallery").glob("*.png")]
    assert sorted(kept) == sorted(figures)
    for name in figures:
        assert f"`plot_{name}(" in text


def test_every_paper_is_listed():
    source = "".join(
        path.read_text()
        for path in pathlib.Path(keras_attention.__file__).parent.rglob("*.py")
    )
    papers = set(re.findall(r"arXiv:(\d{4}\.\d{4,5})", source))
    text = (DOCS / "papers.md").read_text()
    assert papers <= set(re.findall(r"arXiv:(\d{4}\.\d{4,5})", text))


def test_version_is_one():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {keras_attention.__version__}\n" in citation
    assert keras_attention.__version__ in (ROOT / "CHANGELOG.md").read_text()
