"""The kernel in C gives what ours and the backend's attention give."""

import pytest

pytest.importorskip("tqdm", reason="needs the extra 'benchmark'")

from benchmarks.peers import c_kernel
from benchmarks.subjects import c_kernel as subject
from benchmarks.subjects.backend_attention import check


@pytest.mark.slow  # It is compiled.
@pytest.mark.skipif(not c_kernel.is_available(), reason="needs g++ and AVX-512")
@pytest.mark.parametrize("is_layer", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 47, 131])
def test_cases_are_one(length, causal, is_layer):
    runs = subject.make(3, length, causal, is_layer, backward=True)
    check(runs, "attention", "float32")
