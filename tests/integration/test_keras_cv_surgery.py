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
        stackwise_filters=[16, 32],
        stackwise_blocks=[2, 1],
        stackwise_strides=[1, 2],
        include_rescaling=True,
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
                "v2_stack_0_block1_3_bn",
                "v2_stack_0_block2_3_bn",
                "v2_stack_1_block1_3_bn",
            ],
        ),
        pytest.param(
            densenet,
            "stage",
            ["conv1_relu", "pool2_conv", "relu"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            classifier,
            "stage",
            [
                "backbone/v2_stack_0_block2_out",
                "backbone/v2_stack_1_block1_out",
            ],
            marks=pytest.mark.slow,
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
    for other in (attended, loaded, ka.remove_attention(loaded)):
        assert_same_outputs(other, model, x)


def assert_same_outputs(one, other, x):
    """Equal to the bit: called, in a graph, and by `predict`."""
    import tensorflow as tf

    for run in (
        lambda model: model(x),
        lambda model: tf.function(model)(x),
        lambda model: model.predict(x, verbose=0),
    ):
        np.testing.assert_array_equal(run(one), run(other))


@pytest.mark.slow
def test_classifier_is_trained_saved_and_loaded(models, tmp_path):
    model = classifier(models)
    attended = ka.insert_attention(
        model, lambda: ka.CBAM(ratio=2), "residual", preserve_outputs=True
    )
    attended.compile("sgd", "categorical_crossentropy")
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    x = x.astype("float32")
    before = attended.predict(x, verbose=0)
    np.testing.assert_array_equal(before, model.predict(x, verbose=0))
    attended.fit(x, np.eye(3)[:2], epochs=1, verbose=0)
    after = attended.predict(x, verbose=0)
    assert not np.array_equal(after, before)
    attended.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_outputs(loaded, attended, x)


def test_lambda_in_a_backbone_is_named(models):
    model = models.CSPDarkNetBackbone(
        stackwise_channels=[16, 32],
        stackwise_depth=[1, 1],
        include_rescaling=True,
    )
    with pytest.raises(ValueError, match="'stem_conv/lambda.*Lambda"):
        ka.insert_attention(model, "eca", "stage")
