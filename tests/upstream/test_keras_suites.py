"""Keras' own tests of its attention layers, run with ours in their place.

Keras' package brings them. What fails is written here with its reason, and
nothing else may fail.
"""

import collections
import os
import pathlib
import re
import subprocess
import sys
from xml.etree import ElementTree

import keras
import pytest
from keras.src.layers import attention

VERSION = "3.15.1"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.__version__ != VERSION,
        reason=f"the failures are those of the tests of Keras {VERSION}",
    ),
]

PRIVATE = "calls or overrides a private method, or reads a private attribute"
WORDING = "the error has other words"
INPUT_SHAPE = "names its argument `input_shape`; here it is `query_shape`"
ONE_TENSOR = "one tensor is no error here, but self-attention"
MASKED_SCORES = "a masked query's scores are zeros; the outputs are the same"
SCORES_IN_TRAINING = "the scores are those before dropout"
SCALE = "products are scaled by default; Keras' numbers need scale=1.0"
RANK_4 = "the axis before the last of four is that of heads"
FLOAT_MASK = "a mask of floats is an error"
# TensorFlow has no fused kernel: the tests of its errors are skipped there.
FUSED = (
    {}
    if keras.backend.backend() == "tensorflow"
    else {"test_flash_attention_with_errors": WORDING}
)

EXPECTED = {
    "MultiHeadAttentionTest": {
        **FUSED,
        "test_causal_only_skipped_for_subclass": PRIVATE,
        "test_compute_attention_combines_causal_and_explicit_mask"
        "_fused_fallback": PRIVATE,
        "test_compute_attention_combines_causal_and_explicit_mask"
        "_manual_path": PRIVATE,
        "test_invalid_scalar_args_rejected": WORDING,
        "test_masking_with_different_shapes": FLOAT_MASK,
        "test_multi_head_attention_output_shape_error": WORDING,
        "test_shape_mismatch_error_query_value_dim_mismatch": WORDING,
        "test_sliding_window_serialization": PRIVATE,
    },
    "GroupedQueryAttentionTest": {
        **FUSED,
        "test_causal_only_skipped_for_subclass": PRIVATE,
        "test_compute_attention_combines_causal_and_explicit_mask"
        "_fused_fallback": PRIVATE,
        "test_compute_attention_combines_causal_and_explicit_mask"
        "_manual_path": PRIVATE,
        "test_shape_mismatch_error_query_value_dim_mismatch": WORDING,
    },
    "AttentionTest": {
        "test_attention_calculate_score_mask_no_causal_no_vmask": PRIVATE,
        "test_attention_calculate_score_mask_with_causal_and_vmask": PRIVATE,
        "test_attention_calculate_score_mask_with_causal_no_vmask": PRIVATE,
        "test_attention_calculate_scores_with_scale": INPUT_SHAPE,
        "test_attention_compute_output_shape": INPUT_SHAPE,
        "test_attention_correctness": SCALE,
        "test_attention_errors": ONE_TENSOR,
        "test_attention_invalid_score_mode": WORDING,
        "test_attention_nd_inputs": RANK_4,
        "test_attention_with_dropout": SCORES_IN_TRAINING,
        "test_attention_with_mask": MASKED_SCORES,
    },
    "AdditiveAttentionTest": {
        "test_attention_errors": ONE_TENSOR,
        "test_attention_with_mask": MASKED_SCORES,
    },
}
# What the failure must say, for each reason.
SAYS = {
    PRIVATE: "has no attribute '_|KeyError: 'mask_is_none'",
    WORDING: 'does not match "|TypeError: `output_shape` must be',
    INPUT_SHAPE: "unexpected keyword argument 'input_shape'",
    ONE_TENSOR: "ValueError not raised",
    MASKED_SCORES: r"array\(\[\[\[1\., 0\.\],\s+\[0\., 0\.\]\]\]",
    SCORES_IN_TRAINING: r"assertNotAllClose\(scores1, scores2\)",
    SCALE: r"2\.3395",
    RANK_4: r"\(\[?2, 6, 8, 8\]?\) != \(2, 8, 6, 6\)",
    FLOAT_MASK: "TypeError: `attention_mask` must be boolean",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of each suite and test, what it says if it fails, or `None`."""
    folder = tmp_path_factory.mktemp("keras")
    (folder / "pytest.ini").write_text("[pytest]\n")
    suites = pathlib.Path(attention.__file__).parent.glob("*_test.py")
    tests = pathlib.Path(__file__).parents[1]
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "support.in_place_of_keras", "--rootdir", folder),
            *("-c", folder / "pytest.ini", "--junitxml", folder / "found.xml"),
            *sorted(suites),
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{tests.parent}:{tests}"},
        stdout=subprocess.DEVNULL,
        timeout=600,
    )
    found = collections.defaultdict(dict)
    for test in ElementTree.parse(folder / "found.xml").iter("testcase"):
        suite = test.get("classname").rpartition(".")[2]
        failures = test.findall("failure") + test.findall("error")
        text = "\n".join(
            f"{each.get('message')}\n{each.text}" for each in failures
        )
        found[suite][test.get("name")] = text if failures else None
    return found


def test_every_suite_runs(results):
    assert results.keys() == EXPECTED.keys()
    counts = {suite: len(tests) for suite, tests in results.items()}
    assert counts == {
        "AdditiveAttentionTest": 4,
        "AttentionTest": 32,
        "GroupedQueryAttentionTest": 30,
        "MultiHeadAttentionTest": 50,
    }


@pytest.mark.tensorflow
def test_the_page_has_the_numbers(results):
    page = pathlib.Path(__file__).parents[2] / "docs" / "how_to"
    text = (page / "replace_keras_attention.md").read_text()
    texts = [text for tests in results.values() for text in tests.values()]
    numbers = f"{texts.count(None)} of {len(texts)} pass"
    assert f"Keras {VERSION}'s" in text
    assert numbers in text


@pytest.mark.parametrize("suite", EXPECTED)
def test_what_fails_has_its_reason(suite, results):
    failed = {name: text for name, text in results[suite].items() if text}
    assert failed.keys() == EXPECTED[suite].keys()
    for name, reason in EXPECTED[suite].items():
        assert re.search(SAYS[reason], failed[name]), name
