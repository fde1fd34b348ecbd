"""Attention inserted into KerasCV's backbones."""

import keras
import numpy as np
import pytest

import keras_attention as ka

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def models():
    return pytest.importorskip(
        "keras_cv", reason="needs the extra 'keras-cv'"
    ).models


def resnet(models):
    return models.ResNetBackbone(
        stackwise_filters=[8, 16],
        stackwise_blocks=[2, 1],
        stackwise_strides=[1, 2],
        include_rescaling=True,
        block_type="basic_block",
    )


def densenet(models):
    return models.DenseNetBackbone(
        stackwise_num_repeats=[2, 2], include_rescaling=True, growth_rate=8
    )


def classifier(models):
    return models.ImageClassifier(backbone=resnet(models), num_classes=3)


@pytest.mark.parametrize(
    "make, at, expected",
    [
        (
            resnet,
            "residual",
            [
                "v2_stack_0_block1_2_bn",
                "v2_stack_0_block2_2_bn",
                "v2_stack_1_block1_2_bn",
            ],
        ),
        (densenet, "stage", ["conv1_relu", "pool2_conv", "relu"]),
        (
            classifier,
            "stage",
            [
                "backbone/conv1_relu",
                "backbone/v2_stack_0_block2_out",
                "backbone/v2_stack_1_block1_out",
            ],
        ),
    ],
    ids=["resnet", "densenet", "classifier"],
)
def test_backbone(models, tmp_path, make, at, expected):
    model = make(models)
    sites = [site for site in ka.attention_sites(model) if site.kind == at]
    assert [site.name.split("/")[-1] for site in sites] == [
        name.split("/")[-1] for name in expected
    ]
    attended = ka.insert_attention(
        model, lambda: ka.SqueezeExcite(hidden_units=2), at, True
    )
    report = ka.insertion_report(model, attended)
    assert len(report.layers) == len(expected)
    attended.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    x = x.astype("float32")
    np.testing.assert_array_equal(attended(x), model(x))
    np.testing.assert_array_equal(loaded(x), model(x))


def test_lambda_in_a_backbone_is_named(models):
    model = models.CSPDarkNetBackbone(
        stackwise_channels=[8, 16],
        stackwise_depth=[1, 1],
        include_rescaling=True,
    )
    with pytest.raises(ValueError, match="'stem_conv/lambda.*Lambda"):
        ka.insert_attention(model, "eca", "stage")
