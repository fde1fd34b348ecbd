"""Published networks, transcribed for torch, and their weights in ours."""

import keras
import numpy as np
import pytest

from keras_attention import MultiHeadAttention
from keras_attention import load_weights_from
from keras_attention.models import ResNet

torch = pytest.importorskip("torch", reason="needs the extra 'test-torch'")
nn = torch.nn


class SEModule(nn.Module):
    """timm's squeeze-and-excitation."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x):
        z = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(z))))


class ECAModule(nn.Module):
    """Efficient channel attention, as timm and its authors name it."""

    def __init__(self, channels):
        super().__init__()
        size = int(abs((np.log2(channels) + 1) / 2))
        size = max(size if size % 2 else size + 1, 3)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x):
        z = x.mean((2, 3))[:, None]
        return x * torch.sigmoid(self.conv(z))[:, 0, :, None, None]


class ChannelGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, channels // 16),
            nn.ReLU(),
            nn.Linear(channels // 16, channels),
        )

    def forward(self, x):
        z = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * torch.sigmoid(z)[..., None, None]


class BasicConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, eps=1e-5, momentum=0.01)

    def forward(self, x):
        return self.bn(self.conv(x))


class SpatialGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.spatial = BasicConv()

    def forward(self, x):
        z = torch.stack([x.amax(1), x.mean(1)], 1)
        return x * torch.sigmoid(self.spatial(z))


class AuthorsCBAM(nn.Module):
    """CBAM under its authors' names."""

    def __init__(self, channels):
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x):
        return self.SpatialGate(self.ChannelGate(x))


class Block(nn.Module):
    """Both of torchvision's blocks; attention before the addition."""

    def __init__(self, inputs, filters, stride, bottleneck, name, attention):
        super().__init__()
        shapes = [(filters, 3, stride), (filters, 3, 1)]
        if bottleneck:
            shapes = [(filters, 1, 1), (filters, 3, stride)]
            shapes.append((4 * filters, 1, 1))
        channels, self.count = inputs, len(shapes)
        for number, (outputs, size, step) in enumerate(shapes, 1):
            conv = nn.Conv2d(
                channels, outputs, size, step, size // 2, bias=False
            )
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", nn.BatchNorm2d(outputs))
            channels = outputs
        self.name = name
        if name:
            setattr(self, name, attention(channels))
        self.downsample = None
        if stride > 1 or inputs != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )
        self.channels = channels

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"conv{number}")(y)
            y = getattr(self, f"bn{number}")(y)
            y = torch.relu(y) if number < self.count else y
        if self.name:
            y = getattr(self, self.name)(y)
        return torch.relu(
            y + (x if self.downsample is None else self.downsample(x))
        )


class TorchResNet(nn.Module):
    """torchvision's ResNet, its names and its places of the strides."""

    def __init__(self, blocks, bottleneck, name=None, attention=None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, count in enumerate(blocks, 1):
            layer = []
            for block in range(count):
                stride = 2 if stage > 1 and block == 0 else 1
                layer.append(
                    Block(
                        channels,
                        32 * 2**stage,
                        stride,
                        bottleneck,
                        name,
                        attention,
                    )
                )
                channels = layer[-1].channels
            setattr(self, f"layer{stage}", nn.Sequential(*layer))
        self.fc = nn.Linear(channels, 11)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


def randomize(module):
    """Statistics as after training: no mean is zero, no variance one."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, part.bias.data):
                tensor.normal_(0, 0.1, generator=generator)
            for tensor in (part.running_var, part.weight.data):
                tensor.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


@pytest.mark.parametrize(
    "depth, blocks, name, attention, ours",
    [
        (18, (2, 2, 2, 2), None, None, None),
        (50, (3, 4, 6, 3), None, None, None),
        (18, (2, 2, 2, 2), "se", SEModule, "squeeze_excite"),
        (50, (3, 4, 6, 3), "se", ECAModule, "efficient_channel_attention"),
        (18, (2, 2, 2, 2), "cbam", AuthorsCBAM, "cbam"),
    ],
)
def test_logits_of_published_networks(
    tmp_path, depth, blocks, name, attention, ours
):
    torch.manual_seed(depth)
    theirs = randomize(TorchResNet(blocks, depth == 50, name, attention))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "network.pth")
    model = ResNet(
        depth,
        ours,
        input_shape=(64, 64, 3),
        classes=11,
        downsample_in="3x3",
        softmax=False,
        data_format="channels_last",
    )
    assert load_weights_from(model, tmp_path / "network.pth") == []
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype("float32")
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).numpy()
    found = keras.ops.convert_to_numpy(model(x.transpose(0, 2, 3, 1)))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


def test_strides_of_a_module_are_compared():
    theirs = TorchResNet((3, 4, 6, 3), True)
    arguments = {"input_shape": (64, 64, 3), "classes": 11}
    model = ResNet(50, **arguments)
    with pytest.raises(ValueError, match="'layer2.0.conv1' has stride.*down"):
        load_weights_from(model, theirs)
    with pytest.warns(UserWarning, match="downsample_in='3x3'"):
        assert load_weights_from(model, theirs.state_dict()) == []
    model = ResNet(50, **arguments, downsample_in="3x3", last_stage_strides=1)
    with pytest.raises(ValueError, match="'layer4.0.conv2' has stride"):
        load_weights_from(model, theirs)


@pytest.mark.parametrize("widths", [(12, 12, 12), (12, 5, 7)])
def test_torch_attention(widths):
    query, key, value = (
        np.random.default_rng(n).normal(size=(2, 3 + min(n, 1), width))
        for n, width in enumerate(widths)
    )
    query, key, value = (x.astype("float32") for x in (query, key, value))
    theirs = nn.MultiheadAttention(
        12, 3, kdim=widths[1], vdim=widths[2], batch_first=True
    )
    nn.init.normal_(theirs.in_proj_bias)
    with torch.no_grad():
        expected, _ = theirs(*map(torch.tensor, (query, key, value)))
    ours = MultiHeadAttention(3)
    ours.build(query.shape, value.shape, key.shape)
    assert load_weights_from(ours, theirs) == []
    found = keras.ops.convert_to_numpy(ours(query, value, key))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_half_precision_is_read():
    theirs = SEModule(32).to(torch.bfloat16)
    from keras_attention import SqueezeExcite

    ours = SqueezeExcite(16)
    ours.build((None, None, None, 32))
    load_weights_from(ours, theirs)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(ours.expand.bias),
        theirs.fc2.bias.detach().float().numpy(),
    )
