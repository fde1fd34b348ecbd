"""Peak memory of one call, over what its inputs take, in a fresh process.

`peak_memory("benchmarks.subjects.attention:train", length=4096)` starts a
process that calls `train(length=4096)`, which returns the call to be measured,
and runs that twice: once to trace and warm up, once counted. Linux only: the
kernel's own high-water mark is read, and reset between the two.
"""

import ctypes
import gc
import importlib
import json
import pathlib
import subprocess
import sys
from typing import Any

from benchmarks.harness.worker import plain_environment

STATUS = pathlib.Path("/proc/self/status")
RESET = pathlib.Path("/proc/self/clear_refs")


def peak_memory(target: str, **arguments: Any) -> int:
    """Bytes above the inputs that the call returned by `target` takes."""
    result = subprocess.run(
        [sys.executable, "-m", __name__, target, json.dumps(arguments)],
        capture_output=True,
        text=True,
        env={
            **plain_environment(),
            "MALLOC_ARENA_MAX": "2",
            # On processors for which oneDNN is on, TensorFlow has an
            # allocator that gives nothing back: a second run needs no more.
            "TF_ENABLE_ONEDNN_OPTS": "0",
        },
    )
    if result.returncode:
        raise RuntimeError(
            f"The measurement of {target}({arguments}) failed:\n"
            f"{result.stderr[-2000:]}"
        )
    return int(result.stdout.split()[-1])


def _status(field):
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"{STATUS} has no {field}")


def _main(target, arguments):
    module, function = target.split(":")
    run = getattr(importlib.import_module(module), function)(**arguments)
    run()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _status("VmRSS")
    RESET.write_text("5")
    run()
    print(_status("VmHWM") - before)


if __name__ == "__main__":
    _main(sys.argv[1], json.loads(sys.argv[2]))
