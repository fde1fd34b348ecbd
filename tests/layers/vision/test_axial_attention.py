import keras
import numpy as np
import pytest

import keras_attention as ka
from keras_attention.inspection import read_outputs
from support.arrays import numpy
from support.vision import build
from support.vision import first
from support.vision import image


def project(x, dense, equation):
    y = np.einsum(equation, x, numpy(dense.kernel))
    return y if dense.bias is None else y + numpy(dense.bias)


def attend(line, attention):
    """Attention of one row or column, (B, T, C)."""
    query, key, value = (
        project(line, dense, "btc,cnd->btnd")
        for dense in (
            attention.query_dense,
            attention.key_dense,
            attention.value_dense,
        )
    )
    logits = np.einsum("btnd,bsnd->bnts", query, key)
    logits /= np.sqrt(query.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    heads = np.einsum("bnts,bsnd->btnd", weights, value)
    return project(heads, attention.output_dense, "btnd,ndc->btc")


def reference(x, layer):
    """Row by row and column by column."""
    x = x.astype("float64")
    outputs, y = [], x
    for axis, attention in zip(layer.axes, layer.attentions, strict=True):
        source = x if layer.combine == "add" else y
        y = np.zeros_like(x)
        if axis == "height":
            for column in range(x.shape[2]):
                y[:, :, column] = attend(source[:, :, column], attention)
        else:
            for row in range(x.shape[1]):
                y[:, row] = attend(source[:, row], attention)
        outputs.append(y)
    return sum(outputs) if layer.combine == "add" else y


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 7, 5, 12), {"num_heads": 3}),
        ((1, 3, 11, 10), {"axes": ["width", "height"], "num_heads": 5}),
        ((2, 5, 3, 6), {"combine": "add", "use_bias": False}),
        ((2, 5, 3, 6), {"axes": ("width",)}),
        ((2, 1, 5, 3), {}),
        ((3, 1, 1, 5), {}),
    ],
)
def test_equals_the_paper(shape, arguments):
    x = image(shape)
    layer = build(ka.AxialAttention(**arguments), shape)
    layer.set_weights([0.3 * weight for weight in layer.get_weights()])
    expected = reference(x, layer)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-4, atol=1e-4)
    other = ka.AxialAttention(**arguments, data_format="channels_first")
    other.build(first(x).shape)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        numpy(other(first(x))), first(expected), rtol=1e-4, atol=1e-4
    )


def test_stacked_reaches_every_position_and_added_the_cross():
    x = image((1, 5, 7, 4))
    changed = x.copy()
    changed[:, 0, 0] += 1
    cross = np.zeros((5, 7), bool)
    cross[0] = cross[:, 0] = True
    for combine in ("stack", "add"):
        layer = build(ka.AxialAttention(combine=combine), x.shape)
        layer.set_weights([0.3 * weight for weight in layer.get_weights()])
        reached = np.abs(numpy(layer(x)) - numpy(layer(changed))).max(-1) > 0
        expected = cross | (combine == "stack")
        np.testing.assert_array_equal(reached[0], expected)


def test_scores_are_those_of_the_sublayers():
    inputs = keras.Input((7, 5, 8))
    layer = ka.AxialAttention(num_heads=2, name="axial")
    model = keras.Model(inputs, layer(inputs))
    names = ["axial/height:scores", "axial/width:scores"]
    _, values = read_outputs(model, image((3, 7, 5, 8)), names)
    height, width = (numpy(values[name]) for name in names)
    assert height.shape == (3, 5, 2, 7, 7)
    assert width.shape == (3, 7, 2, 5, 5)
    np.testing.assert_allclose(width.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("channels", "axes", "heads"),
    [(128, ("height", "width"), 2), (96, ("width",), 1), (11, ("height",), 1)],
)
def test_parameters(channels, axes, heads):
    layer = ka.AxialAttention(axes=axes)
    layer.build((None, None, None, channels))
    expected = len(axes) * 4 * channels * (channels + 1)
    assert layer.count_params() == expected
    assert {a.num_heads for a in layer.attentions} == {heads}


def test_inserted_into_a_network():
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    found = ka.insert_attention(model, "axial", ["conv"], preserve_outputs=True)
    x = image((2, 9, 9, 3))
    np.testing.assert_array_equal(numpy(found(x)), numpy(model(x)))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"num_heads": 0}, ValueError),
        ({"axes": "width"}, TypeError),
        ({"axes": ("width", "width")}, ValueError),
        ({"combine": "sum"}, ValueError),
        ({"use_bias": 1}, TypeError),
        ({"data_format": "channels_lest"}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f"`{name}`.*Received: {name}="):
        ka.AxialAttention(**arguments)


def test_heads_that_do_not_divide():
    layer = ka.AxialAttention(num_heads=5, name="axial")
    with pytest.raises(ValueError, match="num_heads=5 for 8 channels.*'axial'"):
        layer.build((None, 7, 7, 8))
