import functools

import keras
import numpy as np
import pytest

import keras_attention
from keras_attention.models import WideResNet
from support.networks import count_trainable


def small(depth=10, width=1, **arguments):
    return WideResNet(
        depth, width, **{"input_shape": (8, 8, 1), "classes": 7, **arguments}
    )


def wide_resnet_parameters(depth, width, channels, classes):
    """The count from the architecture, written without looking at the code."""
    blocks = (depth - 4) // 6
    total, before = 9 * channels * 16, 16
    for after in (16 * width, 32 * width, 64 * width):
        for block in range(blocks):
            inputs = before if block == 0 else after
            total += 2 * inputs + 9 * inputs * after  # norm, conv
            total += 2 * after + 9 * after * after
            if inputs != after:
                total += inputs * after
        before = after
    return total + 2 * before + before * classes + classes


@pytest.mark.parametrize(
    ("depth", "width", "expected"),
    [(16, 1, 175_066), (16, 2, 691_674), (40, 1, 563_930), (40, 2, 2_243_546)],
)
def test_parameters_of_the_networks_of_attention_transfer(
    depth, width, expected
):
    assert wide_resnet_parameters(depth, width, 3, 10) == expected
    assert count_trainable(WideResNet(depth, width)) == expected


@pytest.mark.parametrize(("depth", "width"), [(10, 3), (22, 1)])
def test_parameters_by_formula(depth, width):
    assert count_trainable(small(depth, width)) == wide_resnet_parameters(
        depth, width, 1, 7
    )


def test_stages_are_the_sums_of_their_last_blocks():
    model = small(16, 1)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    names = ["stage1", "stage1_block2_add", "stage3", "stage3_block2_add"]
    outputs = keras.Model(
        model.input, [model.get_layer(name).output for name in names]
    )(x)
    stage1, add1, stage3, add3 = map(keras.ops.convert_to_numpy, outputs)
    np.testing.assert_array_equal(stage1, add1)
    np.testing.assert_array_equal(stage3, add3)
    assert stage1.shape == (2, 8, 8, 16)
    assert stage3.shape == (2, 2, 2, 64)
    # A sum of pre-activation blocks has both signs: no ReLU came after it.
    assert stage3.min() < 0 < stage3.max()


def test_forward_on_an_odd_image_of_unknown_size():
    model = small(input_shape=(None, None, 3))
    assert model(np.ones((2, 13, 7, 3), "float32")).shape == (2, 7)
    assert model.get_layer("stage3").output.shape == (None, None, None, 64)


def test_stride_2_pads_alike_on_both_sides():
    model = small(input_shape=(8, 8, 1))
    layer = model.get_layer("stage2_block1_conv1")
    kernel = np.zeros(layer.kernel.shape, "float32")
    kernel[1, 1] = 1  # takes the window's center
    layer.kernel.assign(kernel)
    part = keras.Model(
        model.get_layer("stage2_block1_relu1").output, layer.output
    )
    x = np.random.default_rng(0).uniform(size=(1, 8, 8, 16))
    y = keras.ops.convert_to_numpy(part(x.astype("float32")))
    np.testing.assert_allclose(y[0, ..., 0], x[0, ::2, ::2].sum(-1), rtol=1e-5)


@pytest.mark.parametrize(
    ("attention_at", "expected"),
    [
        (
            None,
            [f"stage{s}_block{b}_attention" for s in (1, 2, 3) for b in (1, 2)],
        ),
        ("last_block", [f"stage{s}_block2_attention" for s in (1, 2, 3)]),
        ("stage", ["stage1_attention", "stage2_attention"]),
    ],
)
def test_attention_goes_where_asked(attention_at, expected):
    model = small(16, 1, attention="squeeze_excite", attention_at=attention_at)
    gates = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras_attention.SqueezeExcite)
    ]
    assert gates == expected


def test_block_attention_stands_before_the_addition():
    model = small(attention="se")
    gate = model.get_layer("stage1_block1_attention")
    assert gate.input is model.get_layer("stage1_block1_conv2").output
    assert gate.output in model.get_layer("stage1_block1_add").input


@pytest.mark.slow
def test_saved_and_loaded_without_custom_objects(tmp_path):
    model = small(attention="se", kernel_regularizer=keras.regularizers.L2(0.1))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
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
def test_training_moves_every_weight():
    keras.utils.set_random_seed(0)
    wide_gate = functools.partial(keras_attention.SqueezeExcite, ratio=2)
    model = small(attention=[wide_gate] * 3, attention_at="stage")
    model.compile("sgd", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 1)).astype("float32")
    before = [w.numpy() for w in model.trainable_variables]
    model.fit(x, np.arange(8) % 7, epochs=3, verbose=0)
    still = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(variable.numpy(), old)
    ]
    assert still == []


def test_probabilities_are_the_softmax_of_the_logits_layer():
    model = small()
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    logits = keras.Model(model.input, model.get_layer("logits").output)(x)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(keras.ops.softmax(logits)),
        keras.ops.convert_to_numpy(model(x)),
        rtol=1e-5,
    )
    other = small(softmax=False)
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(other(x)),
        keras.ops.convert_to_numpy(logits),
        rtol=1e-5,
        atol=1e-6,
    )


def test_mixed_precision_gives_float32_outputs():
    model = small(dtype="mixed_float16", attention="se")
    outputs = model(np.ones((2, 8, 8, 1), "float32"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    gate = model.get_layer("stage1_block1_attention")
    assert gate.compute_dtype == "float16"
    assert model.get_layer("stage1").compute_dtype == "float16"


def test_without_classes_the_model_ends_with_the_last_stage():
    model = small(classes=None)
    assert model.layers[-1].name == "stage3"
    assert model.output_shape == (None, 2, 2, 64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth": 18}, ValueError, r"6 n \+ 4.*Received: depth=18"),
        ({"depth": 4}, ValueError, "Received: depth=4"),
        ({"width": 0}, ValueError, "Received: width=0"),
        ({"width": 1.5}, TypeError, "Received: width=1.5"),
        ({"classes": 0}, ValueError, "Received: classes=0"),
        ({"softmax": "yes"}, TypeError, "Received: softmax='yes'"),
        ({"input_shape": (8, 8)}, ValueError, r"Received: input_shape=\(8, 8"),
        ({"input_shape": (8, 8, None)}, ValueError, "height, width, channels"),
        ({"input_shape": (0, 8, 3)}, ValueError, "Received: height=0"),
        ({"attention_at": "block"}, ValueError, "without attention"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        small(**arguments)
