from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_attention.layers.input_lists import is_list_of_inputs
from keras_attention.layers.registry import register_attention
from keras_attention.layers.vision.base_gate import BaseGate
from keras_attention.layers.vision.dense_positions import dense_positions
from keras_attention.layers.weighted_layer import WeightedLayer
from keras_attention.ops.image.gating import apply_gate
from keras_attention.ops.image.gating import from_channels_last
from keras_attention.ops.image.gating import to_channels_last
from keras_attention.ops.image.linear_resize import linear_resize
from keras_attention.types import InitializerLike
from keras_attention.validation import check_boolean
from keras_attention.validation import check_image_shape
from keras_attention.validation import check_optional_integer
from keras_attention.validation import check_positive_integer


@register_attention("attention_gate", "ag")
class AttentionGate(WeightedLayer, BaseGate):
    """Additive attention gate, of the Attention U-Net.

    A coarser gating signal g, such as the decoder's features, says where the
    features x of a skip connection matter:

        q = relu(Wx x + resize(Wg g + bg))                # [B, h, w, d]
        s = resize(sigmoid(ψ · q + b))                    # [B, H, W, 1]
        y = BN(W (x * s) + bw)                            # [B, H, W, C]

    Wx is a convolution whose kernel and strides are `sub_sampling`, without a
    bias; the other weights are 1x1 convolutions. The first resize takes the
    signal, which may have any size, to that of Wx x, and the second the gate
    to that of x; both are linear along each axis. The last line without W and
    BN, y = x * s, is the paper's (`use_projection=False`); the authors' code
    has them.

    One image alone is its own gating signal.

    Args:
        units: Positive integer d. Defaults to `None`, the channels of x, as
            in the authors' network.
        sub_sampling: Positive integer, by which the gate is coarser than x.
            Defaults to `2`.
        use_projection: Boolean, whether W and the batch normalization follow.
            Defaults to `True`.
        kernel_initializer: Initializer of the kernels. Defaults to
            `"he_normal"`.
        **kwargs: `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`; `data_format` (`"channels_last"`,
            `"channels_first"`, or `None` for
            `keras.config.image_data_format()`); and the arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: List `[x, g]` of two images or two volumes, or one of them.
        training: Whether the batch normalization uses the batch.

    Input shape:
        Of both, `(batch, height, width, channels)` or
        `(batch, depth, height, width, channels)`; with the channels second
        for `channels_first`. All but the channels may be `None`. Sizes and
        channels of the two may differ.

    Output shape:
        That of x.

    Raises:
        TypeError, ValueError: For an argument of the wrong type or range; at
            build, if x is smaller than `sub_sampling`, or x and g are not
            both images or both volumes.

    Reference:
        Oktay et al., Attention U-Net: Learning Where to Look for the
        Pancreas, MIDL 2018, arXiv:1804.03999, equations 1 and 2.

    Example:

    >>> skip = np.ones((2, 28, 28, 64), "float32")
    >>> gating = np.ones((2, 14, 14, 128), "float32")
    >>> layer = keras_attention.AttentionGate(units=32)
    >>> tuple(layer([skip, gating]).shape)
    (2, 28, 28, 64)
    >>> tuple(layer.compute_gate([skip, gating]).shape)
    (2, 28, 28, 1)
    """

    ranks: ClassVar[tuple[int, ...]] = (4, 5)

    def __init__(
        self,
        units: int | None = None,
        sub_sampling: int = 2,
        use_projection: bool = True,
        kernel_initializer: InitializerLike = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        self.units = check_optional_integer("units", units)
        self.sub_sampling = check_positive_integer("sub_sampling", sub_sampling)
        self.use_projection = check_boolean("use_projection", use_projection)

    def build(self, input_shape: Any) -> None:
        shapes = self._pair(input_shape)
        skip, gating = shapes
        widths = [check_image_shape(self, s, self.ranks) for s in shapes]
        if len(skip) != len(gating):
            raise ValueError(
                "AttentionGate takes a skip connection and a gating signal "
                "that are both images or both volumes. Received: shapes "
                f"{tuple(skip)} and {tuple(gating)} for layer '{self.name}'"
            )
        self._check_sizes(skip)
        specs = [
            keras.layers.InputSpec(
                ndim=len(skip), axes={self.channel_axis: width}
            )
            for width in widths
        ]
        is_pair = is_list_of_inputs(input_shape)
        self.input_spec = specs if is_pair else specs[0]
        self._build_sublayers(len(skip), *widths)

    def _build_sublayers(self, rank, width, gating_width):
        units = width if self.units is None else self.units
        of_rank = (None,) * (rank - 1)
        convolution = keras.layers.Conv2D if rank == 4 else keras.layers.Conv3D
        self.skip = convolution(
            units,
            self.sub_sampling,
            **self.sublayer_arguments(
                strides=self.sub_sampling,
                use_bias=False,
                data_format="channels_last",
                name="skip",
            ),
        )
        self.skip.build((*of_rank, width))
        self.gating = self._dense(units, "gating")
        self.gating.build((*of_rank, gating_width))
        self.score = self._dense(1, "score")
        self.score.build((*of_rank, units))
        if self.use_projection:
            self.projection = self._dense(width, "projection")
            self.projection.build((*of_rank, width))
            self.norm = self.make_batch_norm("norm", (*of_rank, width))

    def compute_gate(self, inputs: Any, training: bool | None = None) -> Any:
        """Compute what x is scaled by, `(batch, height, width, 1)`.

        A layer that is not built yet is built first.

        Args:
            inputs: as of a call.
            training: has no effect here.
        """
        if is_list_of_inputs(inputs):
            inputs = [self.as_called(x) for x in inputs]
        else:
            inputs = self.as_called(inputs)
        if not self.built:
            shapes = keras.tree.map_structure(lambda x: tuple(x.shape), inputs)
            self.build(shapes)
        return self.make_gate(inputs, training)

    def make_gate(self, inputs: Any, training: bool | None) -> Any:
        x, gating = (
            to_channels_last(image, self.data_format)
            for image in self._pair(inputs)
        )
        features = self.skip(x)  # [B, h, w, d]
        gating = linear_resize(
            dense_positions(self.gating, gating), ops.shape(features)[1:-1]
        )
        hidden = ops.relu(features + ops.cast(gating, features.dtype))
        gate = ops.sigmoid(dense_positions(self.score, hidden))  # [B, h, w, 1]
        gate = linear_resize(gate, ops.shape(x)[1:-1])  # [B, H, W, 1]
        gate = ops.cast(gate, self.compute_dtype)
        return from_channels_last(gate, self.data_format)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x, _ = self._pair(inputs)
        self._check_sizes(x.shape)
        y = apply_gate(
            self.to_float(x), self.compute_gate(inputs, training=training)
        )
        if not self.use_projection:
            return y
        y = dense_positions(
            self.projection, to_channels_last(y, self.data_format)
        )
        y = self.norm(y, training=training)
        return from_channels_last(y, self.data_format)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        skip, _ = self._pair(input_shape)
        self._check_sizes(skip)
        return tuple(skip)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if isinstance(previous_mask, list | tuple):
            return previous_mask[0]
        return previous_mask

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "sub_sampling": self.sub_sampling,
            "use_projection": self.use_projection,
        }

    def _pair(self, inputs):
        """Of tensors or of shapes: that of x and that of g."""
        if not is_list_of_inputs(inputs):
            return inputs, inputs
        if len(inputs) != 2:
            raise ValueError(
                "AttentionGate takes one image, or a list of two: the skip "
                "connection and the gating signal. Received: "
                f"{len(inputs)} inputs for layer '{self.name}'"
            )
        return tuple(inputs)

    def _check_sizes(self, shape):
        sizes = list(shape)
        del sizes[self.channel_axis]
        if any(n is not None and n < self.sub_sampling for n in sizes[1:]):
            raise ValueError(
                "AttentionGate needs images of at least `sub_sampling` rows "
                f"and columns. Received: shape={tuple(shape)} for layer "
                f"'{self.name}' with sub_sampling={self.sub_sampling}. Set it "
                "to 1, or give a larger image."
            )

    def _dense(self, units, name):
        return keras.layers.Dense(units, **self.sublayer_arguments(name=name))
