"""The command that runs subjects one after the other."""

import os
import sys

import pytest

pytest.importorskip("tqdm", reason="needs the extra 'benchmark'")

from benchmarks import __main__ as command
from benchmarks.harness.example import DataMissing
from benchmarks.harness.worker import KEEP_MEMORY


@pytest.fixture
def run(monkeypatch):
    """Runs the command, quickly, with subjects of which some fail.

    It returns the names of those that were run.
    """
    monkeypatch.setattr(os, "environ", {**os.environ, **KEEP_MEMORY})
    ran = []

    def subject(name, quick):
        ran.append(name)
        if name == "blimp":
            raise DataMissing("set BLIMP")
        if name == "soak":
            raise RuntimeError("went wrong")

    monkeypatch.setattr(command, "run", subject)

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", *arguments])
        command.main()
        return ran

    return main


def test_missing_data_leave_a_subject_out(run, monkeypatch, capsys):
    monkeypatch.setattr(command, "SUBJECTS", ("blimp", "gates"))
    assert run() == ["blimp", "gates"]
    assert "blimp is left out. set BLIMP" in capsys.readouterr().out


def test_data_missing_for_a_subject_that_was_named_fail(run):
    with pytest.raises(SystemExit, match="blimp"):
        run("blimp")


def test_long_trainings_are_run_quickly_only_if_named(run, monkeypatch):
    monkeypatch.setattr(command, "SUBJECTS", ("cifar10", "gates"))
    assert run() == ["gates"]
    assert run("cifar10") == ["gates", "cifar10"]


def test_a_subject_that_fails_lets_the_others_run(run, capsys):
    with pytest.raises(SystemExit, match="soak"):
        run("soak", "gates")
    assert "went wrong" in capsys.readouterr().out
