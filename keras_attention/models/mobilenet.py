"""MobileNets, with attention on their blocks."""

import keras

from keras_attention.models.builder import Builder
from keras_attention.models.placement import Placed
from keras_attention.models.placement import Placement
from keras_attention.types import DTypeLike
from keras_attention.types import RegularizerLike
from keras_attention.validation import check_number

# Channels and strides of the blocks, by stage of one resolution.
V1_STAGES = (
    ((64, 1),),
    ((128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2),) + 5 * ((512, 1),),
    ((1024, 2), (1024, 1)),
)
# Expansion, channels, blocks and stride of the first block, by stage.
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def MobileNetV1(
    width: float = 1.0,
    attention: Placed = None,
    attention_at: str | None = None,
    input_shape: tuple = (224, 224, 3),
    classes: int | None = 1000,
    softmax: bool = True,
    kernel_regularizer: RegularizerLike = None,
    data_format: str | None = None,
    dtype: DTypeLike = None,
    name: str | None = None,
) -> keras.Model:
    """MobileNet of depthwise and pointwise convolutions.

    4,231,976 trainable parameters at width 1 with 1000 classes. Attention
    is placed after the ReLU of every depthwise and every pointwise convolution,
    which gives the 5.07M of the CBAM paper; the paper does not say on which
    side of the ReLU. The ends of the resolutions are the layers `"stage1"` to
    `"stage5"`.

    Args:
        width: factor on the channels; they are rounded down.
        attention: `None`; a name, a layer class or a function that returns a
            new layer; or a list of five of these, or `None`, one for each
            stage.
        attention_at: `"conv"` (of every layer by default): after every
            depthwise and pointwise convolution; `"depthwise"`: after the
            depthwise ones; `"block"`: after the pointwise ones; `"stage"`:
            after each stage but the last, unless a list names that too.
        input_shape: `(height, width, channels)`, for both data formats.
            Height and width may be `None`.
        classes: number of classes; `None` leaves out the pooling and the
            classifier.
        softmax: whether the model returns probabilities; logits otherwise.
            The layer `"logits"` has the logits in both cases.
        kernel_regularizer: Regularizer of all convolutions and of the
            classifier.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        dtype: dtype or dtype policy of all layers.
        name: name of the model.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Howard et al., MobileNets, 2017, arXiv:1704.04861.

    Example:

    >>> model = keras_attention.models.MobileNetV1(
    ...     0.25, "squeeze_excite", "block", input_shape=(64, 64, 3), classes=5
    ... )
    >>> tuple(model.get_layer("stage5").output.shape)
    (None, 2, 2, 256)
    """
    check_number("width", width, 0, exclusive_minimum=True)
    places = ("conv", "depthwise", "block", "stage")
    build = Builder(
        Placement(attention, attention_at, len(V1_STAGES), places),
        data_format,
        dtype,
        kernel_regularizer,
    )
    image = build.input(input_shape)
    x = build.conv(image, max(1, int(32 * width)), 3, 2, "stem_conv")
    x = build.relu(build.norm(x, "stem_norm"), "stem_relu")
    for stage, blocks in enumerate(V1_STAGES, 1):
        for block, (filters, strides) in enumerate(blocks, 1):
            block_name = f"stage{stage}_block{block}"
            x = _depthwise(build, x, strides, stage, block_name)
            x = build.conv(
                x, max(1, int(filters * width)), 1, name=f"{block_name}_conv"
            )
            x = build.norm(x, f"{block_name}_norm")
            x = build.relu(x, f"{block_name}_relu")
            x = build.attend(x, stage, ("block", "conv"), block_name)
        x = build.end_stage(x, stage)
    if classes is not None:
        x = build.classify(x, classes, softmax)
    return keras.Model(image, x, name=name or "mobilenet_v1")


def MobileNetV2(
    width: float = 1.0,
    attention: Placed = None,
    attention_at: str | None = None,
    input_shape: tuple = (224, 224, 3),
    classes: int | None = 1000,
    softmax: bool = True,
    kernel_regularizer: RegularizerLike = None,
    data_format: str | None = None,
    dtype: DTypeLike = None,
    name: str | None = None,
) -> keras.Model:
    """MobileNet of inverted residuals.

    3,504,872 trainable parameters at width 1 with 1000 classes. The stages
    are the seven rows of the paper's table; their ends are the layers
    `"stage1"` to `"stage7"`.

    Args:
        width: factor on the channels; they are rounded to multiples of 8.
        attention: `None`; a name, a layer class or a function that returns a
            new layer; or a list of seven of these, or `None`, one for each
            stage.
        attention_at: `"block"` (of every layer by default): on the projected
            output of every block, before the addition where there is one, as
            in the ECA paper; `"depthwise"`: after the depthwise
            convolutions, as in MobileNetV3; `"stage"`: after each stage but
            the last, unless a list names that too.
        input_shape: `(height, width, channels)`, for both data formats.
            Height and width may be `None`.
        classes: number of classes; `None` leaves out the pooling and the
            classifier, not the last convolution.
        softmax: whether the model returns probabilities; logits otherwise.
            The layer `"logits"` has the logits in both cases.
        kernel_regularizer: Regularizer of all convolutions and of the
            classifier.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        dtype: dtype or dtype policy of all layers.
        name: name of the model.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Sandler et al., MobileNetV2: Inverted Residuals and Linear
        Bottlenecks, CVPR 2018, arXiv:1801.04381.

    Example:

    >>> model = keras_attention.models.MobileNetV2(
    ...     0.5, input_shape=(64, 64, 3), classes=5
    ... )
    >>> tuple(model.get_layer("stage7").output.shape)
    (None, 2, 2, 160)
    """
    check_number("width", width, 0, exclusive_minimum=True)
    places = ("block", "depthwise", "stage")
    build = Builder(
        Placement(attention, attention_at, len(V2_STAGES), places),
        data_format,
        dtype,
        kernel_regularizer,
    )
    image = build.input(input_shape)
    x = build.conv(image, _round(32 * width), 3, 2, "stem_conv")
    x = build.relu(build.norm(x, "stem_norm"), "stem_relu", 6)
    for stage, (expansion, filters, blocks, strides) in enumerate(V2_STAGES, 1):
        filters = _round(filters * width)
        for block in range(1, blocks + 1):
            x = _inverted_residual(
                build,
                x,
                expansion,
                filters,
                strides if block == 1 else 1,
                stage,
                f"stage{stage}_block{block}",
            )
        x = build.end_stage(x, stage)
    x = build.conv(x, _round(1280 * max(1, width)), 1, name="head_conv")
    x = build.relu(build.norm(x, "head_norm"), "head_relu", 6)
    if classes is not None:
        x = build.classify(x, classes, softmax)
    return keras.Model(image, x, name=name or "mobilenet_v2")


def _inverted_residual(build, x, expansion, filters, strides, stage, name):
    shortcut = x
    inputs = build.channels(x)
    if expansion != 1:
        x = build.conv(x, expansion * inputs, 1, name=f"{name}_expand")
        x = build.norm(x, f"{name}_expand_norm")
        x = build.relu(x, f"{name}_expand_relu", 6)
    x = _depthwise(build, x, strides, stage, name, 6)
    x = build.conv(x, filters, 1, name=f"{name}_project")
    x = build.norm(x, f"{name}_project_norm")
    x = build.attend(x, stage, ("block",), name)
    if strides != 1 or inputs != filters:
        return x
    return build.add(shortcut, x, f"{name}_add")


def _depthwise(build, x, strides, stage, name, max_value=None):
    name = f"{name}_depthwise"
    x = build.depthwise(x, 3, strides, name)
    x = build.norm(x, f"{name}_norm")
    x = build.relu(x, f"{name}_relu", max_value)
    return build.attend(x, stage, ("depthwise", "conv"), name)


def _round(channels):
    """The nearest multiple of 8, at least 8 and 0.9 times `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
