"""Breaks layers on purpose and asks whether the conformance table notices.

    python tests/mutants.py [WORDS]

Each mutant changes one line of the package, or breaks a layer from outside:
its configuration forgets an argument or resets it, or its constructor drops
one. The table's rows of the layers concerned are then run, until the first
that fails, in a process that is forked after everything has been imported and
collected. A mutant that no test notices survives; the command fails unless it
is one of `KNOWN`. With WORDS only the mutants whose name has one of them are
run. A test that fails without a mutant as well notices nothing: those that
noticed something are run once more at the end, on the package as it is.
"""

import contextlib
import gc
import inspect
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "keras_attention"
CONFORMANCE = ROOT / "tests" / "conformance"
PROCESSES = 2
# Seconds after which a mutant counts as noticed: it does not end.
PATIENCE = 1800
# What is done to an argument from outside, the fastest first.
KINDS = ("forgets", "resets", "drops")
# The tests that notice most are run first.
FIRST = (
    "test_output_is_the_recorded_one",
    "test_data_formats_are_equal",
    "test_padding_is_as_if_it_were_not_there",
    "test_queries_are_the_last_of_the_keys",
)
FILES = ("arguments", "attention_ways", "layers", "masks", "saving")
ARGUMENTS_FILE = "tests/conformance/test_arguments.py"

# Survivors, each with the reason.
KNOWN: dict[str, str] = {
    "ops/image/channel_norms.py: wide = widen(ops.convert_to_tensor(x)) -> "
    "wide = ops.convert_to_tensor(x)": (
        "sums are wide by themselves; squares beyond float16 are tried in "
        "tests/layers/vision/test_gated_channel_transformation.py"
    ),
}


@dataclass(frozen=True)
class Mutant:
    """A line of the source, changed.

    Attributes:
        file: path inside the package.
        old: text that is in the file once.
        new: what stands there instead.
        layers: names of the classes whose rows are run.
        tests: files of `tests/conformance`, or single tests, that are run.
    """

    file: str
    old: str
    new: str
    layers: str
    tests: tuple[str, ...] = ("layers", "arguments")

    @property
    def name(self) -> str:
        line = " ".join(self.new.split()) or "nothing"
        return f"{self.file}: {' '.join(self.old.split())} -> {line}"


VISION = "layers/vision/"
IMAGE = "ops/image/"
ATTENTION = "MultiHeadAttention ScaledDotProductAttention"
CONVOLUTION = "LightweightConv1D DynamicConv1D"
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
        "TripletAttention",
    ),
    Mutant(
        VISION + "base_any_rank_gate.py",
        "return self.scale(inputs, training, mask)",
        "return inputs + self.scale(inputs, training, mask)",
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
        "GatherExcite",
        ("a_tapped_gate_leaves_the_layer_as_it_is",),
    ),
    Mutant(
        VISION + "base_any_rank_gate.py",
        "if gate_is_recorded(self):",
        "if False:",
        "CBAM",
        ("a_tapped_gate_leaves_the_layer_as_it_is",),
    ),
    Mutant(
        VISION + "base_channel_gate.py",
        "return apply_gate(inputs, gate)",
        "return apply_gate(apply_gate(inputs, gate), gate)",
        DENSE,
    ),
    # Masks of sequences, in layers for any rank.
    Mutant(
        VISION + "base_any_rank_gate.py",
        "return zero_masked(inputs, mask, self.data_format), mask",
        "return inputs, mask",
        "SqueezeExcite",
        ("masks",),
    ),
    Mutant(
        IMAGE + "masking.py",
        "return ops.cast(wide * share, means.dtype)",
        "return means",
        "SqueezeExcite",
        ("masks",),
    ),
    Mutant(
        IMAGE + "pairwise.py",
        "scores = _softmax(ops.where(is_kept, products, masked))",
        "scores = _softmax(products)",
        "NonLocal",
        ("masks",),
    ),
    Mutant(
        IMAGE + "simam.py",
        "distance = zero_masked(distance, mask, data_format)",
        "",
        "SimAM",
        ("masks",),
    ),
    # Layouts, pooling and gating of images.
    Mutant(
        IMAGE + "gating.py",
        'first = 1 if data_format == "channels_last" else 2',
        "first = 1",
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
        "number = math.prod(shape[axis] for axis in axes)",
        "number = shape[axes[0]] ** 2",
        DENSE,
    ),
    Mutant(
        IMAGE + "gating.py",
        "mean = mean_over_positions(x, spatial_axes(",
        "mean = ops.mean(x[:, :1], axis=spatial_axes(",
        "BAM",
    ),
    Mutant(
        IMAGE + "sums.py",
        "x, size = widen(x), x.shape[axis]",
        "size = x.shape[axis]",
        "BAM GatherExcite CoordinateAttention",
        ("half_precision_of_a_larger_image",),
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
        "SpatialAttention TripletAttention",
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
        "axes = spatial_axes(data_format, len(wide.shape))",
        "axes = (1, 2)",
        "GatedChannelTransformation",
    ),
    Mutant(
        IMAGE + "covariance.py",
        "centered = x - mean[:, None, None]",
        "centered = x + 0 * mean[:, None, None]",
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
        "weights = weights / ops.reshape(total,",
        "weights = weights / ops.reshape(total + 1,",
        "GlobalContext",
    ),
    Mutant(
        IMAGE + "pairwise.py",
        "return scores / ops.cast(ops.shape(scores)[2], scores.dtype)",
        "return scores",
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
        ARGUMENTS,
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
        ARGUMENTS,
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
        "return x + ops.cast(self.alpha, x.dtype) * change",
        "return x + change",
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
        ARGUMENTS,
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
        ("masks",),
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "if training and self.weight_dropout:",
        "if False:",
        CONVOLUTION,
        ARGUMENTS,
    ),
    Mutant(
        "ops/sequence/head_convolution.py",
        "return left[padding], kernel_size - 1 - left[padding]",
        "return kernel_size - 1 - left[padding], left[padding]",
        CONVOLUTION,
        MASKS,
    ),
    # What outsiders get wrong: masks, layouts, dtypes, shapes, draws.
    Mutant(
        "layers/weighted_layer.py",
        "return initializer.clone()",
        "return initializer",
        "BAM",
        ("draws_differ",),
    ),
    Mutant(
        "layers/base_layer.py",
        'path.removeprefix(f"{name}/"): entry',
        "path: entry",
        "CBAM",
        SAVING,
    ),
    Mutant(
        VISION + "base_image_layer.py",
        "return tuple(input_shape)",
        "return (1, *input_shape[1:])",
        DENSE,
        ("shapes_are_known_without_running",),
    ),
    Mutant(
        VISION + "base_image_layer.py",
        '"data_format": self.data_format}',
        '"data_format": None}',
        DENSE,
        ARGUMENTS,
    ),
    Mutant(
        "layers/blend_in.py",
        'config["layer"].pop("build_config", None)',
        "",
        "BlendIn",
    ),
    Mutant(
        "layers/blend_in.py",
        "super().from_config(dict(config), custom_objects)",
        "super().from_config(config, custom_objects)",
        "BlendIn",
        ARGUMENTS,
    ),
    Mutant(
        "layers/blend_in.py",
        "self.supports_masking = True",
        "self.supports_masking = False",
        "BlendIn",
    ),
    Mutant(
        "layers/sequence/gated_convolution_block.py",
        "self.mixer(x, mask=mask, cache",
        "self.mixer(x, mask=None, cache",
        "GatedConvolutionBlock",
        MASKS,
    ),
    Mutant(
        "layers/sequence/gated_convolution_block.py",
        "self.drop_inputs(inputs, training=training)",
        "self.drop_inputs(inputs, training=False)",
        "GatedConvolutionBlock",
        ARGUMENTS,
    ),
    Mutant(
        "layers/sequence/gated_convolution_block.py",
        "use_bias=self.use_bias, name=name",
        "name=name",
        "GatedConvolutionBlock",
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "self.supports_masking = True",
        "self.supports_masking = False",
        CONVOLUTION,
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "regularizer=self.bias_regularizer,",
        "",
        CONVOLUTION,
        ARGUMENTS,
    ),
    Mutant(
        "layers/sequence/base_head_convolution.py",
        "initializer=clone_initializer(self.bias_initializer),",
        "",
        CONVOLUTION,
        ARGUMENTS,
    ),
    Mutant(
        IMAGE + "simam.py",
        "wide - expand_channel_gate(mean * share, data_format, rank)",
        'wide - expand_channel_gate(mean * share, "channels_last", rank)',
        "SimAM",
    ),
    Mutant(
        VISION + "selective_kernel.py",
        "return from_channels_last(y, self.data_format), scores",
        "return y, scores",
        "SelectiveKernel",
    ),
    Mutant(
        VISION + "base_scored_layer.py",
        "None if size is None else -(-size // strides)",
        "-(-(size or 1) // strides)",
        "SelectiveKernel",
        ("shapes_are_known_without_running",),
    ),
    Mutant(
        VISION + "selective_kernel.py",
        "ops.relu(norm(convolution(x), training=training))",
        "ops.relu(norm(convolution(x), training=False))",
        "SelectiveKernel",
        ARGUMENTS,
    ),
    Mutant(
        VISION + "base_image_layer.py",
        '"dtype": self.sublayer_policy(name),',
        "",
        "SelectiveKernel",
        ("mixed_precision", "float64"),
    ),
    Mutant(
        VISION + "covariance_pooling.py",
        "return (input_shape[0], size * (size + 1) // 2)",
        "return (input_shape[0], size * size)",
        "CovariancePooling",
        ("shapes_are_known_without_running",),
    ),
    Mutant(
        VISION + "covariance_pooling.py",
        "        return None\n",
        "        return previous_mask\n",
        "CovariancePooling",
        ("mask_of_an_image_passes_through",),
    ),
    Mutant(
        VISION + "gated_channel_transformation.py",
        "widen(ops.convert_to_tensor(weight))",
        "ops.convert_to_tensor(weight)",
        "GatedChannelTransformation",
        ("mixed_precision", "half_precision_of_a_larger_image", "float64"),
    ),
    Mutant(
        IMAGE + "channel_norms.py",
        "wide = widen(ops.convert_to_tensor(x))",
        "wide = ops.convert_to_tensor(x)",
        "GatedChannelTransformation",
        ("half_precision_of_a_larger_image",),
    ),
]


def changed_codes(mutant: Mutant) -> dict[str, types.CodeType]:
    """Return the code of each function that a mutant changes, by its name."""
    path = PACKAGE / mutant.file
    source = path.read_text()
    changed = source.replace(mutant.old, mutant.new)
    before = codes_by_name(compile(source, str(path), "exec"))
    after = codes_by_name(compile(changed, str(path), "exec"))
    names = {
        name
        for name, code in after.items()
        if content_of(code) != content_of(before[name])
    }
    if not names or "<module>" in names:
        raise ValueError(f"the change is in no function: {mutant.name}")
    # A nested function is part of the one that makes it.
    names |= {name.split(".<locals>")[0] for name in names}
    return {name: after[name] for name in names}


def is_stale(mutant: Mutant) -> bool:
    """Whether the text is not in its file once, as it was."""
    return (PACKAGE / mutant.file).read_text().count(mutant.old) != 1


def change_source(mutant: Mutant) -> None:
    """Change the functions themselves: whoever imported them has them."""
    codes = changed_codes(mutant)
    functions = [
        each
        for each in gc.get_objects()
        if isinstance(each, types.FunctionType)
        and each.__code__.co_filename == str(PACKAGE / mutant.file)
        and each.__code__.co_qualname in codes
    ]
    if not functions:
        raise ValueError(f"the function does not exist: {mutant.name}")
    for function in functions:
        function.__code__ = codes[function.__code__.co_qualname]


def codes_by_name(code: types.CodeType) -> dict[str, types.CodeType]:
    found = {code.co_qualname: code}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= codes_by_name(constant)
    return found


def content_of(code: types.CodeType) -> tuple:
    """Return what a function does itself, wherever its lines are."""
    constants = [
        repr(constant)
        for constant in code.co_consts
        if not isinstance(constant, types.CodeType)
    ]
    return code.co_code, code.co_names, code.co_varnames, constants


def layer_of(item) -> str | None:
    parameters = getattr(item, "callspec", None)
    if parameters is None:
        return None
    row = parameters.params.get("row")
    layer = row.layer if row else parameters.params.get("layer")
    return layer.__name__ if layer else None


def run_items(items: list[pytest.Item]) -> str | None:
    """Run tests up to the first that fails; return its name."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        failures = item.session.testsfailed
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed > failures:
            return item.nodeid
    return None


def run_mutant(mutant: Mutant, items: list[pytest.Item]) -> str | None:
    """Return the name of a test that notices."""
    change_source(mutant)
    chosen = [
        item
        for name in mutant.tests
        for item in items
        if f"test_{name}" in (item.path.stem, item.originalname)
        and layer_of(item) in (None, *mutant.layers.split())
        # It loads in a new process, where the package is as it is.
        and "saved" not in item.fixturenames
    ]
    chosen.sort(
        key=lambda item: getattr(item, "originalname", None) not in FIRST
    )
    return run_items(chosen)


def outside_mutants(kind: str, layer: type) -> dict[str, str]:
    """Return the arguments of a layer by the name of what is done to them."""
    from conformance import test_arguments as checks

    return {
        f"{layer.__name__} {kind} {argument}": argument
        for argument, default in checks.constructor_arguments(layer).items()
        if argument not in ("name", "layer")
        and (kind == "forgets" or default is not checks.REQUIRED)
    }


def run_outside(
    kind: str, layer: type, arguments: dict[str, str]
) -> dict[str, str | None]:
    """Return the name of a test that notices, or `None`, for each mutant."""
    from conformance import test_arguments as checks

    change = {"forgets": forget, "resets": reset, "drops": drop}[kind]
    found = {}
    for name, argument in arguments.items():
        with change(checks, layer, argument):
            found[name] = notice(checks, layer, argument)
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


def notice(checks, layer, argument) -> str | None:
    """Run the table's tests of a configuration; return which one fails."""
    table = rows_with(checks, layer, argument)
    for test in (
        checks.test_configuration_names_every_argument,
        checks.test_configuration_says_what_was_given,
        checks.test_rebuilt_from_its_configuration_alone,
    ):
        for row in table:
            try:
                test(row)
            except (AssertionError, AttributeError, TypeError, ValueError):
                return f"{ARGUMENTS_FILE}::{test.__name__}[{row.name}]"
    return None


class Task:
    """A function in a process of its own, which returns what JSON can hold."""

    def __init__(self, name: str, function: Callable[[], Any]):
        self.name = name
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
            result = function()
            sys.stdout.flush()
            os.write(1, ("\n" + json.dumps(result)).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def is_done(self) -> bool:
        ended, status = os.waitpid(self.process, os.WNOHANG)
        self.seconds = time.monotonic() - self.started
        if not ended and self.seconds < PATIENCE:
            return False
        if not ended:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            self.result = f"does not end within {PATIENCE} s"
            return True
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        if os.waitstatus_to_exitcode(status):
            raise RuntimeError(f"{self.name}\n{text[-3000:]}")
        self.result = json.loads(text.splitlines()[-1])
        return True


def run_tasks(
    tasks: list[tuple[str, Callable[[], Any]]],
) -> Iterator[Task]:
    """Yield the tasks as they end."""
    waiting, running = list(tasks), []
    while running or waiting:
        while waiting and len(running) < PROCESSES:
            running.append(Task(*waiting.pop(0)))
        time.sleep(0.1)
        done = [task for task in running if task.is_done()]
        running = [task for task in running if task not in done]
        yield from done


class Mutants:
    """A plugin of pytest: runs the mutants in place of the tests."""

    def __init__(self, words: list[str]):
        self.words = words
        self.survivors: set[str] = set()
        self.stale: set[str] = set()

    def is_wanted(self, name: str) -> bool:
        return not self.words or any(word in name for word in self.words)

    def pytest_runtestloop(self, session) -> bool:
        items = session.items
        self.stale = {m.name for m in MUTANTS if is_stale(m)}
        tasks: list[tuple[str, Callable[[], Any]]] = [
            (mutant.name, lambda mutant=mutant: run_mutant(mutant, items))
            for mutant in MUTANTS
            if self.is_wanted(mutant.name) and mutant.name not in self.stale
        ]
        assert len(dict(tasks)) == len(tasks), "names that are not unique"
        tasks += self.outside_tasks()
        started, noticed_by = time.monotonic(), {}
        for number, task in enumerate(run_tasks(tasks), 1):
            print(f"{number}/{len(tasks)} {task.name}, {task.seconds:.0f} s")
            found = task.result
            if not isinstance(found, dict):
                found = {task.name: found}
            for name, test in found.items():
                print(f"  killed by {test}" if test else f"  SURVIVED: {name}")
            noticed_by |= found
            sys.stdout.flush()
        self.check_tests(items, set(noticed_by.values()))
        minutes = (time.monotonic() - started) / 60
        self.survivors = {n for n, test in noticed_by.items() if not test}
        print(
            f"{len(noticed_by)} mutants, {len(self.survivors)} survived, "
            f"{minutes:.1f} minutes"
        )
        for name in sorted(self.survivors):
            print(f"  {name}: {KNOWN.get(name, 'NOT KNOWN')}")
        for name in sorted(self.stale):
            print(f"  no longer in the source: {name}")
        return True

    def outside_tasks(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        from conformance.test_arguments import LAYERS

        for kind in KINDS:
            for layer in LAYERS:
                chosen = {
                    name: argument
                    for name, argument in outside_mutants(kind, layer).items()
                    if self.is_wanted(name)
                }
                if chosen:
                    yield (
                        f"{layer.__name__} {kind} {', '.join(chosen.values())}",
                        lambda task=(kind, layer, chosen): run_outside(*task),
                    )

    def check_tests(self, items, names) -> None:
        """Run what noticed a mutant, on the package as it is."""
        chosen = [
            item
            for item in items
            if any(name and item.nodeid.endswith(name) for name in names)
        ]
        for task in run_tasks([("no mutant", lambda: run_items(chosen))]):
            if task.result:
                raise RuntimeError(f"fails without a mutant: {task.result}")


def main(words: list[str]) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    mutants = Mutants(words)
    code = pytest.main(
        ["-q", "-m", "not slow or table", "-p", "no:cacheprovider", "--tb=line"]
        + ["--rootdir", str(ROOT), "--capture=no"]
        + [str(CONFORMANCE / f"test_{name}.py") for name in FILES],
        plugins=[mutants],
    )
    unknown = mutants.survivors - set(KNOWN)
    return int(code) or int(bool(unknown or mutants.stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
