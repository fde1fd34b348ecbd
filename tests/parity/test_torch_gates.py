"""Published gates, transcribed for torch, and their weights in ours.

Each is a tree of torch modules under the published names, and the formula that
the published code computes with them.
"""

import argparse

import numpy as np
import pytest

import keras_attention as ka
from keras_attention import load_weights_from
from support.arrays import numpy

torch = pytest.importorskip("torch", reason="needs the extra 'test-torch'")
nn, functional = torch.nn, torch.nn.functional
C = 32


class Tree(nn.Module):
    """Modules by dotted names, and what is computed with them."""

    def __init__(self, formula, modules):
        super().__init__()
        self.formula = formula
        for name, module in modules.items():
            parent = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = getattr(parent, part)
            if isinstance(module, nn.Parameter):
                parent.register_parameter(last, module)
            else:
                parent.add_module(last, module)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.4, generator=generator)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                part.running_mean.normal_(0, 0.3, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
        self.eval()

    def forward(self, x):
        return self.formula(x, self.get_submodule)


def conv(inputs, outputs, size=1, **arguments):
    arguments.setdefault("padding", size // 2)
    return nn.Conv2d(inputs, outputs, size, **arguments)


def mean(x):
    return x.mean((2, 3), keepdim=True)


def most_and_mean(x, axis=1, flipped=False):
    pooled = [x.amax(axis), x.mean(axis)]
    return torch.stack(pooled[::-1] if flipped else pooled, 1)


def effective():
    def formula(x, m):
        return x * functional.hardsigmoid(m("fc")(mean(x)))

    return Tree(formula, {"fc": conv(C, C)}), ka.EffectiveSqueezeExcite()


def pytorchcv_squeeze_excite():
    def formula(x, m):
        return x * m("conv2")(m("conv1")(mean(x)).relu()).sigmoid()

    modules = {"conv1": conv(C, 2), "conv2": conv(2, C)}
    return Tree(formula, modules), ka.SqueezeExcite()


def concurrent(combine):
    first, second, spatial = "cSE.1", "cSE.3", "sSE.0"
    if combine == "max":
        first, second, spatial = "cSE.fc1", "cSE.fc2", "sSE.conv"

    def formula(x, m):
        by_channel = x * m(second)(m(first)(mean(x)).relu()).sigmoid()
        by_position = x * m(spatial)(x).sigmoid()
        if combine == "max":
            return torch.maximum(by_channel, by_position)
        return by_channel + by_position

    modules = {first: conv(C, C // 2), second: conv(C // 2, C)}
    modules[spatial] = conv(C, 1)
    return Tree(formula, modules), ka.ConcurrentSqueezeExcite(combine=combine)


def global_context(fusion, names, eps):
    attended, first, norm, second = names

    def formula(x, m):
        scores = m(attended)(x).flatten(2).softmax(-1)
        context = (x.flatten(2) * scores).sum(-1)[..., None, None]
        hidden = m(first)(context).flatten(1)
        hidden = functional.layer_norm(
            hidden, (8,), m(norm).weight.ravel(), m(norm).bias.ravel(), eps
        )
        term = m(second)(hidden.relu()[..., None, None])
        return x + term if fusion == "add" else x * term.sigmoid()

    shape = (8, 1, 1) if first.endswith("0") else (8,)
    modules = {attended: conv(C, 1), first: conv(C, 8)}
    modules |= {norm: nn.LayerNorm(shape, eps), second: conv(8, C)}
    ours = ka.GlobalContext(4, fusion=fusion)
    # Small values before the normalization show what its epsilon is.
    tree = Tree(formula, modules)
    tree.get_submodule(first).weight.data *= 0.01
    tree.get_submodule(first).bias.data *= 0.01
    return tree, ours


def non_local(use_scale):
    def formula(x, m):
        query, key, value = (m(name)(x).flatten(2) for name in "tpg")
        scores = (query.mT @ key * C**-0.5).softmax(-1)
        y = (value @ scores.mT).unflatten(2, x.shape[2:])
        return m("norm")(m("z")(y)) + x

    modules = {name: conv(C, 8) for name in "tpg"}
    modules |= {"z": conv(8, C), "norm": nn.BatchNorm2d(C)}
    ours = ka.NonLocal(8, use_scale=use_scale, sub_sample=False)
    return Tree(formula, modules), ours


def selective_kernel(kind):
    branches, reduce, norm, expand = (
        ("branches.branch2", "branches.branch3"),
        "fc1.conv",
        "fc1.bn",
        "fc2",
    )
    if kind != "pytorchcv":
        branches = ("paths.0", "paths.1")
        reduce, norm, expand = "attn.fc_reduce", "attn.bn", "attn.fc_select"
    split = kind == "timm, split"
    groups = 1 if split else 4

    def formula(x, m):
        parts = x.chunk(2, 1) if split else (x, x)
        u = torch.stack(
            [
                m(f"{name}.bn")(m(f"{name}.conv")(part)).relu()
                for name, part in zip(branches, parts, strict=True)
            ],
            1,
        )
        hidden = m(norm)(m(reduce)(mean(u.sum(1)))).relu()
        weights = m(expand)(hidden).reshape(len(x), 2, C, 1, 1).softmax(1)
        return (u * weights).sum(1)

    modules = {}
    for number, name in enumerate(branches, 1):
        modules[f"{name}.conv"] = conv(
            C // 2 if split else C,
            C,
            3,
            padding=number,
            dilation=number,
            groups=groups,
            bias=False,
        )
        modules[f"{name}.bn"] = nn.BatchNorm2d(C)
    modules[reduce] = conv(C, 8, bias=False)
    modules[norm] = nn.BatchNorm2d(8)
    modules[expand] = conv(8, 2 * C, bias=False)
    ours = ka.SelectiveKernel(groups=groups, min_units=8)
    return Tree(formula, modules), ours


def spatial_modules(name, bn, bias=False):
    modules = {name: conv(2, 1, 7, bias=bias)}
    return modules | ({bn: nn.BatchNorm2d(1)} if bn else {})


def triplet(names, spatial=True, norm=True):
    def gate(pooled, name, m):
        logits = m(f"{name}.conv")(pooled)
        return (m(f"{name}.bn")(logits) if norm else logits).sigmoid()[:, 0]

    def formula(x, m):
        y = x * gate(most_and_mean(x, 2), names[0], m)[:, :, None]
        rows = most_and_mean(x, 3).mT  # [B, 2, H, C]
        y = y + x * gate(rows, names[1], m).mT[..., None]
        if spatial:
            y = y + x * gate(most_and_mean(x, 1), names[2], m)[:, None]
        return y / (3 if spatial else 2)

    modules = {}
    for name in names[: 3 if spatial else 2]:
        modules |= spatial_modules(
            f"{name}.conv", f"{name}.bn" if norm else None
        )
    return Tree(formula, modules), ka.TripletAttention(use_spatial=spatial)


AUTHORS_TRIPLET = ("cw.conv", "hc.conv", "hw.conv")
OLD_TRIPLET = (
    "ChannelGateH.spatial",
    "ChannelGateW.spatial",
    "SpatialGate.spatial",
)


def coordinate():
    def formula(x, m):
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
        y = torch.cat([rows, columns.mT], 2)
        y = functional.hardswish(m("bn1")(m("conv1")(y)))
        rows, columns = y.split(x.shape[2:], 2)
        columns = m("conv_w")(columns.mT).sigmoid()
        return x * m("conv_h")(rows).sigmoid() * columns

    modules = {"conv1": conv(C, 8), "bn1": nn.BatchNorm2d(8)}
    modules |= {"conv_h": conv(8, C), "conv_w": conv(8, C)}
    return Tree(formula, modules), ka.CoordinateAttention()


def channel_transformation():
    def formula(x, m):
        root = m("")
        sizes = (x.square().sum((2, 3), keepdim=True) + 1e-5).sqrt()
        sizes = sizes * root.alpha
        scale = (sizes.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return x * (1 + torch.tanh(sizes * root.gamma / scale + root.beta))

    names = ("alpha", "gamma", "beta")
    modules = {name: nn.Parameter(torch.zeros(1, C, 1, 1)) for name in names}
    return Tree(formula, modules), ka.GatedChannelTransformation()


def bottleneck(kind):
    start, spatial = "channel_att.gate_c.gate_c_", "spatial_att.gate_s.gate_s_"
    channel = [f"{start}{name}" for name in ("fc_0", "bn_1", "fc_final")]
    blocks = [
        (f"{spatial}conv_{name}", f"{spatial}bn_{name}")
        for name in ("reduce0", "di_0", "di_1")
    ]
    last = f"{spatial}conv_final"
    if kind == "pytorchcv":
        channel = ["ch_att.init_fc.fc", "ch_att.init_fc.bn", "ch_att.final_fc"]
        blocks = [
            (f"sp_att.{name}.conv", f"sp_att.{name}.bn")
            for name in ("init_conv", "dil_convs.conv1", "dil_convs.conv2")
        ]
        last = "sp_att.final_conv"

    def formula(x, m):
        z = m(channel[1])(m(channel[0])(x.mean((2, 3)))).relu()
        z = m(channel[2])(z)[..., None, None]
        y = x
        for convolution, norm in blocks:
            y = m(norm)(m(convolution)(y)).relu()
        return x * (1 + (z * m(last)(y)).sigmoid())

    modules = {channel[0]: nn.Linear(C, 2), channel[1]: nn.BatchNorm1d(2)}
    modules[channel[2]] = nn.Linear(2, C)
    for number, (convolution, norm) in enumerate(blocks):
        arguments = {"padding": 4, "dilation": 4} if number else {}
        size = 3 if number else 1
        inputs = 2 if number else C
        modules[convolution] = conv(inputs, 2, size, **arguments)
        modules[norm] = nn.BatchNorm2d(2)
    modules[last] = conv(2, 1)
    return Tree(formula, modules), ka.BAM()


def block_attention(channel, spatial, bn=None, flipped=False, bias=False):
    linear = channel[0].startswith("ch_gate") or "mlp" in channel[0]

    def dense(inputs, outputs):
        return nn.Linear(inputs, outputs) if linear else conv(inputs, outputs)

    def formula(x, m):
        logits = 0
        for z in (x.mean((2, 3)), x.amax((2, 3))):
            z = z if linear else z[..., None, None]
            logits = logits + m(channel[1])(m(channel[0])(z).relu()).flatten(1)
        x = x * logits.sigmoid()[..., None, None]
        logits = m(spatial)(most_and_mean(x, flipped=flipped))
        return x * (m(bn)(logits) if bn else logits).sigmoid()

    modules = {channel[0]: dense(C, 2), channel[1]: dense(2, C)}
    modules |= spatial_modules(spatial, bn, bias)
    return Tree(formula, modules), ka.CBAM()


TIMM_CONTEXT = {
    "add": ("conv_attn", "mlp_add.fc1", "mlp_add.norm", "mlp_add.fc2"),
    "multiply": (
        "conv_attn",
        "mlp_scale.fc1",
        "mlp_scale.norm",
        "mlp_scale.fc2",
    ),
}
AUTHORS_CONTEXT = {
    fusion: ("conv_mask", *(f"{name}.{part}" for part in (0, 1, 3)))
    for fusion, name in (
        ("add", "channel_add_conv"),
        ("multiply", "channel_mul_conv"),
    )
}
AUTHORS_MLP = ("ChannelGate.mlp.1", "ChannelGate.mlp.3")
AUTHORS_CONV = "SpatialGate.spatial.conv"
GATES = {
    "timm's eSE": effective,
    "pytorchcv's SE": pytorchcv_squeeze_excite,
    "scSE of the authors": lambda: concurrent("max"),
    "scSE of segmentation_models": lambda: concurrent("add"),
    **{
        f"timm's GC, {fusion}": lambda fusion=fusion, names=names: (
            global_context(fusion, names, 1e-6)
        )
        for fusion, names in TIMM_CONTEXT.items()
    },
    **{
        f"GC of the authors, {fusion}": lambda fusion=fusion, names=names: (
            global_context(fusion, names, 1e-5)
        )
        for fusion, names in AUTHORS_CONTEXT.items()
    },
    "timm's NL": lambda: non_local(True),
    "timm's NL in unscaled": lambda: non_local(False),
    **{
        f"SK of {kind}": lambda kind=kind: selective_kernel(kind)
        for kind in ("timm", "timm, split", "pytorchcv")
    },
    "triplet": lambda: triplet(AUTHORS_TRIPLET),
    "triplet without spatial": lambda: triplet(AUTHORS_TRIPLET, False),
    "triplet without norm": lambda: triplet(AUTHORS_TRIPLET, norm=False),
    "triplet, older names": lambda: triplet(OLD_TRIPLET),
    "coordinate": coordinate,
    "GCT": channel_transformation,
    "BAM of the authors": lambda: bottleneck("authors"),
    "BAM of pytorchcv": lambda: bottleneck("pytorchcv"),
    "CBAM of pytorchcv": lambda: block_attention(
        ("ch_gate.mlp.fc1", "ch_gate.mlp.fc2"),
        "sp_gate.conv.conv",
        "sp_gate.conv.bn",
    ),
    "CBAM without norm": lambda: block_attention(AUTHORS_MLP, AUTHORS_CONV),
    "CBAM with bias, without norm": lambda: block_attention(
        AUTHORS_MLP, AUTHORS_CONV, bias=True
    ),
    "CBAM with bias and norm": lambda: block_attention(
        AUTHORS_MLP, AUTHORS_CONV, "SpatialGate.spatial.bn", bias=True
    ),
    "CBAM of a port": lambda: block_attention(
        ("ca.fc1", "ca.fc2"), "sa.conv1", flipped=True
    ),
    "CBAM of its newer version": lambda: block_attention(
        ("ca.fc.0", "ca.fc.2"), "sa.conv1", flipped=True
    ),
}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", GATES)
def test_published_gate(name, data_format):
    theirs, ours = GATES[name]()
    ours = type(ours).from_config(
        {**ours.get_config(), "data_format": data_format}
    )
    x = np.random.default_rng(1).normal(size=(3, C, 7, 5)).astype("float32")
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).numpy()
    last = data_format == "channels_last"
    given = x.transpose(0, 2, 3, 1) if last else x
    ours.build(given.shape)
    assert load_weights_from(ours, theirs) == []
    found = numpy(ours(given))
    found = found.transpose(0, 3, 1, 2) if last else found
    np.testing.assert_allclose(
        found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


def test_the_prefix_tells_two_spatial_gates_from_each_other():
    x = np.random.default_rng(1).normal(size=(2, 7, 5, C)).astype("float32")
    theirs, _ = GATES["CBAM of pytorchcv"]()
    state = theirs.state_dict()
    timm = {k.replace("sp_gate", "spatial"): v for k, v in state.items()}
    kernels = []
    for source, prefix in ((state, "sp_gate."), (timm, "spatial.")):
        layer = ka.SpatialAttention()
        layer.build(x.shape)
        load_weights_from(layer, source, prefix)
        kernels.append(numpy(layer.convolution.kernel))
    np.testing.assert_array_equal(kernels[0], kernels[1][:, :, ::-1])


@pytest.mark.parametrize(
    "name, layer, words",
    [
        ("timm's NL", ka.NonLocal(8), "does with sub_sample=False"),
        (
            "scSE of the authors",
            ka.ConcurrentSqueezeExcite(combine="add"),
            "max",
        ),
        ("BAM of pytorchcv", ka.BAM(combine="add"), "combine='multiply'"),
        ("SK of timm, split", ka.SelectiveKernel(groups=2), "groups=1"),
        (
            "SK of timm",
            ka.SelectiveKernel(dilations=(1, 3), groups=4),
            r"dilations=\(1, 2\)",
        ),
        ("timm's GC, add", ka.GlobalContext(4, "multiply"), "mlp_scale.fc1"),
        (
            "SK of timm",
            ka.SelectiveKernel(groups=4, min_units=8, strides=2),
            r"stride=\(1, 1\).*stride=\(2, 2\)",
        ),
        ("BAM of pytorchcv", ka.BAM(dilation=2), "dilation=4"),
    ],
)
def test_what_computes_something_else_is_refused(name, layer, words):
    theirs, _ = GATES[name]()
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, 7, 5, C))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=words):
        load_weights_from(layer, theirs)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_epsilon_of_a_module_is_compared():
    theirs, ours = coordinate()
    theirs.bn1.eps = 1e-3
    ours.build((None, 7, 5, C))
    with pytest.raises(ValueError, match="eps=0.001.*eps=1e-05"):
        load_weights_from(ours, theirs)
    assert load_weights_from(ours, theirs.state_dict()) == []


@pytest.mark.parametrize("suffix", [".pth.tar", ".pt.tar", ".PTH", ".ckpt"])
def test_names_of_torch_files(tmp_path, suffix):
    theirs, ours = coordinate()
    state = {f"module.{k}": v for k, v in theirs.state_dict().items()}
    path = tmp_path / f"eca_resnet50.v1{suffix}"
    torch.save({"epoch": 3, "state_dict": state, "best": 77.4}, path)
    ours.build((None, 7, 5, C))
    assert load_weights_from(ours, path) == []
    np.testing.assert_array_equal(
        numpy(ours.reduce.bias), theirs.conv1.bias.detach().numpy()
    )


def test_a_file_with_more_than_tensors(tmp_path):
    path = tmp_path / "network.pth.tar"
    _, ours = coordinate()
    ours.build((None, 7, 5, C))
    torch.save({"args": argparse.Namespace(lr=1), "state_dict": {}}, path)
    with pytest.raises(ValueError, match="more than tensors.*save_file") as e:
        load_weights_from(ours, path)
    assert "weights_only" not in str(e.value)
    assert e.value.__cause__ is None and e.value.__suppress_context__


def test_damaged_torch_files(tmp_path):
    path = tmp_path / "network.pth"
    theirs, ours = coordinate()
    ours.build((None, 7, 5, C))
    torch.save(theirs.state_dict(), path)
    complete = path.read_bytes()
    for content in (b"", b"no weights", complete[: len(complete) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="network.pth'"):
            load_weights_from(ours, path)


def test_heads_of_torch_attention_are_compared():
    theirs = nn.MultiheadAttention(12, 3)
    ours = ka.MultiHeadAttention(4)
    ours.build((None, None, 12))
    with pytest.raises(ValueError, match="num_heads=3.*num_heads=4"):
        load_weights_from(ours, theirs)
