import functools

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models import ResNet


def small(depth=18, attention=None, **arguments):
    return ResNet(
        depth,
        attention,
        **{
            "input_shape": (9, 7, 3),
            "classes": 5,
            "stem": "small",
            **arguments,
        },
    )


def gates(model):
    return [
        layer.name
        for layer in model.layers
        if isinstance(layer, ka.SqueezeExcite)
    ]


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "stem", "shape", "stage4"),
    [
        (18, "imagenet", (33, 65), (2, 3)),
        (18, "small", (9, 7), (2, 1)),
        (50, "small", (5, 3), (1, 1)),
    ],
)
def test_forward_on_odd_small_images(depth, stem, shape, stage4):
    model = small(depth, stem=stem, input_shape=(*shape, 1))
    assert model.get_layer("stage4").output.shape[1:3] == stage4
    outputs = model(images(2, *shape, 1), training=True)
    outputs = keras.ops.convert_to_numpy(outputs)
    assert outputs.shape == (2, 5)
    np.testing.assert_allclose(outputs.sum(1), 1, rtol=1e-5)


def test_stages_are_the_ends_of_their_last_blocks():
    model = small()
    names = [
        name
        for stage in (1, 2, 3, 4)
        for name in (f"stage{stage}", f"stage{stage}_block2_relu")
    ]
    taps = keras.Model(
        model.input, [model.get_layer(name).output for name in names]
    )
    outputs = [keras.ops.convert_to_numpy(y) for y in taps(images(2, 9, 7, 3))]
    for stage, last in zip(outputs[::2], outputs[1::2], strict=True):
        np.testing.assert_array_equal(stage, last)
        assert stage.min() == 0
    assert [y.shape[-1] for y in outputs[::2]] == [64, 128, 256, 512]


@pytest.mark.parametrize(
    ("attention_at", "expected"),
    [
        (
            "block",
            [
                f"stage{s}_block{b}_attention"
                for s in (1, 2, 3, 4)
                for b in (1, 2)
            ],
        ),
        ("last_block", [f"stage{s}_block2_attention" for s in (1, 2, 3, 4)]),
        ("stage", [f"stage{s}_attention" for s in (1, 2, 3)]),
    ],
)
def test_attention_goes_where_asked(attention_at, expected):
    model = small(18, "squeeze_excite", attention_at=attention_at)
    assert gates(model) == expected


def test_block_attention_is_after_the_last_norm_before_the_addition():
    model = small(50, "squeeze_excite")
    gate = model.get_layer("stage2_block1_attention")
    assert gate.input is model.get_layer("stage2_block1_norm3").output
    assert model.get_layer("stage2_block1_add").input == [
        model.get_layer("stage2_block1_shortcut_norm").output,
        gate.output,
    ]


def test_stage_attention_is_part_of_the_stage():
    model = small(18, "squeeze_excite", attention_at="stage")
    gate = model.get_layer("stage1_attention")
    assert gate.input is model.get_layer("stage1_block2_relu").output
    assert model.get_layer("stage1").input is gate.output


@pytest.mark.slow
def test_last_stage_keeps_its_resolution_with_attention_in_last_blocks():
    def last_size(**arguments):
        model = small(18, "se", input_shape=(32, 32, 3), **arguments)
        return model.get_layer("stage4").output.shape[1]

    assert last_size(attention_at="last_block") == 8
    assert last_size() == 4
    assert last_size(last_stage_strides=1) == 8
    assert last_size(attention_at="last_block", last_stage_strides=2) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("downsample_in", "sizes"), [("1x1", (4, 4)), ("3x3", (8, 4))]
)
def test_the_stride_of_a_bottleneck(downsample_in, sizes):
    model = small(50, downsample_in=downsample_in, input_shape=(8, 8, 3))
    found = [
        model.get_layer(f"stage2_block1_conv{n}").output.shape[1]
        for n in (1, 2)
    ]
    assert tuple(found) == sizes


def test_a_list_gives_each_stage_its_own():
    model = small(
        18,
        [
            None,
            "se",
            functools.partial(ka.SqueezeExcite, ratio=8),
            lambda: ka.SqueezeExcite(ratio=4),
        ],
        attention_at="last_block",
    )
    assert gates(model) == [
        f"stage{stage}_block2_attention" for stage in (2, 3, 4)
    ]
    found = [model.get_layer(name).ratio for name in gates(model)]
    assert found == [16, 8, 4]


def test_a_list_may_put_attention_after_the_last_stage():
    model = small(18, ["se", None, None, "se"], attention_at="stage")
    assert gates(model) == ["stage1_attention", "stage4_attention"]


def test_saved_and_loaded_without_custom_objects(tmp_path):
    model = small(18, lambda: ka.SqueezeExcite(ratio=8))
    x = images(2, 9, 7, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert gates(loaded) == gates(model)
    assert loaded.name == "resnet_18"
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loaded(x)),
        keras.ops.convert_to_numpy(model(x)),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.slow
def test_one_training_step_moves_every_weight():
    keras.utils.set_random_seed(0)
    model = small(18, functools.partial(ka.SqueezeExcite, ratio=4))
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        run_eagerly=True,
    )
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.train_on_batch(images(4, 9, 7, 3), np.arange(4))
    still = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(variable), old)
    ]
    assert still == []


def test_channels_first_is_the_transposed_network():
    arguments = {"input_shape": (9, 7, 3), "softmax": False}
    last = small(18, "se", data_format="channels_last", **arguments)
    first = small(18, "se", data_format="channels_first", **arguments)
    assert first.input_shape == (None, 3, 9, 7)
    for ours, theirs in zip(first.layers, last.layers, strict=True):
        shape = list(theirs.output.shape)
        if len(shape) == 4:
            shape = [shape[0], shape[3], shape[1], shape[2]]
        assert list(ours.output.shape) == shape, ours.name
        assert [w.shape for w in ours.weights] == [
            w.shape for w in theirs.weights
        ]


@pytest.mark.slow
def test_dtype_policy_reaches_every_layer():
    model = small(18, "se", dtype="mixed_bfloat16")
    policies = {layer.name: layer.compute_dtype for layer in model.layers}
    assert policies.pop("predictions") == "float32"
    policies.pop("image")
    assert set(policies.values()) == {"bfloat16"}
    outputs = model(images(2, 9, 7, 3))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    model = small(18, "se", dtype="float64")
    assert model.output.dtype == "float64"


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_covariance_before_the_classifier(data_format):
    regularizer = keras.regularizers.L2(0.5)
    model = small(
        pooling="covariance",
        data_format=data_format,
        kernel_regularizer=regularizer,
        dtype="mixed_bfloat16",
    )
    pool = model.get_layer("pool")
    assert isinstance(pool, ka.CovariancePooling)
    assert pool.input is model.get_layer("stage4").output
    assert pool.output.shape == (None, 32_896)
    assert (pool.data_format, pool.iterations) == (data_format, 3)
    assert pool.compute_dtype == "bfloat16"
    assert pool.kernel_regularizer is regularizer


@pytest.mark.slow
def test_covariance_network_trains():
    model = small(attention="gsop", pooling="covariance")
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(model.train_on_batch(images(2, 9, 7, 3), np.arange(2)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth": 20}, ValueError, "one of 18, 34, 50, 101, 152"),
        ({"stem": "tiny"}, ValueError, "Received: stem='tiny'"),
        ({"downsample_in": "2x2"}, ValueError, "Received: downsample_in="),
        ({"pooling": "max"}, ValueError, "Received: pooling='max'"),
        ({"last_stage_strides": 3}, ValueError, "must be 1 or 2"),
        ({"attention": "squeze_excite"}, ValueError, "mean 'squeeze_excite'"),
        ({"attention": 3}, TypeError, "a name, a layer class, or a function"),
        ({"attention": dict}, TypeError, "subclass of keras.layers.Layer"),
        ({"attention": lambda: 3}, TypeError, "which returned 3"),
        ({"attention": ["se"]}, ValueError, "4 stages.*of 1 entries"),
        (
            {"attention": "se", "attention_at": "blocks"},
            ValueError,
            "mean 'block'",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        small(**arguments)


def test_one_layer_for_all_places_is_refused():
    layer = ka.SqueezeExcite()
    with pytest.raises(TypeError, match=r"`lambda: SqueezeExcite\(...\)`"):
        small(attention=layer)
    with pytest.raises(ValueError, match="a new layer at each call"):
        small(attention=lambda: layer)


def test_channels_first_with_a_transposed_shape_is_refused():
    with pytest.raises(ValueError, match="looks like"):
        small(input_shape=(3, 9, 7), data_format="channels_first")
