"""Draws the diagram of each mechanism into docs/figures: one style for all.

    python docs/figures.py

A diagram is described in its page, in a comment below the figure: a line from
x to y, lanes of boxes next to it, and where they meet.

    <!-- figure
    operator: +
    lane:
      pool: mean over H, W [B, C]
      weights: dense, ReLU [B, C / 16]
    lane:
      weights: 1×1 conv [B, H, W, 1]
    join:
      function: sigmoid [B, H, W, C]
    -->

`operator` is what meets the line of x at the end: × if it is not given, and
none for no such line. A lane may be given the name of its input, and `output`
names what comes out. Boxes are blue where a statistic is taken, amber where
there are weights, gray for functions; what comes out of one has its shape in
brackets. The SVG is written here, so that the same text gives the same file
everywhere.
"""

import pathlib
import re
import textwrap
from dataclasses import dataclass
from html import escape

PAGES = pathlib.Path(__file__).parent / "mechanisms"
FOLDER = pathlib.Path(__file__).parent / "figures"
WIDTH, HEIGHT, GAP, LANE = 138, 62, 24, 92
FONT, CHARACTERS = 15, 15  # What fits into one line of a box.
# Boxes side by side, and what is between those below one another.
MOST_ACROSS, COLUMN_GAP, ROW_GAP = 4, 62, 42
MARGIN, NODE = 24, 15
FILLS = {"pool": "#d6e6f5", "weights": "#fbe3bd", "function": "#e7e8ea"}
INK, PALE = "#1f2933", "#5b6770"


@dataclass(frozen=True)
class Diagram:
    """The parts of a mechanism's diagram.

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


DESCRIPTION = re.compile(r"^<!-- figure\n(.*?)^-->$", re.M | re.S)
BOX = re.compile(rf"  ({'|'.join(FILLS)}): (.+?)(?: \[(.+)\])?")


def read_diagram(page: str) -> Diagram:
    """Read the diagram that a page describes."""
    (text,) = DESCRIPTION.findall(page)
    lanes, joins, inputs, options = [], [], [], {}
    boxes = None
    for line in text.splitlines():
        if found := BOX.fullmatch(line):
            kind, words, shape = found.groups("")
            boxes.append((kind, words, shape))
            continue
        key, value = (part.strip() for part in line.split(":", 1))
        if key == "lane":
            boxes = []
            lanes.append(boxes)
            inputs += [value] if value else []
        elif key == "join":
            boxes = joins
        elif key in ("operator", "output"):
            options[key] = None if value == "none" else value
        else:
            raise ValueError(
                "A line of a figure must be an option, a lane, the join, or a "
                f"box, indented by two spaces. Received: {line!r}"
            )
    return Diagram(
        tuple(map(tuple, lanes)), tuple(joins), inputs=tuple(inputs), **options
    )


def draw(diagram: Diagram) -> str:
    """Return the SVG of a diagram: from left to right, or downwards if long.

    A page makes a wide figure smaller, and its text with it.
    """
    steps = max(map(len, diagram.lanes)) + len(diagram.joins)
    return (_draw_down if steps > MOST_ACROSS else _draw_across)(diagram)


def _draw_across(diagram):
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
    return _svg(width, height, parts)


def _draw_down(diagram):
    lanes = len(diagram.lanes)
    longest = max(map(len, diagram.lanes))
    left = MARGIN + (3 * NODE if diagram.operator else 0)
    top = MARGIN + (46 if not diagram.inputs else 34)
    centers = [
        left + WIDTH / 2 + number * (WIDTH + COLUMN_GAP)
        for number in range(lanes)
    ]
    middle = sum(centers) / lanes
    # The line of x, which the operator is on.
    line = MARGIN + NODE if diagram.operator else middle

    def top_of(row):
        return top + row * (HEIGHT + ROW_GAP)

    parts = []
    if not diagram.inputs:
        _text(parts, line, MARGIN + 4, "x", "middle", 15)
    for number, (lane, center) in enumerate(
        zip(diagram.lanes, centers, strict=True)
    ):
        if diagram.inputs:
            _text(parts, center, top - 26, diagram.inputs[number], "middle")
            _path(parts, [(center, top - 20), (center, top)])
        else:
            branch = [(line, MARGIN + 26), (center, MARGIN + 26)]
            _path(parts, [(line, MARGIN + 10), *branch, (center, top)])
        for row, box in enumerate(lane):
            _box_down(parts, center, top_of(row), box)
            if row < len(lane) - 1:
                _path(
                    parts,
                    [
                        (center, top_of(row) + HEIGHT),
                        (center, top_of(row + 1)),
                    ],
                )
        if diagram.joins:
            goal = top_of(longest)
            _path(
                parts,
                [
                    (center, top_of(len(lane) - 1) + HEIGHT),
                    (center, goal - 14),
                    (middle, goal - 14),
                    (middle, goal),
                ],
            )
    for row, box in enumerate(diagram.joins, longest):
        _box_down(parts, middle, top_of(row), box)
        if row < longest + len(diagram.joins) - 1:
            _path(
                parts,
                [(middle, top_of(row) + HEIGHT), (middle, top_of(row + 1))],
            )
    end = top_of(longest + len(diagram.joins) - 1) + HEIGHT
    end = _finish_down(parts, diagram, middle, end, line)
    width = centers[-1] + WIDTH / 2 + 60 + MARGIN
    return _svg(width, end + MARGIN, parts)


def _finish_down(parts, diagram, middle, end, line):
    """The operator on the line of x, and the output; how far down it is."""
    below = end + ROW_GAP
    if diagram.operator is None:
        _path(parts, [(middle, end), (middle, below)])
        _text(parts, middle, below + 16, diagram.output, "middle", 15)
        return below + 20
    _path(parts, [(line, MARGIN + 10), (line, below - NODE)])
    _path(parts, [(middle, end), (middle, below), (line + NODE, below)])
    parts.append(
        f'<circle cx="{line:g}" cy="{below:g}" r="{NODE}" fill="#fff" '
        f'stroke="{INK}"/>'
    )
    _text(parts, line, below + 6, diagram.operator, "middle", 18)
    _path(parts, [(line, below + NODE), (line, below + NODE + GAP)])
    _text(parts, line, below + NODE + GAP + 16, "y", "middle", 15)
    return below + NODE + GAP + 20


def _box_down(parts, center, y, box):
    """A box, with the shape of what comes out at the right of its arrow."""
    kind, text, shape = box
    _box(parts, center - WIDTH / 2, y, (kind, text, ""))
    if shape:
        _text(parts, center + 8, y + HEIGHT + 20, f"[{shape}]", "start", 13)


def _svg(width, height, parts):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{FONT}">\n'
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
    lines = textwrap.wrap(text, CHARACTERS)
    if len(lines) > 3:
        raise ValueError(
            "The text of a box must fit into three lines of "
            f"{CHARACTERS} characters. Received: {text!r}"
        )
    base = y + HEIGHT / 2 + 5 - (len(lines) - 1) * (FONT + 2) / 2
    for number, line in enumerate(lines):
        height = base + number * (FONT + 2)
        _text(parts, x + WIDTH / 2, height, line, "middle")
    if shape:
        _text(parts, x + WIDTH / 2, y + HEIGHT + 16, f"[{shape}]", "middle", 13)


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
    for page in sorted(PAGES.glob("*.md")):
        if page.stem != "index":
            text = draw(read_diagram(page.read_text(encoding="utf-8")))
            (FOLDER / f"{page.stem}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
