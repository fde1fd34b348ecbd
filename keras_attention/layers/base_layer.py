"""What every layer of the package does when it is saved and loaded."""

from typing import Any

import keras
from keras.dtype_policies import DTypePolicyMap


class FreezableLayer(keras.layers.Layer):
    """Base of the layers that make sublayers when they are built.

    A layer that is frozen before it is built, as every frozen layer of a file
    is, freezes the sublayers that it makes. Keras' own layers leave their
    kernels trainable, and their moving averages in motion.
    """

    def _post_build(self) -> None:
        super()._post_build()
        if not self.trainable:
            # By the setter itself: TensorFlow's tracking leaves out an
            # assignment that changes nothing, and with it the sublayers.
            keras.layers.Layer.trainable.fset(self, False)


class BaseLayer(FreezableLayer):
    """Base of the layers, which come back from every file as they were.

    A layer whose sublayers were quantized writes their dtype policies into
    its own, as a `keras.dtype_policies.DTypePolicyMap` by the path inside the
    layer. `sublayer_policy` reads them back.
    """

    def sublayer_policy(self, name: str) -> Any:
        """Return the dtype policy for the sublayer `name`.

        It is the layer's own. Of a map, the entry under `name` is taken, and
        entries under `name/…` go on to the sublayer, by the rest of their
        path.
        """
        policy = self.dtype_policy
        if not isinstance(policy, DTypePolicyMap):
            return policy
        if name in policy:
            return policy[name]
        entries = dict(policy.items())
        inner = {
            path.removeprefix(f"{name}/"): entry
            for path, entry in entries.items()
            if path.startswith(f"{name}/")
        }
        return DTypePolicyMap(policy.default_policy, entries | inner)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        quantized = dict(_quantized_sublayers(self))
        if quantized:
            policy, entries = self.dtype_policy, {}
            if isinstance(policy, DTypePolicyMap):
                policy, entries = policy.default_policy, dict(policy.items())
            config["dtype"] = keras.dtype_policies.serialize(
                DTypePolicyMap(policy, entries | quantized)
            )
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        # The reader of `.h5` files makes functions of strings that name one:
        # "add" becomes `keras.layers.add`.
        return super().from_config(
            {name: _name_of_function(value) for name, value in config.items()}
        )


def _name_of_function(value):
    name = getattr(value, "__name__", "")
    is_function = not isinstance(value, type) and name
    if is_function and getattr(keras.layers, name, None) is value:
        return name
    return value


def _quantized_sublayers(layer, prefix=""):
    """Yield path inside the layer and dtype policy."""
    for sublayer in layer._flatten_layers(include_self=False, recursive=False):
        if sublayer.quantization_mode is not None:
            policy = sublayer.dtype_policy
            if isinstance(policy, DTypePolicyMap):
                policy = policy[sublayer.path]
            yield prefix + sublayer.name, policy
        yield from _quantized_sublayers(sublayer, f"{prefix}{sublayer.name}/")
