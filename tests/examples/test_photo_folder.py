import pytest

from support.examples import load_example


@pytest.mark.slow
def test_the_smallest_setting(monkeypatch, tmp_path, capsys):
    pytest.importorskip("click", reason="the command line needs click")
    example = load_example(monkeypatch, "photo_folder")
    example.main(["--fast", "--folder", str(tmp_path)])
    assert "draw0: labels alone " in capsys.readouterr().out
    assert len(list(tmp_path.glob("draw0/*/*.png"))) == 20
    assert (tmp_path / "draw0.keras").exists()
