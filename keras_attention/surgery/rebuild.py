"""Rebuilds a model with its own layers and weights, edited on the way."""

import tempfile
import types
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from keras_attention.inspection.graph import graph_nodes
from keras_attention.inspection.graph import is_graph
from keras_attention.inspection.graph import map_tensors
from keras_attention.inspection.graph import nested_graphs
from keras_attention.surgery.model_class import make_functional
from keras_attention.surgery.model_class import make_sequential


def rebuild(
    model: keras.Model,
    inserted: dict[int, Any] | None = None,
    gated: dict[int, list[tuple[Any, list[Any]]]] | None = None,
    removed: Collection[int] = (),
) -> keras.Model:
    """Return a new model of the same graph, layer names and weights.

    Layers are made from their configurations. A layer or nested model that
    is used several times is made once. Weights, states of random generators,
    vocabularies and what is trainable are copied. The new model is not
    compiled.

    A model of a class of its own keeps the class, its methods and its
    attributes if Keras can make the class from a saved graph: if it has the
    constructor of `keras.Model` or `keras.Sequential`. Of another class, which
    builds its graph in the constructor, attributes that are plain data are
    kept, and a warning names what is lost.

    Args:
        model: A functional or Sequential model.
        inserted: The layer to call after each of these calls, by the
            identity of Keras' node. Defaults to `None`.
        gated: For these calls, by the identity of Keras' node, layers and the
            tensors that each is given, of which its output replaces the first
            one in the call's inputs. Defaults to `None`.
        removed: Calls to leave out, whose first input is passed on, by the
            identity of Keras' node. Defaults to `()`.

    Raises:
        ValueError: If a layer cannot be made from its configuration; all
            such layers are named, and nothing has been made. If a class that
            cannot be kept overrides how the model is trained.
    """
    return _Rebuild(model, inserted or {}, gated or {}, removed).model(model)


class _Rebuild:
    def __init__(self, model, inserted, gated, removed):
        self.inserted = inserted
        self.gated = gated
        self.removed = removed
        self.clones = _clone_operations(model)
        self.models: dict[int, keras.Model] = {}

    def model(self, model):
        """Rebuild one model and copy the weights of its own layers."""
        if id(model) not in self.models:
            sequential = isinstance(model, keras.Sequential)
            make = self._sequential if sequential else self._functional
            self.models[id(model)] = make(model)
            for operation in dict.fromkeys(
                node.operation for node in graph_nodes(model)
            ):
                if not is_graph(operation):
                    _copy_state(operation, self.clones[id(operation)])
        return self.models[id(model)]

    def _functional(self, model):
        made, renamed = {}, {}
        for tensor in model.inputs:
            layer = tensor._keras_history.operation
            made[id(tensor)] = self._clone(layer).output
        for node in graph_nodes(model):
            if node.is_input and id(node.outputs[0]) in made:
                continue
            args, kwargs = map_tensors(self._gate(made, node), node)
            # Of a layer that is left out.
            outputs = keras.tree.flatten(args)[0] if args else None
            for number, operation in enumerate(self._operations(node)):
                if number == 0:
                    outputs = operation(*args, **kwargs)
                else:
                    name = node.operation.name
                    outputs = _call_inserted(operation, outputs, name)
                args, kwargs = (outputs,), {}
            found = keras.tree.flatten(outputs)
            made |= zip(map(id, node.outputs), found, strict=True)
            renamed[node.operation.name] = found[0]._keras_history[0].name
        inputs, outputs = keras.tree.map_structure(
            lambda tensor: made[id(tensor)], (model.input, model.output)
        )
        return make_functional(model, inputs, outputs, renamed)

    def _gate(self, made, node):
        """The tensors that a call takes from, its skip connections gated."""
        gated = dict(made) if id(node) in self.gated else made
        for layer, tensors in self.gated.get(id(node), ()):
            inputs = [made[id(tensor)] for tensor in tensors]
            name = tensors[0]._keras_history.operation.name
            gated[id(tensors[0])] = _call_inserted(
                layer, inputs if len(inputs) > 1 else inputs[0], name
            )
        return gated

    def _sequential(self, model):
        operations = []
        for node in graph_nodes(model):
            operations += self._operations(node)
        return make_sequential(model, operations)

    def _operations(self, node):
        if id(node) in self.removed:
            return []
        operations = [self._clone(node.operation)]
        if id(node) in self.inserted:
            operations.append(self.inserted[id(node)])
        return operations

    def _clone(self, operation):
        if is_graph(operation):
            return self.model(operation)
        return self.clones[id(operation)]


def _call_inserted(operation, inputs, name):
    try:
        return operation(inputs)
    except Exception as error:
        shape = tuple(keras.tree.flatten(inputs)[0].shape)
        raise ValueError(
            f"'{operation.name}' ({type(operation).__name__}) cannot follow "
            f"layer '{name}', whose output has the shape {shape}: {error}"
        ) from error


def _clone_operations(model):
    """A new, unbuilt operation for each that is not a graph, by identity."""
    clones, failures = {}, []
    for prefix, graph in nested_graphs(model):
        operations = [node.operation for node in graph_nodes(graph)]
        operations += [t._keras_history.operation for t in graph.inputs]
        for operation in dict.fromkeys(operations):
            if is_graph(operation) or id(operation) in clones:
                continue
            try:
                clones[id(operation)] = _clone(operation)
            except Exception as error:  # noqa: BLE001
                reason = str(error).strip().split("\n")[0]
                failures.append(
                    f"'{prefix}{operation.name}' "
                    f"({type(operation).__name__}: {reason})"
                )
    if failures:
        raise ValueError(
            f"Model '{model.name}' cannot be rebuilt, since these layers "
            "cannot be made from their configuration: "
            + "; ".join(failures)
            + ". Write a Lambda or a subclassed model as a layer with "
            "`get_config`, register what its configuration refers to with "
            "`keras.saving.register_keras_serializable`, or pass the part of "
            "the model without it."
        )
    return clones


def _clone(operation):
    if isinstance(operation, keras.layers.Lambda) and isinstance(
        operation.function, types.FunctionType
    ):
        raise ValueError("a Lambda's Python code is not saved and loaded")
    rebuilt = type(operation).from_config(operation.get_config())
    # KerasHub's MobileNet has layers that add to the name they are given.
    rebuilt.name = operation.name
    return rebuilt


def _copy_state(old, new):
    """Copy weights, random states, vocabularies and what is trainable."""
    if not isinstance(old, keras.layers.Layer) or not new._inbound_nodes:
        return  # No weights, or edited out.
    shapes = [
        sorted(tuple(v.shape) for v in layer.variables) for layer in (old, new)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "A layer that is made from its configuration must have the "
            f"weights of the one it is made from. Received: layer '{old.name}' "
            f"of type {type(old).__name__} with weights of shapes "
            f"{shapes[0]}, and {shapes[1]} when rebuilt. Complete its "
            "`get_config`."
        )
    layers = zip(old._flatten_layers(), new._flatten_layers(), strict=True)
    for source, target in layers:
        target.trainable = source.trainable
        for variable, copied in _pairs(_own(source), _own(target)):
            copied.assign(_copy(variable))
            # One weight may be frozen in a layer that is not.
            copied.trainable = variable.trainable
        # What a layer derives from its weights when they are loaded.
        store: dict[str, Any] = {}
        source.save_own_variables(store)
        if store:
            copies = {key: _copy(value) for key, value in store.items()}
            target.load_own_variables(copies)
        # What a layer keeps in files, such as a vocabulary.
        if hasattr(source, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                source.save_assets(folder)
                target.load_assets(folder)


def _own(layer):
    """The variables of a layer, without those of its sublayers."""
    inside = {id(v) for part in layer._layers for v in part.variables}
    return [v for v in layer.variables if id(v) not in inside]


def _pairs(old, new):
    """Variables of one layer and its copy, by name where names tell them apart.

    A layer that was quantized to float8 has the scales after its kernel, and
    when it is built from its configuration in front of it.
    """
    names = [v.name for v in old]
    by_name = {v.name: v for v in new}
    if len(by_name) == len(new) and set(names) == set(by_name):
        return [(v, by_name[v.name]) for v in old]
    return list(zip(old, new, strict=True))


def _copy(values):
    """Values in memory of their own.

    JAX hands the memory of weights over to its training step, and would take
    an array that two models share from both.
    """
    return np.array(keras.ops.convert_to_numpy(values))
