"""Small models that the tests of surgery share."""

import keras
import numpy as np

import keras_attention as ka


def image(shape=(2, 16, 16, 3), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def gate():
    return ka.SqueezeExcite(ratio=2)


def randomize(model, seed=1):
    """Draw all weights anew, moving statistics too."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype.startswith("float"):
            value = generator.uniform(-0.4, 0.6, weight.shape)
            if "variance" in weight.path:
                value = 0.5 + np.abs(value)
            weight.assign(value.astype("float32"))
    return model


def block(x, filters, name, strides=1, drop=None, batch_norm=True):
    """A residual block: conv, norm, relu, conv, norm, addition, relu."""
    layers = keras.layers
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides, name=f"{name}_short")(x)
    x = layers.Conv2D(filters, 3, strides, "same", name=f"{name}_conv1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv2")(x)
    if batch_norm:
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
    if drop is not None:
        x = drop(x)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)


def small_resnet(size=16, classes=3):
    """Two residual blocks, the second at half the resolution."""
    inputs = keras.Input((size, size, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    x = block(x, 4, "a")
    x = block(x, 8, "b", strides=2)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(classes, name="head")(x)
    return randomize(keras.Model(inputs, x, name="small_resnet"))


def names(model, kind):
    sites = ka.attention_sites(model)
    return [site.name for site in sites if site.kind == kind]
