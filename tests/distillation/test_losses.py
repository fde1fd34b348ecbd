import numpy as np
import pytest

from keras_attention.distillation.losses import attention_distance
from keras_attention.distillation.losses import distillation_distance
from keras_attention.distillation.losses import gradient_distance
from keras_attention.distillation.losses import weighted_mean
from keras_attention.ops.attention_maps import flat_maps
from keras_attention.ops.attention_maps import smaller_maps
from support.arrays import numpy
from support.distillation import gradient


def maps_distance(student, teacher, reduction="mean"):
    student, teacher = map(flat_maps, smaller_maps(student, teacher))
    return attention_distance(student, teacher, reduction)


def units(seed, shape=(3, 2, 5)):
    x = np.random.default_rng(seed).uniform(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("float32")


def test_reductions():
    a, b = units(0), units(1)
    square = ((a - b).astype("float64") ** 2).sum(-1)  # [3, 2]
    for reduction, expected in (
        ("sum", square),
        ("mean", square / 5),
        ("paper", np.sqrt(square) / 2),
    ):
        np.testing.assert_allclose(
            numpy(attention_distance(a, b, reduction)),
            expected.mean(-1),
            rtol=1e-4,
        )


def test_sum_is_two_less_twice_the_cosine():
    a, b = units(0), units(1)
    cosine = (a * b).sum(-1).mean(-1)
    np.testing.assert_allclose(
        numpy(attention_distance(a, b, "sum")), 2 - 2 * cosine, atol=1e-6
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "paper"])
def test_equal_maps_give_zero_and_a_finite_gradient(reduction):
    a = units(0)
    np.testing.assert_array_equal(numpy(attention_distance(a, a, reduction)), 0)
    found = gradient(lambda x: attention_distance(x, a, reduction), a)
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_zero_maps_of_a_dead_student_give_finite_losses():
    zero, other = np.zeros((2, 1, 3, 3), "float32"), np.ones((2, 1, 3, 3))
    np.testing.assert_array_equal(numpy(maps_distance(zero, zero)), 0)
    other = other.astype("float32")
    np.testing.assert_allclose(
        numpy(maps_distance(zero, other, "sum")), 1, rtol=1e-6
    )
    assert np.isfinite(
        gradient(lambda x: maps_distance(x, other, "paper"), zero)
    ).all()


def test_the_larger_map_is_resized_on_each_axis():
    random = np.random.default_rng(0)
    student = random.uniform(size=(2, 1, 6, 2)).astype("float32")
    teacher = random.uniform(size=(2, 1, 3, 4)).astype("float32")
    small = [
        student.reshape(2, 1, 3, 2, 2).mean(3),
        teacher.reshape(2, 1, 3, 2, 2).mean(4),
    ]
    np.testing.assert_allclose(
        numpy(maps_distance(student, teacher)),
        numpy(maps_distance(*small)),
        rtol=1e-4,
    )


def test_distillation_is_t_squared_times_the_divergence():
    random = np.random.default_rng(0)
    student, teacher = random.normal(size=(2, 3, 5)) * 3

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(-1, keepdims=True)

    p, q = softmax(teacher / 4), softmax(student / 4)
    expected = 16 * (p * np.log(p / q)).sum(-1)
    found = distillation_distance(
        student.astype("float32"), teacher.astype("float32"), 4.0
    )
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4)
    # As T grows, it approaches half the mean square of centered logits.
    far = distillation_distance(student, teacher, 300.0)
    difference = student - teacher
    difference -= difference.mean(-1, keepdims=True)
    np.testing.assert_allclose(
        numpy(far), (difference**2).mean(-1) / 2, rtol=3e-2
    )


def test_logarithms_of_probabilities_do_for_logits():
    z, other = np.random.default_rng(0).normal(size=(2, 3, 5))
    log = z - np.log(np.exp(z).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        numpy(distillation_distance(log, other)),
        numpy(distillation_distance(z, other)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_gradient_distance():
    a, b = np.zeros((2, 2, 2, 1)), np.zeros((2, 2, 2, 1))
    a[0, 0, :, 0] = 3, 4
    np.testing.assert_allclose(
        numpy(gradient_distance(a, b)), [2.5, 0], rtol=1e-5
    )


def test_weights_and_masks():
    values = np.arange(6, dtype="float32").reshape(2, 3)
    assert float(weighted_mean(values)) == 2.5
    weights = np.array([2.0, 0.0], "float32")
    assert float(weighted_mean(values, weights)) == 1.0
    assert float(weighted_mean(values[:, 0], weights[:, None])) == 0.0
    mask = np.array([[True, True, False], [True, False, False]])
    np.testing.assert_allclose(
        float(weighted_mean(values, None, mask)), 4 / 3, rtol=1e-6
    )
    np.testing.assert_allclose(
        float(weighted_mean(values, weights, mask)), 2 / 3, rtol=1e-6
    )
