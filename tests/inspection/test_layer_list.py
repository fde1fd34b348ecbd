import keras
import numpy as np
from keras import layers

from inspection.test_stages import Subclassed
from inspection.test_stages import unet
from keras_attention.inspection import list_layers
from keras_attention.models import ResNet


def rows(model):
    return {row.path: row for row in list_layers(model)}


def test_shapes_parameters_and_stages():
    found = rows(ResNet(18, input_shape=(None, None, 3)))
    stem, block = found["stem_relu"], found["stage2_block1_conv1"]
    assert stem.stage is None and stem.shape == (None, None, None, 64)
    assert (block.type, block.stage, block.is_stage_end) == ("Conv2D", 2, False)
    assert block.parameters == 64 * 128 * 9
    assert found["stage2"].is_stage_end and found["stage2"].stage == 2
    assert list(found.values())[-1].stage is None


def test_decoder_has_stages_of_its_own():
    found = rows(unet())
    assert found["down0a"].stage == 1 and found["bottom"].stage == 3
    assert found["join0"].stage == 5 and found["up0b"].is_stage_end
    assert found["classes"].stage is None


def test_nested_layers_operations_and_several_outputs():
    class Two(layers.Layer):
        def call(self, x):
            return x, 2 * x

    inner = unet()
    inputs = keras.Input((24, 24, 3))
    one, two = Two(name="two")(inner(inputs))
    model = keras.Model(inputs, one + two)
    found = rows(model)
    assert found["unet/up1b"].stage == 4
    assert found["unet/up1b"].shape == (None, 12, 12, 5)
    assert found["two"].shape == ((None, 24, 24, 2),) * 2
    (addition,) = (row for row in found.values() if row.type == "Add")
    assert addition.parameters == 0 and addition.shape == (None, 24, 24, 2)


def test_model_without_a_graph():
    model = Subclassed()
    model(np.zeros((1, 16, 16, 3), "float32"))
    found = rows(model)
    assert found["first"].is_stage_end and found["first"].stage == 1
    assert found["relu"].is_stage_end and found["relu"].stage == 2
    assert found["add"].shape == (None, 4, 4, 3)
    assert found["scale"].stage is None and found["head"].stage is None
