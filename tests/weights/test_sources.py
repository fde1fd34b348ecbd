"""Where weights come from, and what is left of them."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention import load_weights_from
from support.arrays import numpy

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def randomize(layer):
    for weight in layer.weights:
        weight.assign(normal(*weight.shape))


def squeeze_excite(**arguments):
    layer = ka.SqueezeExcite(3, **arguments)
    layer.build((None, None, None, 6))
    return layer


SOURCE = {"fc1.weight": normal(2, 6), "fc2.weight": normal(6, 2)}


@pytest.mark.parametrize("widths", [(6, 6, 6), (6, 5, 7), (6, 5, 5), (5, 7, 7)])
def test_keras_attention_of_any_widths(widths):
    query, value, key = (
        normal(2, 3 + (n > 0), w) for n, w in enumerate(widths)
    )
    theirs = keras.layers.MultiHeadAttention(2, 3)
    expected = theirs(query, value, key)
    randomize(theirs)
    expected = theirs(query, value, key)
    ours = ka.MultiHeadAttention(2, 3)
    ours.build(query.shape, value.shape, key.shape)
    assert load_weights_from(ours, theirs) == []
    np.testing.assert_allclose(
        numpy(ours(query, value, key)), numpy(expected), rtol=1e-4, atol=1e-5
    )


# Files of Keras.


def keras_file(folder, layer, name, lists=False, dtype=None):
    """A file of a model of a layer of Keras, and what the layer makes of x."""
    x = normal(2, 5, 6)
    inputs = keras.Input(x.shape[1:])
    outputs = layer([inputs, inputs]) if lists else layer(inputs, inputs)
    randomize(layer)
    path = folder / name
    model = keras.Model(inputs, outputs)
    model.save(path) if name.endswith(".keras") else model.save_weights(path)
    return path, x, numpy(model(x))


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras"])
@pytest.mark.parametrize("use_gate", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_attention_of_a_file_of_keras(
    tmp_path, name, use_gate, use_bias, grouped
):
    arguments = {"use_gate": use_gate, "use_bias": use_bias, "dropout": 0.1}
    if grouped:
        theirs = keras.layers.GroupQueryAttention(3, 4, 2, **arguments)
        ours = ka.MultiHeadAttention(4, 3, num_kv_heads=2, **arguments)
    else:
        theirs = keras.layers.MultiHeadAttention(4, 3, **arguments)
        ours = ka.MultiHeadAttention(4, 3, **arguments)
    # Names of files and of layers count for themselves.
    folder = "grouped_query_attention" if grouped else "multi_head_attention"
    if type(theirs).__name__ == "GroupQueryAttention":
        folder = "group_query_attention"
    path, x, expected = keras_file(tmp_path, theirs, name)
    ours.build(x.shape, x.shape)
    assert load_weights_from(ours, path, f"layers/{folder}/") == []
    np.testing.assert_allclose(
        numpy(ours(x, x)), expected, rtol=1e-4, atol=1e-5
    )


def test_a_file_with_more_than_the_layer_is_refused(tmp_path):
    theirs = keras.layers.MultiHeadAttention(2, 3)
    path, x, _ = keras_file(tmp_path, theirs, "model.weights.h5")
    ours = ka.MultiHeadAttention(2, 3, use_bias=False)
    ours.build(x.shape, x.shape)
    with pytest.raises(ValueError, match=r"query_dense/vars/1"):
        load_weights_from(ours, path, "layers/multi_head_attention/")
    with pytest.raises(ValueError, match="Is there a `prefix`"):
        load_weights_from(ours, path)


@pytest.mark.parametrize(
    "theirs, ours",
    [
        (keras.layers.AdditiveAttention(), ka.AdditiveAttention()),
        (
            keras.layers.Attention(use_scale=True, score_mode="concat"),
            ka.ScaledDotProductAttention(use_scale=True, score_mode="concat"),
        ),
        (
            keras.layers.Attention(use_scale=True),
            ka.ScaledDotProductAttention(1.0, use_scale=True),
        ),
    ],
    ids=["additive", "concat", "dot"],
)
def test_attention_without_projections(theirs, ours, tmp_path):
    path, x, expected = keras_file(tmp_path, theirs, "m.weights.h5", lists=True)
    ours.build(x.shape, x.shape)
    assert load_weights_from(ours, theirs) == []
    np.testing.assert_allclose(numpy(ours([x, x])), expected, atol=1e-5)


def test_a_file_of_bfloat16(tmp_path):
    theirs = keras.layers.MultiHeadAttention(2, 3, dtype="bfloat16")
    path, x, _ = keras_file(tmp_path, theirs, "model.weights.h5")
    ours = ka.MultiHeadAttention(2, 3)
    ours.build(x.shape, x.shape)
    load_weights_from(ours, path, "layers/multi_head_attention/")
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        expected = numpy(keras.ops.cast(other, "float32"))
        np.testing.assert_array_equal(numpy(one), expected)


def test_quantized_layers_of_keras_are_refused():
    theirs = keras.layers.MultiHeadAttention(2, 3)
    ours = ka.MultiHeadAttention(2, 3)
    x = normal(2, 5, 6)
    theirs(x, x)
    ours.build(x.shape)
    before = ours.get_weights()
    for part in (theirs._query_dense, theirs._output_dense):
        part.quantize("int8")
    for skip_mismatch in (False, True):
        with pytest.raises(ValueError, match="Quantized weights"):
            load_weights_from(ours, theirs, skip_mismatch=skip_mismatch)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_own_weights_of_a_keras_layer():
    theirs, ours = keras.layers.Dense(5), squeeze_excite()
    theirs.build((None, 6))
    with pytest.raises(ValueError, match="Received: bias, kernel"):
        load_weights_from(ours, theirs)


def trained_adapter(layer, x):
    layer(x, x)
    randomize(layer)
    for part in (layer._query_dense, layer._value_dense):
        part.enable_lora(2)
        part.lora_kernel_b.assign(normal(*part.lora_kernel_b.shape))
    return layer


def gated(layer, x):
    layer(x, x)
    return layer


@pytest.mark.parametrize(
    "prepare, arguments, name",
    [
        (trained_adapter, {}, "_query_dense.lora_kernel_a"),
        (gated, {"use_gate": True}, "_gate_dense.kernel"),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_what_a_keras_layer_has_besides_is_refused(
    prepare, arguments, name, grouped
):
    x = normal(2, 5, 6)
    if grouped:
        theirs = keras.layers.GroupQueryAttention(3, 2, 2, **arguments)
    else:
        theirs = keras.layers.MultiHeadAttention(2, 3, **arguments)
    prepare(theirs, x)
    ours = ka.MultiHeadAttention(2, 3)
    ours.build(x.shape)
    before = ours.get_weights()
    with pytest.raises(ValueError, match=rf"no weights for:.*{name}"):
        load_weights_from(ours, theirs)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    left = load_weights_from(ours, theirs, skip_mismatch=True)
    assert name in left


@pytest.mark.parametrize(
    "name",
    [
        "fc1.lora_A.weight",
        "fc1.weight_scale",
        "fc1.bias_extra",
        "bn.weight",
        "scale",
    ],
)
def test_an_array_that_nothing_reads_is_refused(name):
    with pytest.raises(ValueError, match=f"no weights for: {name}"):
        load_weights_from(squeeze_excite(), {**SOURCE, name: normal(3)})
    source = {f"se.{k}": v for k, v in {**SOURCE, name: normal(3)}.items()}
    layer = squeeze_excite()
    left = load_weights_from(layer, source, "se.", skip_mismatch=True)
    assert left == [f"se.{name}"]
    np.testing.assert_array_equal(
        numpy(layer.reduce.kernel), SOURCE["fc1.weight"].T
    )


@pytest.mark.parametrize(
    "extra", ["q_norm.weight", "relative_position_bias_table", "q_bias"]
)
def test_attention_with_more_than_projections_is_refused(extra):
    source = {"qkv.weight": normal(18, 6), "proj.weight": normal(6, 6)}
    layer = ka.MultiHeadAttention(2)
    layer.build((None, None, 6))
    with pytest.raises(ValueError, match=f"no weights for: {extra}"):
        load_weights_from(layer, {**source, extra: normal(6)})


def test_torch_attention_with_learned_keys_is_refused():
    source = {
        "in_proj_weight": normal(18, 6),
        "out_proj.weight": normal(6, 6),
        "bias_k": normal(1, 1, 6),
        "bias_v": normal(1, 1, 6),
    }
    layer = ka.MultiHeadAttention(2)
    layer.build((None, None, 6))
    with pytest.raises(ValueError, match="no weights for: bias_k, bias_v"):
        load_weights_from(layer, source)


def test_a_projection_without_its_bias_has_zeros():
    # As in Whisper, whose keys have none.
    source = {f"{n}_proj.weight": normal(6, 6) for n in ("q", "k", "v", "out")}
    source |= {f"{n}_proj.bias": normal(6) for n in ("q", "v", "out")}
    layer = ka.MultiHeadAttention(2)
    layer.build((None, None, 6))
    assert load_weights_from(layer, source) == []
    for dense, bias in (
        (layer.query_dense, source["q_proj.bias"]),
        (layer.key_dense, np.zeros(6)),
        (layer.value_dense, source["v_proj.bias"]),
    ):
        np.testing.assert_array_equal(numpy(dense.bias).ravel(), bias)


@pytest.mark.parametrize("heads", [2, 4])
def test_other_heads_of_the_same_weights_are_refused(heads):
    x = normal(2, 5, 12)
    theirs = keras.layers.MultiHeadAttention(3, 4)
    theirs(x, x)
    ours = ka.MultiHeadAttention(heads)
    ours.build(x.shape)
    with pytest.raises(ValueError, match=f"num_heads=3.*num_heads={heads}"):
        load_weights_from(ours, theirs)


@keras.saving.register_keras_serializable(package="test")
class Derived(ka.SqueezeExcite):
    """A user's layer with nothing of its own."""


@keras.saving.register_keras_serializable(package="test")
class DerivedAttention(ka.MultiHeadAttention):
    """Another one."""


def test_a_subclass_is_read_as_its_base():
    layer = Derived(3)
    layer.build((None, None, None, 6))
    assert load_weights_from(layer, SOURCE) == []
    np.testing.assert_array_equal(
        numpy(layer.expand.kernel), SOURCE["fc2.weight"].T
    )
    attention = DerivedAttention(2)
    attention.build((None, None, 6))
    source = {"in_proj_weight": normal(18, 6), "out_proj.weight": normal(6, 6)}
    assert load_weights_from(attention, source) == []


class WithMore(ka.SqueezeExcite):
    def build_weights(self, input_shape, channels):
        super().build_weights(input_shape, channels)
        self.extra = self.add_weight(shape=(2,), name="extra")


def test_a_subclass_with_a_weight_of_its_own_is_refused():
    layer = WithMore(3)
    layer.build((None, None, None, 6))
    with pytest.raises(ValueError, match="No published form has the weight"):
        load_weights_from(layer, SOURCE)


def test_arrays_of_the_backend():
    source = {k: keras.ops.convert_to_tensor(v) for k, v in SOURCE.items()}
    layer = squeeze_excite()
    assert load_weights_from(layer, source) == []
    np.testing.assert_array_equal(
        numpy(layer.reduce.kernel), SOURCE["fc1.weight"].T
    )


@pytest.mark.parametrize(
    "start", ["module.", "_orig_mod.", "module._orig_mod."]
)
def test_prefixes_of_wrappers_are_taken_off(start):
    layer = squeeze_excite()
    source = {f"{start}{name}": array for name, array in SOURCE.items()}
    assert load_weights_from(layer, {"state_dict": source}) == []


@pytest.mark.parametrize(
    "name", ["weights.npz", "weights.safetensors", "weights.NPZ"]
)
def test_a_damaged_file_is_named(tmp_path, name):
    if "safetensors" in name:
        pytest.importorskip("safetensors", reason="needs the extra 'weights'")
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04 not complete")
    with pytest.raises(ValueError, match=f"{name}'? cannot be read"):
        load_weights_from(squeeze_excite(), path)


@pytest.mark.parametrize("name", ["m.weights.h5", "m.keras"])
def test_a_damaged_file_of_keras_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04 not complete")
    with pytest.raises(ValueError, match=f"{name}.*(Damaged|cannot be read)"):
        load_weights_from(squeeze_excite(), path)


@pytest.mark.parametrize("name", ["weights.tar", "weights", "weights.onnx"])
def test_other_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="must end in .safetensors"):
        load_weights_from(squeeze_excite(), tmp_path / name)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"prefix": None}, "`prefix` must be a string. Received: prefix=None"),
        ({"skip_mismatch": 1}, "`skip_mismatch`"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(TypeError, match=words):
        load_weights_from(squeeze_excite(), SOURCE, **arguments)


def test_nothing_that_fits_is_an_error():
    source = {"a": normal(2)}
    with pytest.raises(ValueError, match="fc1.weight is missing"):
        load_weights_from(squeeze_excite(), source, skip_mismatch=True)
    model = ka.models.ResNet(18, input_shape=(32, 32, 3), stem="small")
    with pytest.raises(ValueError, match="Nothing in the source fits"):
        load_weights_from(model, source, skip_mismatch=True)
