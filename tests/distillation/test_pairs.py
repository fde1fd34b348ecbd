import keras
import pytest

from keras_attention.distillation import Pair
from keras_attention.distillation.pairs import choose_pairs
from keras_attention.models import WideResNet
from support.distillation import network
from support.distillation import teacher_network


def names(pairs):
    return [(pair.student, pair.teacher) for pair in pairs]


def wide(depth, width=1):
    return WideResNet(depth, width, input_shape=(8, 8, 1))


def test_other_depths_are_paired_at_the_ends_of_groups():
    pairs = choose_pairs(wide(10), wide(16))
    assert names(pairs) == [(f"stage{n}", f"stage{n}") for n in (1, 2, 3)]
    assert [pair.student_size for pair in pairs] == [(8, 8), (4, 4), (2, 2)]


def test_equal_depths_are_paired_after_every_block():
    student, teacher = wide(16), wide(16, 2)
    expected = [
        (f"stage{stage}_block{block}_add",) * 2
        for stage in (1, 2, 3)
        for block in (1, 2)
    ]
    assert names(choose_pairs(student, teacher)) == expected
    assert names(choose_pairs(student, teacher, "blocks")) == expected
    groups = choose_pairs(student, teacher, "groups")
    assert names(groups) == [(f"stage{n}", f"stage{n}") for n in (1, 2, 3)]


def test_residual_networks_of_others():
    def residual(name, width, blocks):
        inputs = keras.Input((16, 16, 3))
        x = keras.layers.Conv2D(width, 3, padding="same")(inputs)
        for stage in range(2):
            x = keras.layers.MaxPooling2D()(x)
            for block in range(blocks):
                y = keras.layers.Conv2D(width, 3, padding="same")(x)
                x = keras.layers.Add(name=f"{name}{stage}{block}")([x, y])
                # No residual addition, as in the hard swish of MobileNetV3.
                shift = keras.layers.Rescaling(1.0, 3.0)
                shift.name = f"{name}{stage}{block}_shift"
                x = shift(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(3)(x))

    # The first size has no block and is no group.
    pairs = choose_pairs(residual("s", 2, 1), residual("t", 3, 2))
    assert names(pairs) == [
        ("s00_shift", "t01_shift"),
        ("s10_shift", "t11_shift"),
    ]
    assert pairs[0].teacher_size == (8, 8)


def test_networks_without_blocks_are_paired_before_each_pooling():
    pairs = choose_pairs(network(), teacher_network())
    assert names(pairs) == [("stage1", "stage1"), ("stage2", "stage2")]

    def plain(units):
        layers = [keras.Input((8, 8, 1))]
        for n in range(2):
            layers += [
                keras.layers.Conv2D(units, 3, padding="same", name=f"a{n}"),
                keras.layers.Conv2D(units, 3, padding="same", name=f"b{n}"),
                keras.layers.MaxPooling2D(name=f"pool{n}"),
            ]
        layers += [keras.layers.Flatten(), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    pairs = choose_pairs(plain(2), plain(3))
    assert names(pairs) == [("b0", "b0"), ("b1", "b1")]


def test_layers_of_nested_models_are_found():
    inputs = keras.Input((8, 8, 1))
    backbone = WideResNet(10, 1, input_shape=(8, 8, 1), classes=None)
    backbone.name = "backbone"
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    student = keras.Model(inputs, keras.layers.Dense(3)(x))
    pairs = choose_pairs(student, wide(16))
    assert names(pairs) == [
        (f"backbone/stage{n}", f"stage{n}") for n in (1, 2, 3)
    ]
    listed = choose_pairs(student, wide(16), [("backbone/stage2", "stage3")])
    assert listed[0].student_size == (4, 4)
    assert listed[0].teacher_size == (2, 2)


def test_inputs_of_open_size():
    open_size = WideResNet(10, 1, input_shape=(None, None, 1))
    sizes = [(8, 8), (4, 4), (2, 2)]
    for pairs in (
        choose_pairs(open_size, wide(16)),
        choose_pairs(wide(16), open_size),
    ):
        assert [pair.student_size for pair in pairs] == sizes
        assert [pair.teacher_size for pair in pairs] == sizes
    both = choose_pairs(open_size, keras.models.clone_model(open_size))
    assert both[0].student_size == (128, 128)


@pytest.mark.slow
def test_keras_applications():
    def network(alpha):
        return keras.applications.MobileNetV2(
            (32, 32, 3), alpha=alpha, weights=None, classes=5
        )

    pairs = choose_pairs(network(0.35), network(0.5), "groups")
    assert names(pairs) == [
        (name, name)
        for name in (
            "expanded_conv_project_BN",
            "block_2_add",
            "block_5_add",
            "block_12_add",
        )
    ]


@pytest.mark.tensorflow
def test_keras_cv_backbones():
    import keras_cv

    def backbone(filters, blocks):
        return keras_cv.models.ResNetBackbone(
            stackwise_filters=filters,
            stackwise_blocks=blocks,
            stackwise_strides=[1, 2],
            input_shape=(32, 32, 3),
            block_type="basic_block",
            include_rescaling=False,
        )

    pairs = choose_pairs(backbone([64, 6], [1, 1]), backbone([64, 8], [2, 2]))
    assert [pair.student_size for pair in pairs] == [(8, 8), (4, 4)]
    assert all("out" in pair.teacher for pair in pairs)


def test_table():
    pairs = choose_pairs(
        network(), teacher_network(), ["stage1", ("stage2", "stage1")], [1, 0.5]
    )
    assert str(pairs).splitlines() == [
        "student  map  teacher  map  weight",
        "stage1   8×8  stage1   8×8  1",
        "stage2   4×4  stage1   8×8  0.5",
    ]
    again = choose_pairs(network(), teacher_network(), pairs)
    assert again == pairs and hash(again) == hash(pairs)
    assert again[1] == Pair("stage2", "stage1", 0.5, (4, 4), (8, 8), 5, 6)


def test_models_are_left_as_they_were():
    student = network(dropout=0.5)
    before = student.get_weights()
    choose_pairs(student, teacher_network())
    for a, b in zip(before, student.get_weights(), strict=True):
        assert (a == b).all()


def failing(pairs, student=None, teacher=None, weights=None):
    return choose_pairs(
        student or network(), teacher or teacher_network(), pairs, weights
    )


def test_unknown_names_and_nearest():
    with pytest.raises(ValueError, match="'stage3'.*Did you mean 'stage"):
        failing(["stage3"])
    with pytest.raises(ValueError, match="model 'teacher'.*'stge2'.*stage2"):
        failing([("stage1", "stge2")])
    with pytest.raises(ValueError, match="'group'. Did you mean 'groups'"):
        failing("group")


@pytest.mark.parametrize("pairs", [3, {"stage1": "stage1"}, 0.5])
def test_pairs_of_wrong_type(pairs):
    with pytest.raises(TypeError, match="Received: pairs="):
        failing(pairs)


@pytest.mark.parametrize("entry", [3, ("stage1",), ("stage1", 2), None])
def test_entries_of_wrong_type(entry):
    with pytest.raises(TypeError, match=r"\(student, teacher\)"):
        failing([entry])


def test_no_pair_is_possible():
    with pytest.raises(ValueError, match="at least one entry"):
        failing([])
    with pytest.raises(ValueError, match="must be a list"):
        choose_pairs(network(), None)
    inputs = keras.Input((8, 8, 2))
    flat = keras.Model(
        inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    )
    with pytest.raises(ValueError, match="share no resolution.*8×8"):
        failing(None, teacher=flat)
    with pytest.raises(ValueError, match="0 residual additions"):
        failing("blocks")
    with pytest.raises(ValueError, match="4 with|3 residual.*with 6"):
        failing("blocks", wide(10), wide(16))
    with pytest.raises(ValueError, match="attention scores.*0 in the student"):
        failing("scores")


def test_layers_without_positions_or_of_other_rank():
    with pytest.raises(ValueError, match="'pool'.*before the pooling"):
        failing(["pool"])
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Reshape((4, 4, 4, 2), name="volume")(inputs)
    volume = keras.Model(inputs, keras.layers.Dense(3)(x))
    with pytest.raises(ValueError, match="kind and rank.*4×4×4"):
        failing([("stage1", "volume")], teacher=volume)


def test_tokens_that_are_no_grid_of_the_image():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Reshape((32, 4), name="tokens")(inputs)
    line = keras.Model(inputs, keras.layers.Dense(3)(x))
    # 25 of them would be a square, with 7 other tokens before it.
    assert choose_pairs(network(), line, [("stage1", "tokens")])
    x = keras.layers.Reshape((128, 1), name="tokens")(inputs)
    line = keras.Model(inputs, keras.layers.Dense(3)(x))
    # 121 of them are, with 7; with 100 of 128, 28 would be left.
    assert choose_pairs(network(), line, [("stage1", "tokens")])
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Reshape((47, 1), name="tokens")(keras.layers.Dense(47)(x))
    line = keras.Model(inputs, keras.layers.Dense(3)(x))
    with pytest.raises(ValueError, match="47 tokens and a map of 8 x 8"):
        failing([("stage1", "tokens")], teacher=line)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], 4, "ab"])
def test_one_weight_for_each_pair(weights):
    with pytest.raises(ValueError, match="each of the 2 pairs"):
        failing(["stage1", "stage2"], weights=weights)


def test_weights_of_wrong_range():
    with pytest.raises(ValueError, match="pair_weights=-1"):
        failing(["stage1"], weights=[-1])


def test_unbuilt_models():
    model = keras.Sequential([keras.layers.Conv2D(3, 3, name="stage1")])
    with pytest.raises(ValueError, match="model must be built"):
        failing(["stage1"], student=model)
