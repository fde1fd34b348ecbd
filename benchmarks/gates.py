"""The gates of images beside their floors and their peers.

What every peer gives, gradients included, is compared with ours before
anything is timed. Layers have random weights; the backward pass is that of a
training step, with the statistics of the batch.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import keras_attention as ka
from benchmarks import floors
from benchmarks.cases import MODES
from benchmarks.cases import PASSES
from benchmarks.cases import check_equal
from benchmarks.cases import compiled
from benchmarks.cases import draw
from benchmarks.peers import naive
from benchmarks.report import Table
from benchmarks.timing import interleave
from benchmarks.worker import LEGACY_KERAS
from benchmarks.worker import TORCH
from benchmarks.worker import Worker

TITLE = "Gates"
LARGE, SMALL = (32, 56, 56, 256), (8, 14, 14, 1024)
# Peers in a process of their own, compared in the plain graph.
WORKERS = {
    "kecam": ("benchmarks.peers.kecam:case", LEGACY_KERAS),
    "torch": ("benchmarks.peers.torch_gates:case", TORCH),
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
    """

    make: Callable[[], keras.layers.Layer]
    peers: dict[str, Callable] = field(default_factory=dict)
    workers: tuple[str, ...] = ()


def keras_cv_squeeze_excite(ours):
    from keras_cv.layers import SqueezeAndExcite2D

    channels = ours.expand.units
    peer = SqueezeAndExcite2D(channels, bottleneck_filters=ours.reduce.units)
    return lambda x, training: peer(x, training=training), [peer]


SUBJECTS = {
    "SqueezeExcite": Subject(
        ka.SqueezeExcite,
        {"naive": naive.squeeze_excite, "KerasCV": keras_cv_squeeze_excite},
        ("kecam", "torch"),
    ),
    "EfficientChannelAttention": Subject(
        ka.EfficientChannelAttention,
        {"naive": naive.efficient_channel_attention},
        ("kecam", "torch"),
    ),
    "CBAM": Subject(ka.CBAM, {"naive": naive.cbam}, ("torch",)),
    "GatherExcite, extent 2": Subject(
        functools.partial(ka.GatherExcite, 2), {"naive": naive.gather_excite}
    ),
}


def run(quick: bool = False) -> list[Table]:
    shapes = [(4, 28, 28, 64)] if quick else [LARGE, SMALL]
    return [compare(SUBJECTS, shape, 3 if quick else 15) for shape in shapes]


def compare(subjects: dict[str, Subject], shape: tuple, rounds: int) -> Table:
    """A table of all subjects at one shape."""
    names = [
        name
        for name in ("naive", "KerasCV", *WORKERS)
        if any(name in (*s.peers, *s.workers) for s in subjects.values())
    ]
    table = Table(
        ["layer", "mode", "pass", "ours, ms", "ours ÷ floor"]
        + [f"{name} ÷ ours" for name in names],
        f"Input {shape}, float32. The floor is the time in which the bytes "
        "are moved that a gate must move: three times the input's forward, "
        "seven times forward and backward.",
    )
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(WORKERS[name][1]))
            for name in names
            if name in WORKERS
        }
        for title in tqdm(subjects, str(shape), leave=False):
            for mode, jit in MODES.items():
                for direction in PASSES:
                    timings, moved = _time(
                        *(title, subjects[title], shape, jit),
                        *(direction == PASSES[1], workers, rounds),
                    )
                    table.add(
                        *(title, mode, direction),
                        f"{timings.milliseconds('ours').median:.1f}",
                        timings.ratio("ours", "scale", moved),
                        *(
                            timings.ratio(name, "ours")
                            if name in timings.seconds
                            else "–"
                            for name in names
                        ),
                    )
    return table


def _time(title, subject, shape, jit, backward, workers, rounds):
    """Timings of all ways, and how many scales move what must be moved."""
    x, upstream = draw(*shape), draw(*shape) if backward else None
    ours = subject.make()
    ours.build(shape)
    weights = ours.trainable_variables
    for weight in weights:
        scale = max(1, np.prod(weight.shape[:-1])) ** -0.5
        weight.assign(scale * draw(*weight.shape))

    def case(call, variables):
        call = functools.partial(call, training=backward)
        return compiled(call, variables, [x], backward, jit, upstream)

    cases = {"ours": case(ours, weights), "scale": floors.scale(x)}
    expected = tf.nest.flatten(cases["ours"]())
    for name, make in subject.peers.items():
        call, parts = make(ours)
        call(x[:1], training=False)
        variables = [v for part in parts for v in part.trainable_variables]
        for mine, theirs in zip(weights, variables, strict=True):
            theirs.assign(_arranged(mine, theirs))
        cases[name] = case(call, variables)
        found = tf.nest.flatten(cases[name]())
        images = len(expected) - len(variables) if backward else 1
        like = [None] * images + variables
        for one, other, variable in zip(expected, found, like, strict=False):
            if variable is not None:
                one = _arranged(one, variable)
            check_equal(one, other, name)
    for name in () if jit else subject.workers:
        cases[name] = workers[name]
        found = workers[name].load(
            WORKERS[name][0],
            name=title,
            x=x.numpy(),
            weights=[weight.numpy() for weight in weights],
            upstream=upstream if upstream is None else upstream.numpy(),
        )
        for one, other in zip(expected, found, strict=True):
            check_equal(one, tf.reshape(other, one.shape), name)
    # A scale moves the bytes of the input twice.
    return interleave(cases, rounds), (7 if backward else 3) / 2


def _arranged(value, variable):
    """Our weight, or its gradient, as a peer's variable has it."""
    if "rows" in variable.path and len(value.shape) == 3:
        value = tf.transpose(value, (1, 0, 2))  # [i, j, n] to [j, 1, i, n]
    return tf.reshape(value, variable.shape)
