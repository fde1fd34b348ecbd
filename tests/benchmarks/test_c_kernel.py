"""The kernel in C gives what ours and the backend's attention give."""

import pathlib
import re
import statistics

import pytest

pytest.importorskip("tqdm", reason="needs the extra 'benchmark'")

import keras_attention as ka
from benchmarks.peers import c_kernel
from benchmarks.subjects import c_kernel as subject
from benchmarks.subjects.backend_attention import check
from support.arrays import assert_close
from support.attention import draw

ROOT = pathlib.Path(__file__).parents[2]
BACKENDS = {"TensorFlow": "tensorflow", "JAX": "jax", "torch": "torch"}
compiled = pytest.mark.skipif(
    not c_kernel.is_available(), reason="needs g++ and AVX-512"
)


@pytest.mark.slow  # It is compiled.
@compiled
@pytest.mark.parametrize("is_layer", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 47, 131])
def test_cases_are_one(length, causal, is_layer):
    runs = subject.make(3, length, causal, is_layer, backward=True)
    check(runs, "attention", subject.TOLERANCE)


@pytest.mark.slow
@compiled
@pytest.mark.parametrize("queries, keys", [(53, 71), (71, 53)])
def test_the_last_query_is_at_the_last_key(queries, keys):
    query, key, value = (
        subject.steps.to_tensor(draw(2, length, 3, 64, seed=n), "float32")
        for n, length in enumerate((queries, keys, keys))
    )
    assert_close(
        c_kernel.attend(query, key, value, causal=True),
        ka.ops.scaled_dot_product_attention(query, key, value, causal=True),
        1e-5,
    )


def test_the_page_has_the_ratios_of_the_tables():
    page = (ROOT / "docs" / "c_kernel.md").read_text()
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    for title, backend in BACKENDS.items():
        head = f"## Attention by a C kernel on {backend}, cpu\n"
        section = results.split(head)[1].split("\n## ")[0]
        lines = re.findall(r"^\|(.*)\|$", section, re.M)[2:]
        cells = [[cell.strip() for cell in line.split("|")] for line in lines]
        for kind in subject.KINDS:
            row = [title, kind]
            for column in (5, 6):
                for what in ("operation", "layer"):
                    ratios = [
                        float(case[column].split()[0])
                        for case in cells
                        if case[1:3] == [kind, what]
                    ]
                    assert len(ratios) == 10
                    each = min(ratios), statistics.median(ratios), max(ratios)
                    row.append(", ".join(f"{ratio:.2f}" for ratio in each))
            assert f"| {' | '.join(row)} |" in page
