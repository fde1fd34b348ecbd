"""Nothing in the package runs code that comes in a file."""

import ast
import pathlib

import keras
import pytest

import keras_attention
from keras_attention.commands.load import load_model
from keras_attention.evaluation import TextVectorizationTokenizer

PACKAGE = pathlib.Path(keras_attention.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle"}
MODULES |= {"shelve"}
CALLS = {"Lambda", "compile", "eval", "exec", "enable_unsafe_deserialization"}
# `safe_mode` and `allow_pickle` are never given, but as what keeps it so.
ARGUMENTS = {"safe_mode": True, "allow_pickle": False, "weights_only": True}


def faults(source):
    """Names what in a file's source could run code that was read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Call):
            yield from faults_of_call(node)
            continue
        else:
            continue
        for name in names & MODULES:
            yield f"line {node.lineno}: import of {name}"


def faults_of_call(call):
    function = call.func
    name = getattr(function, "id", getattr(function, "attr", None))
    # A model's `compile` is a method; Python's own is called by its name.
    if name in CALLS and not (
        name == "compile" and isinstance(function, ast.Attribute)
    ):
        yield f"line {call.lineno}: call of {name}"
    for keyword in call.keywords:
        if keyword.arg not in ARGUMENTS:
            continue
        value = getattr(keyword.value, "value", None)
        if value is not ARGUMENTS[keyword.arg]:
            yield f"line {call.lineno}: {keyword.arg}"


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_file_runs_what_it_reads(path):
    assert not list(faults(path.read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import joblib.hashing",
        "eval('1')",
        "exec('1')",
        "compile('1', '', 'eval')",
        "keras.layers.Lambda(f)",
        "keras.saving.load_model(p, safe_mode=False)",
        "keras.saving.load_model(p, safe_mode=safe)",
        "keras.config.enable_unsafe_deserialization()",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_the_search_finds(source):
    assert len(list(faults(source))) == 1


def test_what_is_safe_passes():
    assert not list(faults("model.compile('sgd')\nnp.load(p)\nx.pickled()"))


@pytest.mark.parametrize(
    "load",
    [lambda path: load_model(path, ()), TextVectorizationTokenizer.load],
)
def test_a_lambda_in_a_file_is_refused(load, tmp_path):
    path = str(tmp_path / "model.keras")
    layer = keras.layers.Lambda(lambda x: x + 1)
    keras.Sequential([keras.Input((3,)), layer]).save(path)
    with pytest.raises(ValueError, match="Lambda"):
        load(path)
