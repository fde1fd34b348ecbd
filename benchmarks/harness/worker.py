"""Peers that need packages, settings or a version of Keras of their own.

A `Worker` is a process that holds one case at a time and runs it whenever it
is asked to, so that its rounds stay between ours: torch next to TensorFlow,
and Keras 2 next to Keras 3. The other end is `benchmarks.harness.serve`.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

# By itself malloc gives the memory of a large tensor back to the kernel at
# once, and page faults take longer than the operations. Set for TensorFlow and
# torch alike: floors would not be floors, and torch look ten times as slow.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**40),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",  # The arenas of threads cannot grow as large.
}
LEGACY_KERAS = {"TF_USE_LEGACY_KERAS": "1"}


def plain_environment() -> dict[str, str]:
    """The environment without `KEEP_MEMORY`, for what is about memory."""
    return {k: v for k, v in os.environ.items() if k not in KEEP_MEMORY}


class Worker:
    """A process that runs a case on request; it ends with the `with` block.

    Args:
        environment: variables that are set for the process, such as
            `LEGACY_KERAS`.
    """

    def __init__(self, environment: Mapping[str, str] | None = None):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._process.communicate()

    def load(self, target: str, **arguments: Any) -> list:
        """Make a case, instead of the one before, and run it once.

        Args:
            target: `"module:function"`. The function is called in the other
                process, with `arguments`, and returns the case: a function
                without arguments that returns a sequence of tensors.
            **arguments: NumPy arrays, and whatever else can be pickled.

        Returns:
            What the case gives, as NumPy arrays, to be compared with ours.
        """
        return self._ask((target, arguments))

    def measure(self, repeats: int = 1) -> float:
        """Seconds of one run, as the mean of `repeats`, without the pipe."""
        return self._ask(repeats)

    def _ask(self, request):
        try:
            pickle.dump(request, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (BrokenPipeError, EOFError) as error:
            raise RuntimeError(
                f"A worker ended with code {self._process.wait()}; its "
                "messages are above."
            ) from error
