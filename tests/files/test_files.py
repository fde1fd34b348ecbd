"""Hostile files are refused before anything is allocated, opened or run."""

import io
import json
import pathlib
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_attention import pixels
from keras_attention.files import check_keras_file
from keras_attention.files import check_onnx
from keras_attention.files import check_saved_model
from keras_attention.files import check_torch_file
from keras_attention.files import inspect_file
from keras_attention.files import read_array
from keras_attention.files import read_arrays
from keras_attention.files import read_json


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(path)
    return path


def rewrite(source, target, change, name="config.json"):
    """Copies an archive with one member changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            contents = old.read(member)
            if member == name:
                contents = change(contents)
            new.writestr(member, contents)
    return target


def with_layer(source, target, entry):
    """Copies a .keras file, its second layer replaced by an entry."""

    def change(contents):
        config = json.loads(contents)
        config["config"]["layers"][1] = entry
        return json.dumps(config)

    return rewrite(source, target, change)


def dense(**changes):
    config = {"name": "dense", "units": 2, **changes}
    return {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": config,
        "registered_name": None,
    }


def test_a_good_model_passes(model_file, tmp_path):
    check_keras_file(model_file)
    assert pixels.load_model(model_file).count_params() == 8
    report = inspect_file(model_file)
    assert report.counts["Dense"] == 1 and not report.findings
    assert "Dense" in str(report)


def test_only_layers_are_counted(tmp_path):
    """Not dtype policies, optimizers, losses, metrics and initializers."""
    inputs = keras.Input((8, 4))
    policy = keras.DTypePolicy("mixed_bfloat16")
    x = keras.layers.Dense(4, kernel_initializer="he_normal", dtype=policy)(
        inputs
    )
    x = keras.layers.Bidirectional(keras.layers.LSTM(3))(x + 1)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype=policy)(x))
    model.compile(
        "adam",
        keras.losses.MeanSquaredError(),
        [keras.metrics.MeanAbsoluteError()],
    )
    model.save(tmp_path / "model.keras")
    assert inspect_file(tmp_path / "model.keras").counts == {
        "Dense": 2,
        "LSTM": 2,
        "Functional": 1,
        "InputLayer": 1,
        "Add": 1,
        "Bidirectional": 1,
    }


GADGETS = {
    "a Lambda": {"class_name": "Lambda", "module": "keras.layers"},
    "a Lambda of a package": {"class_name": "keras>Lambda", "module": None},
    "a graph": {"class_name": "TFSMLayer", "module": "keras.layers"},
    "a torch module": {
        "class_name": "TorchModuleWrapper",
        "module": "keras.layers",
    },
    "jax": {"class_name": "JaxLayer", "module": "keras.layers"},
    "os.system": {"class_name": "system", "module": "os"},
    "a function of os": {
        "class_name": "function",
        "module": "os",
        "config": "system",
        "registered_name": "function",
    },
    "a module of the user": {
        "class_name": "Evil",
        "module": "mymodule.keras",
        "registered_name": "evil>Evil",
    },
}


@pytest.mark.parametrize("entry", GADGETS.values(), ids=GADGETS.keys())
@pytest.mark.parametrize("nested", [False, True])
def test_classes_that_run_code_are_refused(entry, nested, model_file, tmp_path):
    entry = {"config": {"name": "x"}, "registered_name": "Evil>X", **entry}
    if nested:
        entry = {
            "module": "keras.layers",
            "class_name": "TimeDistributed",
            "config": {"name": "wrapper", "layer": entry},
        }
    path = with_layer(model_file, tmp_path / "evil.keras", entry)
    with pytest.raises(ValueError, match=r"evil\.keras: The file has"):
        pixels.load_model(path)
    assert len(inspect_file(path).findings) == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (dense(vocabulary="/etc/passwd"), "vocabulary is in another file"),
        (dense(units=10**10), "claims units=10,000,000,000"),
    ],
)
def test_claims_of_a_configuration(entry, message, model_file, tmp_path):
    path = with_layer(model_file, tmp_path / "evil.keras", entry)
    with pytest.raises(ValueError, match=message):
        check_keras_file(path)


def test_custom_objects_are_known(model_file, tmp_path):
    entry = dense() | {"class_name": "Mine", "module": "mine"}
    path = with_layer(model_file, tmp_path / "mine.keras", entry)
    with pytest.raises(ValueError, match="--import MODULE"):
        check_keras_file(path)
    check_keras_file(path, {"Mine": keras.layers.Dense})


def external(file):
    file["layers/x"] = h5py.ExternalLink("/etc/other.h5", "/x")


def soft(file):
    file["layers/x"] = h5py.SoftLink("/layers")


def outside(file):
    file.create_dataset(
        "x", (10,), "f4", external=[("/etc/passwd", 0, 40)], efile_prefix="/"
    )


def virtual(file):
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (10,))
    file.create_virtual_dataset("x", layout)


def bomb(file):
    file.create_dataset("x", (10**6, 10**6), "f4", compression="gzip")


def cycle(file):
    file["a/b"] = file.create_group("c")
    file["c/a"] = file["a"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (external, "is a link"),
        (soft, "is a link"),
        (outside, "in another file"),
        (virtual, "in another file"),
        (bomb, "claims 4,000,000,000,000 bytes"),
        (cycle, None),
    ],
)
def test_weights_of_other_files(write, message, model_file, tmp_path):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        write(file)
    path = rewrite(
        model_file,
        tmp_path / "evil.keras",
        lambda contents: stream.getvalue(),
        "model.weights.h5",
    )
    findings = inspect_file(path).findings
    if message is None:  # Only that Dense(2) has no weights in it.
        assert "claims units" in findings[0]
    else:
        assert message in findings[0]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("../evil", 0, "points out"),
        ("/evil", 0, "points out"),
        ("assets\\..\\..\\evil", 0, "points out"),
        ("C:/evil", 0, "points out"),
        ("link", 0o120777 << 16, "is a link"),
    ],
)
def test_members_of_archives(name, kind, message, model_file, tmp_path):
    path = rewrite(model_file, tmp_path / "evil.keras", lambda c: c)
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo(name)
        member.filename = name
        member.external_attr = kind
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ValueError, match=message):
        check_keras_file(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_occurs_twice(model_file, tmp_path):
    path = rewrite(model_file, tmp_path / "evil.keras", lambda c: c)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match="occurs twice"):
        check_keras_file(path)


def test_an_archive_that_unpacks_to_gigabytes(tmp_path):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        block = bytes(16 * 2**20)
        for _ in range(20):
            file.write(block)
    assert path.stat().st_size < 400_000
    with pytest.raises(ValueError, match="claims 335,544,320 bytes"):
        read_arrays(path)


def header(shape, descr="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"shape": shape, "fortran_order": False, "descr": descr}
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (header((10**6, 10**5)), "claims 400,000,000,000 bytes"),
        (header((-4, -4)) + bytes(64), "claims"),
        (header((4,), "|O") + bytes(32), "pickled"),
        (header((4,)) + bytes(15), "complete"),
        (b"\x93NUMPY\x01\x00", "not an array"),
        (b"\x93NUMPY\x09\x00" + bytes(20), "not an array"),
        (b"PK", "not an array"),
        (header((4,), "|S0"), "no size"),
        (b"", "not an array"),
    ],
)
def test_arrays(contents, message, tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=message) as caught:
        read_array(path)
    assert "x.npy" in str(caught.value)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", contents)
    with pytest.raises(ValueError, match=message):
        read_arrays(tmp_path / "x.npz")


def test_arrays_are_read(tmp_path):
    x = np.arange(6.0).reshape(2, 3)
    arrays = {"x": x, "f": np.asfortranarray(x), "t": np.array(["a", "bc"])}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    for name, read in read_arrays(tmp_path / "x.npz").items():
        np.testing.assert_array_equal(read, arrays[name])
        assert read.dtype == arrays[name].dtype and read.flags.writeable
    np.save(tmp_path / "y.npy", np.float32(3))
    assert read_array(tmp_path / "y.npy") == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("{", "not valid JSON"),
        ("1" * 5000, "not valid JSON"),
    ],
)
def test_json(text, message, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(path)


def test_text_that_is_too_large_or_not_utf_8(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        read_json(path)
    with pytest.raises(ValueError, match="up to 2 bytes"):
        read_json(path, max_bytes=2)
    with pytest.raises(ValueError, match="not a folder"):
        read_json(tmp_path)


def test_headers_of_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"x": entry, "__metadata__": {}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    assert inspect_file(path).tensors == [("x", (2,), "F32")]
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match="outside of the file"):
        inspect_file(path)
    path.write_bytes((10**15).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match="header claims"):
        inspect_file(path)


def test_files_of_torch(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    report = inspect_file(path)
    assert "os.system" in report.findings[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}q\x00.")
        for n in range(20):
            archive.writestr(f"x/data/{n}", bytes(16 * 2**20))
    with pytest.raises(ValueError, match="archive claims"):
        check_torch_file(path)


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["read", "write", "print", "python", "save"])
def test_operations_of_a_saved_model(kind, tmp_path):
    import tensorflow as tf

    victim = str(tmp_path / "victim")

    def call(x):
        if kind == "read":
            tf.io.read_file("/etc/passwd")
        elif kind == "write":
            tf.io.write_file(victim, "evil")
        elif kind == "print":
            tf.print(x)
        elif kind == "python":
            x = tf.py_function(lambda y: y, [x], tf.float32)
        else:
            tf.raw_ops.SaveV2(
                prefix=victim,
                tensor_names=["x"],
                shape_and_slices=[""],
                tensors=[x],
            )
        return tf.identity(x)

    class Holder(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), "float32")])
        def __call__(self, x):
            # Inside of a function of a function, and of a branch.
            return tf.cond(x[0] > 0, lambda: inner(x), lambda: x)

    inner = tf.function(call)
    tf.saved_model.save(Holder(), str(tmp_path / "evil"))
    with pytest.raises(ValueError, match="The graph has the operation"):
        check_saved_model(tmp_path / "evil")
    assert inspect_file(tmp_path / "evil").findings


@pytest.mark.tensorflow
def test_a_saved_model_of_keras_passes(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.RandomFlip(),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Reshape((6, 24)),
            keras.layers.LSTM(5),
        ]
    )
    model.export(tmp_path / "good", verbose=False)
    check_saved_model(tmp_path / "good")
    assert inspect_file(tmp_path / "good").counts["Conv2D"] >= 1
    graph = tmp_path / "good" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(ValueError, match="Damaged"):
        check_saved_model(tmp_path / "good")


def test_onnx_in_several_files(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    tensor = onnx.numpy_helper.from_array(np.ones(4, "float32"), "w")
    out = onnx.helper.make_tensor_value_info("y", 1, [4])
    nodes = [onnx.helper.make_node("Identity", ["w"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", [], [out], [tensor])
    path = tmp_path / "x.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    check_onnx(path)
    assert inspect_file(path).counts == {"Identity": 1}
    entry = graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    graph.initializer[0].data_location = 1
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(ValueError, match="is in another file"):
        check_onnx(path)


def test_kinds_of_files(tmp_path):
    path = tmp_path / "x.exe"
    path.write_bytes(b"MZ")
    with pytest.raises(ValueError, match="The kind of file must be one of"):
        inspect_file(path)
    with pytest.raises(FileNotFoundError):
        inspect_file(pathlib.Path(tmp_path, "missing.keras"))
    with pytest.raises(FileNotFoundError, match="no SavedModel"):
        inspect_file(tmp_path)
