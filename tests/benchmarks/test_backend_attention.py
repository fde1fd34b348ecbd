"""Every kind of attention that is timed gives what Keras and a kernel give."""

import pytest

pytest.importorskip("tqdm", reason="needs the extra 'benchmark'")

from benchmarks.subjects import backend_attention
from support.networks import first_of


@pytest.mark.parametrize("kind", first_of(backend_attention.KINDS, 2))
def test_cases_are_one(kind):
    arguments = backend_attention.KINDS[kind]
    runs, path = backend_attention.make(2, 64, "float32", True, **arguments)
    assert path and set(runs) >= {"ours", "Keras"}
    backend_attention.check(runs, kind, 1e-4)
