"""What every layer of the package does when it is saved and loaded."""

from typing import Any

import keras
from keras.dtype_policies import DTypePolicyMap

from keras_attention.ops.precision import HALF
from keras_attention.ops.precision import check_real


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
    layer. `sublayer_policy` reads them back. Sublayers that are frozen while
    the layer is not are written by their path too, and frozen again when the
    layer that is made of the configuration is built.
    """

    # Of the configuration, until the layer is built.
    _frozen_paths: tuple[str, ...] = ()

    def _post_build(self) -> None:
        super()._post_build()
        for path in self._frozen_paths:
            for sublayer in _sublayers_at(self, path):
                sublayer.trainable = False

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        # Output shapes are computed without `call`, which checks the dtypes:
        # a model of strings would be refused no sooner than it is fed.
        for tensor in keras.tree.flatten((args, kwargs)):
            if isinstance(tensor, keras.KerasTensor):
                check_real(tensor)
        return super().symbolic_call(*args, **kwargs)

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

    def wide_sublayer_policy(self, name: str) -> Any:
        """Return the dtype policy for a sublayer that leaves float16's range.

        The layer's own, and float32 in place of half precision. A sublayer
        that was quantized keeps its policy. It has no sublayers itself.
        """
        policy = self.dtype_policy
        if isinstance(policy, DTypePolicyMap):
            if name in policy:
                return policy[name]
            policy = policy.default_policy
        half = policy.compute_dtype in HALF
        return keras.dtype_policies.get("float32") if half else policy

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
        frozen = self._frozen_paths
        if self.built:
            frozen = tuple(_frozen_sublayers(self)) if self.trainable else ()
        if frozen:
            config["frozen_sublayers"] = list(frozen)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        if "go_backwards" in config:
            # As keras.layers.Bidirectional gives it. A `TypeError` would get
            # lost in Keras' own.
            raise ValueError(
                f"{cls.__name__} is no keras.layers.RNN, whose states and "
                "`go_backwards` keras.layers.Bidirectional needs. Received: "
                f"go_backwards={config['go_backwards']}. For both directions "
                "call two layers, the second on keras.ops.flip(x, axis=1) with "
                "the mask flipped likewise, and flip its output; attention "
                "that is not causal has both directions itself."
            )
        # The reader of `.h5` files makes functions of strings that name one:
        # "add" becomes `keras.layers.add`.
        config = {
            name: _name_of_function(value) for name, value in config.items()
        }
        frozen = config.pop("frozen_sublayers", ())
        layer = super().from_config(config)
        layer._frozen_paths = tuple(frozen)
        return layer


def _name_of_function(value):
    name = getattr(value, "__name__", "")
    is_function = not isinstance(value, type) and name
    if is_function and getattr(keras.layers, name, None) is value:
        return name
    return value


def _frozen_sublayers(layer, prefix=""):
    """Yield the paths inside the layer of sublayers that are frozen alone."""
    for sublayer in layer._flatten_layers(include_self=False, recursive=False):
        if not sublayer.trainable:
            yield prefix + sublayer.name
        else:
            yield from _frozen_sublayers(sublayer, f"{prefix}{sublayer.name}/")


def _sublayers_at(layer, path):
    """The sublayers at a path inside the layer."""
    name, _, rest = path.partition("/")
    for sublayer in layer._flatten_layers(include_self=False, recursive=False):
        if sublayer.name == name and rest:
            yield from _sublayers_at(sublayer, rest)
        elif sublayer.name == name:
            yield sublayer


def _quantized_sublayers(layer, prefix=""):
    """Yield path inside the layer and dtype policy."""
    for sublayer in layer._flatten_layers(include_self=False, recursive=False):
        if sublayer.quantization_mode is not None:
            policy = sublayer.dtype_policy
            if isinstance(policy, DTypePolicyMap):
                policy = policy[sublayer.path]
            yield prefix + sublayer.name, policy
        yield from _quantized_sublayers(sublayer, f"{prefix}{sublayer.name}/")
