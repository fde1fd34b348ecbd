"""Residual networks for ImageNet, with attention in their blocks."""

import keras

from keras_attention.models.builder import Builder
from keras_attention.models.placement import Placed
from keras_attention.models.placement import Placement
from keras_attention.types import DTypeLike
from keras_attention.types import RegularizerLike
from keras_attention.validation import check_choice
from keras_attention.validation import check_positive_integer

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_DEPTHS = (50, 101, 152)


def ResNet(
    depth: int,
    attention: Placed = None,
    attention_at: str | None = None,
    input_shape: tuple = (224, 224, 3),
    classes: int | None = 1000,
    stem: str = "imagenet",
    downsample_in: str = "1x1",
    last_stage_strides: int | None = None,
    pooling: str = "average",
    softmax: bool = True,
    kernel_regularizer: RegularizerLike = None,
    data_format: str | None = None,
    dtype: DTypeLike = None,
    name: str | None = None,
) -> keras.Model:
    """Residual network of 18, 34, 50, 101 or 152 layers.

    Attention is placed as in its paper, after the last batch
    normalization of a block and before the addition:

        SE, CBAM, ECA, Gather-Excite    in every block
        GSoP                            in the last block of each stage, and
                                        the last stage keeps its resolution
        BAM                             after each stage but the last

    GSoP-Net1, with the strides of its first stage, is `ResNet(50, [first,
    ChannelGSoP, ChannelGSoP, ChannelGSoP])` with `first` a
    `functools.partial(ChannelGSoP, strides=2)`; GSoP-Net2 has
    `pooling="covariance"` in addition.

    The ends of the stages are the layers `"stage1"` to `"stage4"`, after the
    last block's ReLU and any attention; the end of a block is
    `"stage1_block1_relu"` and so on.

    Trainable parameters for 1000 classes: 11,689,512 (18), 21,797,672 (34),
    25,557,032 (50), 44,549,160 (101), 60,192,808 (152).

    Args:
        depth: 18 or 34, of blocks of two 3x3 convolutions; 50, 101 or 152,
            of bottlenecks.
        attention: `None`; a name, a layer class or a function that returns a
            new layer; or a list of four of these, or `None`, one for each
            stage.
        attention_at: `"block"`: before the addition of every block;
            `"last_block"`: of the last block of each stage; `"stage"`: after
            each stage but the last, unless a list names that too. `None` is
            the usual place of the layer.
        input_shape: `(height, width, channels)`, for both data formats.
            Height and width may be `None`.
        classes: number of classes; `None` leaves out the pooling and the
            classifier.
        stem: `"imagenet"`, a 7x7 convolution and a max pooling at stride 2
            each; `"small"`, a 3x3 convolution at stride 1, for images of the
            size of CIFAR's.
        downsample_in: the convolution of a bottleneck that has the stride.
            `"1x1"`, the first one, is the paper's and gives the multiply-adds
            of the papers; `"3x3"` is that of later code, which computes more.
        last_stage_strides: 1 or 2. `None` is 1 if attention is in the last
            blocks, as in GSoP-Net, and 2 otherwise.
        pooling: what comes before the classifier: `"average"`, over
            positions, or `"covariance"`, GSoP-Net2's `CovariancePooling` of
            256 channels and 3 iterations. Not used without `classes`.
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
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016,
        arXiv:1512.03385, with the projection shortcuts of its option B.

    Example:

    >>> model = keras_attention.models.ResNet(
    ...     18, "squeeze_excite", input_shape=(32, 32, 3), classes=10,
    ...     stem="small",
    ... )
    >>> model.get_layer("stage4_block2_attention")
    <SqueezeExcite name=stage4_block2_attention, built=True>
    """
    check_choice("depth", depth, BLOCKS)
    check_choice("stem", stem, ("imagenet", "small"))
    check_choice("downsample_in", downsample_in, ("1x1", "3x3"))
    check_choice("pooling", pooling, ("average", "covariance"))
    placement = Placement(attention, attention_at, stages=4)
    if last_stage_strides is None:
        last_stage_strides = 1 if placement.at == "last_block" else 2
    if check_positive_integer("last_stage_strides", last_stage_strides) > 2:
        raise ValueError(
            "`last_stage_strides` must be 1 or 2. "
            f"Received: last_stage_strides={last_stage_strides}"
        )
    build = Builder(placement, data_format, dtype, kernel_regularizer)
    image = build.input(input_shape)
    x = _stem(build, image, stem)
    for stage, blocks in enumerate(BLOCKS[depth], 1):
        strides = {1: 1, 4: last_stage_strides}.get(stage, 2)
        convolutions = _convolutions(depth, 32 * 2**stage, downsample_in)
        for block in range(1, blocks + 1):
            block_name = f"stage{stage}_block{block}"
            y = _residual(build, x, convolutions, strides, block_name)
            y = build.end_block(y, stage, block == blocks, block_name)
            x = _shortcut(build, x, y, strides, block_name)
            x = build.add(x, y, f"{block_name}_add")
            x = build.relu(x, f"{block_name}_relu")
            strides = 1
        x = build.end_stage(x, stage)
    if classes is not None:
        x = build.classify(x, classes, softmax, pooling)
    return keras.Model(image, x, name=name or f"resnet_{depth}")


def _stem(build, x, stem):
    size, strides = (7, 2) if stem == "imagenet" else (3, 1)
    x = build.conv(x, 64, size, strides, "stem_conv")
    x = build.relu(build.norm(x, "stem_norm"), "stem_relu")
    if stem == "imagenet":
        x = build.max_pool(x, 3, 2, "stem_pool")
    return x


def _convolutions(depth, filters, downsample_in):
    """Of a block's residual: `(filters, kernel size, has the stride)`."""
    if depth not in BOTTLENECK_DEPTHS:
        return (filters, 3, True), (filters, 3, False)
    early = downsample_in == "1x1"
    return (
        (filters, 1, early),
        (filters, 3, not early),
        (4 * filters, 1, False),
    )


def _residual(build, x, convolutions, strides, name):
    """Convolutions with normalization, and a ReLU between each two."""
    for number, (filters, size, strided) in enumerate(convolutions, 1):
        if number > 1:
            x = build.relu(x, f"{name}_relu{number - 1}")
        x = build.conv(
            x, filters, size, strides if strided else 1, f"{name}_conv{number}"
        )
        x = build.norm(x, f"{name}_norm{number}")
    return x


def _shortcut(build, x, residual, strides, name):
    """The block's input, projected if it has not the residual's shape."""
    filters = build.channels(residual)
    if strides == 1 and build.channels(x) == filters:
        return x
    x = build.conv(x, filters, 1, strides, f"{name}_shortcut")
    return build.norm(x, f"{name}_shortcut_norm")
