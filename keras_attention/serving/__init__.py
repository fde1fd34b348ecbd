"""Exports for TensorFlow Serving, what checks them, and its client."""

from keras_attention.image_files import read_image_bytes as read_image_bytes
from keras_attention.serving.attention_signature import (
    AttentionSignature as AttentionSignature,
)
from keras_attention.serving.client import ServingClient as ServingClient
from keras_attention.serving.image_bytes_signature import (
    ImageBytesSignature as ImageBytesSignature,
)
from keras_attention.serving.saved_model import (
    export_for_serving as export_for_serving,
)
from keras_attention.serving.serving_error import ServingError as ServingError
from keras_attention.serving.signatures import TextSignature as TextSignature
from keras_attention.serving.verify import read_signatures as read_signatures
from keras_attention.serving.verify import run_export as run_export
from keras_attention.serving.verify import verify_export as verify_export
