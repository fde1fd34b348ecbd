"""What every layer with kernels, or with kernels and biases, shares."""

from typing import Any

import keras

from keras_attention.layers.base_layer import BaseLayer
from keras_attention.types import InitializerLike
from keras_attention.types import RegularizerLike


class KernelLayer(BaseLayer):
    """Base of the layers whose kernels take initializers and regularizers.

    Args:
        kernel_initializer: initializer of every kernel.
        kernel_regularizer: regularizer of every kernel.
        **kwargs: passed on to the next class.
    """

    def __init__(
        self,
        kernel_initializer: InitializerLike = "glorot_uniform",
        kernel_regularizer: RegularizerLike = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def sublayer_arguments(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return the arguments of a sublayer with a kernel.

        The initializers are cloned: one instance would give equal values to
        two kernels of one shape.

        Args:
            name: name of the sublayer.
            **arguments: further arguments, which take precedence.
        """
        return {
            "name": name,
            "kernel_initializer": clone_initializer(self.kernel_initializer),
            "kernel_regularizer": self.kernel_regularizer,
            "dtype": self.sublayer_policy(name),
            **arguments,
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
        }


class WeightedLayer(KernelLayer):
    """Base of the layers that have kernels and biases.

    Args:
        kernel_initializer: initializer of every kernel.
        bias_initializer: initializer of every bias.
        kernel_regularizer: regularizer of every kernel.
        bias_regularizer: regularizer of every bias.
        **kwargs: passed on to the next class.
    """

    def __init__(
        self,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        **kwargs: Any,
    ):
        super().__init__(kernel_initializer, kernel_regularizer, **kwargs)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)

    def sublayer_arguments(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return the arguments of a sublayer with biases; see `KernelLayer`."""
        return super().sublayer_arguments(
            name,
            **{
                "bias_initializer": clone_initializer(self.bias_initializer),
                "bias_regularizer": self.bias_regularizer,
                **arguments,
            },
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bias_initializer": keras.initializers.serialize(
                self.bias_initializer
            ),
            "bias_regularizer": keras.regularizers.serialize(
                self.bias_regularizer
            ),
        }


def clone_initializer(initializer: Any) -> Any:
    """Return a copy that draws its own values, unless it has a fixed seed."""
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer


def bottleneck_width(channels: int, ratio: int, minimum: int = 1) -> int:
    """Return the width of a bottleneck, `channels // ratio` as in the papers.

    Args:
        channels: number of channels.
        ratio: positive integer.
        minimum: width that is left of a layer with few channels, for which
            the papers have no value. Defaults to 1.
    """
    return max(minimum, channels // ratio)
