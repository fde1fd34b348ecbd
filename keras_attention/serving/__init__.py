"""Exports for TensorFlow Serving, and what checks them."""

from keras_attention.serving.saved_model import (
    export_for_serving as export_for_serving,
)
from keras_attention.serving.signatures import (
    AttentionSignature as AttentionSignature,
)
from keras_attention.serving.signatures import (
    ImageBytesSignature as ImageBytesSignature,
)
from keras_attention.serving.signatures import TextSignature as TextSignature
from keras_attention.serving.verify import read_signatures as read_signatures
from keras_attention.serving.verify import run_export as run_export
from keras_attention.serving.verify import verify_export as verify_export
