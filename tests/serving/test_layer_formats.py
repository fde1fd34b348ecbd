"""The table of layers and formats in the documentation."""

from conformance.rows import ROWS
from serving.layer_formats import FORMATS
from serving.layer_formats import PAGE
from serving.layer_formats import REFUSED
from serving.layer_formats import cell
from serving.layer_formats import with_table


def test_the_page_has_the_table():
    """`python -m serving.layer_formats`, run in `tests`, writes it."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page)


def test_what_is_refused_exists():
    names = {row.name for row in ROWS}
    for name, format in REFUSED:
        assert name in names and format in FORMATS


def test_a_refusal_is_said_with_its_reason(monkeypatch):
    monkeypatch.setitem(REFUSED, ("GSoP", "onnx"), "no square roots")
    monkeypatch.setitem(REFUSED, ("BAM-add", "onnx"), "no sums")
    assert cell("GSoP", "onnx") == "no: no square roots"
    assert cell("ChannelGSoP", "onnx") == cell("GSoP", "litert") == "yes"
    assert cell("BAM", "onnx") == "not add: no sums"
