"""Attention on the skip connections of U-Nets and their like."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_attention import AttentionGate
from keras_attention import BlendIn
from keras_attention import attention_layers
from keras_attention import attention_sites
from keras_attention import insert_attention
from keras_attention import insertion_report
from keras_attention import remove_attention
from support.arrays import numpy

SIZE = 24


def convolve(x, filters, name, rank=2):
    layer = getattr(layers, f"Conv{rank}D")
    return layer(filters, 3, padding="same", activation="relu", name=name)(x)


def unet(gate=None, merge=None, size=SIZE, rank=2, crop=False):
    """Three levels; `gate` is called with a skip connection and a signal."""
    merge = merge or layers.Concatenate
    keras.utils.set_random_seed(3)
    inputs = keras.Input((*(size,) * rank, 3))
    x, skips = inputs, []
    for level, filters in enumerate((4, 4)):
        x = convolve(x, filters, f"down{level}", rank)
        skips.append(x)
        x = getattr(layers, f"MaxPooling{rank}D")()(x)
    x = convolve(x, 4, "bottom", rank)
    for level in (1, 0):
        coarse = x
        up = getattr(layers, f"UpSampling{rank}D")(name=f"enlarged{level}")
        x = convolve(up(x), 4, f"up{level}", rank)
        skip = skips[level]
        if crop:
            skip = layers.Cropping2D(0, name=f"crop{level}")(skip)
        if gate is not None:
            skip = gate(skip, coarse, level)
        x = merge(name=f"merge{level}")([skip, x])
        x = convolve(x, 4, f"fused{level}", rank)
    return keras.Model(inputs, convolve(x, 1, "map", rank))


def images(size=SIZE, rank=2):
    random = np.random.default_rng(0)
    return random.normal(size=(2, *(size,) * rank, 3)).astype("float32")


def outputs(model, x=None):
    return numpy(model(images() if x is None else x, training=False))


def copy_weights(model, other):
    for layer in model.layers:
        if layer.weights:
            other.get_layer(layer.name).set_weights(layer.get_weights())


def skips(model):
    return [site for site in attention_sites(model) if site.kind == "skip"]


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("merge", [layers.Concatenate, layers.Add])
def test_the_skips_of_a_unet_are_found(merge, size):
    found = skips(unet(merge=merge, size=size))
    assert [site.name for site in found] == ["down0", "down1"]
    half = size and size // 2
    assert found[1].shape == (None, half, half, 4)


def test_a_cropped_skip_is_gated_behind_the_crop():
    assert [s.name for s in skips(unet(crop=True))] == ["crop0", "crop1"]


def test_a_classifier_has_no_skips():
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(64, 64, 3), classes=5
    )
    assert skips(model) == []
    with pytest.raises(ValueError, match="No insertion point.*at='skip'"):
        insert_attention(model, "attention_gate", at="skip")


@pytest.mark.parametrize(
    "arguments",
    [{}, {"merge": layers.Add}, {"size": None}, {"rank": 3, "size": 8}],
)
def test_inserted_equals_written_by_hand(arguments):
    """The signal is the decoder's features before they are enlarged."""

    def gate(skip, coarse, level):
        return AttentionGate(name=f"down{level}_attention")([skip, coarse])

    inserted = insert_attention(unet(**arguments), "attention_gate", at="skip")
    written = unet(gate, **arguments)
    copy_weights(inserted, written)
    x = images(arguments.get("size") or SIZE, arguments.get("rank", 2))
    np.testing.assert_allclose(
        outputs(inserted, x), outputs(written, x), atol=1e-6
    )
    assert len(attention_layers(inserted)) == 2


@pytest.mark.parametrize("attention", ["attention_gate", "cbam"])
def test_outputs_are_preserved_and_attention_is_removed(attention, tmp_path):
    model = unet()
    gated = insert_attention(model, attention, at="skip", preserve_outputs=True)
    np.testing.assert_array_equal(outputs(gated), outputs(model))
    blends = [x for x in attention_layers(gated) if isinstance(x, BlendIn)]
    for blend in blends:
        blend.alpha.assign(0.7)
    assert np.abs(outputs(gated) - outputs(model)).max() > 1e-3
    gated.save(tmp_path / "gated.keras")
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    np.testing.assert_allclose(outputs(loaded), outputs(gated), atol=1e-6)
    plain = remove_attention(loaded)
    np.testing.assert_array_equal(outputs(plain), outputs(model))
    assert [x.name for x in plain.layers] == [x.name for x in model.layers]
    report = insertion_report(model, gated)
    names = {new.name for new in report.layers}
    assert names == {"down0_attention", "down1_attention"}


def test_the_way_down_has_no_attention():
    """What the encoder computes further down stays as it is."""

    def with_bottom(model):
        bottom = model.get_layer("bottom").output
        return keras.Model(model.input, [model.output, bottom])

    model = with_bottom(unet())
    gated = insert_attention(model, "squeeze_excite", at="skip")
    before, after = model(images()), gated(images())
    assert np.abs(numpy(after[0]) - numpy(before[0])).max() > 1e-3
    np.testing.assert_array_equal(numpy(after[1]), numpy(before[1]))


def test_some_skips_and_a_layer_of_ones_own():
    gated = insert_attention(
        unet(),
        lambda: layers.Conv2D(4, 1),
        at=lambda site: site.kind == "skip" and site.shape[1] < SIZE,
    )
    assert gated.get_layer("down1_attention").output.shape[1] == SIZE // 2
    names = [layer.name for layer in gated.layers]
    assert "down0_attention" not in names


def nested(gate=None):
    """The encoder is a model of its own, called once."""
    keras.utils.set_random_seed(5)
    image = keras.Input((SIZE, SIZE, 3))
    fine = convolve(image, 4, "fine")
    low = convolve(layers.MaxPooling2D()(fine), 5, "low")
    encoder = keras.Model(image, [fine, low], name="encoder")
    inputs = keras.Input((SIZE, SIZE, 3))
    skip, coarse = encoder(inputs)
    x = convolve(coarse, 6, "middle")
    if gate is not None:
        skip = gate([skip, x])
    x = layers.Conv2DTranspose(5, 2, 2, name="up")(x)
    x = layers.Concatenate()([x, skip])
    return keras.Model(inputs, convolve(x, 1, "map"))


def test_an_encoder_of_its_own():
    model = nested()
    assert [s.name for s in skips(model)] == ["encoder/fine"]
    gated = insert_attention(model, "attention_gate", at="skip")
    written = nested(AttentionGate(name="fine_attention"))
    copy_weights(gated, written)
    np.testing.assert_allclose(outputs(gated), outputs(written), atol=1e-6)


@pytest.mark.slow
def test_a_gate_trains():
    gated = insert_attention(
        unet(), "attention_gate", at="skip", preserve_outputs=True
    )
    gated.compile("sgd", "mse")
    kernels = [
        blend.layer.projection.kernel for blend in attention_layers(gated)
    ]
    before = [numpy(kernel).copy() for kernel in kernels]
    y = np.ones((2, SIZE, SIZE, 1))
    gated.fit(images(), y, epochs=2, verbose=0)
    for old, kernel in zip(before, kernels, strict=True):
        assert np.abs(numpy(kernel) - old).max() > 0


def test_sequences_have_no_attention_gate():
    inputs = keras.Input((16, 3))
    high = layers.Conv1D(4, 3, padding="same", name="high")(inputs)
    low = layers.Conv1D(4, 3, 2, padding="same")(high)
    x = layers.Concatenate()([high, layers.UpSampling1D()(low)])
    model = keras.Model(inputs, layers.Conv1D(4, 3)(x))
    with pytest.raises(ValueError, match="tensors of rank 4, 5"):
        insert_attention(model, "attention_gate", at="skip")
    gated = insert_attention(model, "squeeze_excite", at="skip")
    assert len(attention_layers(gated)) == 1
