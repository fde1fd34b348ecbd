"""The graphs of both paths: no square, no copies, loops when asked."""

import dataclasses
import itertools

import numpy as np
import pytest

from keras_attention.ops.attention import chunk_plan
from keras_attention.ops.attention import dispatch
from keras_attention.ops.attention.dispatch import CHUNKED
from keras_attention.ops.attention.dispatch import plain_attention
from keras_attention.ops.attention.scaled_dot_product import (
    scaled_dot_product_attention,
)

tf = pytest.importorskip("tensorflow", reason="needs the extra 'tensorflow'")
pytestmark = pytest.mark.tensorflow


def sizes_of_tensors(function, *specs):
    """Every known shape in the graph of a function, loops included."""
    graph = tf.function(function).get_concrete_function(*specs).graph
    graphs = [graph, *graph._functions.values()]
    for inner in graphs:
        inner = getattr(inner, "graph", inner)
        for operation in inner.get_operations():
            for tensor in operation.outputs:
                if tensor.shape.rank is not None:
                    yield tuple(tensor.shape)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"causal": True}])
def test_long_sequences_hold_no_square(options, monkeypatch):
    monkeypatch.setattr(chunk_plan, "QUERIES_PER_CHUNK", (256, 256))
    spec = tf.TensorSpec((1, 2048, 4, 8))

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = scaled_dot_product_attention(x, x, x, **options)
        return tape.gradient(y, x)

    largest = max(
        np.prod([size or 1 for size in shape])
        for shape in sizes_of_tensors(step, spec)
    )
    assert 256 * 256 < largest <= 256 * 2048


@pytest.mark.slow
def test_window_is_linear_in_the_length(monkeypatch):
    monkeypatch.setattr(chunk_plan, "QUERIES_PER_CHUNK", (256, 256))
    monkeypatch.setattr(dispatch, "PLAIN_LIMIT", 0)
    largest = []
    for length in (1024, 2048):
        spec = tf.TensorSpec((1, length, 4, 8))
        shapes = sizes_of_tensors(
            lambda x: scaled_dot_product_attention(x, x, x, window=64), spec
        )
        largest.append(
            max(np.prod([size or 1 for size in shape]) for shape in shapes)
        )
    assert largest[1] == 2 * largest[0]
    assert largest[1] <= 2048 * 4 * 8 * 4


@pytest.mark.slow
def test_grouped_keys_are_not_repeated():
    x = tf.TensorSpec((1, 3, 8, 16)), tf.TensorSpec((1, 61, 1, 16))
    for path in ("plain", "chunked"):

        def attend(query, key, path=path):
            return scaled_dot_product_attention(
                query, key, key, implementation=path
            )

        for shape in sizes_of_tensors(attend, *x):
            assert np.prod([size or 1 for size in shape]) < 61 * 8 * 16, shape


def test_graphs_hold_no_python():
    spec = tf.TensorSpec((None, None, 2, 4))
    graph = (
        tf.function(
            lambda x: scaled_dot_product_attention(
                x, x, x, causal=True, dropout=0.1, seed=1
            )
        )
        .get_concrete_function(spec)
        .graph
    )
    definition = graph.as_graph_def()
    nodes = itertools.chain(
        definition.node, *(f.node_def for f in definition.library.function)
    )
    assert not [node.op for node in nodes if "PyFunc" in node.op]


def test_chunks_are_taken_for_long_sequences_only(monkeypatch):
    taken = []
    module = "keras_attention.ops.attention.dispatch"
    monkeypatch.setattr(f"{module}.PLAIN_LIMIT", 24)
    path = dataclasses.replace(
        CHUNKED,
        function=lambda query, *_: (
            taken.append(query.shape[1]) or query,
            None,
        ),
    )
    monkeypatch.setattr(f"{module}.CHUNKED", path)
    key = np.ones((1, 6, 1, 2), "float32")
    for length in (4, 7):
        query = np.ones((1, length, 1, 2), "float32")
        scaled_dot_product_attention(query, key, key)
    assert taken == [7]


def test_the_plain_path_alone_makes_a_graph_without_loops():
    def loops(**settings):
        x = tf.TensorSpec((None, None, 3, 4), "float32")
        graph = tf.function(
            lambda x: scaled_dot_product_attention(x, x, x, **settings)
        ).get_concrete_function(x)
        kinds = {node.type for node in graph.graph.get_operations()}
        return any("While" in kind for kind in kinds)

    assert loops()
    with plain_attention():
        assert not loops()
        assert loops(implementation="chunked")
    assert loops()
