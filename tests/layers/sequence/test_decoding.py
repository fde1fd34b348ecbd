"""Step by step equals the full causal pass."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.positions import RelativeBias
from keras_attention.positions import Rotary
from keras_attention.positions import YaRNScaling
from support.arrays import numpy
from support.attention import draw
from support.networks import first_of

VARIANTS = {
    "plain": {},
    "rotary": {"positions": "rotary", "num_kv_heads": 2, "qk_norm": True},
    "yarn": {
        "positions": Rotary("half", 0.5, 20.0, YaRNScaling(4.0, 64)),
    },
    "alibi": {"positions": "alibi", "num_kv_heads": 1},
    "relative": {"positions": RelativeBias(4, 5)},
    "window": {"window": 3, "logit_soft_cap": 2.0},
    "sinks": {"use_sinks": True},
    "sink tokens": {"window": 2, "num_sink_tokens": 2, "positions": "rotary"},
    "talking heads": {"talking_heads": True, "num_kv_heads": 2},
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def make(variant="plain", **arguments):
    arguments = {"causal": True, **VARIANTS[variant], **arguments}
    layer = ka.MultiHeadAttention(4, name="attention", **arguments)
    layer.build((None, None, 16))
    generator = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        value = generator.normal(size=variable.shape) / 3
        variable.assign(value.astype("float32"))
    return layer


def tokens(*shape, seed=0):
    return draw(*shape, 16, seed=seed, dtype="float32")


def decode(layer, x, steps, cache=None):
    """Feed the sequence in pieces of the given lengths."""
    cache = cache or layer.initial_cache(len(x), x.shape[1])
    outputs, start = [], 0
    for step in steps:
        y, cache = layer(x[:, start : start + step], cache=cache)
        outputs.append(numpy(y))
        start += step
    return np.concatenate(outputs, axis=1), cache


@variants
@pytest.mark.parametrize("steps", [[1] * 7, [7], [4, 1, 2]])
def test_equals_the_full_pass(variant, steps):
    layer, x = make(variant), tokens(2, 7)
    found, cache = decode(layer, x, steps)
    np.testing.assert_allclose(found, numpy(layer(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(numpy(cache["length"]), [7, 7])


GAPS = {
    "middle": [[1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 1, 0, 1, 1]],
    "left": [[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]],
    "right": [[1, 1, 0, 0, 1, 1, 0], [1, 1, 1, 0, 1, 0, 0]],
}


@variants
@pytest.mark.parametrize(
    "steps", first_of([[1] * 7, [2, 5], [4, 1, 1, 1], [3, 2, 2]], 2)
)
def test_masked_tokens_keep_their_distance(variant, steps):
    mask = np.concatenate(list(GAPS.values())).astype(bool)
    layer, x = make(variant), tokens(len(mask), 7)
    expected = numpy(layer(x, mask=mask))
    x[~mask] = np.nan
    cache, outputs, start = layer.initial_cache(len(mask), 9), [], 0
    for step in steps:
        piece = slice(start, start + step)
        y, cache = layer(x[:, piece], mask=mask[:, piece], cache=cache)
        outputs.append(numpy(y))
        start += step
    np.testing.assert_allclose(
        np.concatenate(outputs, axis=1), expected, rtol=1e-4, atol=1e-5
    )


@variants
def test_prompts_padded_on_the_left_continue_as_without_padding(variant):
    layer = make(variant)
    lengths, longest, further = (2, 4, 1), 4, 3
    rows = [tokens(n + further, seed=n) for n in lengths]
    prompts = tokens(3, longest, seed=9)  # the padding is not zero
    mask = np.zeros((3, longest), bool)
    for row, (sequence, n) in enumerate(zip(rows, lengths, strict=True)):
        prompts[row, longest - n :] = sequence[:n]
        mask[row, longest - n :] = True
    cache = layer.initial_cache(3, longest + further)
    y, cache = layer(prompts, mask=mask, cache=cache)
    found = [list(numpy(y)[row][mask[row]]) for row in range(3)]
    for step in range(further):
        new = np.stack(
            [row[n + step] for row, n in zip(rows, lengths, strict=True)]
        )
        y, cache = layer(new[:, None], cache=cache)
        for row in range(3):
            found[row].append(numpy(y)[row, 0])
    for row, sequence in enumerate(rows):
        np.testing.assert_allclose(
            np.stack(found[row]),
            numpy(layer(sequence[None]))[0],
            rtol=1e-4,
            atol=1e-5,
        )


def test_mask_of_an_embedding_is_used():
    embedding = keras.layers.Embedding(9, 16, mask_zero=True)
    layer = make()
    padded = np.array([[3, 4, 0, 0], [5, 6, 7, 0]])
    cache = layer.initial_cache(2, 5)
    _, cache = layer(embedding(padded), cache=cache)
    np.testing.assert_array_equal(numpy(cache["length"]), [4, 4])
    np.testing.assert_array_equal(numpy(cache["mask"])[:, :4], padded != 0)
    y, _ = layer(embedding(np.array([[1], [2]])), cache=cache)
    alone = layer(embedding(np.array([[3, 4, 1]])))
    np.testing.assert_allclose(numpy(y)[0, 0], numpy(alone)[0, 2], atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_inside_a_compiled_loop(jit_compile):
    import tensorflow as tf

    layer, x = make("rotary"), tokens(2, 6)

    @tf.function(jit_compile=jit_compile)
    def run(x, cache):
        def body(step, outputs, cache):
            y, cache = layer(x[:, step][:, None], cache=cache)
            return step + 1, outputs.write(step, y[:, 0]), cache

        first, cache = layer(x[:, :2], cache=cache)
        outputs = tf.TensorArray("float32", 6, element_shape=(2, 16))
        for step in range(2):
            outputs = outputs.write(step, first[:, step])
        _, outputs, cache = tf.while_loop(
            lambda step, *_: step < 6, body, (tf.constant(2), outputs, cache)
        )
        return outputs.stack(), cache

    found, cache = run(tf.constant(x), layer.initial_cache(2, 6))
    np.testing.assert_allclose(
        numpy(found).swapaxes(0, 1), numpy(layer(x)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(numpy(cache["length"]), [6, 6])


def test_scores_and_masks_are_of_slots():
    layer, x = make(), tokens(2, 3)
    cache = layer.initial_cache(2, 5)
    y, scores, _ = layer(x, cache=cache, return_attention_scores=True)
    expected, full = layer(x, return_attention_scores=True)
    np.testing.assert_allclose(numpy(y), numpy(expected), atol=1e-5)
    np.testing.assert_allclose(
        numpy(scores), np.pad(numpy(full), [(0, 0)] * 3 + [(0, 2)]), atol=1e-6
    )
    unmasked = np.arange(5)[None] != 1
    y, _ = layer(x, cache=cache, attention_mask=unmasked)
    expected = layer(x, attention_mask=unmasked[:, :3])
    np.testing.assert_allclose(numpy(y), numpy(expected), atol=1e-5)


def test_half_precision_cache():
    layer = make(dtype="mixed_float16")
    cache = layer.initial_cache(2, 3)
    assert keras.backend.standardize_dtype(cache["key"].dtype) == "float16"
    y, cache = layer(tokens(2, 3), cache=cache)
    expected = numpy(make()(tokens(2, 3)))
    np.testing.assert_allclose(numpy(y), expected, atol=2e-2)


def test_symbolic_shapes():
    layer = make()
    cache = {
        "key": keras.KerasTensor((None, 9, 4, 4)),
        "value": keras.KerasTensor((None, 9, 4, 4)),
        "mask": keras.KerasTensor((None, 9), "bool"),
        "length": keras.KerasTensor((None,), "int32"),
    }
    y, scores, after = layer(
        keras.KerasTensor((None, 3, 16)),
        cache=cache,
        return_attention_scores=True,
    )
    assert tuple(y.shape) == (None, 3, 16)
    assert tuple(scores.shape) == (None, 4, 3, 9)
    assert {n: tuple(t.shape) for n, t in after.items()} == {
        n: tuple(t.shape) for n, t in cache.items()
    }


def test_cache_too_short():
    layer = make()
    with pytest.raises(ValueError, match="too short.*4 tokens for a .* 3"):
        layer(tokens(2, 4), cache=layer.initial_cache(2, 3))
    _, cache = layer(tokens(2, 2), cache=layer.initial_cache(2, 3))
    with pytest.raises(ValueError, match="too short.*4 tokens for a .* 3"):
        layer(tokens(2, 2), cache=cache)


def test_cache_of_another_batch_or_layer():
    layer, x = make(), tokens(2, 2)
    with pytest.raises(ValueError, match="another batch.*3 rows.*batch of 2"):
        layer(x, cache=layer.initial_cache(3, 4))
    other = make(num_kv_heads=2).initial_cache(2, 4)
    with pytest.raises(ValueError, match="another layer.*'attention'"):
        layer(x, cache=other)
    with pytest.raises(ValueError, match="dictionary of 'key'"):
        layer(x, cache={"inputs": x})


def test_only_causal_layers_decode():
    layer = make(causal=False)
    with pytest.raises(ValueError, match="causal=False.*'attention'"):
        layer.initial_cache(2, 4)
    with pytest.raises(ValueError, match="causal=False"):
        layer(tokens(2, 2), cache=make().initial_cache(2, 4))


def test_bad_arguments_of_the_cache():
    with pytest.raises(ValueError, match="max_length=None"):
        make().initial_cache(2)
    with pytest.raises(ValueError, match="max_length=0"):
        make().initial_cache(2, 0)
    with pytest.raises(ValueError, match="batch_size=0"):
        make().initial_cache(0, 3)
    with pytest.raises(ValueError, match="not built"):
        ka.MultiHeadAttention(4, causal=True).initial_cache(2, 3)
    unbuilt = ka.MultiHeadAttention(4, key_dim=2, causal=True)
    assert tuple(unbuilt.initial_cache(2, 3)["key"].shape) == (2, 3, 4, 2)


def test_queries_without_keys():
    layer, x = make(), tokens(2, 2)
    with pytest.raises(ValueError, match="queries and keys at once"):
        layer(x, tokens(2, 3), cache=layer.initial_cache(2, 4))


@pytest.mark.parametrize("filling", [np.nan, np.inf])
@variants
def test_slots_without_a_token_may_hold_anything(variant, filling):
    """What was never written, what is masked, what is left of other texts."""
    layer, x = make(variant), tokens(2, 6)
    mask = np.array(GAPS["middle"], bool)[:, :6]
    expected = numpy(layer(x, mask=mask))
    cache = layer.initial_cache(2, 8)
    _, cache = layer(x[:, :4], mask=mask[:, :4], cache=cache)
    free = np.ones((2, 8), bool)
    free[:, :4] = ~mask[:, :4]
    for name in ("key", "value"):
        array = numpy(cache[name]).copy()
        array[free] = filling
        cache[name] = array
    cache["mask"] = numpy(cache["mask"]) | (np.arange(8) >= 4)
    y, cache = layer(x[:, 4:], mask=mask[:, 4:], cache=cache)
    np.testing.assert_allclose(numpy(y), expected[:, 4:], rtol=1e-4, atol=1e-5)
    assert np.isfinite(numpy(cache["key"])).all()


@variants
def test_a_step_without_tokens_and_a_batch_without_rows(variant):
    layer, x = make(variant), tokens(2, 5)
    found, cache = decode(layer, x, [2, 0, 3])
    np.testing.assert_allclose(found, numpy(layer(x)), rtol=1e-4, atol=1e-5)
    none = {name: tensor[:0] for name, tensor in cache.items()}
    y, _ = layer(x[:0, :0], cache=none)
    assert tuple(y.shape) == (0, 0, 16)
    none["length"] = none["length"] * 0
    y, _ = layer(x[:0], cache=none)
    assert tuple(y.shape) == (0, 5, 16)


def test_a_cache_of_arrays_of_other_dtypes():
    layer, x = make("rotary"), tokens(2, 5)
    _, cache = decode(layer, x[:, :2], [2], layer.initial_cache(2, 5))
    cache = {name: numpy(tensor) for name, tensor in cache.items()}
    cache["length"] = cache["length"].astype("int64")
    cache["mask"] = cache["mask"].astype("int8")
    y, _ = layer(x[:, 2:], cache=cache)
    np.testing.assert_allclose(
        numpy(y), numpy(layer(x))[:, 2:], rtol=1e-4, atol=1e-5
    )
