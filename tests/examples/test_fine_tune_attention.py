import pytest

from support.examples import load_example


@pytest.mark.slow
def test_the_smallest_setting(monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="comes with the extra `examples`")
    example = load_example(monkeypatch, "fine_tune_attention")
    example.main(["--seeds", "1", "--labels", "40", "--epochs", "4"])
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split()[:3] == ["head", "alone", "325"]
    assert rows[2].split()[:4] == ["head", "and", "SqueezeExcite", "3156"]
