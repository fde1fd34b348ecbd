"""What is written for Keras' attention layers means the same for ours."""

import inspect

import keras
import numpy as np
import pytest

import keras_attention as ka
from support.arrays import numpy
from support.attention import draw

if (
    "use_gate"
    not in inspect.signature(keras.layers.MultiHeadAttention).parameters
):
    pytest.skip(
        "needs a Keras whose attention has gates and sliding windows",
        allow_module_level=True,
    )


def tokens(*shape, seed=0):
    return draw(*shape, seed=seed, dtype="float32")


def randomize(layer, seed=1):
    generator = np.random.default_rng(seed)
    layer.set_weights(
        [
            generator.normal(size=w.shape).astype("float32") / 2
            for w in layer.get_weights()
        ]
    )
    return layer


def pair(*shapes, num_heads=2, key_dim=3, **arguments):
    """Keras' layer and ours, with equal weights."""
    theirs = keras.layers.MultiHeadAttention(num_heads, key_dim, **arguments)
    ours = ka.MultiHeadAttention(num_heads, key_dim, **arguments)
    for layer in (theirs, ours):
        layer.build(*shapes)
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def assert_equal(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(
        numpy(ours), numpy(theirs), rtol=1e-4, atol=tolerance
    )


# By hand: one head of width 1, weights of 1, so that only masks decide.


def means(layer_arguments, queries, keys, **call):
    """What each query gets of the values 0, 1, 2, … if all keys are alike."""
    layer = ka.MultiHeadAttention(1, 1, use_bias=False, **layer_arguments)
    query = np.zeros((1, queries, 1), "float32")
    value = np.arange(keys, dtype="float32").reshape(1, keys, 1)
    layer.build(query.shape, value.shape)
    layer.set_weights([np.ones(w.shape) for w in layer.get_weights()])
    return numpy(layer(query, value, **call))[0, :, 0].tolist()


def test_use_causal_mask_begins_at_the_first_key():
    assert means({}, 3, 3, use_causal_mask=True) == [0.0, 0.5, 1.0]
    assert means({}, 2, 4, use_causal_mask=True) == [0.0, 0.5]
    assert means({}, 4, 2, use_causal_mask=True) == [0.0, 0.5, 0.5, 0.5]
    # Ours is aligned at the last key.
    assert means({"causal": True}, 2, 4) == [1.0, 1.5]
    assert means({"causal": True}, 4, 2) == [0.0, 0.0, 0.0, 0.5]


def test_both_causal_masks():
    found = means({"causal": True}, 4, 2, use_causal_mask=True)
    assert found == [0.0, 0.0, 0.0, 0.5]
    found = means({"causal": True}, 2, 4, use_causal_mask=True)
    assert found == [0.0, 0.5]


def test_a_sliding_window_begins_at_the_first_key():
    assert means({"sliding_window": 2}, 3, 5) == [0.5, 1.0, 2.0]
    assert means({"sliding_window": 1}, 3, 5) == [0.0, 1.0, 2.0]
    assert means({"window": 2}, 3, 5) == [2.0, 3.0, 3.5]
    found = means({"sliding_window": 2}, 3, 5, use_causal_mask=True)
    assert found == [0.0, 0.5, 1.5]


def test_integers_and_lists_are_masks():
    for mask in ([[1, 0, 1]], np.array([[1, 0, 1]]), [[True, False, True]]):
        assert means({}, 2, 3, attention_mask=mask) == [1.0, 1.0]
        assert means({}, 2, 3, value_mask=mask) == [1.0, 1.0]
    with pytest.raises(TypeError, match="is a bias"):
        means({}, 2, 3, attention_mask=[[1.0, 0.0, 1.0]])


# Beside Keras' layer.


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"use_bias": False, "dropout": 0.3},
        {"output_shape": 5},
        {"output_shape": (5, 2)},
        {"use_gate": True},
        {"sliding_window": 2},
    ],
)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries, keys", [(5, 5), (3, 5), (5, 3)])
def test_equals_keras(arguments, causal, queries, keys):
    query, value = tokens(2, queries, 6), tokens(2, keys, 4, seed=1)
    theirs, ours = pair(query.shape, value.shape, **arguments)
    mask = np.random.default_rng(3).random((2, queries, keys)) < 0.8
    mask[:, :, 0] = True  # Keras gives a query without keys a mean.
    call = {"attention_mask": mask, "use_causal_mask": causal}
    expected = theirs(query, value, return_attention_scores=True, **call)
    found = ours(query, value, return_attention_scores=True, **call)
    seen = numpy(expected[1]).sum(-1) > 0.5
    if seen.all():
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    assert tuple(found[0].shape) == ours.compute_output_shape(
        query.shape, value.shape
    )


def test_positional_arguments_are_those_of_keras():
    ours = ka.MultiHeadAttention(2, 3, 4, 0.25, False)
    theirs = keras.layers.MultiHeadAttention(2, 3, 4, 0.25, False)
    for name in ("num_heads", "key_dim", "value_dim", "dropout", "use_bias"):
        assert getattr(ours, name) == getattr(theirs, name)
    calls = [
        list(inspect.signature(layer.call).parameters)
        for layer in (ours, theirs)
    ]
    assert calls[0][: len(calls[1])] == calls[1]


# Several axes.


@pytest.mark.parametrize(
    "query_sizes, key_sizes, axes, mask_shape",
    [
        ((3, 4), (3, 2), 2, (4, 2)),
        ((3, 4), (3, 2), -2, (2, 4, 2)),
        ((3, 4), (5, 4), 1, (2, 4, 3, 5)),
        ((3, 4), (5, 2), None, (3, 4, 5, 2)),
        ((3, 4), (5, 2), (1, 2), (2, 1, 3, 4, 5, 2)),
        ((5, 3, 4), (5, 6, 2), (2, 3), (2, 5, 2, 3, 4, 6, 2)),
        ((5, 3, 4), (5, 6, 2), (-3, -2), None),
        ((5, 3, 4), (2, 3, 2), (1, 3), None),
    ],
)
@pytest.mark.parametrize("use_gate", [False, True])
def test_attention_axes_equal_keras(
    query_sizes, key_sizes, axes, mask_shape, use_gate
):
    query = tokens(2, *query_sizes, 6)
    value = tokens(2, *key_sizes, 7, seed=1)
    theirs, ours = pair(
        query.shape, value.shape, attention_axes=axes, use_gate=use_gate
    )
    mask = None
    if mask_shape is not None:
        mask = np.random.default_rng(0).random(mask_shape) < 0.8
        mask[..., 0] = True
    call = {"attention_mask": mask, "return_attention_scores": True}
    expected = theirs(query, value, **call)
    found = ours(query, value, **call)
    for one, other in zip(found, expected, strict=True):
        assert tuple(one.shape) == tuple(other.shape)
        assert_equal(one, other)
    symbolic = ours(
        keras.Input(query.shape[1:]),
        keras.Input(value.shape[1:]),
        return_attention_scores=True,
    )
    for one, other in zip(symbolic, found, strict=True):
        assert tuple(one.shape[1:]) == tuple(other.shape[1:])


@pytest.mark.parametrize("positions", [None, "rotary", "relative"])
def test_attention_along_one_axis_is_attention_of_each_row(positions):
    arguments = {"causal": True, "positions": positions}
    layer = ka.MultiHeadAttention(2, attention_axes=3, **arguments)
    x = tokens(2, 3, 2, 5, 8)
    mask = np.random.default_rng(0).random((2, 3, 1, 1, 5, 5)) < 0.8
    y = numpy(layer(x, attention_mask=mask))
    rows = ka.MultiHeadAttention(2, **arguments)
    rows.build((None, None, 8))
    rows.set_weights(layer.get_weights())
    for n in range(3):
        for m in range(2):
            expected = rows(x[:, n, m], attention_mask=mask[:, n, 0, 0])
            assert_equal(y[:, n, m], expected)


def test_masks_of_images_leave_positions_out():
    layer = ka.MultiHeadAttention(2)
    x = tokens(2, 3, 4, 8)
    mask = np.random.default_rng(0).random((2, 3, 4)) < 0.6
    layer.build(x.shape)
    randomize(layer)
    broken = np.where(mask[..., None], x, np.nan)
    y, scores = layer(broken, mask=mask, return_attention_scores=True)
    flat, flat_scores = layer_of_rank_3(layer)(
        x.reshape(2, 12, 8),
        mask=mask.reshape(2, 12),
        return_attention_scores=True,
    )
    assert_equal(numpy(y).reshape(2, 12, 8), flat)
    assert_equal(numpy(scores).reshape(2, 2, 12, 12), flat_scores)


def test_masks_of_images_may_be_integers():
    theirs, ours = pair((2, 3, 4, 6), (2, 3, 2, 7), attention_axes=(1, 2))
    query, value = tokens(2, 3, 4, 6), tokens(2, 3, 2, 7, seed=1)
    generator = np.random.default_rng(0)
    query_mask, value_mask, key_mask = (
        (generator.random((2, 3, n)) < 0.6).astype("int32") for n in (4, 2, 2)
    )
    value_mask[:, 0, 0] = key_mask[:, 0, 0] = 1
    allowed = np.broadcast_to(
        (value_mask * key_mask)[:, None, None].astype(bool), (2, 3, 4, 3, 2)
    )
    found = ours(
        query,
        value,
        query_mask=query_mask,
        value_mask=value_mask,
        key_mask=key_mask,
    )
    expected = theirs(query, value, attention_mask=allowed)
    valid = query_mask.astype(bool)
    assert_equal(numpy(found)[valid], numpy(expected)[valid])


def layer_of_rank_3(layer):
    flat = ka.MultiHeadAttention(2)
    flat.build((None, None, 8))
    flat.set_weights(layer.get_weights())
    return flat


def test_open_sizes_in_a_model():
    inputs = keras.Input((None, None, 8))
    layer = ka.MultiHeadAttention(2, attention_axes=1)
    y, scores = layer(inputs, return_attention_scores=True)
    assert tuple(y.shape) == (None, None, None, 8)
    assert tuple(scores.shape) == (None, None, 2, None, None)
    model = keras.Model(inputs, [y, scores])
    x = tokens(2, 5, 3, 8)
    for found, expected in zip(
        model.predict(x, verbose=0),
        layer(x, return_attention_scores=True),
        strict=True,
    ):
        assert_equal(found, expected)


@pytest.mark.parametrize("axes", [0, 3, -1, (1, 1), (2, 4)])
def test_axes_out_of_range(axes):
    layer = ka.MultiHeadAttention(2, attention_axes=axes)
    with pytest.raises(ValueError, match="attention_axes=.*query of shape"):
        layer.build((2, 3, 4, 8))


@pytest.mark.parametrize("axes", [1.0, "1", (), (1, "2"), True])
def test_axes_of_another_type(axes):
    with pytest.raises(TypeError, match="`attention_axes` must be"):
        ka.MultiHeadAttention(2, attention_axes=axes)


@pytest.mark.parametrize("symbolic", [False, True])
def test_shapes_with_axes(symbolic):
    layer = ka.MultiHeadAttention(2, attention_axes=2)
    layer.build((None, 3, 4, 8))

    def tensor(*shape):
        return keras.KerasTensor(shape) if symbolic else tokens(*shape)

    x = tensor(2, 3, 4, 8)
    with pytest.raises(ValueError, match="not attended along"):
        layer(x, tensor(2, 2, 4, 8))
    with pytest.raises(ValueError, match="same number of axes"):
        layer(x, tensor(2, 3, 8))
    with pytest.raises(ValueError, match="built for tensors of rank 4"):
        layer(tensor(2, 3, 8))
    with pytest.raises(ValueError, match=r"`attention_mask` must end in"):
        layer(x, attention_mask=np.ones((2, 4, 3), bool))
    with pytest.raises(ValueError, match=r"`query_mask` must have the shape"):
        layer(x, query_mask=np.ones((2, 3), bool))
    if not symbolic:
        causal = ka.MultiHeadAttention(2, attention_axes=2, causal=True)
        causal.build((None, 3, 4, 8))
        with pytest.raises(ValueError, match="cache is of sequences"):
            causal.initial_cache(2, 3)


# Constraints and regularizers.


def test_constraints_are_those_of_every_projection():
    layer = ka.MultiHeadAttention(
        2,
        use_gate=True,
        kernel_constraint="non_neg",
        bias_constraint=keras.constraints.MaxNorm(2.0),
    )
    layer.build((None, None, 8))
    assert len(layer.weights) == 10
    for weight in layer.weights:
        kind = "NonNeg" if weight.name == "kernel" else "MaxNorm"
        assert type(weight.constraint).__name__ == kind


def test_activity_regularizer_is_of_every_projection():
    x = tokens(2, 5, 6)
    theirs, ours = pair(x.shape, x.shape, activity_regularizer="l2")
    theirs(x, x)
    ours(x, x)
    assert len(ours.losses) == 4
    for one, other in zip(ours.losses, theirs.losses, strict=True):
        assert_equal(one, other)


# Configuration.


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_reads_the_configuration_of_grouped_queries(kv_heads):
    theirs = keras.layers.GroupQueryAttention(3, 4, kv_heads, use_gate=True)
    query, value = tokens(2, 5, 6), tokens(2, 4, 6, seed=1)
    theirs(query, value)
    randomize(theirs)
    ours = ka.MultiHeadAttention.from_config(theirs.get_config())
    assert (ours.num_heads, ours.key_dim) == (4, 3)
    ours.build(query.shape, value.shape)
    ours.set_weights(theirs.get_weights())
    for causal in (False, True):
        assert_equal(
            ours(query, value, use_causal_mask=causal),
            theirs(query, value, use_causal_mask=causal),
        )


# Files, and models that are changed over.


def keras_model(grouped=True, **arguments):
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(7, 8, mask_zero=True)(tokens)
    y = keras.layers.MultiHeadAttention(2, 4, name="first", **arguments)(
        x, x, use_causal_mask=True
    )
    if grouped:
        y = keras.layers.GroupQueryAttention(4, 4, 2, name="second")(y, x)
    return keras.Model(tokens, keras.layers.Dense(3)(y))


def with_our_attention(layer):
    kinds = keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention
    if isinstance(layer, kinds):
        return ka.MultiHeadAttention.from_config(layer.get_config())
    return layer.__class__.from_config(layer.get_config())


# Keras' own layer for grouped queries drops the mask with a warning.
@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_a_cloned_model_has_our_attention(tmp_path):
    theirs = keras_model()
    ours = keras.models.clone_model(theirs, clone_function=with_our_attention)
    for name in ("first", "second"):
        assert type(ours.get_layer(name)) is ka.MultiHeadAttention
    # Without padding: Keras' first layer takes the mask away from `x`.
    ids = np.array([[1, 2, 3, 4], [5, 6, 1, 2]])
    ours.set_weights(theirs.get_weights())
    expected = numpy(theirs(ids))
    assert_equal(ours(ids), expected)
    ours.save(tmp_path / "ours.keras")
    again = keras.saving.load_model(tmp_path / "ours.keras")
    assert_equal(again(ids), ours(ids))


@pytest.mark.parametrize(
    "arguments", [{}, {"dropout": 0.2}, {"use_gate": True, "use_bias": False}]
)
def test_a_file_of_weights_is_one_of_the_other(arguments, tmp_path):
    theirs = keras_model(grouped=False, **arguments)
    ours = keras.models.clone_model(theirs, clone_function=with_our_attention)
    ids = np.array([[1, 2, 3, 4], [5, 6, 0, 0]])
    real = ids > 0  # Masked queries of Keras get a mean.
    expected = numpy(theirs(ids))[real]
    for source, target in ((theirs, ours), (ours, theirs)):
        path = tmp_path / "model.weights.h5"
        source.save_weights(path)
        target.set_weights([0 * w for w in target.get_weights()])
        target.load_weights(path)
        assert_equal(numpy(target(ids))[real], expected)


# Quantization, adapters, dtype policies.


@pytest.mark.filterwarnings("ignore:.*not have a `quantize` method")
def test_projections_are_quantized_to_int8(tmp_path):
    x = tokens(2, 5, 8)
    inputs = keras.Input((5, 8))
    layer = ka.MultiHeadAttention(2, use_gate=True, name="attention")
    model = keras.Model(inputs, layer(inputs))
    before = numpy(model(x))
    model.quantize("int8")
    for dense in (
        layer.query_dense,
        layer.key_dense,
        layer.value_dense,
        layer.gate_dense,
        layer.output_dense,
    ):
        kernel = keras.backend.standardize_dtype(dense._kernel.dtype)
        assert kernel == "int8"
    after = numpy(model(x))
    assert 0 < np.square(after - before).mean() < 1e-3
    model.save(tmp_path / "int8.keras")
    again = keras.saving.load_model(tmp_path / "int8.keras")
    assert_equal(again(x), after)


def test_an_adapter_of_low_rank():
    layer = ka.MultiHeadAttention(2, use_bias=False)
    x = tokens(2, 5, 8)
    before = numpy(layer(x))
    for dense in (layer.query_dense, layer.value_dense):
        dense.enable_lora(2)
    assert len(layer.trainable_variables) == 2 + 2 * 2
    assert_equal(layer(x), before)  # It starts as zero.
    layer.query_dense.lora_kernel_b.assign(tokens(2, 4, seed=2))
    assert np.abs(numpy(layer(x)) - before).max() > 1e-3


def test_a_dtype_policy_of_one_projection():
    policies = keras.dtype_policies.DTypePolicyMap()
    policies["attention/query"] = keras.dtype_policies.get("int8_from_float32")
    policies["attention/value"] = keras.DTypePolicy("bfloat16")
    layer = ka.MultiHeadAttention(2, dtype=policies, name="attention")
    layer.build((None, None, 8))
    dtypes = {
        dense.name: keras.backend.standardize_dtype(dense._kernel.dtype)
        for dense in (layer.query_dense, layer.key_dense, layer.value_dense)
    }
    assert dtypes == {"query": "int8", "key": "float32", "value": "bfloat16"}


def test_reads_the_configuration_of_keras():
    theirs = keras.layers.MultiHeadAttention(
        2,
        3,
        output_shape=5,
        sliding_window=3,
        use_gate=True,
        kernel_regularizer="l2",
        kernel_constraint="non_neg",
        name="attention",
    )
    x = tokens(2, 5, 6)
    theirs(x, x)
    ours = ka.MultiHeadAttention.from_config(theirs.get_config())
    ours.build(x.shape)
    assert ours.name == "attention"
    ours.set_weights(theirs.get_weights())
    assert_equal(ours(x, x), theirs(x, x))


# What differs, with the numbers of both: docs/how_to/replace_keras_attention.md


ROWS = np.array([[[1.0], [3.0]]], "float32")
WITHOUT_WEIGHTS = [
    (keras.layers.Attention, ka.ScaledDotProductAttention, {}),
    (
        keras.layers.AdditiveAttention,
        ka.AdditiveAttention,
        {"use_scale": False},
    ),
]
pairs_without_weights = pytest.mark.parametrize(
    "theirs, ours, arguments",
    WITHOUT_WEIGHTS,
    ids=["Attention", "AdditiveAttention"],
)


def values(results):
    return [numpy(each)[0].tolist() for each in results]


def from_keras(theirs, ours, **arguments):
    """Keras' layer, and ours of its configuration."""
    layer = theirs(**arguments)
    return layer, ours.from_config(layer.get_config())


@pairs_without_weights
def test_a_masked_query_has_scores_of_zero(theirs, ours, arguments):
    mask = np.array([[True, False]])
    call = {"mask": [mask, mask], "return_attention_scores": True}
    theirs, ours = from_keras(theirs, ours, **arguments)
    output = [[1.0], [0.0]]  # The same.
    assert values(theirs([ROWS, ROWS], **call)) == [output, [[1, 0], [1, 0]]]
    assert values(ours([ROWS, ROWS], **call)) == [output, [[1, 0], [0, 0]]]


@pairs_without_weights
def test_a_query_without_keys_gets_zeros(theirs, ours, arguments):
    nothing = np.zeros((1, 2), bool)
    call = {"mask": [None, nothing], "return_attention_scores": True}
    theirs, ours = from_keras(theirs, ours, **arguments)
    means = [[[2.0], [2.0]], [[0.5, 0.5], [0.5, 0.5]]]
    zeros = [[[0.0], [0.0]], [[0.0, 0.0], [0.0, 0.0]]]
    assert values(theirs([ROWS, ROWS], **call)) == means
    assert values(ours([ROWS, ROWS], **call)) == zeros


@pairs_without_weights
def test_the_mask_of_the_keys_counts(theirs, ours, arguments):
    every, first = np.array([[True, True]]), np.array([[True, False]])
    theirs, ours = from_keras(theirs, ours, **arguments)
    inputs = [ROWS, ROWS, ROWS]
    masks = [None, every, first]
    assert_equal(theirs(inputs, mask=masks), theirs(inputs))
    assert_equal(ours(inputs), theirs(inputs))
    assert values([ours(inputs, mask=masks)]) == [[[1.0], [1.0]]]
    assert_equal(
        ours(inputs, mask=masks), theirs(inputs, mask=[None, first, first])
    )


@pairs_without_weights
def test_scores_in_training_are_those_before_dropout(theirs, ours, arguments):
    theirs, ours = from_keras(theirs, ours, dropout=0.5, seed=0, **arguments)
    x = tokens(2, 9, 4)
    call = {"return_attention_scores": True, "training": True}
    found, scores = ours([x, x], **call)
    _, expected = ours([x, x], return_attention_scores=True)
    assert_equal(scores, expected)
    _, dropped = theirs([x, x], **call)
    zeros = (numpy(dropped) == 0).mean()
    assert 0.3 < zeros < 0.7
    # They are dropped for the output all the same.
    assert np.abs(numpy(found) - numpy(ours([x, x]))).max() > 0.1


def test_scores_in_training_of_multi_head_attention():
    x = tokens(2, 5, 6)
    for layer in pair(x.shape, x.shape, dropout=0.5):
        call = {"return_attention_scores": True}
        _, in_training = layer(x, x, training=True, **call)
        assert_equal(in_training, layer(x, x, **call)[1])


def test_products_are_scaled_unless_keras_configuration_is_read():
    # By hand: q = (2, 0), keys (2, 0) and (0, 0), products 4 and 0; with
    # D = 2, 4 / sqrt(2). The values are 1 and 0, so that the output is the
    # first score.
    query = np.array([[[2.0, 0.0]]], "float32")
    key = np.array([[[2.0, 0.0], [0.0, 0.0]]], "float32")
    value = np.array([[[1.0], [0.0]]], "float32")
    theirs, ours = from_keras(
        keras.layers.Attention, ka.ScaledDotProductAttention
    )
    plain = 1 / (1 + np.exp(-4))
    for layer in (theirs, ours, ka.ScaledDotProductAttention(scale=1.0)):
        assert_equal(layer([query, value, key]), np.full((1, 1, 1), plain))
    scaled = 1 / (1 + np.exp(-4 / np.sqrt(2)))
    found = ka.ScaledDotProductAttention()([query, value, key])
    assert_equal(found, np.full((1, 1, 1), scaled))


def test_four_axes_have_heads_before_the_last():
    theirs = keras.layers.Attention()
    ours = ka.ScaledDotProductAttention(scale=1.0)
    query, value = tokens(2, 3, 4, 6), tokens(2, 3, 5, 6, seed=1)
    call = {"return_attention_scores": True}
    expected, expected_scores = theirs([query, value], **call)
    found, scores = ours([np.swapaxes(x, 1, 2) for x in (query, value)], **call)
    assert tuple(scores.shape) == (2, 3, 4, 5)
    assert_equal(np.swapaxes(numpy(found), 1, 2), expected)
    assert_equal(scores, expected_scores)


# More axes, along which neither Keras' layers nor ours of their configuration
# attend.


@pytest.mark.parametrize("sizes", [(), (3,), (4,), (3, 2)])
@pytest.mark.parametrize(
    "theirs, ours, arguments",
    [
        (keras.layers.Attention, ka.ScaledDotProductAttention, {}),
        (
            keras.layers.Attention,
            ka.ScaledDotProductAttention,
            {"use_scale": True, "dropout": 0},
        ),
        (
            keras.layers.Attention,
            ka.ScaledDotProductAttention,
            {"score_mode": "concat", "use_scale": True},
        ),
        (keras.layers.AdditiveAttention, ka.AdditiveAttention, {}),
    ],
)
def test_any_number_of_axes(sizes, theirs, ours, arguments):
    theirs, ours = from_keras(theirs, ours, **arguments)
    ours = type(ours).from_config(ours.get_config())
    query = tokens(2, *sizes, 4, 6)
    value, key = tokens(2, 2, *sizes, 5, 6, seed=1)
    generator = np.random.default_rng(0)
    masks = [generator.random(x.shape[:-1]) < 0.7 for x in (query, value)]
    masks[1][..., 0] = True
    for layer in (theirs, ours):
        layer.build([x.shape for x in (query, value, key)])
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    for inputs, call in (
        ([query, value], {}),
        ([query, value, key], {}),
        ([query, value, key], {"use_causal_mask": True}),
        ([query, value], {"mask": masks, "use_causal_mask": True}),
        ([query, value], {"mask": [masks[0], None]}),
    ):
        call["return_attention_scores"] = True
        found, expected = (layer(inputs, **call) for layer in (ours, theirs))
        # Scores of masked queries are zeros here.
        real = masks[0] if "mask" in call else ...
        assert tuple(found[1].shape) == (2, *sizes, 4, 5)
        assert_equal(found[0], expected[0])
        assert_equal(numpy(found[1])[real], numpy(expected[1])[real])
    symbolic = ours(
        [keras.KerasTensor((None, *x.shape[1:])) for x in (query, value)],
        return_attention_scores=True,
    )
    for one, other in zip(symbolic, found, strict=True):
        assert tuple(one.shape) == (None, *other.shape[1:])
    assert ours.compute_output_shape(query.shape, value.shape) == (
        *query.shape[:-1],
        6,
    )


@pytest.mark.parametrize(
    "ours", [ka.ScaledDotProductAttention, ka.AdditiveAttention]
)
def test_masks_of_more_axes_leave_positions_out(ours):
    options = (
        {"attention_axes": -2}
        if ours is ka.ScaledDotProductAttention
        else {"units": 3}
    )
    layer = ours(**options)
    query, value = tokens(2, 3, 4, 6), tokens(2, 3, 5, 6, seed=1)
    masks = [
        np.random.default_rng(n).random(x.shape[:-1]) < 0.6
        for n, x in enumerate((query, value))
    ]
    broken = [
        np.where(mask[..., None], x, np.nan)
        for mask, x in zip(masks, (query, value), strict=True)
    ]
    found = numpy(layer(broken, mask=masks))
    rows = ours(**options)
    rows.build([(None, 4, 6), (None, 5, 6)])
    rows.set_weights(layer.get_weights())
    for n in range(3):
        expected = rows(
            [query[:, n], value[:, n]], mask=[mask[:, n] for mask in masks]
        )
        assert_equal(found[:, n], expected)
    with pytest.raises(ValueError, match=r"`query_mask` must have the shape"):
        layer([query, value], mask=[masks[0][:, 0], None])
    with pytest.raises(ValueError, match="must have the same"):
        layer([query, value[:, :1]])
    with pytest.raises(ValueError, match="Received: query.* of shape"):
        layer([query, value[:, 0]])


def test_several_axes_are_one_sequence():
    layer = ka.ScaledDotProductAttention(attention_axes=(1, 2), causal=True)
    query, value = tokens(2, 3, 4, 6), tokens(2, 3, 2, 6, seed=1)
    mask = np.random.default_rng(0).random((2, 3, 4, 3, 2)) < 0.8
    bias = tokens(3, 4, 3, 2, seed=2)
    found, scores = layer(
        query,
        value,
        attention_mask=mask,
        attention_bias=bias,
        return_attention_scores=True,
    )
    expected, expected_scores = ka.ScaledDotProductAttention(causal=True)(
        query.reshape(2, 12, 6),
        value.reshape(2, 6, 6),
        attention_mask=mask.reshape(2, 12, 6),
        attention_bias=bias.reshape(12, 6),
        return_attention_scores=True,
    )
    assert_equal(found, numpy(expected).reshape(2, 3, 4, 6))
    assert_equal(scores, numpy(expected_scores).reshape(2, 3, 4, 3, 2))
    with pytest.raises(ValueError, match=r"axes of \(2, 3, 4, 3, 2\) \(batch"):
        layer(query, value, attention_mask=mask[:, :, 0])


def test_axes_and_caches():
    layer = ka.ScaledDotProductAttention(attention_axes=-2, causal=True)
    x = tokens(2, 4, 6)
    full = numpy(layer(x))
    cache = layer.initial_cache(2, 4)
    for n in range(4):
        y, cache = layer(x[:, n : n + 1], cache=cache)
        assert_equal(y, full[:, n : n + 1])
    layer = ka.ScaledDotProductAttention(attention_axes=-2, causal=True)
    layer.build((2, 3, 4, 6))
    with pytest.raises(ValueError, match="cache is of sequences"):
        layer.initial_cache(2, 4)
    with pytest.raises(ValueError, match="cache is of sequences"):
        layer(tokens(2, 3, 1, 6), cache=cache)


@pytest.mark.parametrize(
    "arguments, shape, match",
    [
        ({"attention_axes": 3}, (2, 3, 4, 6), "`attention_axes` must be diff"),
        ({"attention_axes": -2}, (4, 6), "of shape .batch, length, width"),
        ({}, (2, 3, 2, 4, 6), "with `attention_axes`"),
    ],
)
def test_axes_that_are_not_there(arguments, shape, match):
    layer = ka.ScaledDotProductAttention(**arguments)
    with pytest.raises(ValueError, match=match):
        layer.build(shape)


def test_images_in_a_model(tmp_path):
    inputs = keras.Input((None, None, 6))
    theirs = keras.layers.Attention(use_scale=True)
    model = keras.Model(inputs, theirs([inputs, inputs]))
    theirs.set_weights([np.float32(1.3)])

    def with_ours(layer):
        if isinstance(layer, keras.layers.Attention):
            return ka.ScaledDotProductAttention.from_config(layer.get_config())
        return type(layer).from_config(layer.get_config())

    ours = keras.models.clone_model(model, clone_function=with_ours)
    ours.set_weights(model.get_weights())
    x = tokens(2, 4, 4, 6)
    assert_equal(ours.predict(x, verbose=0), model.predict(x, verbose=0))
    ours.save(tmp_path / "ours.keras")
    again = keras.saving.load_model(tmp_path / "ours.keras")
    assert_equal(again(x), model(x))


@pairs_without_weights
def test_one_tensor_is_self_attention(theirs, ours, arguments):
    theirs, ours = from_keras(theirs, ours, **arguments)
    with pytest.raises(ValueError, match="must be called on a list"):
        theirs(ROWS)
    assert_equal(ours(ROWS), theirs([ROWS, ROWS]))


def ones_of_both():
    """One head of width 1, weights of 1: values 2 and 4, and 1 is added."""
    layers = pair((1, 2, 1), (1, 2, 1), num_heads=1, key_dim=1)
    for layer in layers:
        layer.set_weights([np.ones(w.shape) for w in layer.get_weights()])
    return layers


def test_masked_queries_of_multi_head_attention():
    theirs, ours = ones_of_both()
    mask = np.array([[[True, False], [False, False]]])
    assert values([theirs(ROWS, ROWS, attention_mask=mask)]) == [[[3], [4]]]
    assert values([ours(ROWS, ROWS, attention_mask=mask)]) == [[[3], [1]]]
    # Keras' other path gives zeros too.
    call = {"attention_mask": mask, "return_attention_scores": True}
    for layer in (theirs, ours):
        output, scores = values(layer(ROWS, ROWS, **call))
        assert (output, scores) == ([[3], [1]], [[[1, 0], [0, 0]]])


def test_a_mask_of_queries_as_an_argument():
    theirs, ours = ones_of_both()
    mask = np.array([[True, False]])
    call = {"query_mask": mask, "value_mask": mask}
    assert values([theirs(ROWS, ROWS, **call)]) == [[[3], [3]]]  # Ignored.
    assert values([ours(ROWS, ROWS, **call)]) == [[[3], [1]]]
