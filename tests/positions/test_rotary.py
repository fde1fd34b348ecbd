"""Rotary positions: layouts, parts of heads, frequencies of the papers."""

import math

import numpy as np
import pytest

import keras_attention as ka
from keras_attention.ops import rotary_embedding
from keras_attention.positions import LinearScaling
from keras_attention.positions import Llama3Scaling
from keras_attention.positions import NTKScaling
from keras_attention.positions import Rotary
from keras_attention.positions import YaRNScaling
from support.arrays import numpy
from support.attention import draw


def rotate_half(x, positions, frequencies):
    """The convention of Llama, in NumPy: x cos + rotate_half(x) sin."""
    width = 2 * len(frequencies)
    x, rest = x[..., :width], x[..., width:]
    angles = np.asarray(positions)[..., None] * np.asarray(frequencies)
    angles = np.concatenate([angles, angles], axis=-1)[..., None, :]
    first, second = np.split(x, 2, axis=-1)
    turned = np.concatenate([-second, first], axis=-1)
    x = x * np.cos(angles) + turned * np.sin(angles)
    return np.concatenate([x, rest], axis=-1)


def complex_pairs(x, positions, frequencies):
    """The paper's: neighboring features are a complex number."""
    angles = np.asarray(positions)[..., None] * np.asarray(frequencies)
    pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[
        ..., None, :
    ]
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)


def frequencies(width, base=10_000.0):
    return base ** (-np.arange(0, width, 2) / width)


POSITIONS = np.array([[0, 1, 2, 7, 3], [5, 5, 100, 2, 0]])


def test_layouts_are_those_of_paper_and_llama():
    x = draw(2, 5, 3, 8)
    for layout, reference in (
        ("half", rotate_half),
        ("interleaved", complex_pairs),
    ):
        found = numpy(Rotary(layout).rotate(x.astype("float32"), POSITIONS))
        expected = reference(x, POSITIONS, frequencies(8))
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_layouts_are_one_up_to_the_order_of_features():
    x = draw(1, 5, 2, 8, dtype="float32")
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    interleaved = numpy(rotary_embedding(x, np.arange(5)))
    half = numpy(rotary_embedding(x[..., order], np.arange(5), layout="half"))
    np.testing.assert_allclose(half, interleaved[..., order], atol=1e-6)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_a_fraction_leaves_the_last_features(layout):
    x = draw(2, 5, 3, 8, dtype="float32")
    rotary = Rotary(layout, fraction=0.5, max_wavelength=50.0)
    found = numpy(rotary.rotate(x, POSITIONS))
    np.testing.assert_array_equal(found[..., 4:], x[..., 4:])
    whole = Rotary(layout, max_wavelength=50.0).rotate(x[..., :4], POSITIONS)
    np.testing.assert_allclose(found[..., :4], numpy(whole), atol=1e-6)


def test_linear_scaling_divides_positions():
    x = draw(1, 5, 1, 8, dtype="float32")
    scaled = Rotary(scaling=LinearScaling(4.0)).rotate(x, 4 * np.arange(5))
    np.testing.assert_allclose(
        numpy(scaled), numpy(Rotary().rotate(x, np.arange(5))), atol=1e-6
    )


def test_ntk_scaling_keeps_the_first_and_divides_the_last():
    found = NTKScaling(4.0).frequencies(16, 1e4)
    base = 1e4 * 4.0 ** (16 / 14)
    np.testing.assert_allclose(found, frequencies(16, base))
    assert found[0] == 1
    assert found[-1] == pytest.approx(frequencies(16)[-1] / 4)


def yarn(width, base, factor, length, fast=32.0, slow=1.0, whole=True):
    """The authors' ramp, one pair at a time."""

    def pair_of(turns):
        return (
            width
            * math.log(length / (turns * 2 * math.pi))
            / (2 * math.log(base))
        )

    low, high = pair_of(fast), pair_of(slow)
    if whole:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    found = []
    for pair in range(width // 2):
        frequency = base ** (-2 * pair / width)
        interpolated = np.clip((pair - low) / (high - low), 0, 1)
        found.append(
            frequency / factor * interpolated + frequency * (1 - interpolated)
        )
    return found


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "width, base, length", [(128, 1e4, 4096), (64, 150_000.0, 4096)]
)
def test_yarn_scaling(width, base, length, whole):
    scaling = YaRNScaling(16.0, length, truncate=whole)
    found = scaling.frequencies(width, base)
    np.testing.assert_allclose(
        found, yarn(width, base, 16.0, length, whole=whole)
    )
    # The highest frequency stays, the lowest is interpolated.
    assert found[0] == 1
    assert found[-1] == pytest.approx(frequencies(width, base)[-1] / 16)


def test_yarn_of_one_pair_between_low_and_high():
    found = YaRNScaling(2.0, 8).frequencies(4, 10.0)
    assert np.isfinite(found).all()


def test_yarn_sharpens_all_scores():
    """As scaling queries and keys by 0.1 ln s + 1 each."""
    factor = 0.1 * math.log(8.0) + 1
    assert YaRNScaling(8.0, 64).score_factor == pytest.approx(factor**2)
    assert YaRNScaling(8.0, 64, attention_factor=1.5).score_factor == 2.25
    arguments = {"num_heads": 2, "use_bias": False}
    x = draw(1, 5, 16, dtype="float32")
    outputs = []
    for scale, attention_factor in ((1.0, 1.5), (1.5, 1.0)):
        layer = ka.MultiHeadAttention(
            positions=Rotary(
                scaling=YaRNScaling(8.0, 64, attention_factor=attention_factor)
            ),
            **arguments,
        )
        layer.build(x.shape)
        query, key, *rest = [draw(*w.shape) / 4 for w in layer.weights]
        layer.set_weights([query * scale, key * scale, *rest])
        outputs.append(numpy(layer(x)))
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


def test_llama3_scaling():
    scaling = Llama3Scaling(8.0, 1.0, 4.0, 8192)
    found = scaling.frequencies(128, 500_000.0)
    expected = []
    for frequency in frequencies(128, 500_000.0):
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4.0:
            expected.append(frequency)
        elif wavelength > 8192 / 1.0:
            expected.append(frequency / 8.0)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected.append((1 - smooth) * frequency / 8.0 + smooth * frequency)
    np.testing.assert_allclose(found, expected)
    kinds = np.array(found) / frequencies(128, 500_000.0)
    # Each of the three cases is met.
    assert {kinds[0], kinds[-1]} == {1.0, 0.125}
    assert ((kinds > 0.126) & (kinds < 0.999)).any()


def test_half_precision_angles_are_float32():
    x = np.ones((1, 1, 1, 4), "float16")
    found = numpy(Rotary("half").rotate(x, np.array([2049])))
    expected = rotate_half(
        x.astype("float64"), np.array([2049]), frequencies(4)
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Rotary("halves"), ValueError, "`layout`.*'half'"),
        (lambda: Rotary(fraction=0.0), ValueError, "fraction=0.0"),
        (lambda: Rotary(fraction=1.5), ValueError, "fraction=1.5"),
        (lambda: Rotary(max_wavelength=1.0), ValueError, "max_wavelength=1"),
        (lambda: Rotary(scaling=2.0), TypeError, "scaling=2.0"),
        (lambda: LinearScaling(0.5), ValueError, "factor=0.5"),
        (lambda: NTKScaling(2.0).frequencies(2, 9.0), ValueError, "at least 4"),
        (lambda: YaRNScaling(2.0, 0), ValueError, "original_max_length=0"),
        (
            lambda: YaRNScaling(2.0, 8, beta_fast=1.0),
            ValueError,
            "beta_fast=1.0",
        ),
        (
            lambda: YaRNScaling(2.0, 8, attention_factor=0.0),
            ValueError,
            "attention_factor=0.0",
        ),
        (
            lambda: Llama3Scaling(high_frequency_factor=1.0),
            ValueError,
            "high_frequency_factor=1.0",
        ),
        (
            lambda: ka.MultiHeadAttention(2, 6, positions=Rotary(fraction=0.5)),
            ValueError,
            "key_dim=6 with fraction=0.5, 3 features",
        ),
        (
            lambda: rotary_embedding(
                np.ones((1, 1, 1, 2)), [0], frequencies=[1.0, 2.0]
            ),
            ValueError,
            "2 frequencies",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
