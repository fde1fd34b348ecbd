"""The papers' mathematics in torch. For a process of its own.

Images are channels first and contiguous, as torch has them.
"""

import os

import torch
from torch.nn import functional


def squeeze_excite(x, training, kernel1, bias1, kernel2, bias2):
    hidden = functional.relu(x.mean((2, 3)) @ kernel1 + bias1)
    gate = torch.sigmoid(hidden @ kernel2 + bias2)
    return x * gate[:, :, None, None]


def efficient_channel_attention(x, training, kernel):
    taps = kernel.reshape(1, 1, -1)
    logits = functional.conv1d(
        x.mean((2, 3))[:, None], taps, padding=taps.shape[-1] // 2
    )
    return x * torch.sigmoid(logits)[:, 0, :, None, None]


def cbam(x, training, kernel1, bias1, kernel2, bias2, kernel, gamma, beta):
    def excite(pooled):
        return functional.relu(pooled @ kernel1 + bias1) @ kernel2 + bias2

    logits = excite(x.mean((2, 3))) + excite(x.amax((2, 3)))
    x = x * torch.sigmoid(logits)[:, :, None, None]
    maps = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
    logits = functional.conv2d(maps, kernel.permute(3, 2, 0, 1), padding="same")
    logits = functional.batch_norm(
        *(logits, torch.zeros(1), torch.ones(1), gamma, beta, training)
    )
    return x * torch.sigmoid(logits)


LAYERS = {
    "SqueezeExcite": squeeze_excite,
    "EfficientChannelAttention": efficient_channel_attention,
    "CBAM": cbam,
}


def case(name, x, weights, upstream=None):
    """One pass of a layer. With `upstream` gradients are given too.

    Args:
        name: a key of `LAYERS`.
        x: image, channels last.
        weights: ours.
        upstream: gradient of the output.
    """
    torch.set_num_threads(os.cpu_count())
    layer, x = LAYERS[name], _channels_first(x)
    weights = [torch.tensor(weight) for weight in weights]
    if upstream is None:

        def forward():
            with torch.no_grad():
                return [_channels_last(layer(x, False, *weights))]

        return forward
    upstream, sources = _channels_first(upstream), [x, *weights]
    for source in sources:
        source.requires_grad_()

    def step():
        y = layer(x, True, *weights)
        of_x, *gradients = torch.autograd.grad(y, sources, upstream)
        return [_channels_last(y.detach()), _channels_last(of_x), *gradients]

    return step


def _channels_first(x):
    return torch.tensor(x).permute(0, 3, 1, 2).contiguous()


def _channels_last(x):
    return x.permute(0, 2, 3, 1)
