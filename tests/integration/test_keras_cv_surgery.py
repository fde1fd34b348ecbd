"""Attention inserted into KerasCV's backbones."""

import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import attention_layers

pytestmark = [
    pytest.mark.tensorflow,
    # A backbone's class builds its graph itself and cannot be kept.
    pytest.mark.filterwarnings("ignore:.*comes back as a plain model"),
    # KerasCV's own.
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`"),
]


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_lambda_in_a_backbone_is_named(models):
    model = models.CSPDarkNetBackbone(
        stackwise_channels=[16, 32],
        stackwise_depth=[1, 1],
        include_rescaling=True,
    )
    with pytest.raises(ValueError, match="'stem_conv/lambda.*Lambda"):
        ka.insert_attention(model, "eca", "stage")


def test_backbone_keeps_its_pyramid_and_says_what_is_lost(models, tmp_path):
    model = detector_backbone(models)
    with pytest.warns(UserWarning, match="Lost: its class ResNetBackbone"):
        attended = ka.insert_attention(model, narrow_gate, "stage", True)
    levels = {
        level: f"{name}_attention"
        for level, name in model.pyramid_level_inputs.items()
    }
    assert sorted(levels) == ["P2", "P3", "P4", "P5"]
    assert attended.pyramid_level_inputs == levels
    attended.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.pyramid_level_inputs == levels


def detector_backbone(models):
    keras.utils.set_random_seed(0)
    return models.ResNetBackbone(
        stackwise_filters=[8, 8, 8, 8],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 2],
        input_shape=(64, 64, 3),
        include_rescaling=True,
    )


def narrow_gate():
    return ka.SqueezeExcite(hidden_units=2)


def trained_weights(model, before):
    """Names of the attention's weights that training has changed."""
    return {
        weight.path
        for layer, old in before
        for weight, value in zip(layer.trainable_weights, old, strict=True)
        if np.abs(weight.numpy() - value).max() > 0
    }


def attention_weights(model):
    return [
        (layer, [w.numpy() for w in layer.trainable_weights])
        for layer in attention_layers(model)
    ]


@pytest.mark.slow
def test_retinanet_trains(models):
    attended = ka.insert_attention(
        detector_backbone(models), narrow_gate, "stage", True
    )
    model = models.RetinaNet(
        num_classes=3, bounding_box_format="xywh", backbone=attended
    )
    before = attention_weights(model)
    assert len(before) == 4
    model.compile(
        classification_loss="focal",
        box_loss="smoothl1",
        optimizer=keras.optimizers.SGD(1e-2, global_clipnorm=10.0),
        jit_compile=False,
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3))
    labels = {
        "boxes": np.array([[[3.0, 5, 31, 29]], [[11.0, 7, 41, 37]]]),
        "classes": np.array([[1.0], [2.0]]),
    }
    history = model.fit(
        images.astype("float32"), labels, epochs=3, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    # The pyramid is fed after the attention of its levels, the last included.
    changed = trained_weights(model, before)
    for layer, _ in before:
        assert any(path.startswith(f"{layer.name}/") for path in changed)


@pytest.mark.slow
def test_deeplab_trains(models):
    attended = ka.insert_attention(
        detector_backbone(models), narrow_gate, "stage", True
    )
    model = models.DeepLabV3Plus(num_classes=2, backbone=attended)
    before = attention_weights(model)
    assert len(before) == 4
    model.compile(
        keras.optimizers.SGD(1e-2),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    masks = (images.mean(-1) > 128).astype("int32")
    history = model.fit(images, masks, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    changed = trained_weights(model, before)
    for layer, _ in before:
        assert any(path.startswith(f"{layer.name}/") for path in changed)


def test_detector_itself_is_refused(models):
    model = models.RetinaNet(
        num_classes=3,
        bounding_box_format="xywh",
        backbone=detector_backbone(models),
    )
    with pytest.raises(ValueError, match="`train_step`.*such as its backbone"):
        ka.insert_attention(model, narrow_gate, "stage")
