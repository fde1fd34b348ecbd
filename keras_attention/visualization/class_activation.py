"""Class activation maps: which positions speak for a class."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.inspection import channel_axis
from keras_attention.inspection import find_layer
from keras_attention.inspection import split_name
from keras_attention.inspection.graph import flatten_graph
from keras_attention.inspection.graph import is_graph
from keras_attention.inspection.model_outputs import output_shapes
from keras_attention.inspection.structure import ancestors
from keras_attention.ops.gradients import value_and_input_gradient
from keras_attention.ops.precision import HALF
from keras_attention.ops.precision import widen
from keras_attention.visualization import readings
from keras_attention.visualization.attention_maps import check_images
from keras_attention.visualization.class_scores import ScoreActivation
from keras_attention.visualization.class_scores import check_scores
from keras_attention.visualization.class_scores import choose_output
from keras_attention.visualization.class_scores import class_probabilities
from keras_attention.visualization.class_scores import find_score_activation
from keras_attention.visualization.class_scores import output_number
from keras_attention.visualization.class_scores import replaced
from keras_attention.visualization.readings import to_numpy

# Two threads may not bypass the activation of one model at a time.
LOCK = threading.RLock()


@dataclass(frozen=True)
class ClassActivation:
    """Class activation maps, and what the model predicts.

    Attributes:
        maps: `(count, height, width)`, at least 0; the scale is the paper's.
        classes: `(count,)`, the class of each map.
        probabilities: `(count, number of classes)`; outputs of a model
            without softmax or sigmoid are taken as logits.
        layer: Path of the layer whose output is weighted.
    """

    maps: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    layer: str


def class_activation(
    model: keras.Model,
    images: Any,
    classes: int | Sequence[int] | None = None,
    layer: str | None = None,
    output: str | int | None = None,
) -> ClassActivation:
    """Compute the class activation maps of a classifier by Grad-CAM.

    The map of class c is a sum of the channels A^k of a layer's output, each
    weighted by the mean over the positions of the gradient of the score y^c,
    and cut off below zero:

        map = ReLU(sum_k alpha_k A^k),  alpha_k = mean_ij dy^c / dA^k_ij

    y^c is the score before the softmax or sigmoid, which is bypassed while
    the model runs; the model does not change. Any other last activation is
    part of the score. With one output, class 1 has the score y and class 0
    the score -y. The model runs in inference mode three times, with all
    images.

    In a network that ends in global average pooling and a dense layer this is
    the class activation map of Zhou et al., divided by the number of
    positions and cut off below zero.

    Args:
        model: A built classifier; functional, Sequential or subclassed.
        images: Array `(count, height, width, channels)`, as the model takes
            it; `(count, channels, height, width)` for models of that format.
        classes: The class of the maps, or one for each image. Defaults to
            `None`, the class that the model predicts.
        layer: Path of a layer whose output is an image, such as a stage of
            `keras_attention.inspection.stages`. Defaults to `None`, the end
            of the last stage that has more than one position: the last
            feature map before pooling.
        output: Name or number of the output that has the class scores.
            Defaults to `None`, the only one.

    Returns:
        A `ClassActivation`.

    Raises:
        ValueError: If the model has no image inside, the layer does not
            exist, gives no image or has no effect on the score, the output is
            not `(batch, classes)`, a class does not exist, or the model
            returns probabilities of a softmax that is in no layer.

    Reference:
        Selvaraju et al., Grad-CAM, ICCV 2017, arXiv:1610.02391, section 3,
        equations 1 and 2. Zhou et al., Learning Deep Features for
        Discriminative Localization, CVPR 2016, arXiv:1512.04150.

    Example:

    >>> from keras_attention.visualization import class_activation
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(5, activation="softmax"),
    ... ])
    >>> found = class_activation(model, np.random.normal(size=(2, 8, 8, 3)))
    >>> found.layer, found.maps.shape, found.probabilities.shape
    ('conv', (2, 6, 6), (2, 5))
    """
    images, _ = check_images(images, None)
    readings.check_built(model)
    if layer is None:
        layer = last_map(model, output)
    if layer is None:
        raise ValueError(
            f"Model '{model.name}' has no stage of images before its output: "
            "class activation is defined for a feature map (batch, height, "
            "width, channels) of more than one position. Received: "
            "layer=None. If a layer has one, name it: `layer=...`."
        )
    if split_name(layer)[1] != "output":
        raise ValueError(
            "`layer` must be the path of a layer, whose output is weighted. "
            f"Received: layer={layer!r}"
        )
    with LOCK:
        activation, outputs, value = find_score_activation(
            model, images, output, layer
        )
        check_scores(model, activation, outputs)
        probabilities = class_probabilities(activation, outputs)
        chosen = _check_classes(classes, probabilities)
        maps = weighted_maps(
            model, images, layer, value, chosen, activation, output
        )
    return ClassActivation(maps, chosen, probabilities, layer)


def weighted_maps(
    model: keras.Model,
    images: np.ndarray,
    layer: str,
    value: Any,
    classes: np.ndarray,
    activation: ScoreActivation | None,
    output: str | int | None = None,
) -> np.ndarray:
    """Return the maps `(count, height, width)` of `class_activation`.

    Args:
        model: The model.
        images: Its inputs.
        layer: Path of the layer.
        value: The layer's output.
        classes: The class of each image.
        activation: What `find_score_activation` found.
        output: Name or number of the output with the scores.
    """
    axis = channel_axis(model, layer)
    _check_map(layer, value, axis)
    with ExitStack() as stack:
        if activation is not None:
            stack.enter_context(activation.bypassed())
        scores = _Scores(model, images, layer, output, classes)
        gradient = scores.gradient(value)
    gradient, value = (
        np.moveaxis(array, axis, -1) for array in (gradient, to_numpy(value))
    )
    weights = gradient.mean((1, 2))  # [B, C]
    maps = np.einsum("bhwc,bc->bhw", value, weights)
    return np.maximum(maps, 0).astype("float32")


@dataclass
class _Scores:
    """The sum of the class scores as a function of a layer's output.

    Attributes:
        model: The model, without its last activation.
        images: Its inputs.
        layer: Path of the layer.
        output: Name or number of the output with the scores.
        classes: The class of each image.
    """

    model: keras.Model
    images: np.ndarray
    layer: str
    output: Any
    classes: np.ndarray

    def gradient(self, value: Any) -> np.ndarray:
        """Return the gradient of each image's score at the layer's output.

        Raises:
            ValueError: If it is not finite, or the layer has no effect on the
                scores.
        """
        # In half precision the gradient of a mean over many positions would
        # be rounded to 0: that of the sum is taken.
        is_half = keras.backend.standardize_dtype(value.dtype) in HALF
        scale = float(np.prod(value.shape[1:])) if is_half else 1.0
        zeros = ops.zeros_like(value)

        def total(shift):
            scores = ops.sum(self.at(shift)) * scale
            # Connected to the layer where it has no effect.
            return scores + 0.0 * ops.cast(ops.sum(shift), scores.dtype), None

        gradient, _ = value_and_input_gradient(total, zeros)
        found = to_numpy(gradient).astype("float64") / scale
        if not np.isfinite(found).all():
            raise ValueError(
                "The gradient of the class scores must be finite. Received: "
                f"NaN or infinity at layer '{self.layer}' of model "
                f"'{self.model.name}'. Check the images and the weights; in "
                "half precision, use a model of the same weights in float32."
            )
        if not found.any() and np.array_equal(
            to_numpy(self.at(zeros)), to_numpy(self.at(zeros + 1))
        ):
            raise ValueError(
                "The class scores must depend on the layer. Received: "
                f"layer='{self.layer}' of model '{self.model.name}', which has "
                "no effect on them."
            )
        return found

    def at(self, shift: Any) -> Any:
        """Return the scores `(count,)` where `shift` is added to the output."""
        layer = find_layer(self.model, self.layer)
        original = layer.call

        def call(*args, **kwargs):
            return original(*args, **kwargs) + shift

        with replaced(layer, "call", call):
            outputs = self.model(self.images, training=False)
        scores = widen(choose_output(self.model, outputs, self.output))
        if scores.shape[1] == 1:
            signs = np.where(self.classes, 1, -1)
            return scores[:, 0] * ops.cast(signs, scores.dtype)
        chosen = np.arange(scores.shape[1]) == self.classes[:, None]
        return ops.sum(ops.where(chosen, scores, 0), 1)


def last_map(model: keras.Model, output: str | int | None = None) -> str | None:
    """Return the last stage of more than one position that leads to an output.

    Returns:
        Its path, or `None` if there is none.
    """
    names = readings.stage_names(model)
    if is_graph(model):
        graph = flatten_graph(model)
        number = output_number(model, list(output_shapes(model)), output)
        before = {step.path for step in ancestors(graph.outputs[number])}
        names = [name for name in names if name in before]
    return names[-1] if names else None


def _check_map(layer, value, axis):
    shape = tuple(getattr(value, "shape", ()))
    sizes = shape[2:] if axis == 1 else shape[1:-1]
    if len(shape) != 4 or max(sizes) == 1:
        raise ValueError(
            "`layer` must be a layer whose output is an image, (batch, "
            "height, width, channels), of more than one position. Received: "
            f"layer='{layer}' with "
            + (f"an output of shape {shape}" if shape else "another output")
        )


def _check_classes(classes, probabilities):
    """The class of each image: the most likely ones if none are given."""
    count, units = probabilities.shape
    if classes is None:
        return probabilities.argmax(1)
    found = np.asarray(classes)
    if not np.issubdtype(found.dtype, np.integer) or found.shape not in (
        (),
        (count,),
    ):
        raise ValueError(
            f"`classes` must be an integer, or one for each of {count} "
            f"images. Received: classes={classes!r}"
        )
    if found.min() < 0 or found.max() >= units:
        raise ValueError(
            f"`classes` must be from 0 to {units - 1}. Received: "
            f"classes={classes!r}"
        )
    return np.broadcast_to(found, (count,)).copy()
