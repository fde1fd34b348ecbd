"""Which layer can be exported to which format: the table of the docs.

    cd tests && python -m serving.layer_formats

writes it into `docs/how_to/serve.md`. What a format refuses is declared here,
once. `test_every_layer.py` exports every layer to every format, and fails for
a refusal that is not declared and for a declared one that is none. That a
SavedModel can hold every layer is a test of `conformance/test_saving.py`.
"""

import pathlib
import re

from conformance.rows import ROWS
from keras_attention.serving.formats import FILES

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "how_to" / "serve.md"
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


def with_table(page: str) -> str:
    """Return the page with its table replaced."""
    found, number = re.subn(
        r"^\| layer \|.*\n(\|.*\n)+", lambda _: table(), page, flags=re.M
    )
    assert number == 1
    return found


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(page), encoding="utf-8")
