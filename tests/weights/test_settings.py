"""What changes outputs and is in no array, or in arrays that are not weights.

A torch module knows its activations and paddings, Keras' kernels their heads.
"""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention import load_weights_from
from support.arrays import numpy


def attention(**arguments):
    layer = ka.MultiHeadAttention(2, **arguments)
    layer.build((None, None, 8))
    return layer


def arrays_of_torch(seed=0):
    random = np.random.default_rng(seed)
    shapes = {
        "in_proj_weight": (24, 8),
        "in_proj_bias": (24,),
        "out_proj.weight": (8, 8),
        "out_proj.bias": (8,),
    }
    return {name: random.normal(size=s) for name, s in shapes.items()}


@pytest.mark.parametrize("heads", [1, 4])
def test_kernels_of_keras_tell_their_heads(heads):
    source = keras.layers.MultiHeadAttention(heads, 8 // heads)
    source.build((None, None, 8), (None, None, 8))
    arrays = {
        f"_{name}_dense.{part}": numpy(
            getattr(getattr(source, f"_{name}_dense"), part)
        )
        for name in ("query", "key", "value", "output")
        for part in ("kernel", "bias")
    }
    with pytest.raises(ValueError, match="does not fit"):
        load_weights_from(attention(), arrays)


def test_torch_attention_with_a_key_of_zeros_is_refused():
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    source = torch.nn.MultiheadAttention(8, 2, add_zero_attn=True)
    with pytest.raises(ValueError, match="add_zero_attn=True"):
        load_weights_from(attention(), source)


@pytest.mark.parametrize("prefix", ["", "se."])
def test_activations_of_torch(prefix):
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

    def make(activation, gate):
        module = torch.nn.Module()
        module.fc1 = torch.nn.Conv2d(8, 2, 1)
        module.fc2 = torch.nn.Conv2d(2, 8, 1)
        module.activation, module.scale_activation = activation, gate
        if not prefix:
            return module
        block = torch.nn.Module()
        block.se = module
        return block

    layer = ka.SqueezeExcite(4, data_format="channels_last")
    layer.build((None, None, None, 8))
    relu, sigmoid = torch.nn.ReLU(), torch.nn.Sigmoid()
    assert load_weights_from(layer, make(relu, sigmoid), prefix=prefix) == []
    for source, words in (
        (make(torch.nn.SiLU(), sigmoid), "activation=silu"),
        (make(relu, torch.nn.Hardsigmoid()), "gate_activation=hard_sigmoid"),
    ):
        with pytest.raises(ValueError, match=words):
            load_weights_from(layer, source, prefix=prefix)


def test_padding_of_torch():
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    source = torch.nn.Module()
    source.conv1 = torch.nn.Conv2d(
        2, 1, 7, padding=3, padding_mode="reflect", bias=False
    )
    layer = ka.SpatialAttention(data_format="channels_last")
    layer.build((None, None, None, 8))
    with pytest.raises(ValueError, match="padding_mode=reflect"):
        load_weights_from(layer, source)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x: (x * 100).astype("int8"), "must be floats.*int8"),
        (lambda x: np.where(x > 0, x, np.nan), "must be finite"),
        (lambda x: x * np.inf, "must be finite"),
        (lambda x: x.astype(complex), "must be floats.*complex"),
    ],
)
def test_what_is_no_weight_is_refused(change, words):
    layer, arrays = attention(), arrays_of_torch()
    before = [numpy(weight) for weight in layer.weights]
    arrays["out_proj.weight"] = change(arrays["out_proj.weight"])
    with pytest.raises(ValueError, match=words):
        load_weights_from(layer, arrays)
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(numpy(weight), value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: {"model": {"state_dict": x}, "epoch": 3},
        lambda x: {"net": x, "epoch": 3},
        lambda x: {"params_ema": x},
        lambda x: {"state_dict_ema": x},
        lambda x: {"state_dict": x, "state_dict_ema": {}},
        lambda x: {f"module._orig_mod.{k}": v for k, v in x.items()},
        lambda x: {f"_orig_mod.module.{k}": v for k, v in x.items()},
    ],
)
def test_wrappers_in_any_order(wrap):
    layer, arrays = attention(), arrays_of_torch()
    assert load_weights_from(layer, wrap(arrays)) == []
    np.testing.assert_allclose(
        numpy(layer.query_dense.kernel).reshape(8, 8),
        arrays["in_proj_weight"][:8].T,
        rtol=1e-6,
    )
