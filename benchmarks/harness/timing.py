"""Paired timings: in every round each case runs once, in changing order.

Machines are noisy and drift. A ratio is therefore taken inside each round,
between neighbors in time, and the median of the rounds is quoted with its
quartiles.
"""

import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.harness.worker import Worker

MIN_SECONDS = 0.05


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class Timings:
    """Seconds of every case in every round."""

    seconds: Mapping[str, np.ndarray]

    def milliseconds(self, case: str) -> Spread:
        return Spread.of(1e3 * self.seconds[case])

    def ratio(self, case: str, to: str, times: float = 1) -> Spread:
        """How many times as long `case` takes as `times` runs of `to`.

        It is taken round by round.
        """
        return Spread.of(self.seconds[case] / self.seconds[to] / times)


def interleave(
    cases: Mapping[str, Callable[[], Any] | Worker],
    rounds: int = 15,
    progress: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Time all cases side by side.

    Args:
        cases: name to function, or to a worker that has loaded its case; a
            function returns when its work is done.
        rounds: how often each case is measured.
        progress: what the progress bar is called; `None` shows none.
        clock: `time.process_time` measures the processor's time, of all
            threads, which others on the machine change less.
    """
    repeats = {name: _repeats(run) for name, run in cases.items()}
    names = list(cases)
    seconds = {name: np.empty(rounds) for name in names}
    rows = tqdm(range(rounds), progress, disable=progress is None, leave=False)
    for number in rows:
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name][number] = measure(cases[name], repeats[name], clock)
    return Timings(seconds)


def measure(
    run: Callable[[], Any] | Worker,
    repeats: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of one call, as the mean of `repeats` calls.

    A worker has a clock of its own.
    """
    if isinstance(run, Worker):
        return run.measure(repeats)
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats


def _repeats(run):
    """Warm up; then as many calls as one measurement needs to be seen."""
    measure(run, 2)
    return max(1, min(1000, round(MIN_SECONDS / measure(run))))
