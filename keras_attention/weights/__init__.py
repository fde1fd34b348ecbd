"""Published weights, read into this package's layers and networks."""

from keras_attention.weights.load_weights_from import (
    load_weights_from as load_weights_from,
)
