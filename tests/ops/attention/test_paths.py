"""Every path of attention equals the plain one, on the backend in use.

`ATTENTION_EXAMPLES` sets how many combinations are drawn; `make test-paths`
draws thousands on every backend.
"""

import logging
import os

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_attention.ops import explain_attention
from keras_attention.ops import scaled_dot_product_attention
from keras_attention.ops.attention import chunk_plan
from keras_attention.ops.attention import chunked_attention
from keras_attention.ops.attention import dispatch
from keras_attention.ops.attention.options import AttentionOptions
from support.arrays import numpy
from support.attention import attention
from support.derivatives import derivatives

BACKEND = keras.backend.backend()
# Compiling takes the time on JAX, and TensorFlow's loops.
USUAL = {"tensorflow": 4, "jax": 3, "torch": 30}[BACKEND]
EXAMPLES = int(os.environ.get("ATTENTION_EXAMPLES", USUAL))
FUSED = {"torch": "torch", "jax": "cudnn"}
TOLERANCE = {"rtol": 2e-4, "atol": 2e-4}


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    """Chunks of few queries; cuDNN's part is played by XLA's function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_plan, "QUERIES_PER_CHUNK", (4, 4))
        patch.setattr(chunk_plan, "CAUSAL_GROUPS", 2)
        if BACKEND == "torch":
            from keras_attention.ops.attention import torch_attention

            patch.setattr(torch_attention, "QUERIES_PER_PIECE", 2)
            patch.setattr(torch_attention, "QUERIES_PER_CHUNK", (2, 4))
        if BACKEND == "jax":
            from keras_attention.ops.attention import cudnn_attention

            patch.setattr(cudnn_attention, "IMPLEMENTATION", "xla")
            patch.setattr(cudnn_attention, "HALF", ("float32",))
            patch.setattr(cudnn_attention, "find_device_obstacle", lambda: None)
        yield


@st.composite
def cases(draw_value):
    """Arrays, options, and where queries and keys are masked for all."""
    pick = lambda *values: draw_value(st.sampled_from(values))  # noqa: E731
    batch, shared = pick(1, 2), pick(1, 2)
    heads = shared * pick(1, 3)
    queries = pick(1, 3, 11)
    keys = pick(queries, 1, 7, 13)
    values = pick(8, 8, 3, 10)
    generator = np.random.default_rng(pick(*range(20)))

    def normal(*shape):
        return generator.normal(size=shape).astype("float32")

    arrays = {
        "query": normal(batch, queries, heads, 8),
        "key": normal(batch, keys, shared, 8),
        "value": normal(batch, keys, shared, values),
    }
    options = {
        "causal": pick(True, False),
        "window": pick(None, None, 1, 3, 30),
        "scale": pick(None, 0.3),
    }
    sizes = ((1, batch), (1, heads), (1, queries), (1, keys))
    kind = pick("none", "none", "padding", "start", "any", "no keys")
    if kind in ("padding", "start"):
        lengths = generator.integers(0, keys + 1, size=(batch, 1, 1, 1))
        mask = np.arange(keys) < lengths
        options["mask"] = mask if kind == "padding" else mask[..., ::-1].copy()
    elif kind == "any":
        shape = tuple(pick(*size) for size in sizes)
        options["mask"] = generator.random(shape) < 0.6
    elif kind == "no keys":
        options["mask"] = np.zeros((1, 1, 1, 1), bool)
    if pick(True, False, False):
        options["bias"] = normal(*(pick(*size) for size in sizes))
    if pick(True, False, False, False):
        options["distance_bias"] = normal(heads, queries + keys - 1)
    if pick(True, False, False, False):
        options["sinks"] = normal(heads)
    if pick(True, False, False, False):
        options["logit_soft_cap"] = 1.5
    return arrays, options


def expected(arrays, options):
    """By the formulas, in float64."""
    options = dict(options)
    by_distance = options.pop("distance_bias", None)
    if by_distance is not None:
        queries, keys = arrays["query"].shape[1], arrays["key"].shape[1]
        entries = np.arange(keys) - np.arange(queries)[:, None] + queries - 1
        options["bias"] = (
            options.get("bias", 0) + by_distance[None][:, :, entries]
        )
    return attention(**arrays, **options)[0]


def masked_nowhere(arrays, options):
    """Queries and keys that take part, by the formulas: `(B, T, N)`, ..."""
    ones = {name: np.ones_like(array) for name, array in arrays.items()}
    shape = (*arrays["key"].shape[:3], 1)
    masks = {k: options.get(k) for k in ("mask", "causal", "window")}
    _, scores = attention(**{**ones, "value": np.ones(shape)}, **masks)
    used = scores > 0  # [B, N, T, S]
    batch, heads, _, keys = used.shape
    by_key = used.any(2).reshape(batch, shape[2], heads // shape[2], keys)
    return used.any(3).swapaxes(1, 2), by_key.any(2).swapaxes(1, 2)


def with_nan(arrays, options):
    """NaN where a query has no key, or a key no query."""
    queries, keys = masked_nowhere(arrays, options)
    return {
        name: np.where(
            (queries if name == "query" else keys)[..., None], array, np.nan
        ).astype("float32")
        for name, array in arrays.items()
    }


def run(case, implementation="auto"):
    arrays, options = case
    upstream = np.random.default_rng(9).normal(
        size=(*arrays["query"].shape[:3], arrays["value"].shape[3])
    )
    names = list(arrays)

    def call(*tensors):
        return scaled_dot_product_attention(
            **dict(zip(names, tensors, strict=True)),
            **options,
            implementation=implementation,
        )

    return derivatives(call, arrays.values(), upstream.astype("float32"))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(cases())
def test_paths_are_equal(case):
    arrays, options = case
    output = expected(arrays, options)
    case = with_nan(arrays, options), options
    found = {path: run(case, path) for path in ("plain", "chunked")}
    explained = explain_attention(**case[0], **options)
    if explained.path in FUSED.values():
        found[explained.path] = run(case)
    for path, (outputs, first, second) in found.items():
        np.testing.assert_allclose(outputs[0], output, **TOLERANCE)
        plain = found["plain"]
        for one, other in zip(
            [*first, *second], [*plain[1], *plain[2]], strict=True
        ):
            scale = max(1, abs(other).max())
            np.testing.assert_allclose(
                one / scale, other / scale, err_msg=path, **TOLERANCE
            )


@pytest.mark.skipif(
    BACKEND not in FUSED, reason="needs the extra 'torch' or 'jax'"
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True},
        {"causal": True, "window": 3},
        {"scale": 0.5},
        {"mask": np.arange(6) < np.array([[[[6]]], [[[4]]]])},
        {
            "mask": np.arange(6) < np.array([[[[6]]], [[[4]]]]),
            "causal": True,
        },
    ],
    ids=str,
)
def test_the_fused_kernel_is_taken(options):
    x = np.ones((2, 6, 4, 8), "float32")
    found = explain_attention(x, x[:, :, :2], x[:, :, :2], **options)
    assert found.path == FUSED[BACKEND]


REFUSED = {
    "distance_bias": np.zeros((2, 11), "float32"),
    "sinks": np.zeros(2, "float32"),
    "logit_soft_cap": 2.0,
    "dropout": 0.5,
    "return_scores": True,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_kernel_holds_is_explained(name):
    x = np.ones((1, 6, 2, 8), "float32")
    options = {name: REFUSED[name]}
    if name == "dropout":
        options["seed"] = 1
    found = explain_attention(x, x, x, **options)
    assert found.path == "plain"
    if BACKEND in FUSED:
        assert f"`{name}`" in found.reasons[FUSED[BACKEND]]
        assert f"not '{FUSED[BACKEND]}': it has no" in str(found)
    else:
        assert found.reasons["fused"] == "does not exist on tensorflow"


def test_explained_is_what_is_logged(caplog):
    x = np.ones((1, 6, 2, 8), "float32")
    with caplog.at_level(logging.DEBUG, "keras_attention"):
        scaled_dot_product_attention(x, x, x, logit_soft_cap=1.0)
    explained = explain_attention(x, x, x, logit_soft_cap=1.0)
    assert caplog.messages == [str(explained)]


def test_explanations_of_own_paths(monkeypatch):
    x = np.ones((1, 6, 2, 8), "float32")
    found = explain_attention(x, x, x, logit_soft_cap=1.0)
    assert found.path == "plain"
    assert "not faster up to" in found.reasons["chunked"]
    monkeypatch.setattr(dispatch, "PLAIN_LIMIT", 4)
    assert explain_attention(x, x, x, logit_soft_cap=1.0).path == "chunked"
    asked = explain_attention(x, x, x, implementation="chunked")
    assert (asked.path, asked.reasons) == (
        "chunked",
        {"fused": "is not asked for"},
    )
    with dispatch.plain_attention():
        asked = explain_attention(x, x, x)
    assert asked.path == "plain"
    assert "export" in asked.reasons["fused"]
    with pytest.raises(TypeError, match=r"Received: \['masks'\]"):
        explain_attention(x, x, x, masks=None)


@pytest.mark.skipif(
    BACKEND not in FUSED, reason="needs the extra 'torch' or 'jax'"
)
def test_keras_can_turn_fused_kernels_off():
    x = np.ones((1, 6, 2, 8), "float32")
    before = keras.config.is_flash_attention_enabled()
    keras.config.disable_flash_attention()
    try:
        found = explain_attention(x, x, x)
    finally:
        if before is not False:
            keras.config.enable_flash_attention()
    assert found.path == "plain"
    assert "disable_flash_attention" in found.reasons[FUSED[BACKEND]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    """Products of 230,400, 3.5 times the largest float16, are right."""
    query = np.full((1, 5, 1, 64), 60.0)
    key = query * np.array([1, 1, -1, 1, -1])[:, None, None]
    value = np.tile(np.arange(5.0).reshape(1, 5, 1, 1), (1, 1, 1, 64))
    inputs = [
        keras.ops.cast(keras.ops.convert_to_tensor(x), dtype)
        for x in (query, key, value)
    ]
    found = scaled_dot_product_attention(*inputs)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    found = numpy(keras.ops.cast(found, "float32"))
    np.testing.assert_allclose(found, 4 / 3, rtol=1e-2)


@pytest.mark.skipif(BACKEND != "torch", reason="needs the extra 'torch'")
def test_half_precision_stays_so_into_torch_kernel(monkeypatch):
    import torch

    seen = []
    kernel = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *tensors, **options: (
            seen.extend(x.dtype for x in tensors) or kernel(*tensors, **options)
        ),
    )
    x = torch.ones((1, 5, 2, 8), dtype=torch.bfloat16)
    scaled_dot_product_attention(x, x, x, causal=True)
    assert seen == [torch.bfloat16] * 3
    bias = torch.zeros((5, 5))
    assert (
        "round `bias`" in explain_attention(x, x, x, bias=bias).reasons["torch"]
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
@pytest.mark.skipif(BACKEND != "torch", reason="needs the extra 'torch'")
def test_torch_kernel_and_bias_and_tangents():
    import torch

    x, bias = torch.ones((1, 5, 2, 8)), torch.zeros((5, 5), requires_grad=True)
    found = explain_attention(x, x, x, bias=bias)
    assert found.reasons["torch"] == "has no gradient to `bias`"
    assert explain_attention(x, x, x, bias=bias.detach()).path == "torch"
    with torch.no_grad():
        assert explain_attention(x, x, x, bias=bias).path == "torch"
    found = explain_attention(x, x.double(), x)
    assert "one dtype" in found.reasons["torch"]
    meta = [x.to("meta")] * 3
    found = dispatch.TORCH.why_not(*meta, AttentionOptions())
    assert found == "is for CPU and CUDA, not for meta"

    def output(x):
        return scaled_dot_product_attention(x, x, x)

    x = torch.randn((1, 5, 2, 8), dtype=torch.float64)
    tangent = torch.randn_like(x)
    forward = torch.func.jvp(output, (x,), (tangent,))[1]
    step = 1e-6
    slope = (output(x + step * tangent) - output(x - step * tangent)) / step / 2
    torch.testing.assert_close(forward, slope, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        torch.func.grad(lambda x: (output(x) ** 2).sum())(x),
        torch.func.grad(
            lambda x: (
                scaled_dot_product_attention(x, x, x, implementation="plain")
                ** 2
            ).sum()
        )(x),
    )


@pytest.mark.skipif(BACKEND != "torch", reason="needs the extra 'torch'")
def test_long_masked_stretches_on_torch():
    """Rows whose first 3,000 keys are masked: the kernel's whole blocks."""
    import torch

    x = torch.randn((1, 3200, 1, 8), requires_grad=True)
    mask = torch.arange(3200) >= 3000
    mask = torch.stack([mask, ~mask, torch.zeros_like(mask)])[:, None, None]
    case = [x.expand(3, -1, -1, -1)] * 3
    output = scaled_dot_product_attention(*case, mask=mask)
    (gradient,) = torch.autograd.grad(output.square().sum(), x)
    assert torch.isfinite(output).all() and torch.isfinite(gradient).all()
    assert (output[2] == 0).all() and output[:2].abs().max() > 0


@pytest.mark.skipif(BACKEND != "jax", reason="needs the extra 'jax'")
def test_cudnn_obstacles():
    x = np.ones((1, 6, 2, 8), "float32")

    def reason(query=x, key=x, value=x, **options):
        return explain_attention(query, key, value, **options).reasons["cudnn"]

    assert "from the first key" in reason(x[:, :3], causal=True)
    assert "without `causal`" in reason(window=2)
    assert "with `mask`" in reason(
        window=2, causal=True, mask=np.ones((1, 1, 1, 6), bool)
    )
    assert "keys alone" in reason(mask=np.ones((6, 6), bool))
    assert "multiple of 8" in reason(x[..., :7], x[..., :7], x[..., :7])
    assert "at least one query" in reason(x[:, :0])
    half = x.astype("float16")
    assert "not for float16" in reason(half, half, half)


@pytest.mark.skipif(BACKEND != "jax", reason="needs the extra 'jax'")
def test_causal_chunks_on_jax_leave_out_later_keys(monkeypatch):
    """As many numbers of keys as groups of chunks, the last one all keys."""
    read, attend_block = [], chunked_attention.attend_block

    def recorded(query, key, *arguments, **options):
        read.append(key.shape[3])
        return attend_block(query, key, *arguments, **options)

    monkeypatch.setattr(chunked_attention, "attend_block", recorded)
    x = np.ones((1, 64, 2, 8), "float32")
    for causal in (True, False):
        scaled_dot_product_attention(
            x, x, x, causal=causal, implementation="chunked"
        )
    assert read == [32, 64, 64]


def test_options_of_every_path_exist():
    names = set(AttentionOptions.__dataclass_fields__)
    for path in (
        dispatch.PLAIN,
        dispatch.CHUNKED,
        dispatch.TORCH,
        dispatch.CUDNN,
    ):
        assert path.honours <= names
    assert dispatch.PLAIN.honours == names
