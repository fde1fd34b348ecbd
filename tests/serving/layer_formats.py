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


def cell(layer: str, format: str) -> str:
    refused = {
        name.removeprefix(layer).lstrip("-"): reason
        for (name, by), reason in REFUSED.items()
        if by == format and name.split("-")[0] == layer
    }
    if not refused:
        return "yes"
    if "" in refused:
        return f"no: {refused['']}"
    return "; ".join(
        f"not {variant}: {reason}" for variant, reason in refused.items()
    )


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
