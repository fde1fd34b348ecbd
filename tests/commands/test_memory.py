import platform
import subprocess
import sys

import pytest

from keras_attention.commands import memory

# Allocates and frees arrays as the steps of a training do, and counts the
# pages that the system maps for them.
PROGRAM = """
import resource
import runpy
import sys

import numpy as np

if len(sys.argv) > 1:
    runpy.run_path(sys.argv[1])["keep_free_memory"]()


def mapped():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def step():
    return sum(array[0] for array in [np.ones(2**18) for _ in range(20)])


step()
before = mapped()
for _ in range(10):
    step()
print(mapped() - before)
"""


def pages(*arguments):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(result.stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="sets what glibc does"
)
def test_memory_that_is_freed_is_not_mapped_again():
    assert pages(memory.__file__) < pages() / 10
