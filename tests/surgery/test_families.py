"""One small network of each family: where its sites are, and that nothing
but the attention is changed."""

import keras
import numpy as np
import pytest

import keras_attention as ka

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

SMALL = {"weights": None, "input_shape": (64, 64, 3), "classes": 3}
# Where attention goes in the test, at how many sites, the first of them; and
# the ends of all stages.
FAMILIES = {
    "ResNet50": (
        "residual",
        16,
        "conv2_block1_3_bn",
        [
            "conv2_block3_out",
            "conv3_block4_out",
            "conv4_block6_out",
            "conv5_block3_out",
        ],
    ),
    "ResNet50V2": (
        "residual",
        16,
        "conv2_block1_3_conv",
        [
            "conv2_block2_out",
            "conv3_block3_out",
            "conv4_block5_out",
            "post_relu",
        ],
    ),
    "MobileNet": (
        "stage",
        5,
        "conv_pw_1_relu",
        [
            "conv_pw_1_relu",
            "conv_pw_3_relu",
            "conv_pw_5_relu",
            "conv_pw_11_relu",
            "conv_pw_13_relu",
        ],
    ),
    "MobileNetV2": (
        "residual",
        10,
        "block_2_project_BN",
        [
            "expanded_conv_project_BN",
            "block_2_add",
            "block_5_add",
            "block_12_add",
            "out_relu",
        ],
    ),
    "MobileNetV3Small": (
        "residual",
        6,
        "expanded_conv_2_project_bn",
        [
            "expanded_conv_project_bn",
            "expanded_conv_2_add",
            "expanded_conv_7_add",
            None,  # An activation without a name.
        ],
    ),
    "EfficientNetB0": (
        "residual",
        9,
        "block2b_project_bn",
        [
            "block1a_project_bn",
            "block2b_add",
            "block3b_add",
            "block5c_add",
            "top_activation",
        ],
    ),
    "DenseNet121": (
        "stage",
        5,
        "conv1_relu",
        ["conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu"],
    ),
    "ConvNeXtTiny": (
        "residual",
        18,
        "convnext_tiny_stage_0_block_0_identity",
        [None] * 4,
    ),
    "VGG16": (
        "stage",
        5,
        "block1_conv2",
        [
            "block1_conv2",
            "block2_conv2",
            "block3_conv3",
            "block4_conv3",
            "block5_conv3",
        ],
    ),
}
NARROW = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "VGG16": {"include_top": False, "classes": 1000},
}


def narrow_gate():
    return ka.SqueezeExcite(hidden_units=2)


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name):
    at, count, first, stages = FAMILIES[name]
    make = getattr(keras.applications, name)
    model = make(**SMALL | NARROW.get(name, {}))
    sites = ka.attention_sites(model)
    found = [site.name for site in sites if site.kind == "stage"]
    assert len(found) == len(stages)
    for known, end in zip(stages, found, strict=True):
        assert known in (None, end)
    named = [site.name for site in sites if site.kind == at]
    assert len(named) == count and named[0] == first

    gated = ka.insert_attention(model, narrow_gate, at, preserve_outputs=True)
    inserted = [f"{site}_attention" for site in named]
    assert sorted(layer.name for layer in gated.layers) == sorted(
        [layer.name for layer in model.layers] + inserted
    )
    x = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3))
    expected = np.asarray(model(x.astype("float32")))
    np.testing.assert_array_equal(gated(x.astype("float32")), expected)
    for layer in model.layers:
        weights = gated.get_layer(layer.name).get_weights()
        for old, new in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(old, new)
