"""Inception modules with a gate on their output, and a small network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_attention.layers.base_layer import FreezableLayer
from keras_attention.layers.registry import Attention
from keras_attention.layers.registry import make_attention
from keras_attention.layers.weighted_layer import clone_initializer
from keras_attention.models.builder import Builder
from keras_attention.models.placement import Placed
from keras_attention.models.placement import Placement
from keras_attention.types import DTypeLike
from keras_attention.types import InitializerLike
from keras_attention.types import RegularizerLike
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_data_format
from keras_attention.validation import check_image_shape
from keras_attention.validation import check_positive_integer

# Kernel sizes of the branches; the last one starts with a max pooling.
BRANCHES = ((1,), (1, 3), (1, 5), (1,))
# Filters of two modules for each of three resolutions.
STAGES = (
    ((32, (32, 40), (8, 12), 12), (56, (48, 64), (8, 20), 20)),
    ((64, (48, 80), (16, 24), 24), (72, (48, 96), (16, 28), 28)),
    ((96, (64, 144), (16, 40), 40), (128, (80, 192), (24, 60), 60)),
)


@keras.saving.register_keras_serializable(package="keras_attention")
class InceptionModule(FreezableLayer):
    """Inception module, with an attention layer on its concatenated output.

    Four branches see the input: a 1x1 convolution; a 1x1 and a 3x3; a 1x1 and
    a 5x5; a 3x3 max pooling at stride 1 and a 1x1. Every convolution has a
    batch normalization and a ReLU after it, as in the second version of the
    network. The branches are concatenated over channels, and the attention
    layer, if there is one, gates the result: the SE-Inception module of the
    Squeeze-and-Excitation paper with `attention="squeeze_excite"`.

    Args:
        filters: Filters of the four branches, each with one integer or a list
            of as many as it has convolutions: `(64, (96, 128), (16, 32), 32)`.
        attention: `None`; a name, a layer class, a function that returns a
            new layer, or an unbuilt layer.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            `keras.config.image_data_format()`.
        kernel_initializer: initializer of every convolution.
        kernel_regularizer: regularizer of every convolution.
        **kwargs: the arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: image tensor.
        training: whether the batch normalizations use the batch.

    Input shape:
        `(batch, height, width, channels)`, or
        `(batch, channels, height, width)` for `channels_first`.

    Output shape:
        The input's, with the sum of the branches' last filters as channels.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        Szegedy et al., Going Deeper with Convolutions, CVPR 2015,
        arXiv:1409.4842, figure 2(b); Hu et al., Squeeze-and-Excitation
        Networks, CVPR 2018, arXiv:1709.01507, figure 2.

    Example:

    >>> layer = keras_attention.models.InceptionModule(
    ...     (8, (4, 16), (2, 4), 4), attention="squeeze_excite"
    ... )
    >>> tuple(layer(np.ones((2, 7, 5, 3), "float32")).shape)
    (2, 7, 5, 32)
    """

    def __init__(
        self,
        filters: Sequence[int | Sequence[int]],
        attention: Attention | keras.layers.Layer | None = None,
        data_format: str | None = None,
        kernel_initializer: InitializerLike = "he_normal",
        kernel_regularizer: RegularizerLike = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = _check_filters(filters)
        self.data_format = check_data_format(data_format)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        if attention is not None and not isinstance(attention, layers.Layer):
            attention = make_attention(
                attention, "attention", self.data_format, self.dtype_policy
            )
        layer: Any = attention
        if layer is not None and layer.built:
            raise ValueError(
                "`attention` must be a layer that is not built yet: the "
                "module builds it for its own channels. "
                f"Received: attention={layer!r}"
            )
        self.attention = layer

    def build(self, input_shape: Shape) -> None:
        channels = check_image_shape(self, input_shape)
        axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = layers.InputSpec(ndim=4, axes={axis: channels})
        self.branches = []
        for number, filters in enumerate(self.filters, 1):
            branch = self._branch(number, filters)
            branch.build(input_shape)
            self.branches.append(branch)
        self.concatenate = layers.Concatenate(
            axis, dtype=self.dtype_policy, name="concatenate"
        )
        if self.attention is not None:
            self.attention.build(self.compute_output_shape(input_shape))

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        x = self.concatenate(
            [branch(inputs, training=training) for branch in self.branches]
        )
        if self.attention is None:
            return x
        return self.attention(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = list(input_shape)
        channels = sum(filters[-1] for filters in self.filters)
        shape[-1 if self.data_format == "channels_last" else 1] = channels
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        attention = keras.saving.serialize_keras_object(self.attention)
        if attention is not None:
            # The module builds it: a layer that comes back built cannot be.
            attention.pop("build_config", None)
        return {
            **super().get_config(),
            "filters": self.filters,
            "attention": attention,
            "data_format": self.data_format,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return super().from_config({**config, "attention": attention})

    def _branch(self, number, filters):
        image = {"data_format": self.data_format, "dtype": self.dtype_policy}
        stack = []
        if number == len(BRANCHES):
            stack.append(
                layers.MaxPooling2D(3, 1, "same", name="pool", **image)
            )
        pairs = zip(filters, BRANCHES[number - 1], strict=True)
        for step, (channels, kernel_size) in enumerate(pairs, 1):
            conv = layers.Conv2D(
                channels,
                kernel_size,
                padding="same",
                use_bias=False,
                kernel_initializer=clone_initializer(self.kernel_initializer),
                kernel_regularizer=self.kernel_regularizer,
                name=f"conv{step}",
                **image,
            )
            norm = layers.BatchNormalization(
                axis=-1 if self.data_format == "channels_last" else 1,
                momentum=0.9,
                epsilon=1e-5,
                dtype=self.dtype_policy,
                name=f"norm{step}",
            )
            relu = layers.ReLU(dtype=self.dtype_policy, name=f"relu{step}")
            stack += [conv, norm, relu]
        return keras.Sequential(stack, name=f"branch{number}")


def SEInception(
    attention: Placed = "squeeze_excite",
    input_shape: tuple = (32, 32, 3),
    classes: int | None = 10,
    softmax: bool = True,
    kernel_regularizer: RegularizerLike = None,
    data_format: str | None = None,
    dtype: DTypeLike = None,
    name: str | None = None,
) -> keras.Model:
    """A small network of `InceptionModule`s, for images like CIFAR's.

    A 3x3 convolution to 32 channels; then three stages of two modules with
    96, 160, 192, 224, 320 and 440 channels and a max pooling at stride 2
    between the stages; then global average pooling and the classifier. The
    papers' own networks are larger; this one shows the module at work and is
    quick to train. The ends of the stages are the layers `"stage1"` to
    `"stage3"`.

    Args:
        attention: Attention of every module: `None`; a name, a layer class or a
            function that returns a new layer; or a list of three of these,
            or `None`, one for each stage.
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

    Example:

    >>> model = keras_attention.models.SEInception(input_shape=(16, 16, 3))
    >>> model.get_layer("stage3_module2").attention
    <SqueezeExcite name=attention, built=True>
    """
    placement = Placement(attention, None, len(STAGES), ("block",))
    build = Builder(placement, data_format, dtype, kernel_regularizer)
    image = build.input(input_shape)
    x = build.conv(image, 32, 3, name="stem_conv")
    x = build.relu(build.norm(x, "stem_norm"), "stem_relu")
    for stage, modules in enumerate(STAGES, 1):
        if stage > 1:
            x = build.max_pool(x, 3, 2, f"stage{stage}_pool")
        for number, filters in enumerate(modules, 1):
            x = InceptionModule(
                filters,
                placement.make(
                    stage,
                    ("block",),
                    "attention",
                    data_format=build.data_format,
                    dtype=build.dtype,
                ),
                build.data_format,
                kernel_regularizer=build.kernel_regularizer,
                dtype=build.dtype,
                name=f"stage{stage}_module{number}",
            )(x)
        x = build.end_stage(x, stage)
    if classes is not None:
        x = build.classify(x, classes, softmax)
    return keras.Model(image, x, name=name or "se_inception")


def _check_filters(filters):
    """Return the filters as one tuple of integers for each branch."""
    expected = [len(kernels) for kernels in BRANCHES]
    branches = []
    if isinstance(filters, list | tuple):
        for branch in filters:
            alone = not isinstance(branch, list | tuple)
            branches.append((branch,) if alone else tuple(branch))
    if [len(branch) for branch in branches] != expected:
        raise ValueError(
            "`filters` must give four branches their numbers of filters, one "
            "for a branch of one convolution and two for a branch of two: "
            f"(64, (96, 128), (16, 32), 32). Received: filters={filters!r}"
        )
    for number in (one for branch in branches for one in branch):
        check_positive_integer("filters", number)
    return tuple(branches)
