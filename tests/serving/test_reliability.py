"""Exports that are killed, disks that are full, files that are damaged."""

import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import pytest

from keras_attention.serving import export_for_serving
from keras_attention.serving import read_signatures
from keras_attention.serving import run_export
from keras_attention.serving import saved_model
from keras_attention.serving.c_api import SavedModelSession
from keras_attention.serving.verify import _library

pytestmark = pytest.mark.tensorflow

# Exports again and again: a new version, and version 1 replaced.
EXPORTS = """
import sys, keras
from keras_attention.serving import export_for_serving
inputs = keras.Input((4,), name="x")
model = keras.Model(inputs, keras.layers.Dense(500, name="head")(inputs))
while True:
    print("next", flush=True)
    export_for_serving(model, sys.argv[1], verify=False)
    export_for_serving(model, sys.argv[1], 1, verify=False, overwrite=True)
"""


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(inputs))


@pytest.fixture
def exported(tmp_path, model):
    return export_for_serving(model, tmp_path / "model", verify=False)


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_whole(folder):
    """Every version that is there answers; the killed one left no other."""
    versions = [p for p in folder.iterdir() if p.name.isdigit()]
    others = {p.name.split("-")[0] for p in folder.iterdir()} - {
        p.name for p in versions
    }
    assert versions and others <= {".writing", ".replaced"}
    x = np.ones((2, 4), "float32")
    for path in versions:
        signature = read_signatures(path)["serving_default"]
        names = [
            info["tensor"]
            for side in ("inputs", "outputs")
            for info in signature[side].values()
        ]
        with SavedModelSession(str(_library()), path) as session:
            (head,) = session.run({names[0]: x}, names[1:])
        assert head.shape == (2, 500)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_killed_export_leaves_no_half_version(tmp_path, kills):
    for number in range(kills):
        with subprocess.Popen(
            [sys.executable, "-c", EXPORTS, tmp_path],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            for _ in range(2):  # Of which the first is whole.
                assert process.stdout.readline() == "next\n"
            time.sleep(random.uniform(0, 1))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        left = sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit())
        # What the kills before left has been asked.
        for name in left[:-2] if number else []:
            shutil.rmtree(tmp_path / name)
        check_whole(tmp_path)


def age(monkeypatch):
    """Let everything be two days old."""
    monkeypatch.setattr(saved_model.time, "time", lambda: 2e5 + _now())


_now = time.time


def test_what_killed_exports_leave_is_removed_on_another_day(
    exported, model, monkeypatch
):
    folder = exported.parent
    shutil.copytree(exported, folder / ".writing-a")
    shutil.copytree(exported, folder / ".replaced-1-b")
    (folder / ".replaced-1-b" / "old").touch()
    before = sorted(os.listdir(folder))
    export_for_serving(model, folder, verify=False)
    assert sorted(os.listdir(folder)) == sorted([*before, "2"])
    age(monkeypatch)
    export_for_serving(model, folder, verify=False)
    assert sorted(os.listdir(folder)) == ["1", "2", "3"]
    assert not (folder / "1" / "old").exists()


def test_a_version_lost_while_it_was_replaced_is_put_back(
    exported, model, monkeypatch
):
    folder, before = exported.parent, contents(exported)
    exported.rename(folder / ".replaced-1-c")
    age(monkeypatch)
    assert export_for_serving(model, folder, verify=False).name == "2"
    assert contents(folder / "1") == before
    assert sorted(os.listdir(folder)) == ["1", "2"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk(tmp_path, exported, overwrite):
    """The kernel's limit of a file's size stands for the disk's."""
    before = contents(exported.parent)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    inputs = keras.Input((4,), name="x")
    big = keras.Model(inputs, keras.layers.Dense(99_991)(inputs))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))
    try:
        with pytest.raises(OSError, match="could not be written|too large"):
            export_for_serving(
                big,
                exported.parent,
                1 if overwrite else None,
                overwrite=overwrite,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert contents(exported.parent) == before
    assert os.listdir(exported.parent) == ["1"]


def test_a_folder_that_cannot_be_written(model, exported):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "model"
        folder.parent.chmod(0o755)
        shutil.copytree(exported.parent, folder)
        before = contents(folder)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:  # Whom no folder refuses.
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match="model"):
                export_for_serving(model, folder)
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
        assert contents(folder) == before


def test_a_file_where_the_folder_should_be(model, tmp_path):
    (tmp_path / "file").write_text("text")
    for place in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(OSError, match="file"):
            export_for_serving(model, place)
    assert contents(tmp_path) == {pathlib.Path("file"): b"text"}


@pytest.mark.parametrize("damage", ["missing", "short", "index"])
def test_an_export_whose_variables_are_damaged(exported, damage):
    (shard,) = (exported / "variables").glob("variables.data-*")
    if damage == "missing":
        shard.unlink()
    elif damage == "short":
        shard.write_bytes(shard.read_bytes()[:-8])
    else:
        (exported / "variables" / "variables.index").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"could not load or run.*variables"):
        run_export(exported, {"x": np.ones((1, 4), "float32")})
