"""Intermediate outputs are found on shapes alone."""

import keras
import pytest

from keras_attention.inspection import call_on_shapes
from keras_attention.inspection import layer_outputs


def test_errors_are_as_they_were_raised():
    """Keras puts words on a layer of ours around them."""
    shared = keras.layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(shared(inputs)))
    with pytest.raises(ValueError) as caught:
        layer_outputs(model, ["shared"])
    assert str(caught.value).startswith("An intermediate output has one value")

    def wrong(x):
        raise TypeError("what the model says")

    with pytest.raises(TypeError) as caught:
        call_on_shapes(wrong, inputs)
    assert str(caught.value) == "what the model says"
