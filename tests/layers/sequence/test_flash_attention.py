"""Whether a fused kernel is required, left out, or taken where it can be."""

import logging

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.ops import explain_attention
from keras_attention.ops import scaled_dot_product_attention
from keras_attention.ops.attention import dispatch
from support.arrays import numpy
from support.attention import draw

BACKEND = keras.backend.backend()
torch_only = pytest.mark.skipif(
    BACKEND != "torch", reason="the kernel that runs on a CPU is torch's"
)


def tokens(*shape):
    return draw(*shape, seed=0, dtype="float32")


def taken_path(layer, x, caplog, **call):
    with caplog.at_level(logging.DEBUG, logger="keras_attention"):
        layer(x, **call)
    return caplog.records[-1].getMessage()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow alone")
@pytest.mark.parametrize("symbolic", [False, True])
def test_tensorflow_has_no_kernel(symbolic):
    layer = ka.MultiHeadAttention(2, flash_attention=True)
    x = keras.Input((5, 8)) if symbolic else tokens(2, 5, 8)
    with pytest.raises(ValueError, match="does not exist on tensorflow"):
        layer(x)


def test_scores_and_dropout_are_refused():
    layer = ka.MultiHeadAttention(2, flash_attention=True)
    for x in (tokens(2, 5, 8), keras.Input((5, 8))):
        with pytest.raises(ValueError, match="does not exist|has no `return"):
            layer(x, return_attention_scores=True)
    with pytest.raises(ValueError, match="drops scores.*dropout=0.1"):
        ka.MultiHeadAttention(2, flash_attention=True, dropout=0.1)
    with pytest.raises(TypeError, match="`flash_attention` must be"):
        ka.MultiHeadAttention(2, flash_attention="auto")


@torch_only
def test_a_kernel_is_taken_where_it_is_asked_for(caplog):
    x = tokens(2, 5, 8)
    outputs = []
    for flash_attention, path in (
        (None, "torch"),
        (True, "torch"),
        (False, "plain"),
    ):
        layer = ka.MultiHeadAttention(2, flash_attention=flash_attention)
        layer.build(x.shape)
        layer.set_weights(
            [
                np.full(w.shape, 0.1) * (n + 1)
                for n, w in enumerate(layer.weights)
            ]
        )
        assert f"the path '{path}'" in taken_path(layer, x, caplog)
        outputs.append(numpy(layer(x)))
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-6)
    np.testing.assert_allclose(outputs[2], outputs[0], atol=1e-5)


@torch_only
@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"logit_soft_cap": 5.0}, "logit_soft_cap"),
        ({"use_sinks": True}, "sinks"),
        ({"positions": "alibi"}, "distance_bias"),
        ({"talking_heads": True}, "head_mixing"),
    ],
)
def test_what_no_kernel_honours_is_named(arguments, reason):
    layer = ka.MultiHeadAttention(2, flash_attention=True, **arguments)
    with pytest.raises(ValueError, match=f"'torch' has no .*`{reason}`"):
        layer(tokens(2, 5, 8))


@torch_only
def test_kernels_that_are_turned_off(caplog):
    x = tokens(2, 5, 8)
    keras.config.disable_flash_attention()
    try:
        assert "'plain'" in taken_path(ka.MultiHeadAttention(2), x, caplog)
        with pytest.raises(ValueError, match="disable_flash_attention"):
            ka.MultiHeadAttention(2, flash_attention=True)(x)
    finally:
        keras.config.enable_flash_attention()


def test_functions():
    x = tokens(2, 5, 2, 4)
    plain = numpy(scaled_dot_product_attention(x, x, x, implementation="plain"))
    unfused = scaled_dot_product_attention(x, x, x, implementation="unfused")
    np.testing.assert_array_equal(numpy(unfused), plain)
    found = explain_attention(x, x, x, "unfused")
    assert found.path == "plain"
    assert found.reasons["fused"] == "is not asked for"
    if BACKEND == "torch":
        fused = scaled_dot_product_attention(x, x, x, implementation="fused")
        np.testing.assert_allclose(numpy(fused), plain, atol=1e-5)
    call = {"implementation": "fused", "return_scores": True}
    with pytest.raises(ValueError, match="A fused kernel must be possible"):
        scaled_dot_product_attention(x, x, x, **call)


def test_graphs_for_export_have_none():
    with dispatch.plain_attention():
        layer = ka.MultiHeadAttention(2, flash_attention=True)
        assert layer(tokens(2, 5, 8)).shape == (2, 5, 8)


def test_configuration():
    layer = ka.MultiHeadAttention(2, flash_attention=False)
    assert layer.get_config()["flash_attention"] is False
    again = ka.MultiHeadAttention.from_config(layer.get_config())
    assert again.flash_attention is False
