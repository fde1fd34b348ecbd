"""Published ResNets, under the names that libraries have for them."""

import keras
import numpy as np
import pytest

from keras_attention import load_weights_from
from keras_attention.models import ResNet
from keras_attention.models.resnet import BLOCKS
from support.arrays import numpy
from support.networks import first_of

RANDOM = np.random.default_rng(0)


def published_resnet(model, module, attention):
    """Random weights under the published names, and what goes where."""
    source = {}
    for layer in model.layers:
        name = layer.name
        if not layer.weights:
            continue
        if name in ("stem_conv", "stem_norm", "logits"):
            key = {"stem_conv": "conv1", "stem_norm": "bn1", "logits": "fc"}
            key = key[name]
        elif name.count("_") == 1:
            continue  # Attention after a stage.
        else:
            stage, block, part = name.split("_", 2)
            key = {
                "shortcut": "downsample.0",
                "shortcut_norm": "downsample.1",
                "attention": module,
            }.get(part, part.replace("norm", "bn"))
            key = f"layer{stage[5:]}.{int(block[5:]) - 1}.{key}"
        if name.endswith("attention"):
            source |= {f"{key}.{k}": v for k, v in attention(layer).items()}
        elif isinstance(layer, keras.layers.BatchNormalization):
            names = ("weight", "bias", "running_mean", "running_var")
            for theirs, weight in zip(names, layer.weights, strict=True):
                source[f"{key}.{theirs}"] = RANDOM.normal(size=weight.shape)
            source[f"{key}.num_batches_tracked"] = np.array(3)
        else:
            kernel = RANDOM.normal(size=layer.kernel.shape)
            axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            source[f"{key}.weight"] = kernel.transpose(axes)
            if getattr(layer, "bias", None) is not None:
                source[f"{key}.bias"] = RANDOM.normal(size=layer.bias.shape)
    return source


def se_weights(layer):
    hidden, channels = layer.reduce.units, layer.expand.units
    return {
        "fc1.weight": RANDOM.normal(size=(hidden, channels, 1, 1)),
        "fc1.bias": RANDOM.normal(size=hidden),
        "fc2.weight": RANDOM.normal(size=(channels, hidden, 1, 1)),
        "fc2.bias": RANDOM.normal(size=channels),
    }


@pytest.fixture(scope="module")
def network():
    return ResNet(18, "squeeze_excite", input_shape=(32, 32, 3), classes=7)


def test_whole_network(network):
    source = published_resnet(network, "se", se_weights)
    source = {f"module.{name}": array for name, array in source.items()}
    assert load_weights_from(network, {"state_dict": source}) == []
    conv = network.get_layer("stage2_block1_shortcut").kernel
    expected = source["module.layer2.0.downsample.0.weight"]
    np.testing.assert_allclose(numpy(conv), expected.transpose(2, 3, 1, 0))
    gate = network.get_layer("stage4_block2_attention").expand.bias
    expected = source["module.layer4.1.se.fc2.bias"]
    np.testing.assert_allclose(numpy(gate), expected, rtol=1e-6)
    norm = network.get_layer("stage1_block2_norm2").moving_variance
    expected = source["module.layer1.1.bn2.running_var"]
    np.testing.assert_allclose(numpy(norm), expected, rtol=1e-6)


def test_nothing_is_changed_unless_all_fits(network):
    source = published_resnet(network, "se", se_weights)
    source["fc.weight"] = source["fc.weight"][:5]
    before = network.get_weights()
    with pytest.raises(
        ValueError, match=r"logits/kernel.*\(512, 7\).*\(5, 512"
    ):
        load_weights_from(network, source)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_network_without_the_attention(network):
    source = published_resnet(network, "se", se_weights)
    source = {k: v for k, v in source.items() if ".se." not in k}
    with pytest.raises(ValueError, match="no attention.*'stage1_block1_att"):
        load_weights_from(network, source)
    with pytest.raises(ValueError, match="read into.*models.ResNet.*'dense"):
        inputs = keras.Input((3,))
        other = keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs))
        load_weights_from(other, source)


def small(depth=18, attention=None, classes=7, **arguments):
    return ResNet(
        depth,
        attention,
        input_shape=(32, 32, 3),
        classes=classes,
        stem="small",
        **arguments,
    )


@pytest.fixture(scope="module")
def plain():
    """A plain network and weights for it, of 7 classes."""
    model = small()
    return model, published_resnet(model, None, None)


@pytest.mark.slow
def test_other_classes(plain):
    _, source = plain
    model = small(classes=5)
    before = model.get_weights()
    with pytest.raises(ValueError, match="logits/kernel.*skip_mismatch=True"):
        load_weights_from(model, source)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    left = load_weights_from(model, source, skip_mismatch=True)
    assert left == ["fc.weight", "fc.bias", "logits/kernel", "logits/bias"]
    np.testing.assert_array_equal(model.get_weights()[-2], before[-2])
    kernel = numpy(model.get_layer("stage4_block2_conv2").kernel)
    expected = source["layer4.1.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)


def test_without_the_classifier(plain):
    _, source = plain
    model = small(classes=None)
    assert load_weights_from(model, source) == ["fc.weight", "fc.bias"]
    with pytest.raises(ValueError, match="no weights for: fc2.weight"):
        load_weights_from(model, {**source, "fc2.weight": np.zeros(3)})


@pytest.mark.parametrize("attention", first_of(["cbam", "squeeze_excite"], 1))
def test_a_plain_network_into_one_with_attention(plain, attention):
    _, source = plain
    model = small(attention=attention)
    gates = {
        weight.path: numpy(weight)
        for layer in model.layers
        for weight in layer.weights
        if layer.name.endswith("attention")
    }
    with pytest.raises(ValueError, match="no attention.*skip_mismatch=True"):
        load_weights_from(model, source)
    left = load_weights_from(model, source, skip_mismatch=True)
    assert left == list(gates)
    for weight in model.weights:
        if weight.path in gates:
            np.testing.assert_array_equal(numpy(weight), gates[weight.path])
    kernel = numpy(model.get_layer("logits").kernel)
    np.testing.assert_allclose(kernel, source["fc.weight"].T, rtol=1e-6)


def test_attention_into_a_plain_network(network, plain):
    source = published_resnet(network, "se", se_weights)
    model = ResNet(18, input_shape=(32, 32, 3), classes=7)
    with pytest.raises(ValueError, match="no weights for: layer1.0.se.fc1"):
        load_weights_from(model, source)
    left = load_weights_from(model, source, skip_mismatch=True)
    assert len(left) == 8 * 4
    assert all(".se." in name for name in left)


def to_pytorchcv(name):
    """Return pytorchcv's name of one of torchvision's."""
    outside = {
        "conv1": "features.init_block.conv.conv",
        "bn1": "features.init_block.conv.bn",
        "fc": "output",
    }
    module, _, rest = name.partition(".")
    if module in outside:
        return f"{outside[module]}.{rest}"
    number, part, rest = rest.split(".", 2)
    start = f"features.stage{module[5:]}.unit{int(number) + 1}."
    if part == "downsample":
        kind, rest = rest.split(".", 1)
        return f"{start}identity_conv.{('conv', 'bn')[int(kind)]}.{rest}"
    if part == "se":
        return f"{start}se.{rest.replace('fc', 'conv')}"
    kind = "conv" if part.startswith("conv") else "bn"
    return f"{start}body.conv{part[-1]}.{kind}.{rest}"


def to_cadene(name):
    """Return the name in Cadene's SE-ResNets."""
    module, _, rest = name.partition(".")
    if module in ("conv1", "bn1"):
        return f"layer0.{name}"
    if module == "fc":
        return f"last_linear.{rest}"
    return name.replace(".se.", ".se_module.")


@pytest.mark.parametrize("rename", [to_pytorchcv, to_cadene])
def test_names_of_other_libraries(network, rename):
    source = published_resnet(network, "se", se_weights)
    load_weights_from(network, source)
    expected = network.get_weights()
    for weight in network.weights:
        weight.assign(np.zeros(weight.shape))
    source = {rename(name): array for name, array in source.items()}
    if rename is to_cadene:
        with pytest.warns(UserWarning, match="pad the pooling of their stem"):
            assert load_weights_from(network, source) == []
    else:
        assert load_weights_from(network, source) == []
    for old, new in zip(expected, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_where_the_strides_are(monkeypatch):
    monkeypatch.setitem(BLOCKS, 50, (1, 1, 1, 1))
    late = small(50, downsample_in="3x3")
    source = published_resnet(late, None, None)
    assert load_weights_from(late, source) == []
    early = small(50)
    with pytest.warns(UserWarning, match="3x3 conv.*downsample_in='3x3'"):
        load_weights_from(early, source)
    cadene = {to_cadene(name): array for name, array in source.items()}
    assert load_weights_from(early, cadene) == []
    with pytest.warns(UserWarning, match="1x1 conv.*downsample_in='1x1'"):
        load_weights_from(late, cadene)
    # Under these names both are published.
    other = {to_pytorchcv(name): array for name, array in source.items()}
    assert load_weights_from(early, other) == []
    assert load_weights_from(late, other) == []


def bam_weights(layer):
    """Random weights under the names of the authors of BAM."""
    start = "channel_att.gate_c.gate_c_"
    spatial = "spatial_att.gate_s.gate_s_"
    names = {
        "channel_reduce": f"{start}fc_0",
        "channel_norm": f"{start}bn_1",
        "channel_expand": f"{start}fc_final",
        "spatial_reduce": f"{spatial}conv_reduce0",
        "spatial_reduce_norm": f"{spatial}bn_reduce0",
        "spatial_dilated1": f"{spatial}conv_di_0",
        "spatial_dilated1_norm": f"{spatial}bn_di_0",
        "spatial_dilated2": f"{spatial}conv_di_1",
        "spatial_dilated2_norm": f"{spatial}bn_di_1",
        "spatial_expand": f"{spatial}conv_final",
    }
    theirs = {
        "kernel": "weight",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    source = {}
    for weight in layer.weights:
        part, name = weight.path.split("/")[-2:]
        array = RANDOM.normal(size=weight.shape)
        if array.ndim > 1:
            array = array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
        source[f"{names[part]}.{theirs.get(name, name)}"] = array
    return source


def test_attention_after_stages():
    model = small(attention="bam")
    source = published_resnet(model, None, None)
    for stage in (1, 2, 3):
        layer = model.get_layer(f"stage{stage}_attention")
        found = bam_weights(layer)
        source |= {f"bam{stage}.{name}": array for name, array in found.items()}
    assert load_weights_from(model, source) == []
    kernel = numpy(model.get_layer("stage2_attention").spatial_expand.kernel)
    name = "bam2.spatial_att.gate_s.gate_s_conv_final.weight"
    np.testing.assert_allclose(
        kernel, source[name].transpose(2, 3, 1, 0), rtol=1e-6
    )
