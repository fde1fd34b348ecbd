"""Wide residual networks, those of attention transfer on CIFAR."""

import keras

from keras_attention.models.builder import Builder
from keras_attention.models.placement import Placed
from keras_attention.models.placement import Placement
from keras_attention.types import DTypeLike
from keras_attention.types import RegularizerLike
from keras_attention.validation import check_positive_integer


def WideResNet(
    depth: int,
    width: int,
    attention: Placed = None,
    attention_at: str | None = None,
    input_shape: tuple = (32, 32, 3),
    classes: int | None = 10,
    softmax: bool = True,
    kernel_regularizer: RegularizerLike = None,
    data_format: str | None = None,
    dtype: DTypeLike = None,
    name: str | None = None,
) -> keras.Model:
    """Wide residual network WRN-depth-width.

    A 3x3 convolution to 16 channels, then three groups of
    `(depth - 4) // 6` pre-activation blocks with 16, 32 and 64 times `width`
    channels, the second and third group at stride 2, then batch
    normalization, ReLU, global average pooling and the classifier.

    The ends of the groups, where attention transfer compares networks of
    different depth, are the layers `"stage1"`, `"stage2"` and `"stage3"`:
    the sums of the last block's addition, before any normalization. The end
    of each block is `"stage1_block1_add"` and so on; with a network of the
    same depth, attention transfer compares all of them.

    Args:
        depth: number of convolutions on the longest path, 6 n + 4: 10, 16,
            22, 28, 40.
        width: factor on the channels.
        attention: `None`; a name, a layer class or a function that returns a
            new layer, put into every block; or a list of three of these, one
            for each group.
        attention_at: `"block"`: before the addition of every block;
            `"last_block"`: of the last block of each group; `"stage"`: after
            each group but the last, unless a list names that too. `None` is
            the usual place of the layer.
        input_shape: `(height, width, channels)`, for both data formats.
            Height and width may be `None`.
        classes: number of classes; `None` leaves out the pooling and the
            classifier.
        softmax: whether the model returns probabilities; logits otherwise.
            The layer `"logits"` has the logits in both cases.
        kernel_regularizer: Regularizer of all convolutions and of the
            classifier. The recipe's weight decay of 5e-4 is
            `keras.regularizers.L2(2.5e-4)`.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        dtype: dtype or dtype policy of all layers.
        name: name of the model.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016,
        arXiv:1605.07146; without bias and with the shortcuts of the code of
        Paying More Attention to Attention, arXiv:1612.03928.

    Example:

    >>> model = keras_attention.models.WideResNet(10, 1, input_shape=(8, 8, 1))
    >>> model.name, tuple(model.get_layer("stage3").output.shape)
    ('wide_resnet_10_1', (None, 2, 2, 64))
    """
    check_positive_integer("depth", depth, minimum=10)
    check_positive_integer("width", width)
    if depth % 6 != 4:
        raise ValueError(
            "`depth` must be 6 n + 4 for a whole number n of blocks a group: "
            f"10, 16, 22, 28, 34, 40, ... Received: depth={depth}"
        )
    build = Builder(
        Placement(attention, attention_at, stages=3),
        data_format,
        dtype,
        kernel_regularizer,
    )
    image = build.input(input_shape)
    x = build.conv(image, 16, 3, name="stem_conv")
    blocks = (depth - 4) // 6
    for stage, filters in enumerate((16 * width, 32 * width, 64 * width), 1):
        for block in range(1, blocks + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            block_name = f"stage{stage}_block{block}"
            y, shortcut = _block(build, x, filters, strides, block_name)
            y = build.end_block(y, stage, block == blocks, block_name)
            x = build.add(shortcut, y, f"{block_name}_add")
        x = build.end_stage(x, stage)
    if classes is not None:
        x = build.relu(build.norm(x, "head_norm"), "head_relu")
        x = build.classify(x, classes, softmax)
    return keras.Model(image, x, name=name or f"wide_resnet_{depth}_{width}")


def _block(build, x, filters, strides, name):
    """Two 3x3 convolutions, each after normalization and ReLU; shortcut."""
    shortcut = x
    x = build.norm(x, f"{name}_norm1")
    x = build.relu(x, f"{name}_relu1")
    if strides != 1 or build.channels(shortcut) != filters:
        shortcut = build.conv(x, filters, 1, strides, f"{name}_shortcut")
    x = build.conv(x, filters, 3, strides, f"{name}_conv1")
    x = build.norm(x, f"{name}_norm2")
    x = build.relu(x, f"{name}_relu2")
    return build.conv(x, filters, 3, 1, f"{name}_conv2"), shortcut
