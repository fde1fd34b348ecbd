import math

import keras
import numpy as np
import pytest

from keras_attention.ops.attention.positions import alibi_bias
from keras_attention.ops.attention.positions import alibi_slopes
from keras_attention.ops.attention.positions import relative_buckets
from keras_attention.ops.attention.positions import rotary_embedding
from support.arrays import numpy
from support.attention import draw


def rotated(x, positions, max_wavelength):
    """Equation 34 of arXiv:2104.09864, pair by pair, as complex numbers."""
    pairs = x[..., 0::2] + 1j * x[..., 1::2]
    width = x.shape[-1]
    theta = max_wavelength ** (-2 * np.arange(width // 2) / width)
    turned = pairs * np.exp(1j * positions[:, None] * theta)[:, None]
    result = np.empty_like(x)
    result[..., 0::2], result[..., 1::2] = turned.real, turned.imag
    return result


@pytest.mark.parametrize("max_wavelength", [10_000.0, 50.0])
def test_rotary_equals_the_paper(max_wavelength):
    x, positions = draw(2, 5, 3, 6), np.array([0, 1, 2, 7, 1000])
    y = rotary_embedding(
        keras.ops.cast(x, "float32"), positions, max_wavelength
    )
    np.testing.assert_allclose(
        numpy(y), rotated(x, positions, max_wavelength), atol=2e-4
    )


def test_rotary_product_depends_on_the_distance():
    query, key = draw(1, 1, 1, 8, seed=1), draw(1, 1, 1, 8, seed=2)

    def product(i, j):
        turned = [
            numpy(rotary_embedding(keras.ops.cast(x, "float32"), np.array([p])))
            for x, p in ((query, i), (key, j))
        ]
        return (turned[0] * turned[1]).sum()

    assert product(3, 8) == pytest.approx(product(103, 108), abs=1e-4)
    assert product(3, 8) != pytest.approx(product(8, 3), abs=1e-2)


def test_rotary_positions_of_each_row():
    x = draw(2, 3, 1, 4, dtype="float32")
    positions = np.array([[0, 1, 2], [5, 6, 7]], "int32")
    y = numpy(rotary_embedding(x, positions))
    for row in range(2):
        alone = rotary_embedding(x[row : row + 1], positions[row])
        np.testing.assert_allclose(y[row], numpy(alone)[0], atol=1e-6)


def test_rotary_angles_are_not_rounded_to_half():
    x = np.ones((1, 1, 1, 2), "float16")
    y = numpy(rotary_embedding(x, np.array([2049])))  # no float16 number
    expected = rotated(x.astype("float64"), np.array([2049]), 1e4)
    np.testing.assert_allclose(y, expected, atol=1e-3)


def test_alibi_slopes_of_the_authors():
    assert alibi_slopes(8) == [2.0**-n for n in range(1, 9)]
    half = [2 ** (-(n + 1) / 2) for n in range(16)]
    assert alibi_slopes(16) == half
    assert alibi_slopes(1) == [2.0**-8]
    # 12 heads: those of 8, then every second of those of 16.
    assert alibi_slopes(12) == alibi_slopes(8) + half[0:8:2]


def test_alibi_bias_is_a_cost_of_distance():
    bias = numpy(alibi_bias(np.array([-2, 0, 3]), 2))
    slopes = [2.0**-4, 2.0**-8]
    np.testing.assert_allclose(bias, [[-2 * s, 0, -3 * s] for s in slopes])


def bucket(distance, buckets, farthest, bidirectional):
    """Section 2.1 of arXiv:1910.10683 and its code, for one distance."""
    offset = 0
    if bidirectional:
        buckets //= 2
        offset = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return offset + distance
    share = math.log(distance / exact) / math.log(farthest / exact)
    return offset + min(exact + int(share * (buckets - exact)), buckets - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("buckets, farthest", [(32, 128), (6, 11)])
def test_relative_buckets(buckets, farthest, bidirectional):
    distances = np.arange(-150, 151, dtype="int32")
    found = relative_buckets(distances, buckets, farthest, bidirectional)
    expected = [bucket(d, buckets, farthest, bidirectional) for d in distances]
    found = numpy(found)
    # Where the logarithm is a whole number float32 may round either way.
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02
    # No key is both farther than 0 and at distance 0.
    unused = {buckets // 2} if bidirectional else set()
    assert set(found) == set(range(buckets)) - unused
