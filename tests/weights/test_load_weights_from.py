import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention import load_weights_from
from support.arrays import numpy as value

RANDOM = np.random.default_rng(0)


def drawn(**shapes):
    return {
        name.replace("__", "."): RANDOM.normal(size=shape).astype("float32")
        for name, shape in shapes.items()
    }


def built(layer, *shapes):
    layer.build(*shapes)
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


IMAGE = (None, None, None, 6)


@pytest.mark.parametrize("names", ["fc1 fc2", "conv_reduce conv_expand"])
@pytest.mark.parametrize("convolutions", [True, False])
def test_squeeze_excite_of_torch(names, convolutions):
    first, second = names.split()
    ones = (1, 1) if convolutions else ()
    source = {
        f"{first}.weight": RANDOM.normal(size=(2, 6, *ones)),
        f"{first}.bias": RANDOM.normal(size=2),
        f"{second}.weight": RANDOM.normal(size=(6, 2, *ones)),
        f"{second}.bias": RANDOM.normal(size=6),
    }
    layer = built(ka.SqueezeExcite(3, data_format="channels_last"), IMAGE)
    assert load_weights_from(layer, source) == []
    x = RANDOM.normal(size=(3, 5, 7, 6)).astype("float32")
    hidden = source[f"{first}.weight"].reshape(2, 6) @ x.mean((1, 2)).T
    hidden = np.maximum(hidden + source[f"{first}.bias"][:, None], 0)
    logits = source[f"{second}.weight"].reshape(6, 2) @ hidden
    gate = sigmoid(logits + source[f"{second}.bias"][:, None]).T
    np.testing.assert_allclose(
        value(layer(x)), x * gate[:, None, None], rtol=1e-5, atol=1e-6
    )


def test_without_biases_they_are_zero():
    source = drawn(fc__0__weight=(2, 6), fc__2__weight=(6, 2))
    layer = built(ka.SqueezeExcite(3), IMAGE)
    for weight in layer.weights:
        weight.assign(np.ones(weight.shape))
    load_weights_from(layer, source)
    kernel = value(layer.reduce.kernel)
    np.testing.assert_array_equal(kernel, source["fc.0.weight"].T)
    assert not value(layer.reduce.bias).any()
    assert not value(layer.expand.bias).any()


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="KerasCV needs TensorFlow tensors",
)
def test_squeeze_excite_of_keras_cv():
    keras_cv = pytest.importorskip(
        "keras_cv", reason="needs the extra 'keras-cv'"
    )
    x = RANDOM.normal(size=(3, 5, 7, 6)).astype("float32")
    theirs = keras_cv.layers.SqueezeAndExcite2D(6, 2)
    expected = value(theirs(x))
    ours = built(ka.SqueezeExcite(3, data_format="channels_last"), IMAGE)
    load_weights_from(ours, theirs)
    np.testing.assert_allclose(value(ours(x)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_efficient_channel_attention(shared):
    layer = ka.EfficientChannelAttention(
        3, shared=shared, data_format="channels_last"
    )
    source = drawn(conv__weight=(1 if shared else 6, 1, 3))
    load_weights_from(built(layer, IMAGE), source)
    x = RANDOM.normal(size=(2, 5, 7, 6)).astype("float32")
    pooled = np.pad(x.mean((1, 2)), [(0, 0), (1, 1)])
    kernel = np.broadcast_to(source["conv.weight"][:, 0], (6, 3))
    logits = np.stack(
        [pooled[:, c : c + 3] @ kernel[c] for c in range(6)], axis=1
    )
    np.testing.assert_allclose(
        value(layer(x)), x * sigmoid(logits)[:, None, None], rtol=1e-5
    )


def cbam_source(channel, spatial):
    source = {
        f"{channel[0]}.weight": RANDOM.normal(size=(2, 6)),
        f"{channel[1]}.weight": RANDOM.normal(size=(6, 2)),
        f"{spatial[0]}.weight": RANDOM.normal(size=(1, 2, 3, 3)),
        f"{spatial[1]}.num_batches_tracked": np.array(7),
    }
    for name in ("weight", "bias", "running_mean", "running_var"):
        source[f"{spatial[1]}.{name}"] = RANDOM.uniform(0.5, 2, size=1)
    return source


@pytest.mark.parametrize("kind", ["authors", "timm"])
def test_cbam(kind):
    timm = kind == "timm"
    channel, spatial = (
        ("channel.fc1", "channel.fc2"),
        ("spatial.conv.conv", "spatial.conv.bn"),
    )
    if not timm:
        channel = ("ChannelGate.mlp.1", "ChannelGate.mlp.3")
        spatial = ("SpatialGate.spatial.conv", "SpatialGate.spatial.bn")
    source = cbam_source(channel, spatial)
    layer = ka.CBAM(3, kernel_size=3, data_format="channels_last")
    built(layer, IMAGE)
    assert load_weights_from(layer, source) == []
    x = RANDOM.normal(size=(2, 5, 7, 6)).astype("float32")
    logits = sum(
        np.maximum(pooled @ source[f"{channel[0]}.weight"].T, 0)
        @ source[f"{channel[1]}.weight"].T
        for pooled in (x.mean((1, 2)), x.max((1, 2)))
    )
    y = x * sigmoid(logits)[:, None, None]
    pooled = [y.max(-1), y.mean(-1)]
    pooled = np.stack(pooled[::-1] if timm else pooled, axis=-1)
    pooled = np.pad(pooled, [(0, 0), (1, 1), (1, 1), (0, 0)])
    kernel = source[f"{spatial[0]}.weight"][0]
    summed = sum(
        pooled[:, i : i + 5, j : j + 7] @ kernel[:, i, j]
        for i in range(3)
        for j in range(3)
    )
    norm = {
        name: source[f"{spatial[1]}.{name}"]
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    scale = norm["weight"] / np.sqrt(norm["running_var"] + 1e-5)
    gate = sigmoid((summed - norm["running_mean"]) * scale + norm["bias"])
    np.testing.assert_allclose(
        value(layer(x)), y * gate[..., None], rtol=1e-4, atol=1e-6
    )


def attend(x, weights, biases, heads):
    """Softmax attention by its formula; `weights` are `(inputs, outputs)`."""
    batch, length, width = x.shape
    query, key, value = (
        (x @ w + b).reshape(batch, length, heads, -1)
        for w, b in zip(weights[:3], biases[:3], strict=True)
    )
    scores = np.einsum("bqnd,bknd->bnqk", query, key)
    scores = np.exp(scores / np.sqrt(query.shape[-1]))
    scores /= scores.sum(-1, keepdims=True)
    mixed = np.einsum("bnqk,bknd->bqnd", scores, value)
    return mixed.reshape(batch, length, -1) @ weights[3] + biases[3]


@pytest.mark.parametrize(
    "names",
    [
        None,
        ("self.query", "self.key", "self.value", "output.dense"),
        ("q_lin", "k_lin", "v_lin", "out_lin"),
        ("q_proj", "k_proj", "v_proj", "out_proj"),
        ("qkv", "proj"),
    ],
)
def test_attention_of_torch(names):
    weights = [RANDOM.normal(size=(6, 6)) for _ in range(4)]
    biases = [RANDOM.normal(size=6) for _ in range(4)]
    fused = [
        np.concatenate([w.T for w in weights[:3]]),
        np.concatenate(biases[:3]),
    ]
    last = [weights[3].T, biases[3]]
    if names is None:
        source = {"in_proj_weight": fused[0], "in_proj_bias": fused[1]}
        source |= {"out_proj.weight": last[0], "out_proj.bias": last[1]}
    elif len(names) == 2:
        source = {}
        for name, (w, b) in zip(names, (fused, last), strict=True):
            source |= {f"{name}.weight": w, f"{name}.bias": b}
    else:
        source = {"output.LayerNorm.weight": np.ones(6)}
        for name, w, b in zip(names, weights, biases, strict=True):
            source |= {f"{name}.weight": w.T, f"{name}.bias": b}
    layer = built(ka.MultiHeadAttention(2), (None, None, 6))
    source = {f"layer.0.{name}": array for name, array in source.items()}
    source["layer.1.other"] = np.zeros(3)
    left = load_weights_from(layer, source, "layer.0.")
    assert all("LayerNorm" in name for name in left)
    x = RANDOM.normal(size=(3, 5, 6)).astype("float32")
    np.testing.assert_allclose(
        value(layer(x)), attend(x, weights, biases, 2), rtol=1e-4, atol=1e-5
    )


def test_attention_of_torch_with_other_widths():
    source = drawn(
        q_proj_weight=(6, 6),
        k_proj_weight=(6, 3),
        v_proj_weight=(6, 5),
        in_proj_bias=(18,),
        out_proj__weight=(6, 6),
        out_proj__bias=(6,),
    )
    layer = ka.MultiHeadAttention(2)
    layer.build((None, None, 6), (None, None, 5), (None, None, 3))
    load_weights_from(layer, source)
    np.testing.assert_array_equal(
        value(layer.key_dense.kernel).reshape(3, 6), source["k_proj_weight"].T
    )
    np.testing.assert_array_equal(
        value(layer.value_dense.bias).ravel(), source["in_proj_bias"][12:]
    )


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_attention_of_keras(use_bias, grouped):
    x = RANDOM.normal(size=(3, 5, 12)).astype("float32")
    # Keras' layer cannot have another width of values on JAX.
    value_dim = 3 if keras.backend.backend() == "jax" else 5
    if grouped:
        theirs = keras.layers.GroupQueryAttention(3, 4, 2, use_bias=use_bias)
        ours = ka.MultiHeadAttention(4, 3, num_kv_heads=2, use_bias=use_bias)
    else:
        theirs = keras.layers.MultiHeadAttention(
            4, 3, value_dim, use_bias=use_bias
        )
        ours = ka.MultiHeadAttention(4, 3, value_dim, use_bias=use_bias)
    theirs(x, x)
    for weight in theirs.weights:
        weight.assign(RANDOM.normal(size=weight.shape))
    built(ours, x.shape)
    assert load_weights_from(ours, theirs) == []
    np.testing.assert_allclose(
        value(ours(x)), value(theirs(x, x)), rtol=1e-4, atol=1e-5
    )


def test_lightweight_convolution():
    source = drawn(weight=(2, 1, 3), bias=(6,))
    layer = ka.LightweightConv1D(2, 3, use_bias=True)
    load_weights_from(built(layer, (None, None, 6)), source)
    x = RANDOM.normal(size=(2, 5, 6)).astype("float32")
    kernel = np.exp(source["weight"][:, 0])
    kernel = np.repeat(kernel / kernel.sum(-1, keepdims=True), 3, axis=0)
    padded = np.pad(x, [(0, 0), (1, 1), (0, 0)])
    expected = sum(padded[:, k : k + 5] * kernel[:, k] for k in range(3))
    np.testing.assert_allclose(
        value(layer(x)), expected + source["bias"], rtol=1e-5, atol=1e-6
    )


def test_dynamic_convolution():
    source = drawn(weight_linear__weight=(6, 6), conv_bias=(6,))
    layer = ka.DynamicConv1D(2, 3, causal=True, use_bias=True)
    load_weights_from(built(layer, (None, None, 6)), source)
    x = RANDOM.normal(size=(2, 5, 6)).astype("float32")
    logits = (x @ source["weight_linear.weight"].T).reshape(2, 5, 2, 3)
    kernel = np.exp(logits)
    kernel = np.repeat(kernel / kernel.sum(-1, keepdims=True), 3, axis=2)
    padded = np.pad(x, [(0, 0), (2, 0), (0, 0)])
    expected = sum(padded[:, k : k + 5] * kernel[..., k] for k in range(3))
    np.testing.assert_allclose(
        value(layer(x)), expected + source["conv_bias"], rtol=1e-5, atol=1e-6
    )


def test_files(tmp_path):
    source = drawn(fc1__weight=(2, 6), fc2__weight=(6, 2))
    path = tmp_path / "weights.npz"
    np.savez(path, **source)
    layer = built(ka.SqueezeExcite(3), IMAGE)
    load_weights_from(layer, path)
    kernel = value(layer.reduce.kernel)
    np.testing.assert_array_equal(kernel, source["fc1.weight"].T)
    safetensors = pytest.importorskip(
        "safetensors.numpy", reason="needs the extra 'weights'"
    )
    safetensors.save_file(source, tmp_path / "weights.safetensors")
    other = built(ka.SqueezeExcite(3), IMAGE)
    load_weights_from(other, str(tmp_path / "weights.safetensors"))
    np.testing.assert_array_equal(value(other.reduce.kernel), kernel)


def test_arrays_with_objects_are_not_read(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"fc1.weight": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="pickled"):
        load_weights_from(built(ka.SqueezeExcite(3), IMAGE), path)


@pytest.mark.parametrize(
    "layer, source, error, words",
    [
        ("se", 3, TypeError, "torch module.*Received: 3"),
        ("se", {"fc1.weight": "a"}, TypeError, "'fc1.weight' of type str"),
        ("se", {}, ValueError, "no weights under the prefix.*''"),
        ("se", {"a": np.ones(2)}, ValueError, "fc1.weight is missing; or"),
        ("se", "missing.npz", FileNotFoundError, "missing.npz"),
        ("se", __file__, ValueError, "must end in .safetensors"),
        ("gsop", {"a": np.ones(2)}, ValueError, "No published form.*GSoP"),
        ("new", {"a": np.ones(2)}, ValueError, "must be built"),
        (None, {"a": np.ones(2)}, TypeError, "`target` must be"),
    ],
)
def test_bad_arguments(layer, source, error, words):
    target = {
        "se": lambda: built(ka.SqueezeExcite(3), IMAGE),
        "gsop": lambda: built(ka.ChannelGSoP(3), (None, 5, 5, 6)),
        "new": lambda: ka.SqueezeExcite(3),
        None: lambda: None,
    }[layer]()
    with pytest.raises(error, match=words):
        load_weights_from(target, source)


def test_a_prefix_without_its_separator_is_named():
    layer = built(ka.SqueezeExcite(3, use_bias=False), IMAGE)
    source = {
        f"se.{name}": array
        for name, array in drawn(fc1__weight=(2, 6), fc2__weight=(6, 2)).items()
    }
    with pytest.raises(ValueError, match=r"Pass prefix='se\.'"):
        load_weights_from(layer, source, prefix="se")
    load_weights_from(layer, source, prefix="se.")


def test_a_bias_without_a_place_is_refused():
    layer = built(ka.SqueezeExcite(3, use_bias=False), IMAGE)
    source = drawn(fc1__weight=(2, 6), fc2__weight=(6, 2), fc2__bias=(6,))
    with pytest.raises(ValueError, match="has 'fc2.bias'.*use_bias=True"):
        load_weights_from(layer, source)


def test_a_weight_that_no_source_has_is_named():
    layer = built(ka.MultiHeadAttention(2, qk_norm=True), (None, None, 6))
    with pytest.raises(ValueError, match="the weight 'query_norm/scale'"):
        load_weights_from(layer, drawn(in_proj_weight=(18, 6)))
