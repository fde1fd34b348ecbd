"""Which layer can be exported to which format: the table of the docs.

`docs/conf.py` writes it into `docs/how_to/serve.md` while the pages are built.
What a format refuses is declared here,
once. `test_every_layer.py` exports every layer to every format, and fails for
a refusal that is not declared and for a declared one that is none. That a
SavedModel can hold every layer is a test of `conformance/test_saving.py`.
"""

from conformance.rows import ROWS
from keras_attention.serving.formats import FILES

FORMATS = {
    "onnx": "ONNX",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
}
assert set(FORMATS) == set(FILES)

# The reason, by the name of a row, which is that of a layer or of one of its
# variants, and the format.
REFUSED: dict[tuple[str, str], str] = {}
# What is refused where the length is open, and can be written where it is
# fixed.
REFUSED_OPEN: dict[tuple[str, str], str] = {
    (name, "litert"): "a loop over chunks"
    for name in (
        "GatedDeltaNet",
        "GatedDeltaNet-widths",
        "GatedLinearAttention",
        "GatedLinearAttention-widths",
        "LinearAttention-causal",
        "Retention",
        "Retention-widths",
    )
}


def cell(layer: str, format: str) -> str:
    refused = {
        name.removeprefix(layer).lstrip("-"): reason
        for (name, by), reason in REFUSED.items()
        if by == format and name.split("-")[0] == layer
    }
    if "" in refused:
        return f"no: {refused['']}"
    reasons = [
        f"not {variant}: {reason}" for variant, reason in refused.items()
    ]
    variants = {
        name.removeprefix(layer).lstrip("-"): reason
        for (name, by), reason in REFUSED_OPEN.items()
        if by == format and name.split("-")[0] == layer
    }
    if "" in variants:
        reasons.append(f"not at open lengths: {variants['']}")
    else:
        reasons += [
            f"not {variant} at open lengths: {reason}"
            for variant, reason in variants.items()
        ]
    return "; ".join(reasons) or "yes"


def table() -> str:
    layers = sorted({row.layer.__name__ for row in ROWS}, key=str.lower)
    lines = [
        f"| layer | {' | '.join(FORMATS.values())} |",
        "|---" * (len(FORMATS) + 1) + "|",
        *(
            f"| `{layer}` | "
            + " | ".join(cell(layer, format) for format in FORMATS)
            + " |"
            for layer in layers
        ),
    ]
    return "\n".join(lines) + "\n"
