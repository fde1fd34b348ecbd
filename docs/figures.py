"""Draws the diagram of each mechanism into docs/figures: one style for all.

    python docs/figures.py

A diagram is a line from x to y, lanes of boxes beside it, and where they
meet. Boxes are blue where a statistic is taken, amber where there are
weights, grey for functions. The SVG is written here, so that the same text
gives the same file everywhere.
"""

import pathlib
from dataclasses import dataclass
from html import escape

FOLDER = pathlib.Path(__file__).parent / "figures"
WIDTH, HEIGHT, GAP, LANE = 136, 46, 30, 74
MARGIN, NODE = 24, 15
FILLS = {"p": "#d6e6f5", "w": "#fbe3bd", "f": "#e7e8ea"}
INK, PALE = "#1f2933", "#5b6770"


@dataclass(frozen=True)
class Diagram:
    """What is drawn of a mechanism.

    Attributes:
        lanes: of each lane its boxes: kind, text, shape of what comes out.
        joins: text of the box where several lanes meet, and the boxes after.
        operator: what meets the line of x at the end; `None` for no line.
        output: what comes out at the end.
        inputs: names of the lanes' inputs if they are not all x.
    """

    lanes: tuple
    joins: tuple = ()
    operator: str | None = "×"
    output: str = "y"
    inputs: tuple = ()


def pool(text, shape=""):
    return ("p", text, shape)


def weights(text, shape=""):
    return ("w", text, shape)


def function(text, shape=""):
    return ("f", text, shape)


MEAN = pool("mean over H, W", "B, C")
SIGMOID = function("sigmoid")
DIAGRAMS = {
    "squeeze_excite": Diagram(
        (
            (
                MEAN,
                weights("dense, ReLU", "B, C / 16"),
                weights("dense", "B, C"),
                function("sigmoid", "B, 1, 1, C"),
            ),
        )
    ),
    "spatial_squeeze_excite": Diagram(
        (
            (MEAN, weights("SE, ratio 2"), function("sigmoid", "B, 1, 1, C")),
            (weights("1×1 conv", "B, H, W, 1"), SIGMOID),
        ),
        (function("scale x by each; max", "B, H, W, C"),),
        None,
    ),
    "cbam": Diagram(
        (
            (
                pool("mean and max", "2 × B, C"),
                weights("one shared MLP", "2 × B, C"),
                function("sum, sigmoid", "B, 1, 1, C"),
                function("× x", "B, H, W, C"),
                pool("max, mean over C", "B, H, W, 2"),
                weights("7×7 conv, BN", "B, H, W, 1"),
                SIGMOID,
            ),
        ),
    ),
    "bam": Diagram(
        (
            (MEAN, weights("dense, BN, ReLU", "B, C / 16"), weights("dense")),
            (
                weights("1×1 conv", "B, H, W, C / 16"),
                weights("2 × 3×3 dilated"),
                weights("1×1 conv", "B, H, W, 1"),
            ),
        ),
        (function("product"), function("1 + sigmoid", "B, H, W, C")),
    ),
    "gsop": Diagram(
        (
            (
                weights("1×1 conv, BN", "B, H, W, d"),
                pool("covariance", "B, d, d"),
                weights("conv of each row", "B, 4d"),
                weights("dense, sigmoid", "B, 1, 1, C"),
            ),
            (
                weights("1×1 conv, grid", "B, 64, d"),
                pool("covariance", "B, 64, 64"),
                weights("conv of each row", "B, 256"),
                weights("dense, sigmoid", "B, H, W, 1"),
            ),
        ),
        (function("scale x by each; mean"),),
        None,
    ),
    "covariance_pooling": Diagram(
        (
            (
                weights("1×1 conv, BN", "B, H, W, d"),
                pool("covariance", "B, d, d"),
                function("matrix root", "B, d, d"),
                function("upper triangle", "B, d (d+1) / 2"),
            ),
        ),
        operator=None,
    ),
    "gather_excite": Diagram(
        (
            (
                pool("gather: pool, or", "B, H/e, W/e, C"),
                weights("depthwise convs"),
                weights("excite: none, or MLP"),
                function("sigmoid"),
                function("resize, nearest", "B, H, W, C"),
            ),
        )
    ),
    "efficient_channel_attention": Diagram(
        (
            (
                MEAN,
                weights("conv over channels", "B, C"),
                function("sigmoid", "B, 1, 1, C"),
            ),
        )
    ),
    "coordinate_attention": Diagram(
        (
            (
                pool("mean over W", "B, H, C"),
                weights("shared dense, BN"),
                weights("dense, sigmoid", "B, H, 1, C"),
            ),
            (
                pool("mean over H", "B, W, C"),
                weights("shared dense, BN"),
                weights("dense, sigmoid", "B, 1, W, C"),
            ),
        ),
        (function("product", "B, H, W, C"),),
    ),
    "global_context": Diagram(
        (
            (
                weights("1×1 conv", "B, H, W"),
                function("softmax over H·W"),
                pool("weighted mean", "B, C"),
                weights("dense, LN, ReLU", "B, C / 16"),
                weights("dense", "B, 1, 1, C"),
            ),
        ),
        operator="+",
    ),
    "non_local": Diagram(
        (
            (weights("θ: 1×1 conv", "B, N, d"),),
            (weights("φ: 1×1 conv, pool", "B, M, d"),),
            (weights("g: 1×1 conv, pool", "B, M, d"),),
        ),
        (
            function("softmax(θφᵀ/√d) g", "B, N, d"),
            weights("1×1 conv, BN", "B, H, W, C"),
        ),
        "+",
    ),
    "selective_kernel": Diagram(
        (
            (weights("3×3 conv", "B, H, W, F"),),
            (weights("3×3 conv, dilated", "B, H, W, F"),),
        ),
        (
            pool("sum, mean over H, W", "B, F"),
            weights("dense, BN, ReLU"),
            weights("dense", "B, 2, F"),
            function("softmax over both"),
            function("weighted sum", "B, H, W, F"),
        ),
        None,
    ),
    "shuffle_attention": Diagram(
        (
            (
                pool("mean of one half", "B, C / 2"),
                weights("scale, bias"),
                function("sigmoid", "B, 1, 1, C / 2"),
            ),
            (
                pool("norm of the other", "B, H, W, C / 2"),
                weights("scale, bias"),
                function("sigmoid", "B, H, W, C / 2"),
            ),
        ),
        (function("× x, shuffle", "B, H, W, C"),),
        None,
    ),
    "simam": Diagram(
        (
            (
                pool("d = x − mean", "B, H, W, C"),
                pool("variance", "B, 1, 1, C"),
                function("d²/(4(var+λ)) + ½"),
                function("sigmoid", "B, H, W, C"),
            ),
        )
    ),
    "triplet_attention": Diagram(
        (
            (
                pool("max, mean over H", "B, C, W, 2"),
                weights("7×7 conv, BN"),
                SIGMOID,
            ),
            (
                pool("max, mean over W", "B, H, C, 2"),
                weights("7×7 conv, BN"),
                SIGMOID,
            ),
            (
                pool("max, mean over C", "B, H, W, 2"),
                weights("7×7 conv, BN"),
                SIGMOID,
            ),
        ),
        (function("mean", "B, H, W, C"),),
    ),
    "gated_channel_transformation": Diagram(
        (
            (
                pool("α · L2 norm", "B, C"),
                function("÷ root mean square", "B, C"),
                weights("γ, β"),
                function("1 + tanh", "B, 1, 1, C"),
            ),
        )
    ),
    "blend_in": Diagram(
        (
            (
                weights("layer", "B, H, W, C"),
                function("− x"),
                weights("α, at first 0"),
            ),
        ),
        operator="+",
    ),
    "multi_head_attention": Diagram(
        (
            (weights("dense", "B, T, N, D"),),
            (weights("dense", "B, S, N, D"),),
            (weights("dense", "B, S, N, D"),),
        ),
        (
            function("QKᵀ / √D", "B, N, T, S"),
            function("softmax over S"),
            function("· V", "B, T, N, D"),
            weights("dense", "B, T, C"),
        ),
        None,
        inputs=("query", "key", "value"),
    ),
    "lightweight_convolution": Diagram(
        (
            (
                weights("dense: 2 C, GLU", "B, T, C"),
                weights("filters W, or x·W", "H, K"),
                function("softmax over K"),
                function("depthwise conv", "B, T, C"),
                weights("dense", "B, T, C"),
            ),
        ),
        operator=None,
    ),
    "attention_transfer": Diagram(
        (
            (
                weights("student's block", "B, H, W, C"),
                pool("Σ |A|² over C", "B, H·W"),
                function("÷ its length"),
            ),
            (
                weights("teacher's block", "B, H, W, C′"),
                pool("Σ |A|² over C", "B, H·W"),
                function("÷ its length"),
            ),
        ),
        (function("squared difference"), function("β · mean")),
        None,
        output="loss",
    ),
}


def draw(diagram: Diagram) -> str:
    """Return the SVG of a diagram."""
    longest = max(len(lane) for lane in diagram.lanes)
    steps = longest + len(diagram.joins)
    first = MARGIN + (60 if diagram.inputs else 34)
    top = MARGIN + (36 if diagram.operator else 0)
    middle = top + (len(diagram.lanes) - 1) * LANE / 2 + HEIGHT / 2
    end = first + steps * (WIDTH + GAP)
    width = end + (NODE * 2 + 40 if diagram.operator else 24) + MARGIN
    height = top + (len(diagram.lanes) - 1) * LANE + HEIGHT + 22 + MARGIN / 2
    line = MARGIN + 4
    parts = []
    for number, lane in enumerate(diagram.lanes):
        y = top + number * LANE
        _lane(parts, diagram, number, lane, first, y, line, middle)
        last = first + len(lane) * (WIDTH + GAP) - GAP
        goal = first + longest * (WIDTH + GAP)
        if diagram.joins:
            _path(
                parts,
                [
                    (last, y + HEIGHT / 2),
                    (goal - GAP / 2, y + HEIGHT / 2),
                    (goal - GAP / 2, middle),
                    (goal, middle),
                ],
            )
    x = first + longest * (WIDTH + GAP)
    for number, box in enumerate(diagram.joins):
        _box(parts, x, middle - HEIGHT / 2, box)
        x += WIDTH
        if number < len(diagram.joins) - 1:
            _path(parts, [(x, middle), (x + GAP, middle)])
        x += GAP
    _finish(parts, diagram, x - GAP, middle, line)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>\n'
        f'<rect width="{width:g}" height="{height:g}" rx="6" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _lane(parts, diagram, number, lane, first, y, line, middle):
    """The boxes of a lane and what leads to them."""
    center = y + HEIGHT / 2
    if diagram.inputs:
        _text(parts, MARGIN, center + 4, diagram.inputs[number], "start")
        _path(parts, [(first - 20, center), (first, center)])
    else:
        start = line if diagram.operator else middle
        if number == 0:
            _text(parts, MARGIN, start + 4, "x", "middle", 15)
        _path(
            parts,
            [
                (MARGIN + 10, start),
                (MARGIN + 18, start),
                (MARGIN + 18, center),
                (first, center),
            ],
        )
    x = first
    for position, box in enumerate(lane):
        _box(parts, x, y, box)
        if position < len(lane) - 1:
            _path(parts, [(x + WIDTH, center), (x + WIDTH + GAP, center)])
        x += WIDTH + GAP


def _finish(parts, diagram, x, middle, line):
    """The operator on the line of x, and the output."""
    if diagram.operator is None:
        _path(parts, [(x, middle), (x + GAP, middle)])
        _text(parts, x + GAP + 6, middle + 4, diagram.output, "start", 15)
        return
    center = x + GAP + NODE
    _path(parts, [(MARGIN + 10, line), (center - NODE, line)])
    _path(parts, [(x, middle), (center, middle), (center, line + NODE)])
    parts.append(
        f'<circle cx="{center:g}" cy="{line:g}" r="{NODE}" fill="#fff" '
        f'stroke="{INK}"/>'
    )
    _text(parts, center, line + 6, diagram.operator, "middle", 18)
    _path(parts, [(center + NODE, line), (center + NODE + GAP, line)])
    _text(parts, center + NODE + GAP + 4, line + 4, "y", "start", 15)


def _box(parts, x, y, box):
    kind, text, shape = box
    parts.append(
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" '
        f'fill="{FILLS[kind]}" stroke="{INK}" stroke-width="0.8"/>'
    )
    _text(parts, x + WIDTH / 2, y + HEIGHT / 2 + 4, text, "middle")
    if shape:
        _text(
            parts, x + WIDTH / 2, y + HEIGHT + 14, f"[{shape}]", "middle", 10.5
        )


def _text(parts, x, y, text, anchor, size=None):
    attributes = f' font-size="{size}"' if size else ""
    color = PALE if text.startswith("[") else INK
    parts.append(
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}"'
        f"{attributes}>{escape(text)}</text>"
    )


def _path(parts, points):
    steps = " L".join(f"{x:g} {y:g}" for x, y in points)
    parts.append(
        f'<path d="M{steps}" fill="none" stroke="{INK}" '
        'marker-end="url(#tip)"/>'
    )


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, diagram in DIAGRAMS.items():
        (FOLDER / f"{name}.svg").write_text(draw(diagram), encoding="utf-8")


if __name__ == "__main__":
    main()
