"""The process of a `harness.worker.Worker`: runs its case on request."""

import importlib
import os
import pickle
import sys

import numpy as np

from benchmarks.harness.timing import measure


def main():
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints is no answer.
    run = None
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if isinstance(request, int):
            answer = measure(run, request)
        else:
            run = None  # Its memory is free before the next one takes some.
            target, arguments = request
            module, function = target.split(":")
            run = getattr(importlib.import_module(module), function)(
                **arguments
            )
            answer = [np.asarray(result) for result in run()]
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    main()
