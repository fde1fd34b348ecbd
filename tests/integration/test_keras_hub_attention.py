"""KerasHub's Transformer blocks and networks with our attention in them.

The code of docs/how_to/replace_keras_attention.md is run, and what it defines
is used. The tests of KerasHub 0.32 for its encoder, its decoder and its cached
attention (Apache-2.0) follow it, in pytest's form: its package does not bring
them.
"""

import pathlib
import re

import keras
import numpy as np
import pytest
from keras import ops
from keras import random
from keras.src import testing

import keras_attention
from support.arrays import numpy

PAGE = (
    pathlib.Path(__file__).parents[2]
    / "docs"
    / "how_to"
    / "replace_keras_attention.md"
)
CODE = re.compile(r"^```py(?:thon)?\n(.*?)^```", re.S | re.M)
BLOCK = {
    "intermediate_dim": 4,
    "num_heads": 2,
    "activation": "relu",
    "layer_norm_epsilon": 1e-05,
    "kernel_initializer": "HeNormal",
    "bias_initializer": "Zeros",
    "dropout": 0.1,
}
# Nothing but the layers' normalizations is left of a block's output.
DROPPED = 0.99999

pytestmark = [
    pytest.mark.slow,
    # What KerasHub is imported with.
    pytest.mark.tensorflow,
]


@pytest.fixture(scope="module")
def keras_hub():
    return pytest.importorskip(
        "keras_hub",
        reason="keras_hub is missing: pip install --no-deps keras-hub==0.32.0",
    )


@pytest.fixture(scope="module")
def how_to(keras_hub):
    """What the code of the page defines, the page's own checks passed."""
    text, names = PAGE.read_text(), {}
    for code in CODE.finditer(text):
        line = text[: code.start(1)].count("\n")
        exec(compile("\n" * line + code[1], str(PAGE), "exec"), names)
    assert names["theirs"].backbone.transformer_layers
    return names


@pytest.fixture
def ours(how_to):
    with how_to["our_attention"]():
        yield how_to["CachedMultiHeadAttention"]


def check_behaviors(cls, arguments, shapes, num_weights, num_seeds):
    """Keras' checks of a layer; KerasHub's need the package grain too."""
    testing.TestCase().run_layer_test(
        cls,
        init_kwargs=arguments,
        input_shape=shapes,
        expected_output_shape=(2, 4, 6),
        expected_num_trainable_weights=num_weights,
        expected_num_non_trainable_weights=0,
        expected_num_non_trainable_variables=num_seeds,
        expected_num_seed_generators=num_seeds,
        expected_num_losses=0,
        supports_masking=True,
        # It trains on the first input alone.
        run_training_check=False,
    )
    shapes = list(shapes.values()) if isinstance(shapes, dict) else [shapes]
    inputs = [keras.Input(batch_shape=shape) for shape in shapes]
    model = keras.Model(inputs, cls(**arguments)(*inputs))
    model.compile("sgd", "mse", jit_compile=True)
    x = [np.ones(shape, "float32") for shape in shapes]
    loss = model.fit(x, x[0], batch_size=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all()


def attention_layers(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(
            layer,
            keras.layers.MultiHeadAttention
            | keras_attention.MultiHeadAttention,
        )
    ]


def assert_equal(found, expected, tolerance=1e-5):
    for one, other in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(
            numpy(one), numpy(other), rtol=1e-4, atol=tolerance
        )


# Networks: KerasHub's, and the same with our attention.


def bert(models):
    return models.BertBackbone(30, 2, 2, 8, 16, max_sequence_length=9)


def gpt2(models):
    return models.GPT2Backbone(30, 2, 2, 8, 16, max_sequence_length=9)


def bart(models):
    return models.BartBackbone(30, 2, 2, 8, 16, max_sequence_length=9)


def vit(models):
    return models.ViTBackbone((8, 8, 3), (4, 4), 2, 2, 8, 16)


def token_inputs(prefix=""):
    return {
        f"{prefix}token_ids": np.array([[5, 9, 2, 7, 1], [8, 8, 3, 0, 0]]),
        f"{prefix}padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    }


INPUTS = {
    bert: {**token_inputs(), "segment_ids": np.zeros((2, 5), "int32")},
    gpt2: token_inputs(),
    bart: {**token_inputs("encoder_"), **token_inputs("decoder_")},
    vit: np.random.default_rng(0).random((2, 8, 8, 3), "float32"),
}


def both(make, how_to, keras_hub, causal_lm=None):
    """KerasHub's network and ours, with the same random weights."""

    models, samplers = keras_hub.models, keras_hub.samplers

    def build():
        model = make(models)
        if causal_lm is None:
            return model
        model = getattr(models, causal_lm)(model, preprocessor=None)
        model.compile(sampler=samplers.RandomSampler(seed=1))
        return model

    theirs = build()
    with how_to["our_attention"]():
        ours = build()
    generator = np.random.default_rng(1)
    weights = [
        generator.normal(size=w.shape).astype("float32") / 2
        for w in theirs.get_weights()
    ]
    for model in (theirs, ours):
        model.set_weights(weights)
    assert len(attention_layers(ours)) == len(attention_layers(theirs)) >= 2
    for layer in attention_layers(ours):
        assert isinstance(layer, keras_attention.MultiHeadAttention)
    for layer in attention_layers(theirs):
        assert isinstance(layer, keras.layers.MultiHeadAttention)
    return theirs, ours


@pytest.mark.parametrize("make", list(INPUTS))
def test_networks_are_equal(make, how_to, keras_hub, tmp_path):
    theirs, ours = both(make, how_to, keras_hub)
    inputs = INPUTS[make]
    expected = theirs.predict(inputs, verbose=0)
    assert_equal(ours.predict(inputs, verbose=0), expected)
    assert_equal(ours(inputs), expected)
    # Either's files are the other's.
    ours.save(tmp_path / "ours.keras")
    again = keras.saving.load_model(tmp_path / "ours.keras")
    for layer in attention_layers(again):
        assert isinstance(layer, keras.layers.MultiHeadAttention)
    assert_equal(again.predict(inputs, verbose=0), expected)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours.set_weights([0 * w for w in ours.get_weights()])
    ours.load_weights(tmp_path / "theirs.weights.h5")
    assert_equal(ours.predict(inputs, verbose=0), expected)


@pytest.mark.parametrize(
    "make, name, prefix",
    [(gpt2, "GPT2CausalLM", ""), (bart, "BartSeq2SeqLM", "decoder_")],
)
def test_the_same_text_is_generated(make, name, prefix, how_to, keras_hub):
    theirs, ours = both(make, how_to, keras_hub, name)
    prompts = {
        f"{prefix}token_ids": np.array(
            [[5, 9, 2, 7, 0, 0, 0, 0], [8, 3, 0, 0, 0, 0, 0, 0]]
        ),
        f"{prefix}padding_mask": np.array(
            [[1] * 4 + [0] * 4, [1] * 2 + [0] * 6]
        ),
    }
    if prefix:
        prompts |= token_inputs("encoder_")
    results = [
        model.generate(dict(prompts), stop_token_ids=None)[f"{prefix}token_ids"]
        for model in (theirs, ours)
    ]
    np.testing.assert_array_equal(results[1], results[0])
    assert len(set(np.ravel(results[0][0, 4:]))) > 1


# Adapters of low rank, and int8.


def changed(how_to, keras_hub, change):
    """KerasHub's network and ours, each changed, with the same weights."""
    pair = both(gpt2, how_to, keras_hub, "GPT2CausalLM")
    for model in pair:
        change(model)
    for one, other in zip(*(model.weights for model in pair), strict=True):
        if "lora" in one.path:
            one.assign(random.normal(one.shape, seed=3))
        other.assign(one)
    return pair


def generated(models):
    prompts = {
        "token_ids": np.array([[5, 9, 2, 0, 0], [8, 3, 0, 0, 0]]),
        "padding_mask": np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]),
    }
    return [
        model.generate(dict(prompts), stop_token_ids=None)["token_ids"]
        for model in models
    ]


def test_adapters_of_low_rank_are_those_of_keras_hub(
    how_to, keras_hub, tmp_path
):
    theirs, ours = changed(
        how_to, keras_hub, lambda model: model.backbone.enable_lora(2)
    )
    for model in (theirs, ours):
        paths = [v.path for v in model.trainable_variables if "lora" in v.path]
        assert len(paths) == 2 * 2 * 2
        assert all("self_attention" in path for path in paths)
    expected = numpy(theirs.backbone(INPUTS[gpt2]))
    assert_equal(ours.backbone(INPUTS[gpt2]), expected)
    np.testing.assert_array_equal(*generated((theirs, ours)))
    path = tmp_path / "adapters.lora.h5"
    theirs.backbone.save_lora_weights(path)
    adapters = [v for v in ours.backbone.weights if "lora" in v.path]
    for variable in adapters:
        variable.assign(ops.zeros_like(variable))
    found = numpy(ours.backbone(INPUTS[gpt2]))
    assert np.abs(found - expected).max() > 1e-3
    ours.backbone.load_lora_weights(path)
    assert_equal(ours.backbone(INPUTS[gpt2]), expected)


# Layers without weights cannot be quantized.
@pytest.mark.filterwarnings("ignore:.*not have a `quantize` method")
@pytest.mark.parametrize("lora", [False, True])
def test_kernels_of_int8_are_those_of_keras_hub(
    lora, how_to, keras_hub, tmp_path
):
    def change(model):
        model.quantize("int8")
        if lora:
            model.backbone.enable_lora(2)

    theirs, ours = changed(how_to, keras_hub, change)
    for layer in attention_layers(ours):
        for dense in (layer.query_dense, layer.key_dense, layer.output_dense):
            assert (
                keras.backend.standardize_dtype(dense._kernel.dtype) == "int8"
            )
    expected = numpy(theirs.backbone(INPUTS[gpt2]))
    assert_equal(ours.backbone(INPUTS[gpt2]), expected)
    np.testing.assert_array_equal(*generated((theirs, ours)))
    if not lora:
        ours.backbone.save(tmp_path / "ours.keras")
        with how_to["our_attention"]():
            again = keras.saving.load_model(tmp_path / "ours.keras")
        for layer in attention_layers(again):
            assert isinstance(layer, keras_attention.MultiHeadAttention)
        assert_equal(again(INPUTS[gpt2]), expected)


# Keys and values in KerasHub's cache, layer by layer.


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("key", [False, True])
def test_cached_attention_equals_keras_hub(scores, key, ours, keras_hub):
    generator = np.random.default_rng(0)
    layers = keras_hub.layers.CachedMultiHeadAttention(2, 4), ours(2, 4)
    for layer in layers:
        layer.build((2, 3, 6), (2, 3, 6))
    weights = [
        generator.normal(size=w.shape).astype("float32")
        for w in layers[0].get_weights()
    ]
    x, key_tokens = generator.normal(size=(2, 2, 3, 6)).astype("float32")
    call = {
        "query": x,
        "value": x,
        "key": key_tokens if key else None,
        "cache": generator.normal(size=(2, 2, 5, 2, 4)).astype("float32"),
        "attention_mask": np.tri(3, 5, 1, dtype="int32")[None],
        "return_attention_scores": scores,
    }
    for index in (1, None):  # New tokens, or the cache as it is.
        results = []
        for layer in layers:
            layer.set_weights(weights)
            results.append(layer(**call, cache_update_index=index))
        assert len(results[0]) == 2 + scores
        assert_equal(results[1], results[0])


def test_a_cache_in_a_functional_model(ours, keras_hub):
    """KerasHub's layer takes none there."""
    layer = ours(2, 4)
    x, cache = keras.Input((None, 6)), keras.Input((2, None, 2, 4))
    mask = keras.Input((None, None), dtype="int32")
    outputs = layer(
        x,
        x,
        cache=cache,
        cache_update_index=1,
        attention_mask=mask,
        return_attention_scores=True,
    )
    assert [tuple(each.shape) for each in outputs[::2]] == [
        (None, None, 6),
        (None, 2, None, 2, 4),
    ]
    model = keras.Model([x, cache, mask], outputs)
    theirs = keras_hub.layers.CachedMultiHeadAttention(2, 4)
    theirs.build((None, None, 6), (None, None, 6))
    theirs.set_weights(layer.get_weights())
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 3, 6)).astype("float32")
    cache = generator.normal(size=(2, 2, 5, 2, 4)).astype("float32")
    mask = np.tri(3, 5, 1, dtype="int32")[None].repeat(2, 0)
    expected = theirs(
        x,
        x,
        cache=cache,
        cache_update_index=1,
        attention_mask=mask,
        return_attention_scores=True,
    )
    found = model([x, cache, mask])
    assert_equal(found, expected)


# KerasHub's tests of its cached attention.


def test_cached_attention_behaviors(ours):
    check_behaviors(
        ours,
        {"num_heads": 2, "key_dim": 4, "dropout": 0.1},
        {"query_shape": (2, 4, 6), "value_shape": (2, 4, 6)},
        num_weights=8,
        num_seeds=1,
    )


def test_a_cache_in_a_loop(ours):
    x = random.uniform(shape=(2, 5, 8))
    empty = ops.zeros((2, 2, 5, 2, 4))
    mask = ops.tril(ops.ones((5, 5)))
    layer = ours(num_heads=2, key_dim=4)
    expected = layer(
        x, x, cache=empty, cache_update_index=0, attention_mask=mask
    )

    def step(i, outputs, cache):
        token = ops.slice(x, (0, i, 0), (2, 1, 8))
        output, cache = layer(
            query=token,
            value=token,
            cache=cache,
            cache_update_index=i,
            attention_mask=ops.slice(mask, (i, 0), (1, 5)),
        )
        return i + 1, ops.slice_update(outputs, [0, i, 0], output), cache

    _, *found = ops.while_loop(
        lambda i, outputs, cache: i < 5, step, [0, ops.zeros_like(x), empty]
    )
    assert_equal(found, expected, 1e-6)


def test_scores_of_cached_attention(ours):
    x = random.uniform(shape=(2, 5, 8))
    layer = ours(num_heads=2, key_dim=4)
    output, scores = layer(x, x, return_attention_scores=True)
    assert (tuple(output.shape), tuple(scores.shape)) == (
        (2, 5, 8),
        (2, 2, 5, 5),
    )
    np.testing.assert_allclose(numpy(scores).sum(-1), 1, atol=1e-5)
    empty = ops.zeros((2, 2, 5, 2, 4))
    output, scores, cache = layer(
        x,
        x,
        cache=empty,
        cache_update_index=0,
        attention_mask=ops.tril(ops.ones((5, 5))),
        return_attention_scores=True,
    )
    assert tuple(output.shape) == (2, 5, 8)
    assert tuple(scores.shape) == (2, 2, 5, 5)
    assert cache.shape == empty.shape


def test_dropout_of_cached_attention(ours):
    x = random.uniform(shape=(2, 5, 8))
    layer = ours(num_heads=2, key_dim=4, dropout=DROPPED)
    outputs = layer(x, x, training=True)
    # KerasHub's test attends by the private `_combine_equation` with zeros.
    assert_equal(outputs, layer.output_dense(ops.zeros((2, 5, 2, 4))))


# Its tests of the encoder.


@pytest.mark.parametrize("normalize_first", [False, True])
def test_encoder_behaviors(normalize_first, ours, keras_hub):
    check_behaviors(
        keras_hub.layers.TransformerEncoder,
        {**BLOCK, "normalize_first": normalize_first},
        (2, 4, 6),
        num_weights=16,
        num_seeds=3,
    )


@pytest.mark.parametrize("normalize_first", [False, True])
def test_encoder_in_a_model(normalize_first, ours, keras_hub):
    encoder = keras_hub.layers.TransformerEncoder(
        4, 2, normalize_first=normalize_first
    )
    model = keras.Sequential([keras.Input(shape=(4, 6)), encoder])
    assert tuple(model(random.uniform(shape=[2, 4, 6])).shape) == (2, 4, 6)


def test_encoder_with_a_mask(ours, keras_hub):
    encoder = keras_hub.layers.TransformerEncoder(4, 2)
    encoder.build([2, 4, 6])
    x = random.uniform(shape=[2, 4, 6])
    encoder(x, x[:, :, 0] < 0.5)


@pytest.mark.parametrize("name", ["TransformerEncoder", "TransformerDecoder"])
def test_an_unknown_initializer(name, ours, keras_hub):
    with pytest.raises(ValueError, match="Invalid"):
        getattr(keras_hub.layers, name)(
            4, 2, dropout=0.5, kernel_initializer="Invalid"
        )


def test_dropout_of_the_encoder(ours, keras_hub):
    encoder = keras_hub.layers.TransformerEncoder(4, 2, dropout=DROPPED)
    x = random.uniform(shape=[1, 4, 6])
    outputs = encoder(x, training=True)
    x = encoder._self_attention_layer_norm(x)
    assert_equal(outputs, encoder._feedforward_layer_norm(x))


def test_the_encoder_passes_masks_on(ours, keras_hub):
    encoder = keras_hub.layers.TransformerEncoder(4, 2)
    x = random.uniform(shape=[1, 4, 6])
    mask = ops.array([[True, True, False, False]])
    keras.src.backend.set_keras_mask(x, mask)
    found = keras.src.backend.get_keras_mask(encoder(x))
    np.testing.assert_array_equal(numpy(found), numpy(mask))


def test_scores_of_the_encoder(ours, keras_hub):
    encoder = keras_hub.layers.TransformerEncoder(4, 2)
    x = random.uniform(shape=[1, 4, 6])
    outputs, scores = encoder(x, return_attention_scores=True)
    assert outputs.shape == x.shape
    assert tuple(scores.shape) == (1, 2, 4, 4)


# Its tests of the decoder.


@pytest.mark.parametrize("cross_attention", [False, True])
@pytest.mark.parametrize("normalize_first", [False, True])
def test_decoder_behaviors(cross_attention, normalize_first, ours, keras_hub):
    names = ["decoder_sequence_shape", "encoder_sequence_shape"]
    check_behaviors(
        keras_hub.layers.TransformerDecoder,
        {**BLOCK, "normalize_first": normalize_first},
        dict.fromkeys(names, (2, 4, 6)) if cross_attention else (2, 4, 6),
        num_weights=26 if cross_attention else 16,
        num_seeds=5 if cross_attention else 3,
    )


def test_wrong_calls_of_the_decoder(ours, keras_hub):
    x = ops.zeros((2, 4, 6))
    for first, second in (((x, x), (x,)), ((x,), (x, x))):
        decoder = keras_hub.layers.TransformerDecoder(4, 2)
        decoder(*first)
        with pytest.raises(ValueError, match="number of call arguments"):
            decoder(*second)


def test_dropout_of_the_decoder(ours, keras_hub):
    decoder = keras_hub.layers.TransformerDecoder(4, 2, dropout=DROPPED)
    x, encoded = random.uniform(shape=[2, 1, 4, 6])
    outputs = decoder(x, encoded, training=True)
    x = decoder._self_attention_layer_norm(x)
    assert_equal(outputs, decoder._feedforward_layer_norm(x))


@pytest.mark.parametrize("cross_attention", [False, True])
def test_the_decoder_passes_masks_on(cross_attention, ours, keras_hub):
    decoder = keras_hub.layers.TransformerDecoder(4, 2)
    x, encoded = random.uniform(shape=[2, 1, 4, 6])
    mask = ops.array([[True, True, False, False]])
    keras.src.backend.set_keras_mask(x, mask)
    outputs = decoder(x, encoded) if cross_attention else decoder(x)
    found = keras.src.backend.get_keras_mask(outputs)
    np.testing.assert_array_equal(numpy(found), numpy(mask))


@pytest.mark.parametrize("cross_attention", [False, True])
def test_caches_of_the_decoder_in_a_loop(cross_attention, ours, keras_hub):
    x, encoded = random.uniform(shape=(2, 2, 5, 8))
    empty = ops.zeros((2, 2, 5, 2, 4))
    layer = keras_hub.layers.TransformerDecoder(4, 2)
    inputs, caches = {}, {"self_attention_cache": empty}
    at = {"self_attention_cache_update_index": 0}
    if cross_attention:
        inputs["encoder_sequence"] = encoded
        caches["cross_attention_cache"] = empty
        at["cross_attention_cache_update_index"] = 0
    expected = layer(x, **inputs, **caches, **at)

    def step(i, outputs, *caches):
        token = ops.slice(x, (0, i, 0), (2, 1, 8))
        names = ["self_attention_cache", "cross_attention_cache"]
        output, *caches = layer(
            decoder_sequence=token,
            self_attention_cache_update_index=i,
            **inputs,
            **dict(zip(names, caches, strict=False)),
        )
        return i + 1, ops.slice_update(outputs, (0, i, 0), output), *caches

    # The encoder's keys and values are computed once.
    start = [0, ops.zeros_like(x), empty, *expected[2:]]
    _, *found = ops.while_loop(lambda i, *others: i < 5, step, start)
    assert_equal(found, expected, 1e-6)
