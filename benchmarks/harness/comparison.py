"""One layer compared with its floor and peers, at one shape, in all modes.

What every peer gives, gradients included, is compared with ours before
anything is timed. Layers have random weights; the backward pass is that of a
training step, with the statistics of the batch.
"""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from benchmarks.harness import floors
from benchmarks.harness.cases import MODES
from benchmarks.harness.cases import PASSES
from benchmarks.harness.cases import check_equal
from benchmarks.harness.cases import compiled
from benchmarks.harness.cases import draw
from benchmarks.harness.report import Table
from benchmarks.harness.timing import interleave
from benchmarks.harness.worker import LEGACY_KERAS
from benchmarks.harness.worker import Worker

# Peers in a process of their own, compared in the plain graph.
WORKERS = {
    "kecam": ("benchmarks.peers.kecam:case", LEGACY_KERAS),
    "torch": ("benchmarks.peers.torch_gates:case", {}),
}


@dataclass(frozen=True)
class Subject:
    """A layer of ours and the peers that do the same work.

    Attributes:
        make: returns our layer.
        peers: name to a function of our built layer that returns the peer's
            call, of an image and of `training`, and its layers with weights
            in the order of ours.
        workers: keys of `WORKERS` that have the layer.
        products: returns the pairs of shapes of the layer's matrix products,
            which take the place of the bytes as its floor.
        tolerance: Tolerance of the comparison, on the scale of the largest
            value.
    """

    make: Callable[[], keras.layers.Layer]
    peers: dict[str, Callable] = field(default_factory=dict)
    workers: tuple[str, ...] = ()
    products: Callable[[tuple], list[tuple]] | None = None
    tolerance: float = 1e-3


def compare(
    subjects: dict[str, Subject],
    shape: tuple,
    rounds: int,
    modes: dict[str, bool] = MODES,
    passes: Sequence[str] = PASSES,
) -> Table:
    """A table of all subjects at one shape."""
    names = [
        name
        for name in ("naive", "KerasCV", *WORKERS)
        if any(name in (*s.peers, *s.workers) for s in subjects.values())
    ]
    table = Table(
        ["layer", "mode", "pass", "ours, ms", "floor", "ours ÷ floor"]
        + [f"{name} ÷ ours" for name in names],
        f"Input {shape}, float32. The floor is the time in which the bytes "
        "are moved that a gate must move: three times the N bytes of the "
        "input forward, seven times forward and backward.",
    )
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(WORKERS[name][1]))
            for name in names
            if name in WORKERS
        }
        for title in tqdm(subjects, str(shape), leave=False):
            for mode, jit in modes.items():
                for direction in passes:
                    timings, floor, count = _time(
                        *(title, subjects[title], shape, jit),
                        *(direction == PASSES[1], workers, rounds),
                    )
                    table.add(
                        *(title, mode, direction),
                        f"{timings.milliseconds('ours').median:.1f}",
                        floor,
                        timings.ratio("ours", "floor", count),
                        *(
                            timings.ratio(name, "ours")
                            if name in timings.seconds
                            else "–"
                            for name in names
                        ),
                    )
    return table


def _time(title, subject, shape, jit, backward, workers, rounds):
    """Timings of all ways, the floor's name, and how often it must run."""
    x, upstream = draw(*shape), draw(*shape) if backward else None
    ours = subject.make()
    ours.build(shape)
    weights = ours.trainable_variables
    for weight in weights:
        scale = max(1, np.prod(weight.shape[:-1])) ** -0.5
        weight.assign(scale * draw(*weight.shape))

    def check(name, expected, found):
        _check(f"{title}, {name}", expected, found, subject.tolerance)

    def case(call, variables):
        call = functools.partial(call, training=backward)
        return compiled(call, variables, [x], backward, jit, upstream)

    if subject.products is None:
        # A scale moves the bytes of the input twice.
        moved = 7 if backward else 3
        floor, run_floor, count = f"{moved}N", floors.scale(x), moved / 2
    else:
        count = 3 if backward else 1
        floor, run_floor = "products", floors.products(subject.products(shape))
    cases = {"ours": case(ours, weights), "floor": run_floor}
    expected = tf.nest.flatten(cases["ours"]())
    for name, make in subject.peers.items():
        call, parts = make(ours)
        call(x[:1], training=False)
        variables = [v for part in parts for v in part.trainable_variables]
        for mine, theirs in zip(weights, variables, strict=True):
            theirs.assign(_arranged(mine, theirs))
        cases[name] = case(call, variables)
        found = tf.nest.flatten(cases[name]())
        like = [
            _arranged(gradient, variable)
            for gradient, variable in zip(
                expected[2:], variables if backward else (), strict=True
            )
        ]
        check(name, [*expected[:2], *like], found)
    for name in () if jit else subject.workers:
        cases[name] = workers[name]
        found = workers[name].load(
            WORKERS[name][0],
            name=title,
            x=x.numpy(),
            weights=[weight.numpy() for weight in weights],
            upstream=upstream if upstream is None else upstream.numpy(),
        )
        check(name, expected, found)
    return interleave(cases, rounds), floor, count


def _check(name, expected, found, tolerance):
    """Compare output and gradients: of the image, and of the weights."""
    found = [
        tf.reshape(other, one.shape)
        for one, other in zip(expected, found, strict=True)
    ]
    for part in (slice(0, 1), slice(1, 2), slice(2, None)):
        check_equal(expected[part], found[part], name, tolerance)


def _arranged(value, variable):
    """Our weight, or its gradient, as a peer's variable has it."""
    if "rows" in variable.path and len(value.shape) == 3:
        value = tf.transpose(value, (1, 0, 2))  # [i, j, n] to [j, 1, i, n]
    return tf.reshape(value, variable.shape)
