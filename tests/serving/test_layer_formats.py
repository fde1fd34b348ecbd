"""The table of layers and formats in the documentation."""

from conformance.rows import ROWS
from serving.layer_formats import FORMATS
from serving.layer_formats import REFUSED
from serving.layer_formats import REFUSED_OPEN
from serving.layer_formats import cell
from serving.layer_formats import table


def test_the_table_has_a_line_for_each_layer():
    head, rule, *lines = table().splitlines()
    assert head == "| layer | ONNX | LiteRT | OpenVINO |"
    assert len(lines) == len({row.layer for row in ROWS})
    assert {line.count("|") for line in (head, rule, *lines)} == {5}


def test_what_is_refused_exists():
    names = {row.name for row in ROWS}
    for name, format in (*REFUSED, *REFUSED_OPEN):
        assert name in names and format in FORMATS


def test_a_refusal_is_said_with_its_reason(monkeypatch):
    monkeypatch.setitem(REFUSED, ("GSoP", "onnx"), "no square roots")
    monkeypatch.setitem(REFUSED, ("BAM-add", "onnx"), "no sums")
    assert cell("GSoP", "onnx") == "no: no square roots"
    assert cell("ChannelGSoP", "onnx") == cell("GSoP", "litert") == "yes"
    assert cell("BAM", "onnx") == "not add: no sums"
    monkeypatch.setitem(REFUSED_OPEN, ("CBAM", "onnx"), "a loop")
    monkeypatch.setitem(REFUSED_OPEN, ("CBAM-gamma", "onnx"), "a loop")
    monkeypatch.setitem(REFUSED_OPEN, ("BAM-add", "litert"), "a loop")
    assert cell("CBAM", "onnx") == "not at open lengths: a loop"
    assert cell("BAM", "litert") == "not add at open lengths: a loop"
