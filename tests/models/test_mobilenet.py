import functools
import math

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.models import MobileNetV1
from keras_attention.models import MobileNetV2
from support.networks import count_trainable
from support.networks import first_of

networks = pytest.mark.parametrize(
    "network",
    first_of([MobileNetV2, MobileNetV1], 1),
    ids=["mobilenet_v2", "mobilenet_v1"],
)
V1_OUTPUTS = [64, 128, 128, 256, 256] + 6 * [512] + 2 * [1024]
V2_TABLE = [
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
]


def small(network, width=0.25, attention=None, **arguments):
    arguments = {"input_shape": (37, 33, 3), "classes": 5, **arguments}
    return network(width, attention, **arguments)


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def gates(model):
    return [
        layer.name
        for layer in model.layers
        if isinstance(layer, ka.SqueezeExcite)
    ]


def v1_parameters(width, classes):
    """The count from the paper's table 1."""
    before = int(32 * width)
    total = 27 * before + 2 * before
    for after in V1_OUTPUTS:
        after = int(after * width)
        total += 9 * before + 2 * before + before * after + 2 * after
        before = after
    return total + before * classes + classes


def v2_parameters(width, classes):
    """The count from the paper's table 2."""

    def scaled(channels):
        exact = channels * width
        nearest = max(8, math.floor(exact / 8 + 0.5) * 8)
        return nearest if nearest >= 0.9 * exact else nearest + 8

    before = scaled(32)
    total = 27 * before + 2 * before
    for expansion, after, blocks in V2_TABLE:
        after = scaled(after)
        for _ in range(blocks):
            inner = expansion * before
            if expansion != 1:
                total += before * inner + 2 * inner
            total += 9 * inner + 2 * inner + inner * after + 2 * after
            before = after
    head = scaled(1280) if width > 1 else 1280
    return total + before * head + 2 * head + head * classes + classes


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.25, 0.75, 1.5])
def test_parameters_by_formula(width):
    for network, formula in (
        (MobileNetV1, v1_parameters),
        (MobileNetV2, v2_parameters),
    ):
        model = small(network, width, classes=7)
        assert count_trainable(model) == formula(width, 7)


def test_the_formulas_give_the_published_counts():
    assert v1_parameters(1, 1000) == 4_231_976
    assert v2_parameters(1, 1000) == 3_504_872


@pytest.mark.parametrize(
    ("width", "stages"),
    # 0.35 * 32 is 11.2, and 8 would be more than a tenth down: 16.
    [
        (0.35, [8, 8, 16, 24, 32, 56, 112]),
        (0.5, [8, 16, 16, 32, 48, 80, 160]),
        (1.4, [24, 32, 48, 88, 136, 224, 448]),
    ],
)
def test_widths_of_v2_are_multiples_of_8(width, stages):
    model = small(MobileNetV2, width)
    found = [model.get_layer(f"stage{s}").output.shape[-1] for s in range(1, 8)]
    assert found == stages


def test_stages_of_v1():
    model = MobileNetV1(0.5, input_shape=(224, 160, 3), classes=5)
    shapes = [model.get_layer(f"stage{s}").output.shape for s in range(1, 6)]
    assert shapes == [
        (None, 112 // 2**n, 80 // 2**n, 32 * 2**n) for n in range(5)
    ]


def test_stages_of_v2():
    model = MobileNetV2(input_shape=(224, 160, 3), classes=5)
    shapes = [model.get_layer(f"stage{s}").output.shape for s in range(1, 8)]
    sizes = [112, 56, 28, 14, 14, 7, 7]
    assert shapes == [
        (None, size, size * 160 // 224, channels)
        for size, (_, channels, _) in zip(sizes, V2_TABLE, strict=True)
    ]


@networks
def test_stages_are_the_ends_of_their_last_blocks(network):
    model = small(network)
    ends = {
        "mobilenet_v1": ("stage4", "stage4_block6_relu"),
        "mobilenet_v2": ("stage4", "stage4_block4_add"),
    }[model.name]
    taps = keras.Model(model.input, [model.get_layer(n).output for n in ends])
    stage, last = map(keras.ops.convert_to_numpy, taps(images(2, 37, 33, 3)))
    np.testing.assert_array_equal(stage, last)
    # The second network's bottlenecks are linear.
    assert (stage.min() < 0) == (model.name == "mobilenet_v2")


def test_shortcuts_of_v2_are_where_the_shape_stays():
    model = small(MobileNetV2, 1)
    names = [layer.name for layer in model.layers if "_add" in layer.name]
    assert names == [
        f"stage{stage}_block{block}_add"
        for stage, (_, _, blocks) in enumerate(V2_TABLE, 1)
        for block in range(2, blocks + 1)
    ]
    add = model.get_layer("stage2_block2_add")
    assert add.input == [
        model.get_layer("stage2_block1_project_norm").output,
        model.get_layer("stage2_block2_project_norm").output,
    ]


def test_activations():
    """ReLU in the first network, ReLU6 in the second."""
    for network, largest in ((MobileNetV1, None), (MobileNetV2, 6)):
        model = small(network)
        found = {
            layer.max_value
            for layer in model.layers
            if isinstance(layer, keras.layers.ReLU)
        }
        assert found == {largest}


@networks
def test_forward_on_odd_images_of_unknown_size(network):
    model = small(network, input_shape=(None, None, 1))
    outputs = model(images(2, 35, 67, 1), training=True)
    outputs = keras.ops.convert_to_numpy(outputs)
    assert outputs.shape == (2, 5)
    np.testing.assert_allclose(outputs.sum(1), 1, rtol=1e-5)


def blocks_of(network):
    if network is MobileNetV2:
        counts = [blocks for _, _, blocks in V2_TABLE]
    else:
        counts = [1, 2, 2, 6, 2]
    return [
        f"stage{stage}_block{block}"
        for stage, count in enumerate(counts, 1)
        for block in range(1, count + 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "attention_at", "suffixes"),
    [
        (MobileNetV1, None, ("_depthwise_attention", "_attention")),
        (MobileNetV1, "conv", ("_depthwise_attention", "_attention")),
        (MobileNetV1, "depthwise", ("_depthwise_attention",)),
        (MobileNetV1, "block", ("_attention",)),
        (MobileNetV2, None, ("_attention",)),
        (MobileNetV2, "block", ("_attention",)),
        (MobileNetV2, "depthwise", ("_depthwise_attention",)),
    ],
)
def test_attention_goes_where_asked(network, attention_at, suffixes):
    attention = functools.partial(ka.SqueezeExcite, ratio=4)
    model = small(network, attention=attention, attention_at=attention_at)
    assert gates(model) == [
        block + suffix for block in blocks_of(network) for suffix in suffixes
    ]


@networks
def test_attention_between_stages(network):
    attention = functools.partial(ka.SqueezeExcite, ratio=4)
    model = small(network, attention=attention, attention_at="stage")
    last = {"mobilenet_v1": 5, "mobilenet_v2": 7}[model.name]
    assert gates(model) == [f"stage{s}_attention" for s in range(1, last)]
    model = small(network, attention=[attention] * last, attention_at="stage")
    assert gates(model)[-1] == f"stage{last}_attention"
    gate = model.get_layer("stage1_attention")
    assert model.get_layer("stage1").input is gate.output


def test_attention_of_v1_is_after_the_relu():
    model = small(MobileNetV1, attention=ka.SpatialAttention)
    for name in ("stage2_block1_depthwise", "stage2_block1"):
        gate = model.get_layer(f"{name}_attention")
        assert gate.input is model.get_layer(f"{name}_relu").output


def test_attention_of_v2_is_on_what_is_added():
    model = small(MobileNetV2, attention="eca")
    gate = model.get_layer("stage2_block2_attention")
    assert gate.input is model.get_layer("stage2_block2_project_norm").output
    assert model.get_layer("stage2_block2_add").input[1] is gate.output
    # Also where there is no addition.
    gate = model.get_layer("stage2_block1_attention")
    assert gate.input is model.get_layer("stage2_block1_project_norm").output


@networks
def test_channels_first_is_the_transposed_network(network):
    last, first = (
        small(network, attention="eca", data_format=data_format)
        for data_format in ("channels_last", "channels_first")
    )
    assert first.input_shape == (None, 3, 37, 33)
    for ours, theirs in zip(first.layers, last.layers, strict=True):
        shape = list(theirs.output.shape)
        if len(shape) == 4:
            shape = [shape[0], shape[3], shape[1], shape[2]]
        assert list(ours.output.shape) == shape, ours.name
        assert [w.shape for w in ours.weights] == [
            w.shape for w in theirs.weights
        ]


@pytest.mark.slow
@networks
def test_saved_and_loaded_without_custom_objects(network, tmp_path):
    attention = functools.partial(ka.CBAM, ratio=4)
    model = small(
        network,
        attention=attention,
        kernel_regularizer=keras.regularizers.L2(0.1),
    )
    x = images(2, 37, 33, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loaded(x)),
        keras.ops.convert_to_numpy(model(x)),
        rtol=1e-5,
        atol=1e-6,
    )
    assert len(loaded.losses) == len(model.losses) > 0
    assert [layer.name for layer in loaded.layers] == [
        layer.name for layer in model.layers
    ]


@pytest.mark.slow
@networks
def test_one_training_step_moves_every_weight(network):
    keras.utils.set_random_seed(0)
    model = small(network, attention="eca", input_shape=(32, 32, 3))
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        run_eagerly=True,
    )
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.train_on_batch(images(8, 32, 32, 3), np.arange(8) % 5)
    still = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(variable), old)
    ]
    assert still == []


@networks
def test_without_classes_the_features_remain(network):
    model = small(network, classes=None)
    name, channels = {
        "mobilenet_v1": ("stage5", 256),
        "mobilenet_v2": ("head_relu", 1280),
    }[model.name]
    assert model.layers[-1].name == name
    assert model.output_shape == (None, 2, 2, channels)


@networks
def test_dtype_policy_reaches_every_layer(network):
    model = small(network, attention="eca", dtype="mixed_bfloat16")
    policies = {layer.name: layer.compute_dtype for layer in model.layers}
    assert policies.pop("predictions") == "float32"
    policies.pop("image")
    assert set(policies.values()) == {"bfloat16"}


@networks
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"width": 0}, ValueError, "Received: width=0"),
        ({"width": "1"}, TypeError, "Received: width='1'"),
        ({"classes": 0}, ValueError, "Received: classes=0"),
        ({"softmax": 1}, TypeError, "Received: softmax=1"),
        ({"input_shape": (32, 32)}, ValueError, "Received: input_shape="),
        ({"attention": "cbma"}, ValueError, "mean 'cbam'"),
        ({"attention": ["se"]}, ValueError, "of 1 entries"),
        (
            {"attention": "eca", "attention_at": "last_block"},
            ValueError,
            "Did you mean 'block'",
        ),
        ({"attention_at": "block"}, ValueError, "without attention"),
    ],
)
def test_bad_arguments(network, arguments, error, message):
    with pytest.raises(error, match=message):
        small(network, **arguments)
