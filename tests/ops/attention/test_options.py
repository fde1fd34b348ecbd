"""An option that a path does not honour is refused, never dropped."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_attention.ops.attention import dispatch
from keras_attention.ops.attention.dispatch import AttentionPath
from keras_attention.ops.attention.options import AttentionOptions
from support.arrays import numpy

PATHS = [
    dispatch.PLAIN,
    dispatch.CHUNKED,
    dispatch.TORCH,
    dispatch.CUDNN,
]
paths = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)


@dataclasses.dataclass(frozen=True)
class NewerOptions(AttentionOptions):
    """Options with one that no path was written for."""

    temperature: float = 1.0


def inputs():
    x = keras.ops.ones((1, 2, 3, 4))
    return x, x, x


@paths
def test_an_unknown_option_is_refused_by_every_path(path):
    with pytest.raises(ValueError, match=r"Received: \['temperature'\]"):
        path(*inputs(), NewerOptions(temperature=2.0))
    reason = path.why_not(*inputs(), NewerOptions(temperature=2.0))
    assert reason == "has no `temperature`"


@pytest.mark.parametrize("implementation", ["auto", "plain", "chunked"])
def test_an_unknown_option_is_refused_by_the_dispatcher(implementation):
    with pytest.raises(ValueError, match=r"Received: \['temperature'\]"):
        dispatch.attend(
            *inputs(), NewerOptions(temperature=2.0), implementation
        )


def test_an_unknown_option_at_its_default_is_no_option():
    output, _ = dispatch.attend(*inputs(), NewerOptions())
    np.testing.assert_allclose(numpy(output), 1)


@paths
def test_paths_name_existing_options(path):
    names = {field.name for field in dataclasses.fields(AttentionOptions)}
    assert path.honours <= names
    assert dispatch.PLAIN.honours == names


@pytest.mark.parametrize("path", [dispatch.TORCH, dispatch.CUDNN])
def test_fused_kernels_refuse_sinks(path):
    with pytest.raises(ValueError, match=r"Received: \['sinks'\]"):
        path(*inputs(), AttentionOptions(sinks=0.0))


@paths
def test_what_a_path_does_not_name_is_not_accepted(path):
    reading = AttentionPath("test", lambda *_: "run", path.honours)
    for name in (field.name for field in dataclasses.fields(AttentionOptions)):
        options = AttentionOptions(**{name: object()})
        assert options.in_use() == {name}
        if name in path.honours:
            assert reading(*inputs(), options) == "run"
        else:
            with pytest.raises(ValueError, match=name):
                path(*inputs(), options)


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AttentionOptions().causal = True
