from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_attention.layers.input_lists import first_input
from keras_attention.ops.image.masking import zero_masked
from keras_attention.types import Shape
from keras_attention.types import Tensor


@keras.saving.register_keras_serializable(package="keras_attention")
class BlendIn(keras.layers.Wrapper):
    """Starts as the identity and learns how much of a layer to let in.

    One learned number, alpha, blends the layer's output with its input:

        y = x + alpha * (layer(x) - x)

    It starts at 0. The output then is the input, to the bit, wherever the
    layer's output is finite: a layer can be put into a trained network
    without changing what the network computes. The first step of training
    moves alpha alone, since at 0 it cuts the layer's weights off from the
    loss; from the second step on the layer is trained too. At alpha = 1 only
    the layer is left.

    Adding a branch times a number that starts at 0 is ReZero. There the
    branch is added to its input, here it takes the input's place by degrees.

    Args:
        layer: a layer that keeps the shape of its input, or of the first of
            several, as `AttentionGate` does.
        **kwargs: the arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`. They do not reach `layer`.

    Call arguments:
        inputs: tensor that `layer` takes, or a list of which the first is x.
        training: passed on to `layer`.

    Input shape:
        That of `layer`.

    Output shape:
        That of x.

    Raises:
        TypeError: if `layer` is not a layer.
        ValueError: at build, if `layer` does not keep the shape.

    Reference:
        Bachlechner et al., ReZero is All You Need: Fast Convergence at Large
        Depth, UAI 2021, arXiv:2003.04887, equation 2.

    Example:

    >>> layer = keras_attention.BlendIn(keras_attention.SqueezeExcite(ratio=4))
    >>> x = np.random.rand(2, 7, 5, 16).astype("float32")
    >>> bool(np.all(layer(x) == x))
    True
    >>> _ = layer.alpha.assign(1.0)
    >>> bool(np.allclose(layer(x), layer.layer(x)))
    True
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                "`layer` must be a keras.layers.Layer. "
                f"Received: layer={layer!r} (of type {type(layer).__name__})"
            )
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        output_shape = tuple(self.layer.compute_output_shape(input_shape))
        if output_shape != tuple(first_input(input_shape)):
            raise ValueError(
                "BlendIn's `layer` must keep the shape of its input, since "
                f"the two are added. Received: layer '{self.layer.name}' of "
                f"type {type(self.layer).__name__}, which makes "
                f"{output_shape} of {input_shape}"
            )
        super().build(input_shape)
        self.alpha = self.add_weight(
            shape=(), initializer="zeros", name="alpha"
        )

    def call(
        self,
        inputs: Any,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Any:
        # `training` reaches the layer with the context of this call.
        takes_mask = mask is not None and self.layer._call_has_mask_arg
        arguments = {"mask": mask} if takes_mask else {}
        x = first_input(inputs)
        change = ops.cast(self.layer(inputs, **arguments), x.dtype) - x
        if isinstance(mask, list | tuple):
            mask = mask[0]
        if mask is not None and tuple(mask.shape) == tuple(x.shape[:-1]):
            # What is masked may be NaN, and alpha is trained by the change.
            change = zero_masked(change, mask, "channels_last")
        return x + ops.cast(self.alpha, x.dtype) * change

    def compute_output_shape(self, input_shape: Any) -> Shape:
        return tuple(first_input(input_shape))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if isinstance(previous_mask, list | tuple):
            return previous_mask[0]
        return previous_mask

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        # `build` builds the layer; the configuration does not change with it.
        config["layer"].pop("build_config", None)
        return config

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: Mapping[str, Any] | None = None,
    ) -> Any:
        # Keras' own takes the layer out of the dictionary that it is given.
        return super().from_config(dict(config), custom_objects)
