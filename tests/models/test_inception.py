import functools

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models import InceptionModule
from keras_attention.models import SEInception
from support.arrays import numpy
from support.networks import count_trainable

FILTERS = (5, (3, 7), (2, 11), 3)
SHAPE = (2, 7, 5, 13)
CHANNELS = 5 + 7 + 11 + 3


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def module(attention=None, **arguments):
    arguments = {"data_format": "channels_last", **arguments}
    return InceptionModule(FILTERS, attention, **arguments)


def draw_weights(layer):
    generator = np.random.default_rng(1)
    for variable in layer.variables:
        value = generator.normal(size=variable.shape)
        if "variance" in variable.path:
            value = 0.5 + np.abs(value)
        if variable.dtype.startswith("float"):
            variable.assign(value)
    return layer


def convolve(x, kernel):
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, row : row + height, column : column + width]
        @ kernel[row, column]
        for row in range(kernel.shape[0])
        for column in range(kernel.shape[1])
    )


def max_pool(x):
    padded = np.pad(
        x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf
    )
    height, width = x.shape[1:3]
    return np.max(
        [
            padded[:, row : row + height, column : column + width]
            for row in range(3)
            for column in range(3)
        ],
        axis=0,
    )


def reference(x, layer):
    """Figure 2(b) of arXiv:1409.4842, with batch normalization."""
    branches = []
    for number, steps in enumerate((1, 2, 2, 1)):
        branch = layer.branches[number]
        y = x.astype("float64")
        if number == 3:
            y = max_pool(y)
        for step in range(1, steps + 1):
            norm = branch.get_layer(f"norm{step}")
            y = convolve(y, numpy(branch.get_layer(f"conv{step}").kernel))
            y = (y - numpy(norm.moving_mean)) / np.sqrt(
                numpy(norm.moving_variance) + norm.epsilon
            )
            y = np.maximum(y * numpy(norm.gamma) + numpy(norm.beta), 0)
        branches.append(y)
    return np.concatenate(branches, axis=-1)


def test_module_equals_the_paper():
    x = images(*SHAPE)
    layer = module()
    layer.build(SHAPE)
    draw_weights(layer)
    y = numpy(layer(x))
    assert y.shape == (2, 7, 5, CHANNELS)
    expected = reference(x, layer)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_float64_is_float64_throughout():
    x = images(*SHAPE).astype("float64") / 3
    layer = module(dtype="float64")
    layer.build(SHAPE)
    draw_weights(layer)
    y = numpy(layer(x))
    np.testing.assert_allclose(y, reference(x, layer), rtol=1e-12, atol=1e-12)


def test_the_gate_is_on_the_concatenated_output():
    x = images(*SHAPE)
    layer = module(functools.partial(ka.SqueezeExcite, ratio=2))
    layer.build(SHAPE)
    draw_weights(layer)
    y = reference(x, layer)
    expected = numpy(layer.attention(y.astype("float32")))
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-4)


def test_training_reaches_the_normalizations_and_the_gate():
    layer = module(
        functools.partial(ka.CBAM, ratio=2, gamma_initializer="ones")
    )
    x = images(*SHAPE)
    layer(x, training=False)
    statistics = [v for v in layer.variables if "moving" in v.path]
    assert len(statistics) == 2 * (6 + 1)
    before = [numpy(v) for v in statistics]
    layer(x, training=False)
    for variable, old in zip(statistics, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), old)
    layer(x, training=True)
    for variable, old in zip(statistics, before, strict=True):
        assert (numpy(variable) != old).any(), variable.path


@pytest.mark.parametrize(
    "attention",
    [
        "eca",
        ka.EfficientChannelAttention,
        lambda: ka.EfficientChannelAttention(name="mine"),
        ka.EfficientChannelAttention(data_format="channels_last"),
    ],
    ids=["name", "class", "function", "layer"],
)
def test_attention_may_be_given_in_four_ways(attention):
    layer = module(attention)
    layer.build(SHAPE)
    assert isinstance(layer.attention, ka.EfficientChannelAttention)
    assert layer.attention.built


def test_config_round_trip():
    layer = module(
        ka.CBAM(ratio=2),
        kernel_initializer=keras.initializers.HeUniform(seed=3),
        kernel_regularizer="l2",
    )
    before = layer.get_config()
    rebuilt = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert rebuilt.get_config() == before
    rebuilt(images(*SHAPE))
    assert rebuilt.get_config() == before
    assert len(rebuilt.losses) == 6


def test_shapes_are_known_without_running():
    layer = module("eca")
    unknown = layer(keras.Input((None, None, 13)))
    assert unknown.shape == (None, None, None, CHANNELS)
    assert layer.compute_output_shape((2, 7, 5, 13)) == (2, 7, 5, CHANNELS)
    first = module(data_format="channels_first")
    assert first.compute_output_shape((2, 13, 7, 5)) == (2, CHANNELS, 7, 5)


def test_data_formats_have_the_same_weights_and_shapes():
    last = module("se")
    first = module("se", data_format="channels_first")
    last.build((None, 7, 5, 13))
    first.build((None, 13, 7, 5))
    assert [w.shape for w in last.weights] == [w.shape for w in first.weights]
    assert first.attention.data_format == "channels_first"
    assert first(keras.Input((13, 7, 5))).shape == (None, CHANNELS, 7, 5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_module_in_mixed_precision(policy):
    layer = module("eca", dtype=policy)
    y = layer(images(*SHAPE))
    assert keras.backend.standardize_dtype(y.dtype) == policy[len("mixed_") :]
    assert {v.dtype for v in layer.trainable_variables} == {"float32"}


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        (64, ValueError),
        ((1, 2, 3, 4), ValueError),
        ((5, (3, 7), (2, 11)), ValueError),
        ((5, (3, 7), (2, 11), 0), ValueError),
        ((5, (3, 7.0), (2, 11), 3), TypeError),
    ],
)
def test_bad_filters(filters, error):
    with pytest.raises(error, match=r"`filters`.*Received: filters="):
        InceptionModule(filters)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"attention": "squeze_excite"}, ValueError, "mean 'squeeze_excite'"),
        ({"attention": 3}, TypeError, "a name, a layer class, or a function"),
        ({"data_format": "NCHW"}, ValueError, "Received: data_format="),
        ({"kernel_initializer": "he"}, ValueError, "he"),
    ],
)
def test_bad_arguments_of_the_module(arguments, error, message):
    with pytest.raises(error, match=message):
        module(**arguments)


def test_a_built_attention_is_refused():
    attention = ka.EfficientChannelAttention()
    attention.build((None, 7, 5, CHANNELS))
    with pytest.raises(ValueError, match="not built yet.*Received: attention"):
        module(attention)


def test_bad_input_of_the_module():
    with pytest.raises(ValueError, match="rank 4"):
        module().build((None, 8))
    with pytest.raises(ValueError, match="defined number of channels"):
        module().build((None, 8, 8, None))
    layer = module()
    layer.build(SHAPE)
    with pytest.raises(ValueError, match="incompatible"):
        layer(images(2, 7, 5, 3))


STAGES = (
    ((32, (32, 40), (8, 12), 12), (56, (48, 64), (8, 20), 20)),
    ((64, (48, 80), (16, 24), 24), (72, (48, 96), (16, 28), 28)),
    ((96, (64, 144), (16, 40), 40), (128, (80, 192), (24, 60), 60)),
)


def small(attention=None, **arguments):
    return SEInception(
        attention, **{"input_shape": (9, 7, 3), "classes": 5, **arguments}
    )


def network_parameters(classes, ratio=None):
    """The count from the text: convolutions with their normalizations."""
    total, before = 27 * 32 + 2 * 32, 32
    for a, (b1, b2), (c1, c2), d in (m for stage in STAGES for m in stage):
        total += before * (a + b1 + c1 + d) + 9 * b1 * b2 + 25 * c1 * c2
        total += 2 * (a + b1 + b2 + c1 + c2 + d)
        before = a + b2 + c2 + d
        if ratio:
            hidden = before // ratio
            total += 2 * before * hidden + hidden + before
    return total + before * classes + classes


@pytest.mark.parametrize(
    ("attention", "ratio"), [(None, None), ("squeeze_excite", 16)]
)
def test_parameters_by_formula(attention, ratio):
    expected = network_parameters(5, ratio)
    assert count_trainable(small(attention)) == expected


def test_stages():
    model = small(input_shape=(33, 31, 3))
    shapes = [model.get_layer(f"stage{s}").output.shape for s in (1, 2, 3)]
    assert shapes == [
        (None, 33, 31, 160),
        (None, 17, 16, 224),
        (None, 9, 8, 440),
    ]
    stage = model.get_layer("stage2")
    assert stage.input is model.get_layer("stage2_module2").output


def test_every_module_has_squeeze_excite_by_default():
    model = SEInception(input_shape=(9, 7, 3))
    modules = [x for x in model.layers if isinstance(x, InceptionModule)]
    assert [x.name for x in modules] == [
        f"stage{s}_module{m}" for s in (1, 2, 3) for m in (1, 2)
    ]
    assert {type(x.attention) for x in modules} == {ka.SqueezeExcite}
    assert len({id(x.attention) for x in modules}) == 6


def test_a_list_gives_each_stage_its_own():
    model = small([None, "eca", functools.partial(ka.CBAM, ratio=8)])
    found = [
        type(model.get_layer(f"stage{s}_module1").attention).__name__
        for s in (1, 2, 3)
    ]
    assert found == ["NoneType", "EfficientChannelAttention", "CBAM"]
    assert model.get_layer("stage3_module2").attention.ratio == 8


def test_forward_on_odd_images_of_unknown_size():
    model = small("se", input_shape=(None, None, 1))
    outputs = numpy(model(images(2, 13, 11, 1), training=True))
    assert outputs.shape == (2, 5)
    np.testing.assert_allclose(outputs.sum(1), 1, rtol=1e-5)


@pytest.mark.slow
def test_saved_and_loaded_without_custom_objects(tmp_path):
    model = small("cbam", kernel_regularizer=keras.regularizers.L2(0.1))
    x = images(2, 9, 7, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        numpy(loaded(x)), numpy(model(x)), rtol=1e-5, atol=1e-6
    )
    assert len(loaded.losses) == len(model.losses) > 0
    assert isinstance(loaded.get_layer("stage1_module1").attention, ka.CBAM)


@pytest.mark.slow
def test_one_training_step_moves_every_weight():
    keras.utils.set_random_seed(0)
    model = small(functools.partial(ka.SqueezeExcite, ratio=4))
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        run_eagerly=True,
    )
    before = [numpy(v) for v in model.trainable_variables]
    model.train_on_batch(images(4, 9, 7, 3), np.arange(4))
    still = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(numpy(variable), old)
    ]
    assert still == []


@pytest.mark.slow
def test_channels_first_is_the_transposed_network():
    last = small("se", data_format="channels_last")
    first = small("se", data_format="channels_first")
    assert first.input_shape == (None, 3, 9, 7)
    for ours, theirs in zip(first.layers, last.layers, strict=True):
        shape = list(theirs.output.shape)
        if len(shape) == 4:
            shape = [shape[0], shape[3], shape[1], shape[2]]
        assert list(ours.output.shape) == shape, ours.name
        assert [w.shape for w in ours.weights] == [
            w.shape for w in theirs.weights
        ]


def test_dtype_policy_reaches_every_layer():
    model = small("se", dtype="mixed_bfloat16")
    containers = (keras.Sequential, keras.layers.InputLayer)
    policies = [
        (layer.name, layer.compute_dtype)
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, containers)
    ]
    policies.remove(("predictions", "float32"))
    assert {dtype for _, dtype in policies} == {"bfloat16"}


def test_without_classes_the_model_ends_with_the_last_stage():
    model = small(classes=None)
    assert model.layers[-1].name == "stage3"
    assert model.output_shape == (None, 3, 2, 440)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"attention": "squeze_excite"}, ValueError, "mean 'squeeze_excite'"),
        ({"attention": ["se"]}, ValueError, "3 stages.*of 1 entries"),
        ({"classes": 0}, ValueError, "Received: classes=0"),
        ({"softmax": "no"}, TypeError, "Received: softmax='no'"),
        ({"input_shape": (8, 8)}, ValueError, r"Received: input_shape=\(8, 8"),
    ],
)
def test_bad_arguments_of_the_network(arguments, error, message):
    with pytest.raises(error, match=message):
        small(**arguments)
