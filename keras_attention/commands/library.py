"""Imports the library when a command runs, quietly."""

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from keras_attention.commands.memory import keep_free_memory


def import_library(debug: bool = False) -> None:
    """Complete `import keras_attention`, which the entry point puts off.

    Args:
        debug: Whether what TensorFlow logs is shown.
    """
    package = sys.modules["keras_attention"]
    if not debug:
        _quiet()
    keep_free_memory()
    # TensorFlow's faster convolutions, which it takes by itself only where
    # there is AVX-512. It reads this while it is imported.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if not hasattr(package, "__version__"):
        with contextlib.nullcontext() if debug else _silent_errors():
            package.__spec__.loader.exec_module(package)


def _quiet() -> None:
    """Leave out the log of TensorFlow and the converters."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("absl", "tensorflow", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if "pytest" not in sys.modules:
        warnings.formatwarning = _one_line


def _one_line(message, category, filename, lineno, line=None) -> str:
    return f"Warning: {message}\n"


@contextlib.contextmanager
def _silent_errors() -> Iterator[None]:
    """Keep what C++ writes to the standard error output, unless it fails.

    While it is imported, TensorFlow logs before it reads its log level.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
