"""Models as files that other programs load and answer from."""

from keras_attention.serving.saved_model import (
    export_for_serving as export_for_serving,
)
