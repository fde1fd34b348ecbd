"""The loader: threads at one time, and memory that does not grow."""

import concurrent.futures
import os
import pathlib

import numpy as np
import pytest

from keras_attention.serving import read_signatures
from keras_attention.serving.c_api import SavedModelSession
from keras_attention.serving.verify import _library

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    import tensorflow as tf

    class Echo(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec((None,), tf.string, "text"),
                tf.TensorSpec((None, 3), tf.float32, "x"),
            ]
        )
        def serve(self, text, x):
            return {
                "same": text,
                "longer": text + text,
                "sum": tf.linalg.matvec(x, tf.ones(3)),
                "half": tf.cast(x, tf.bfloat16),
            }

    path = tmp_path_factory.mktemp("echo")
    module = Echo()
    tf.saved_model.save(module, path, {"serving_default": module.serve})
    return path


@pytest.fixture(scope="module")
def names(exported):
    signature = read_signatures(exported)["serving_default"]
    return {
        name: info["tensor"]
        for side in signature.values()
        for name, info in side.items()
    }


@pytest.fixture
def session(exported):
    with SavedModelSession(str(_library()), exported) as session:
        yield session


def feeds(names, text, x):
    texts = np.empty(len(text), object)
    texts[:] = text
    return {names["text"]: texts, names["x"]: x}


def resident():
    """Bytes of memory that the process has."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def growth(call, count):
    """By how much the process grows with further calls, in bytes."""
    for _ in range(5):
        call()
    before = resident()
    for _ in range(count):
        call()
    return resident() - before


MEGABYTE = 1 << 20


def test_strings_and_arrays_are_given_back(session, names):
    text = [b"x" * MEGABYTE, b"short", b""]
    inputs = feeds(names, text, np.ones((MEGABYTE // 12, 3), "float32"))
    outputs = [names["same"], names["longer"], names["sum"]]

    def run():
        same, longer, sums = session.run(inputs, outputs)
        assert same.tolist() == text and len(longer[0]) == 2 * MEGABYTE
        assert sums[-1] == 3

    # Leaking any one of the arrays would be 100 MB or more.
    assert growth(run, 100) < 40 * MEGABYTE


def test_requests_that_fail_are_given_back(session, names):
    x = np.ones((MEGABYTE // 8, 2), "float32")  # Three columns are expected.
    wrong = feeds(names, [b"x" * MEGABYTE], x)

    def run():
        with pytest.raises(RuntimeError, match="(?i)matrix size"):
            session.run(wrong, [names["sum"]])
        with pytest.raises(RuntimeError, match="no operation 'none'"):
            session.run(wrong, ["none:0"])
        with pytest.raises(RuntimeError, match="complex128"):
            session.run({**wrong, names["x"]: x.astype(complex)}, ["none"][:0])

    assert growth(run, 100) < 40 * MEGABYTE


def test_models_are_given_back(exported, names):
    def load():
        with SavedModelSession(str(_library()), exported) as session:
            inputs = feeds(names, [b"a"], np.ones((1, 3), "float32"))
            assert session.run(inputs, [names["sum"]])[0].tolist() == [3]

    assert growth(load, 50) < 20 * MEGABYTE


def test_a_model_that_cannot_be_loaded(tmp_path):
    def load():
        with pytest.raises(RuntimeError, match="Could not find SavedModel"):
            SavedModelSession(str(_library()), tmp_path)

    assert growth(load, 50) < 20 * MEGABYTE


def test_each_thread_gets_its_own_answer_or_error(session, names):
    def ask(number):
        columns = 3 if number % 3 else 2
        inputs = feeds(
            names,
            [str(number).encode()],
            np.full((number + 1, columns), number, "float32"),
        )
        try:
            same, sums = session.run(inputs, [names["same"], names["sum"]])
        except RuntimeError:
            return columns == 2
        return same[0] == str(number).encode() and (sums == 3 * number).all()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(300)))


def test_dtypes_without_a_name_in_numpy(session, names):
    inputs = feeds(names, [b"a"], np.ones((1, 3), "float32"))
    with pytest.raises(RuntimeError, match="number 14. Cast it"):
        session.run(inputs, [names["half"]])
