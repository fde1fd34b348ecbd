"""The sizes of the papers' networks."""

from typing import Any

from keras_attention.models.transformer.mixers import MIXERS
from keras_attention.validation import check_choice

ENCODER_KERNEL_SIZES = (3, 7, 15, 31, 31, 31, 31)
DECODER_KERNEL_SIZES = (3, 7, 15, 31, 31, 31)
# width, hidden units, heads, dropout
SIZES = {
    "base": (512, 2048, 8, 0.1),
    "big": (1024, 4096, 16, 0.3),
    "iwslt": (512, 1024, 4, 0.3),
}


def transformer_configuration(
    size: str, mixer: str = "attention"
) -> dict[str, Any]:
    """Return arguments of `TransformerEncoderDecoder` for a paper's network.

    Attention has 6 blocks on both sides. The convolutions by heads have 7 in
    the encoder, and kernels 3, 7, 15, 31, ...; with a gate for `"base"` and
    `"big"`, without for `"iwslt"`. `"convolution"` has kernels of 3 and
    `"lstm"` none; these two were not measured in these sizes.

    Args:
        size: `"base"`: 512 channels, 2,048 hidden units, 8 heads; `"big"`:
            1,024, 4,096 and 16; `"iwslt"`: 512, 1,024 and 4.
        mixer: `"attention"`, `"lightweight"`, `"dynamic"`, `"convolution"` or
            `"lstm"`.

    Raises:
        ValueError: for an unknown name.

    Reference:
        Vaswani et al., arXiv:1706.03762, table 3; Wu et al.,
        arXiv:1901.10430, section 5.1, and the authors' code.

    Example:

    >>> from keras_attention.models import transformer_configuration
    >>> arguments = transformer_configuration("iwslt", "dynamic")
    >>> arguments["width"], arguments["num_encoder_blocks"]
    (512, 7)
    """
    check_choice("size", size, SIZES)
    check_choice("mixer", mixer, MIXERS)
    width, hidden, heads, dropout = SIZES[size]
    arguments = {
        "mixer": mixer,
        "width": width,
        "num_encoder_blocks": 6,
        "num_decoder_blocks": 6,
        "num_heads": heads,
        "feed_forward_dim": hidden,
        "dropout": dropout,
        "attention_dropout": 0.1,
    }
    if mixer == "attention":
        arguments["mixer_arguments"] = {"dropout": 0.1}
    elif mixer == "convolution":
        arguments["encoder_kernel_sizes"] = (3,) * 6
        arguments["decoder_kernel_sizes"] = (3,) * 6
    elif mixer in ("lightweight", "dynamic"):
        gated = size != "iwslt"
        arguments |= {
            "num_encoder_blocks": 7,
            "encoder_kernel_sizes": ENCODER_KERNEL_SIZES,
            "decoder_kernel_sizes": DECODER_KERNEL_SIZES,
            "mixer_arguments": {
                "glu": gated,
                "weight_dropout": 0.1,
                "input_dropout": 0.1 if gated else 0.0,
            },
        }
    return arguments
