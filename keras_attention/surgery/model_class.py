"""Rebuilds the class and the attributes of a model around a new graph."""

import contextlib
import copy
import enum
import functools
import inspect
import warnings
from typing import Any

import keras
import numpy as np

from keras_attention.types import Tensor

# What changes how a model is trained or computes, if a class overrides it.
STEPS = (
    "compile",
    "compute_loss",
    "compute_metrics",
    "evaluate",
    "fit",
    "make_predict_function",
    "make_test_function",
    "make_train_function",
    "predict",
    "predict_step",
    "test_step",
    "train_step",
)
# What is copied by being set again.
DATA = (bool, complex, float, int, str, bytes, np.generic, enum.Enum, type)
# The attribute by which KerasCV's and KerasHub's backbones name their layers.
PYRAMID = "pyramid_level_inputs"


@keras.saving.register_keras_serializable(package="keras_attention")
class ModelWithAttributes(keras.Model):
    """A functional model with attributes that are saved with it.

    `insert_attention` returns one for a model of a class that builds its graph
    in its constructor, such as a backbone of KerasCV: such a class cannot be
    rebuilt around another graph, but its attributes can be kept.

    Args:
        inputs: See `keras.Model`.
        outputs: See `keras.Model`.
        name: Name of the model. Defaults to `None`.
        **kwargs: `attributes`, a dict of attributes: `None`, booleans, numbers
            and strings, in lists and dicts or not; and the other arguments of
            `keras.Model`.

    Example:

    >>> inputs = keras.Input((8, 8, 3))
    >>> outputs = keras.layers.Conv2D(6, 3, name="conv")(inputs)
    >>> levels = {"P3": "conv"}
    >>> model = keras_attention.surgery.ModelWithAttributes(
    ...     inputs, outputs, attributes={"pyramid_level_inputs": levels}
    ... )
    >>> model.pyramid_level_inputs["P3"]
    'conv'
    """

    def __init__(
        self,
        inputs: Tensor,
        outputs: Tensor,
        name: str | None = None,
        **kwargs: Any,
    ):
        # Keras 3.12 rebuilds a class from a saved graph only if it names the
        # arguments of a functional model and no others.
        attributes = kwargs.pop("attributes", None)
        super().__init__(inputs, outputs, name=name, **kwargs)
        self._attribute_names = sorted(attributes or {})
        for key, value in (attributes or {}).items():
            setattr(self, key, value)

    def get_config(self) -> dict[str, Any]:
        attributes = {
            name: plain_data(getattr(self, name))
            for name in self._attribute_names
        }
        return {**super().get_config(), "attributes": attributes}


def make_functional(
    model: keras.Model, inputs: Tensor, outputs: Tensor, renamed: dict[str, str]
) -> keras.Model:
    """Return a model of new inputs and outputs, of the class of an old one.

    Args:
        model: The old model.
        inputs: The new model's inputs.
        outputs: The new model's outputs.
        renamed: For each layer of the old model, the name of the layer that
            gives its output in the new one.

    Raises:
        ValueError: If the class overrides how the model is trained, and
            cannot be rebuilt.
    """
    cls = type(model)
    attributes, lost = _attributes(model)
    attributes = _with_new_names(attributes, renamed)
    if cls is ModelWithAttributes:
        return cls(inputs, outputs, model.name, attributes=attributes)
    if _own_classes(cls) == []:
        cls, config = keras.Model, {}
    else:
        config = _functional_config(model)
    if config is None:
        _refuse_or_warn(model, attributes, lost)
        return ModelWithAttributes(
            inputs, outputs, model.name, attributes=attributes
        )
    new = cls(inputs=inputs, outputs=outputs, name=model.name, **config)
    _set_attributes(new, model, attributes, lost)
    return new


def make_sequential(model: keras.Sequential, layers: list) -> keras.Sequential:
    """Return a Sequential model of new layers, of the class of an old one.

    Raises:
        ValueError: If the class overrides how the model is trained, and
            cannot be rebuilt.
    """
    cls = type(model)
    attributes, lost = _attributes(model)
    if cls.__init__ is not keras.Sequential.__init__:
        _refuse_or_warn(model, {}, [*attributes, *lost])
        return keras.Sequential(layers, name=model.name)
    new = cls(layers, name=model.name)
    _set_attributes(new, model, attributes, lost)
    return new


def plain_data(value: Tensor) -> Any:
    """Return a copy of data made of lists, dicts, numbers and strings.

    Raises:
        TypeError: If something else is in it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain_data(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(each) for each in value]
    raise TypeError(f"No plain data. Received: {value!r}")


def _own_classes(cls):
    """The classes of a user between a model's class and Keras' own."""
    return [
        base
        for base in cls.__mro__
        if issubclass(base, keras.Model)
        and not base.__module__.startswith("keras.src.")
    ]


def _functional_config(model):
    """More arguments of the class's constructor, or `None` if it has others.

    These are the classes that Keras too makes from a saved graph.
    """
    cls = type(model)
    spec = inspect.getfullargspec(cls.__init__)
    if spec.args[1:] != ["inputs", "outputs", "name"] and not (
        spec.varargs and spec.varkw
    ):
        return None
    config = model.get_config()
    graph = ("layers", "input_layers", "output_layers")
    if any(key not in config for key in graph):
        return None
    return {
        key: value
        for key, value in config.items()
        if key not in (*graph, "name", "trainable")
    }


def _attributes(model):
    """Plain data that is set on a model, and the names of all else."""
    reference = _reference(isinstance(model, keras.Sequential))
    names = [
        name
        for name in vars(model)
        if not name.startswith("_") and name not in reference
    ]
    for base in _own_classes(type(model)):
        names += [
            name
            for name, value in vars(base).items()
            if isinstance(value, property)
            and value.fset is not None
            and not name.startswith("_")
        ]
    kept, lost = {}, []
    for name in dict.fromkeys(names):
        try:
            kept[name] = plain_data(getattr(model, name))
        except Exception:  # noqa: BLE001
            lost.append(name)
    return kept, lost


@functools.cache
def _reference(is_sequential):
    """The attributes that Keras itself sets on a model."""
    if is_sequential:
        plain = keras.Sequential([keras.Input((1,)), keras.layers.Identity()])
    else:
        inputs = keras.Input((1,))
        plain = keras.Model(inputs, keras.layers.Identity()(inputs))
    plain.compile("sgd", "mse")
    return {
        *vars(plain),
        *("history", "stop_training", "train_function", "test_function"),
        *("predict_function", "optimizer", "loss", "compiled"),
    }


def _set_attributes(new, old, attributes, lost):
    """Set what the constructor of the new model has not set."""
    for name, value in attributes.items():
        if not hasattr(new, name) or name in vars(old):
            is_changed = name == PYRAMID
            setattr(
                new, name, value if is_changed else _copy(getattr(old, name))
            )
    reference = _reference(isinstance(old, keras.Sequential))
    for name, value in list(vars(old).items()):
        if name.startswith("_") and name not in reference:
            # What else is private may be Keras' own.
            with contextlib.suppress(TypeError):
                setattr(new, name, _copy(value))
    missing = []
    for name in lost:
        is_own = name in vars(old)
        if name in vars(new) or (not is_own and hasattr(new, name)):
            continue
        value = getattr(old, name)
        try:
            # Metrics, losses and others that Keras makes from configurations.
            if isinstance(value, keras.layers.Layer):
                raise TypeError("its weights belong to the old model")
            setattr(new, name, _made_again(value))
        except Exception:  # noqa: BLE001
            missing.append(name)
    if missing:
        warnings.warn(
            f"Model '{old.name}' of class {type(old).__name__} is rebuilt "
            "without the attributes that are neither plain data nor made from "
            f"a configuration: {', '.join(missing)}. Set them on the new model "
            "if its methods use them.",
            stacklevel=2,
        )


def _made_again(value):
    """A copy of data, or an object of the same configuration."""
    try:
        return _copy(value)
    except TypeError:
        return type(value).from_config(value.get_config())


def _copy(value):
    """A copy of data of the same types.

    Raises:
        TypeError: If something else is in it, such as a function that may
            refer to the model.
    """
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    for kind in (list, set, frozenset):
        if isinstance(value, kind):
            return kind(map(_copy, value))
    if isinstance(value, tuple):
        parts = map(_copy, value)
        named = hasattr(value, "_fields")
        return type(value)(*parts) if named else tuple(parts)
    if value is None or isinstance(value, DATA):
        return value
    raise TypeError(f"No data. Received: {value!r}")


def _refuse_or_warn(model, attributes, lost):
    cls = type(model)
    own = _own_classes(cls)
    steps = sorted({n for base in own for n in vars(base) if n in STEPS})
    start = (
        f"Model '{model.name}' is of class {cls.__name__}, whose constructor "
        "builds the graph, so that it cannot be rebuilt with attention in it."
    )
    if steps:
        raise ValueError(
            f"{start} Its own {', '.join(f'`{name}`' for name in steps)} would "
            "be lost. Insert the attention into the functional model that it "
            "is made of, such as its backbone, and make it from that; or give "
            "the class the constructor of keras.Model. Received: "
            f"model={model!r}"
        )
    methods = {
        name
        for base in own
        for name, value in vars(base).items()
        if inspect.isfunction(value) and not name.startswith("_")
    } - {"get_config"}
    parts = [f"its class {cls.__name__}"]
    parts += [f"its method `{name}`" for name in sorted(methods)]
    parts += [f"its attribute `{name}`" for name in lost]
    kept = ", ".join(f"`{name}`" for name in attributes) or "none"
    warnings.warn(
        f"{start} It comes back as a plain model. Lost: {', '.join(parts)}. "
        f"Kept attributes: {kept}.",
        stacklevel=2,
    )


def _with_new_names(attributes, renamed):
    """Let the levels of a feature pyramid follow their attention."""
    levels = attributes.get(PYRAMID)
    if not isinstance(levels, dict):
        return attributes
    found = {
        level: renamed.get(name, name) if isinstance(name, str) else name
        for level, name in levels.items()
    }
    return {**copy.deepcopy(attributes), PYRAMID: found}
