"""What LiteRT's int8 converter makes of an export; docs/how_to/serve.md."""

import keras
import numpy as np
import pytest

from keras_attention.layers import EfficientChannelAttention
from keras_attention.serving import export_for_serving

interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="needs keras-attention-layers[litert]"
)
tf = pytest.importorskip(
    "tensorflow", reason="needs keras-attention-layers[tensorflow]"
)
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="exports need the TensorFlow backend",
)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_filters_of_their_own_keep_the_range_of_the_image(tmp_path, padding):
    """The gate's scale is not the image's, which would be clipped at it."""
    inputs = keras.Input((8, 8, 32), batch_size=1, name="image")
    layer = EfficientChannelAttention(shared=False, padding=padding)
    model = keras.Model(inputs, layer(inputs))
    path = export_for_serving(model, tmp_path, verify=False)
    generator = np.random.default_rng(0)
    images = np.abs(generator.normal(size=(20, 1, 8, 8, 32))).astype("float32")
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x] for x in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    runner = interpreter.Interpreter(model_content=converter.convert())
    answer = runner.get_signature_runner()(image=images[0])
    expected = keras.ops.convert_to_numpy(model(images[0]))
    error = next(iter(answer.values())) - expected
    # Stacked slices gave 0.58.
    assert np.sqrt((error**2).mean() / (expected**2).mean()) < 0.03
