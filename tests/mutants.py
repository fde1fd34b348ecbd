"""Breaks layers on purpose and asks whether the conformance table notices.

    python tests/mutants.py [WORDS]

Each mutant changes one line of the package, or breaks a layer from outside:
its configuration forgets an argument or resets it, or its constructor drops
one. The table's rows of the layers concerned are then run in a process of
their own. A mutant that no test notices survives; the command fails unless
it is one of `KNOWN`. With WORDS only the mutants whose name has one of them
are run.
"""

import contextlib
import importlib.machinery
import inspect
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "keras_attention"
PROCESSES = 2
# Seconds after which a mutant counts as noticed: it does not end.
PATIENCE = 400

# Survivors, each with the reason.
KNOWN: dict[str, str] = {}


@dataclass(frozen=True)
class Mutant:
    """A line of the source, changed.

    Attributes:
        file: path inside the package.
        old: text that is in the file once.
        new: what stands there instead.
        rows: expression of pytest that chooses the table's rows.
        tests: files of `tests/conformance` that are run.
    """

    file: str
    old: str
    new: str
    rows: str
    tests: tuple[str, ...] = ("layers", "arguments")

    @property
    def name(self) -> str:
        line = " ".join(self.new.split()) or "nothing"
        return f"{self.file}: {' '.join(self.old.split())} -> {line}"


VISION = "layers/vision/"
IMAGE = "ops/image/"
ATTENTION = "MultiHeadAttention or ScaledDotProductAttention"
CONVOLUTION = "LightweightConv1D or DynamicConv1D"
DENSE = "SqueezeExcite"
SAVING = ("saving",)
ARGUMENTS = ("arguments",)
MASKS = ("masks", "layers", "arguments")
MUTANTS = [
    # What layers share.
    Mutant(
        "layers/weighted_layer.py",
        '"kernel_initializer": clone_initializer(self.kernel_initializer),',
        "",
        DENSE,
        ARGUMENTS,
    ),
    Mutant(
        "layers/weighted_layer.py",
        '"kernel_regularizer": self.kernel_regularizer,',
        "",
        DENSE,
        ARGUMENTS,
    ),
    Mutant(
        "layers/weighted_layer.py",
        '"bias_initializer": clone_initializer(self.bias_initializer),',
        "",
        DENSE,
        ARGUMENTS,
    ),
    Mutant(
        "layers/weighted_layer.py",
        '"bias_regularizer": self.bias_regularizer,',
        "",
        DENSE,
        ARGUMENTS,
    ),
    Mutant(
        "layers/weighted_layer.py",
        '"dtype": self.sublayer_policy(name),',
        "",
        DENSE,
    ),
    Mutant(
        "layers/weighted_layer.py",
        "max(minimum, channels // ratio)",
        "max(minimum, channels // ratio + 1)",
        DENSE,
    ),
    Mutant("layers/base_layer.py", "if quantized:", "if False:", DENSE, SAVING),
    Mutant(
        "layers/base_layer.py", "return name\n", "return value\n", "BAM", SAVING
    ),
    Mutant(
        "layers/base_layer.py",
        "entries | inner",
        "entries",
        "CBAM",
        SAVING,
    ),
    Mutant(
        VISION + "base_image_layer.py",
        'return -1 if self.data_format == "channels_last" else 1',
        "return -1",
        DENSE,
    ),
    Mutant(
        VISION + "base_image_layer.py",
        "self.supports_masking = True",
        "self.supports_masking = False",
        DENSE,
    ),
    Mutant(
        VISION + "base_gate.py",
        "return apply_gate(inputs, self.compute_gate(",
        "return inputs + apply_gate(inputs, self.compute_gate(",
        "SimAM",
    ),
    Mutant(
        VISION + "base_gate.py",
        "return self.make_gate(inputs, training)",
        "return self.make_gate(inputs, not training)",
        "BAM",
    ),
    Mutant(
        VISION + "base_gate.py",
        "if gate_is_recorded(self):",
        "if False:",
        "CBAM or GSoP",
    ),
    Mutant(
        VISION + "base_channel_gate.py",
        "return apply_gate(inputs, self._expand(means))",
        "return apply_gate(apply_gate(inputs, self._expand(means)), "
        "self._expand(means))",
        DENSE,
    ),
    # Layouts, pooling and gating of images.
    Mutant(
        IMAGE + "gating.py",
        'return (1, 2) if data_format == "channels_last" else (2, 3)',
        "return (1, 2)",
        DENSE,
    ),
    Mutant(
        IMAGE + "gating.py",
        'return ops.expand_dims(gate, -1 if data_format == "channels_last" '
        "else 1)",
        "return ops.expand_dims(gate, -1)",
        "SpatialAttention",
    ),
    Mutant(
        IMAGE + "gating.py",
        "else ops.moveaxis(x, 1, -1)",
        "else ops.moveaxis(x, 2, -1)",
        "BAM",
    ),
    Mutant(
        IMAGE + "gating.py",
        "else ops.moveaxis(x, -1, 1)",
        "else ops.moveaxis(x, -1, 2)",
        "NonLocal",
    ),
    Mutant(
        IMAGE + "gating.py",
        "height * width, widen(upstream_mean).dtype",
        "height * height, widen(upstream_mean).dtype",
        DENSE,
    ),
    Mutant(
        IMAGE + "gating.py",
        "mean = mean_over_positions(x, spatial_axes(data_format))",
        "mean = ops.mean(x, axis=spatial_axes(data_format)[0])[:, 0]",
        "BAM",
    ),
    Mutant(
        IMAGE + "sums.py",
        "x, size = widen(x), x.shape[axis]",
        "size = x.shape[axis]",
        "BAM or GatherExcite",
    ),
    Mutant(
        IMAGE + "sums.py",
        "return mean_over(mean_over(x, 1), 1)",
        "return mean_over(mean_over(x, 1), 0)[None]",
        "CovariancePooling",
    ),
    Mutant(
        IMAGE + "pooling.py",
        "return ops.stack(_max_and_mean(x, (axis,)), axis=-1)",
        "return ops.stack(_max_and_mean(x, (axis,))[::-1], axis=-1)",
        "SpatialAttention or TripletAttention",
    ),
    Mutant(
        IMAGE + "pooling.py",
        "chosen = x == maximum",
        "chosen = x != maximum",
        "TripletAttention",
    ),
    Mutant(
        IMAGE + "pooling.py",
        "order = np.arange(-reach, channels + reach) % channels",
        "order = np.arange(channels + 2 * reach) % channels",
        "EfficientChannelAttention",
    ),
    Mutant(
        IMAGE + "pooling.py",
        "else 1)\n\n\ndef max_and_mean(",
        "else 2)\n\n\ndef max_and_mean(",
        "SpatialAttention",
    ),
    Mutant(
        IMAGE + "channel_norms.py",
        "return sizes / ops.sqrt(mean + epsilon)",
        "return sizes / (mean + epsilon)",
        "GatedChannelTransformation",
    ),
    Mutant(
        IMAGE + "channel_norms.py",
        "axes = spatial_axes(data_format)",
        "axes = (1, 2)",
        "GatedChannelTransformation",
    ),
    Mutant(
        IMAGE + "covariance.py",
        "centred = x - mean[:, None, None]",
        "centred = x + 0 * mean[:, None, None]",
        "CovariancePooling",
    ),
    Mutant(
        IMAGE + "covariance.py",
        "for step in range(iterations):",
        "for step in range(iterations - 1):",
        "CovariancePooling",
    ),
    Mutant(
        IMAGE + "simam.py",
        "ops.maximum(number - 1, 1)",
        "ops.maximum(number, 1)",
        "SimAM",
    ),
    Mutant(
        IMAGE + "grid_pooling.py",
        "start = ops.maximum((index - 1) * extent + 1, 0)",
        "start = ops.maximum((index - 1) * extent, 0)",
        "GatherExcite",
    ),
    Mutant(
        IMAGE + "pairwise.py",
        "weights = weights / total[..., None]",
        "weights = weights / (total[..., None] + 1)",
        "GlobalContext",
    ),
    Mutant(
        IMAGE + "pairwise.py",
        "return _products(query, key, scale / count)",
        "return _products(query, key, scale)",
        "NonLocal",
    ),
    # Layers of images.
    Mutant(
        VISION + "bam.py",
        "return 1 + ops.sigmoid(logits)",
        "return ops.sigmoid(logits)",
        "BAM",
    ),
    Mutant(
        VISION + "bam.py",
        "channel * spatial if multiply",
        "channel + spatial if multiply",
        "BAM",
    ),
    Mutant(
        VISION + "cbam.py",
        "apply_gate(inputs, gate), training=training",
        "inputs, training=training",
        "CBAM",
    ),
    Mutant(
        VISION + "cbam.py",
        "kernel_regularizer=self.kernel_regularizer,",
        "",
        "CBAM",
    ),
    Mutant(
        VISION + "channel_attention.py",
        'activation="relu", ',
        "",
        "ChannelAttention",
    ),
    Mutant(
        VISION + "concurrent_squeeze_excite.py",
        "(inputs >= 0) == (channel >= spatial)",
        "channel >= spatial",
        "ConcurrentSqueezeExcite",
    ),
    Mutant(
        VISION + "coordinate_attention.py",
        "[mean_over(x, 2), mean_over(x, 1)]",
        "[mean_over(x, 1), mean_over(x, 2)]",
        "CoordinateAttention",
    ),
    Mutant(
        VISION + "efficient_channel_attention.py",
        "padded = pad_channels(means, size, self.padding)",
        "padded = pad_channels(means, size)",
        "EfficientChannelAttention",
    ),
    Mutant(
        VISION + "gather_excite.py",
        "if number > 0:",
        "if number < 0:",
        "GatherExcite",
    ),
    Mutant(
        VISION + "gather_excite.py",
        "gathered = ops.relu(gathered)",
        "gathered = +gathered",
        "GatherExcite",
    ),
    Mutant(
        VISION + "gsop.py",
        'return total / 2 if self.fusion == "average" else total',
        "return total",
        "GSoP",
    ),
    Mutant(
        VISION + "global_context.py",
        "return inputs + term, scores",
        "return term, scores",
        "GlobalContext",
    ),
    Mutant(
        VISION + "position_gsop.py",
        "return ops.relu(super().call(inputs, training=training))",
        "return super().call(inputs, training=training)",
        "PositionGSoP",
    ),
    Mutant(
        VISION + "non_local.py",
        'scaled = self.mode == "embedded_gaussian"',
        "scaled = True",
        "NonLocal",
    ),
    Mutant(
        VISION + "selective_kernel.py",
        "max(filters // self.ratio, self.min_units)",
        "filters // self.ratio + 1",
        "SelectiveKernel",
    ),
    Mutant(
        VISION + "selective_kernel.py",
        "ops.softmax(widen(logits), axis=1)",
        "ops.softmax(widen(logits), axis=2)",
        "SelectiveKernel",
    ),
    Mutant(
        VISION + "spatial_attention.py",
        "gamma_initializer=clone_initializer(self.gamma_initializer),",
        "",
        "SpatialAttention",
    ),
    Mutant(
        VISION + "squeeze_excite.py",
        "activation=activation, use_bias=self.use_bias, name=name",
        "activation=activation, name=name",
        "SqueezeExcite",
    ),
    Mutant(
        VISION + "triplet_attention.py",
        "gate = total / len(self.convolutions)",
        "gate = total / 3",
        "TripletAttention",
    ),
    Mutant(
        "layers/blend_in.py",
        "return inputs + ops.cast(self.alpha, inputs.dtype) * change",
        "return inputs + change",
        "BlendIn",
    ),
    # Masks, positions and dispatch of sequences.
    Mutant(
        "ops/attention/masks.py",
        "+ (key_length - query_length)",
        "+ 0 * (key_length - query_length)",
        ATTENTION,
        ("layers", "masks", "attention_ways"),
    ),
    Mutant(
        "ops/attention/masks.py",
        "mask = distance >= 0 if causal else None",
        "mask = distance <= 0 if causal else None",
        ATTENTION,
        MASKS,
    ),
    Mutant(
        "ops/attention/masks.py",
        "combine_masks(mask, distance < window)",
        "combine_masks(mask, distance <= window)",
        ATTENTION,
        MASKS,
    ),
    Mutant(
        "ops/attention/masks.py",
        "mask if combined is None else ops.logical_and(combined, mask)",
        "mask",
        ATTENTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_attention.py",
        "own_mask = padding_mask(inputs.key_mask)",
        "own_mask = None if self.causal else padding_mask(inputs.key_mask)",
        ATTENTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_attention.py",
        "mask=combine_masks(own_mask, inputs.mask),",
        "mask=inputs.mask,",
        ATTENTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_attention.py",
        "logit_soft_cap=self.logit_soft_cap,\n                dropout",
        "logit_soft_cap=None,\n                dropout",
        ATTENTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_attention.py",
        "dropout = self.dropout if training else 0.0",
        "dropout = 0.0",
        ATTENTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "inputs = replace_masked(inputs, mask)",
        "inputs = +inputs",
        CONVOLUTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "inputs = replace_masked(inputs, mask)",
        "inputs = inputs * ops.cast(ops.expand_dims(mask, -1), inputs.dtype)",
        CONVOLUTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "if mask is not None:\n            inputs =",
        "if mask is not None and not self.causal:\n            inputs =",
        CONVOLUTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        'padding = "causal" if self.causal else "same"',
        'padding = "same"',
        CONVOLUTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "return ops.where(inside, filters, 0)",
        "return filters",
        CONVOLUTION,
        MASKS,
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "if training and self.weight_dropout:",
        "if False:",
        CONVOLUTION,
        MASKS,
    ),
    Mutant(
        "ops/sequence/head_convolution.py",
        "return left[padding], kernel_size - 1 - left[padding]",
        "return kernel_size - 1 - left[padding], left[padding]",
        CONVOLUTION,
        MASKS,
    ),
]


class Finder:
    """Imports one module of the package with a changed source."""

    def __init__(self, mutant: Mutant):
        self.path = PACKAGE / mutant.file
        source = self.path.read_text()
        if source.count(mutant.old) != 1:
            raise SystemExit(
                f"a stale mutant, {source.count(mutant.old)} times in the "
                f"file: {mutant.name}"
            )
        self.source = source.replace(mutant.old, mutant.new)

    def find_spec(self, name, path=None, target=None):
        relative = self.path.relative_to(ROOT).with_suffix("")
        if name != ".".join(relative.parts):
            return None
        finder, source = self, self.source

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname):
                return compile(source, str(finder.path), "exec")

        return importlib.machinery.ModuleSpec(
            name, Loader(name, str(self.path)), origin=str(self.path)
        )


def run_mutant(mutant: Mutant) -> bool:
    """Return whether the table notices."""
    import pytest

    sys.meta_path.insert(0, Finder(mutant))
    folder = ROOT / "tests" / "conformance"
    code = pytest.main(
        ["-x", "-q", "-m", "not slow", "-k", mutant.rows]
        + ["-p", "no:cacheprovider", "--tb=line", "--rootdir", str(ROOT)]
        + [str(folder / f"test_{name}.py") for name in mutant.tests]
    )
    if code not in (0, 1):
        raise SystemExit(f"pytest ended with {code}")
    return code == 1


def run_outside(words: list[str]) -> dict[str, bool]:
    """Break each argument of each layer; return whether it is noticed."""
    from conformance import test_arguments as checks

    found = {}
    for layer in checks.LAYERS:
        for argument, default in checks.constructor_arguments(layer).items():
            if argument in ("name", "layer"):
                continue
            for kind in (forget, reset, drop):
                if kind is not forget and default is checks.REQUIRED:
                    continue
                name = f"{layer.__name__} {kind.__name__}s {argument}"
                if is_wanted(name, words):
                    with kind(checks, layer, argument):
                        found[name] = is_noticed(checks, layer, argument)
    return found


def forget(checks, layer, argument):
    """A configuration without the argument."""
    return changed_config(
        layer,
        lambda config: {n: v for n, v in config.items() if n != argument},
    )


def reset(checks, layer, argument):
    """A configuration with the default, whatever was given."""
    default = None
    for row in rows_with(checks, layer, argument):
        with contextlib.suppress(ValueError):
            plain = checks.make_layer(row.without(argument))
            default = plain.get_config().get(argument)
    return changed_config(layer, lambda config: {**config, argument: default})


@contextlib.contextmanager
def drop(checks, layer, argument):
    """A constructor that takes the argument and does nothing with it."""
    original = layer.__init__

    def broken(self, *args, **kwargs):
        kwargs.pop(argument, None)
        original(self, *args, **kwargs)

    broken.__signature__ = inspect.signature(original)
    layer.__init__ = broken
    try:
        yield
    finally:
        layer.__init__ = original


@contextlib.contextmanager
def changed_config(layer, change):
    own, original = vars(layer).get("get_config"), layer.get_config
    layer.get_config = lambda self: change(original(self))
    try:
        yield
    finally:
        if own is None:
            del layer.get_config
        else:
            layer.get_config = own


def rows_with(checks, layer, argument):
    return [
        row
        for row in checks.TABLE
        if row.layer is layer and argument in row.arguments
    ]


def is_noticed(checks, layer, argument) -> bool:
    """Run the table's checks of one argument of a layer."""
    table = rows_with(checks, layer, argument)
    try:
        for row in table:
            checks.test_configuration_names_every_argument(row)
        for row in table:
            checks.test_rebuilt_from_its_configuration_alone(row)
        default = checks.constructor_arguments(layer)[argument]
        if default is not checks.REQUIRED:
            assert checks.shows_effect(layer, argument)
    except (AssertionError, AttributeError, TypeError, ValueError):
        return True
    return False


def is_wanted(name: str, words: list[str]) -> bool:
    return not words or any(word in name for word in words)


class Task:
    """A function in a process of its own, forked after the imports.

    Its last line of output is what it returns, in JSON.
    """

    def __init__(self, function: Callable, *arguments):
        self.started = time.monotonic()
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        sys.stdout.flush()
        self.process = os.fork()
        if self.process:
            return
        code = 1
        try:
            for stream in (1, 2):
                os.dup2(self.log.fileno(), stream)
            result = function(*arguments)
            sys.stdout.flush()
            os.write(1, ("\n" + json.dumps(result)).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def result(self) -> Any:
        """Return the result; `None` while it runs, `True` if it is stuck."""
        ended, status = os.waitpid(self.process, os.WNOHANG)
        if not ended:
            if time.monotonic() - self.started < PATIENCE:
                return None
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            return True
        self.log.seek(0)
        text = self.log.read()
        if os.waitstatus_to_exitcode(status):
            # Such as a module that cannot be imported any more.
            raise SystemExit(text[-3000:])
        return json.loads(text.splitlines()[-1])


def main(words: list[str]) -> int:
    # Imported once, and inherited by every process.
    import keras  # noqa: F401
    import pytest  # noqa: F401

    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    names = {mutant.name: mutant for mutant in MUTANTS}
    assert len(names) == len(MUTANTS)
    waiting = [m for m in MUTANTS if is_wanted(m.name, words)]
    for mutant in waiting:
        Finder(mutant)
    started, noticed = time.monotonic(), {}
    running = {Task(run_outside, words): None}
    while running or waiting:
        while waiting and len(running) < PROCESSES:
            mutant = waiting.pop(0)
            running[Task(run_mutant, mutant)] = mutant.name
        time.sleep(0.2)
        for task, name in list(running.items()):
            result = task.result()
            if result is None:
                continue
            del running[task]
            found = result if name is None else {name: result}
            noticed |= found
            for each, was in found.items():
                if name is not None or not was:
                    print("killed  " if was else "SURVIVED", each, flush=True)
    survivors = {name for name, was in noticed.items() if not was}
    minutes = (time.monotonic() - started) / 60
    print(
        f"{len(noticed)} mutants, {len(survivors)} survived, "
        f"{minutes:.1f} minutes"
    )
    for name in sorted(survivors):
        print(f"  {name}: {KNOWN.get(name, 'NOT KNOWN')}")
    return int(bool(survivors - set(KNOWN)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
