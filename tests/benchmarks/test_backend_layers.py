"""What is timed on every backend gives what it is timed against."""

import numpy as np
import pytest

pytest.importorskip("tqdm", reason="needs the extra 'benchmark'")

from benchmarks.subjects import backend_layers
from support.networks import first_of


@pytest.mark.parametrize("dtype", first_of(["float32", "bfloat16"], 1))
@pytest.mark.parametrize("kind", first_of(["convolutions", "gates"], 1))
def test_pairs_are_one(kind, dtype):
    shape = {"gates": (2, 6, 5, 32), "convolutions": (2, 11, 32)}[kind]
    table = getattr(backend_layers, kind)([shape], (dtype,), 1)
    assert {row[2] for row in table.rows} == {dtype}
    assert {row[3] for row in table.rows} == set(backend_layers.PASSES)


@pytest.mark.slow
def test_a_step_of_transfer_is_timed_with_its_parts():
    cases = backend_layers.transfer_cases(4, 8)
    assert list(cases) == ["student", "teacher", "ours"]
    assert np.isfinite(cases["ours"]()).all()
    assert cases["teacher"]().shape == (4, 10)
