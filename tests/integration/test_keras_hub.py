"""Attention inserted into KerasHub's backbones."""

import keras
import numpy as np
import pytest

import keras_attention as ka

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    # A backbone's class builds its graph itself and cannot be kept.
    pytest.mark.filterwarnings("ignore:.*comes back as a plain model"),
]
SHAPE = (32, 32, 3)


def resnet(models):
    return models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=SHAPE,
    )


def efficientnet(models):
    return models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3, 3],
        stackwise_num_repeats=[1, 2, 2],
        stackwise_input_filters=[8, 8, 16],
        stackwise_output_filters=[8, 16, 24],
        stackwise_expansion_ratios=[1, 4, 4],
        stackwise_squeeze_and_excite_ratios=[0.25] * 3,
        stackwise_strides=[1, 2, 2],
        stackwise_block_types=["v1", "fused", "unfused"],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        num_features=32,
        input_shape=SHAPE,
    )


def mobilenet(models):
    return models.MobileNetBackbone(
        stackwise_expansion=[[16, 16], [32, 48]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[16, 16], [24, 24]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu"] * 2, ["hard_swish"] * 2],
        stackwise_padding=[[1, 1], [2, 2]],
        input_num_filters=16,
        input_activation="hard_swish",
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=48,
        output_num_filters=48,
        output_activation="hard_swish",
        image_shape=SHAPE,
    )


def densenet(models):
    return models.DenseNetBackbone(
        stackwise_num_repeats=[2, 2], growth_rate=8, image_shape=SHAPE
    )


def csp_darknet(models):
    return models.CSPNetBackbone(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 1],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[16, 32],
        block_type="dark_block",
        stage_type="dark",
        image_shape=SHAPE,
    )


@pytest.fixture(scope="module")
def models():
    return pytest.importorskip(
        "keras_hub",
        reason="needs the extra 'keras-hub': `make test-keras-hub`",
    ).models


@pytest.mark.parametrize(
    "make, at",
    [
        (resnet, "residual"),
        (resnet, "stage"),
        (efficientnet, "residual"),
        (efficientnet, "stage"),
        (mobilenet, "stage"),
        (densenet, "stage"),
        (csp_darknet, "residual"),
    ],
)
def test_backbone(models, tmp_path, make, at):
    model = make(models)
    sites = [site for site in ka.attention_sites(model) if site.kind == at]
    attended = ka.insert_attention(
        model, lambda: ka.SqueezeExcite(hidden_units=2), at, True
    )
    report = ka.insertion_report(model, attended)
    assert len(report.layers) == len(sites) > 0
    x = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    assert_same_outputs(attended, model, x)

    attended.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_outputs(loaded, model, x)
    removed = ka.remove_attention(loaded)
    # Keras loads MobileNet's blocks with names that they have added to.
    assert len(removed.layers) == len(model.layers)
    removed_here = ka.remove_attention(attended)
    assert [layer.name for layer in removed_here.layers] == [
        layer.name for layer in model.layers
    ]
    assert_same_outputs(removed, model, x)


def assert_same_outputs(one, other, x):
    """Equal to the bit: called, in a graph, and by `predict`."""
    import tensorflow as tf

    for run in (
        lambda model: model(x),
        lambda model: tf.function(model)(x),
        lambda model: model.predict(x, verbose=0),
    ):
        for found, expected in zip(
            keras.tree.flatten(run(one)),
            keras.tree.flatten(run(other)),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)
