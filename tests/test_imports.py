"""Imports run one way, and the core needs keras and numpy alone."""

import ast
import pathlib
import subprocess
import sys

import pytest

import keras_attention

PACKAGE = pathlib.Path(keras_attention.__file__).parent
# A room may import from rooms of a lower level, and from itself.
LEVELS = [
    {"files", "image_files", "types", "validation", "version"},
    {"inspection", "ops", "pixels"},
    {"positions"},
    {"layers"},
    {
        "models",
        "surgery",
        "distillation",
        "evaluation",
        "visualization",
        "serving",
        "datasets",
        "weights",
    },
    {"catalogue", "demo"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: n for n, rooms in enumerate(LEVELS) for room in rooms}


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "keras_attention":
                names = [f"keras_attention.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] != "keras_attention" or len(parts) == 1:
                continue
            if parts[1] != "__version__":
                yield parts[1]


def test_imports_run_one_way():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in LEVEL, f"{room} has no level in this test"
        for other in imported_rooms(path):
            if other != room and LEVEL[other] >= LEVEL[room]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_import_needs_no_extra():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_attention;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "new -= set(sys.stdlib_module_names);"
        "sys.exit(repr(new) if new - {'keras_attention', 'keras'} else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_rooms_are_imported_when_asked_for():
    code = (
        "import sys, keras_attention as ka\n"
        "assert 'keras_attention.models' not in sys.modules\n"
        "for room in ('models', 'evaluation', 'serving', 'visualization'):\n"
        "    assert getattr(ka, room).__name__ == 'keras_attention.' + room\n"
        "assert not hasattr(ka, 'other')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
