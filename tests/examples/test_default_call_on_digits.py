import re

import pytest

from support.examples import load_example


@pytest.mark.slow
def test_the_smallest_setting(monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="digits come with scikit-learn")
    example = load_example(monkeypatch, "default_call_on_digits")
    example.main(["--fast"])
    shown = capsys.readouterr().out
    for name in example.ROWS:
        rows = re.findall(rf"^{re.escape(name)} +\d.*±", shown, re.M)
        assert len(rows) == len(example.OPTIMIZERS), name
