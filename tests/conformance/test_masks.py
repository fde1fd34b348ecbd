"""What is masked has no effect: not where it is, nor whatever it holds."""

import inspect

import numpy as np
import pytest

from conformance.harness import make_layer
from conformance.harness import random_input
from conformance.harness import randomize
from conformance.rows import ROWS
from support.arrays import assert_close
from support.arrays import numpy
from support.vision import vjp

SEQUENCES = [row for row in ROWS if row.is_sequence]
rows = pytest.mark.parametrize("row", SEQUENCES, ids=lambda row: row.name)
MASKS = {
    "left": [range(3), range(3)],
    "middle": [range(4, 7), range(5, 6)],
    "right": [range(8, 11), range(8, 11)],
    "by row": [range(2), range(7, 11)],
    "every other": [range(0, 11, 2), range(1, 11, 2)],
    "a masked row": [range(11), range(9, 11)],
}
masks = pytest.mark.parametrize("kind", MASKS)


def mask_of(kind):
    mask = np.ones((2, 11), bool)
    for row, hidden in enumerate(MASKS[kind]):
        mask[row, list(hidden)] = False
    return mask


def built(row):
    layer = make_layer(row)
    layer.build(row.shape)
    randomize(layer)
    return layer


@rows
@masks
def test_masked_inputs_have_no_effect(row, kind):
    """On outputs that are not masked; the others are finite as well."""
    layer, x, mask = built(row), random_input(row), mask_of(kind)
    expected = numpy(layer(x, mask=mask))
    for value in (5.0, np.nan, np.inf, -np.inf):
        changed = np.where(mask[..., None], x, np.float32(value))
        y = numpy(layer(changed, mask=mask))
        valid = ... if row.pools else mask
        assert_close(y[valid], expected[valid], err_msg=str(value))
        assert np.isfinite(y).all(), value


@rows
@masks
def test_the_gradient_of_masked_inputs_is_zero(row, kind):
    layer, x, mask = built(row), random_input(row), mask_of(kind)
    upstream = np.ones(layer.compute_output_shape(row.shape), "float32")
    if not row.pools:
        upstream[~mask] = 0
    expected = numpy(vjp(lambda x: layer(x, mask=mask), x, upstream))
    assert np.abs(expected[mask]).max() > 0
    for value in (1.0, np.nan):
        changed = np.where(mask[..., None], x, np.float32(value))
        found = numpy(vjp(lambda x: layer(x, mask=mask), changed, upstream))
        np.testing.assert_array_equal(found[~mask], 0)
        assert_close(found[mask], expected[mask], rtol=3e-5)


@rows
@pytest.mark.parametrize("kept", [slice(3, None), slice(8)], ids=str)
def test_padding_is_as_if_it_were_not_there(row, kept):
    """At the start, which a causal layer attends to, and at the end."""
    layer, x = built(row), random_input(row)
    mask = np.zeros((2, 11), bool)
    mask[:, kept] = True
    y = numpy(layer(x, mask=mask))
    y = y if row.pools else y[:, kept]
    expected = numpy(layer(x[:, kept]))
    assert_close(y, expected)


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in SEQUENCES
        if "value" in inspect.signature(row.layer.call).parameters
        # Keras' window counts from the first key.
        and "sliding_window" not in row.arguments
    ],
    ids=lambda row: row.name,
)
@pytest.mark.parametrize("length", [1, 4])
def test_queries_are_the_last_of_the_keys(row, length):
    """Where there are fewer of them: masks and positions end together."""
    layer, x = built(row), random_input(row)
    expected = numpy(layer(x))[:, -length:]
    y = numpy(layer(x[:, -length:], x))
    assert_close(y, expected)


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in SEQUENCES
        if row.arguments.get("causal", getattr(row.layer, "causal", False))
    ],
    ids=lambda row: row.name,
)
def test_a_causal_layer_does_not_look_ahead(row):
    layer, x = built(row), random_input(row)
    changed = x.copy()
    changed[:, 6:] = 3
    y, other = numpy(layer(x)), numpy(layer(changed))
    assert_close(other[:, :6], y[:, :6])
    assert np.abs(other[:, 6:] - y[:, 6:]).max() > 1e-3


@pytest.mark.parametrize(
    "row",
    [r for r in SEQUENCES if r.arguments.get("renormalize_padding")],
    ids=lambda row: row.name,
)
@masks
def test_filters_have_no_weight_on_what_is_masked(row, kind):
    """And sum to one over the rest, if there is any."""
    layer, mask = built(row), mask_of(kind)
    heads, size = layer.num_heads, layer.kernel_size
    logits = np.random.default_rng(2).normal(size=(heads, size))
    filters = numpy(
        layer.compute_filters(logits.astype("float32"), mask, "causal")
    )  # [B, T, H, K]
    padded = np.pad(mask, ((0, 0), (size - 1, 0)))
    inside = np.stack([padded[:, k : k + 11] for k in range(size)], axis=-1)
    expected = np.where(inside[:, :, None], np.exp(logits), 0)
    total = expected.sum(axis=-1, keepdims=True)
    expected = np.divide(expected, total, where=total > 0, out=0 * expected)
    np.testing.assert_allclose(filters, expected, rtol=1e-5)
