"""Grad-CAM compared with torch's own gradients, by hooks on the layer."""

import keras
import numpy as np
import pytest

from keras_attention.visualization import class_activation
from support.arrays import numpy

torch = pytest.importorskip("torch", reason="needs the extra 'test-torch'")
nn = torch.nn


def grad_cam(network, layer, images, classes):
    """Grad-CAM as it is usually written for torch, score by score."""
    kept = {}
    layer.register_forward_hook(
        lambda module, inputs, output: kept.update(value=output)
    )
    maps = []
    for image, number in zip(images, classes, strict=True):
        score = network(image[None])[0, number]
        value = kept["value"]
        (gradient,) = torch.autograd.grad(score, value)
        weights = gradient.mean((2, 3), keepdim=True)
        maps.append((weights * value).sum(1)[0].relu())
    return torch.stack(maps).detach().numpy()


def test_a_deep_classifier():
    """After the map come a pool, a hidden layer and a normalization."""
    generator = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((19, 17, 3)),
            keras.layers.Conv2D(7, 3, activation="relu"),
            keras.layers.Conv2D(11, 5, activation="tanh", name="map"),
            keras.layers.MaxPooling2D(3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.LayerNormalization(epsilon=1e-5),
            keras.layers.Dense(13, activation="relu"),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )
    model.set_weights(
        [
            generator.normal(0, 0.3, weight.shape).astype("float32")
            for weight in model.get_weights()
        ]
    )
    early, late = nn.Conv2d(3, 7, 3), nn.Conv2d(7, 11, 5)
    norm, hidden, head = nn.LayerNorm(11), nn.Linear(11, 13), nn.Linear(13, 5)
    last = nn.Tanh()
    network = nn.Sequential(
        *(early, nn.ReLU(), late, last, nn.MaxPool2d(3)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm),
        *(hidden, nn.ReLU(), head),
    )
    theirs = [
        tensor
        for module in (early, late, norm, hidden, head)
        for tensor in (module.weight, module.bias)
    ]
    with torch.no_grad():
        for tensor, weight in zip(theirs, model.get_weights(), strict=True):
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[weight.ndim]
            tensor.copy_(torch.tensor(weight.transpose(order)))
    images = generator.normal(size=(3, 19, 17, 3)).astype("float32")
    rows = torch.tensor(images.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(
        numpy(model(images)),
        network(rows).softmax(1).detach().numpy(),
        rtol=1e-3,
        atol=1e-6,
    )
    for classes in (None, [4, 0, 3]):
        found = class_activation(model, images, classes)
        assert found.layer == "map"
        expected = grad_cam(network, last, rows, found.classes)
        assert (expected > 0).any() and (expected == 0).any()
        np.testing.assert_allclose(found.maps, expected, rtol=1e-3, atol=1e-6)
