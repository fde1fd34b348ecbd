"""How Sphinx builds the documentation: `make docs`."""

import inspect
import os
import pathlib
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What tests prove of every layer is a table of these pages.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))

import keras_attention  # noqa: E402
from serving import layer_formats  # noqa: E402
from surgery import families  # noqa: E402

project = "keras_attention"
version = release = keras_attention.__version__
copyright = "the authors of keras_attention"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
highlight_language = "text"
html_theme = "furo"
html_title = f"keras_attention {release}"
html_copy_source = False

autodoc_inherit_docstrings = False
autodoc_member_order = "alphabetical"
autodoc_typehints = "none"
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    "Input shape",
    "Output shape",
    "Reference",
    # Ours is a sentence, with no type before a colon.
    "Returns",
]
# Docstrings write code between single backticks, as Keras' do.
default_role = "literal"


def to_restructured_text(app, what, name, obj, options, lines):
    """Turn a docstring's indented formulas into blocks of their own."""
    text = []
    block = doctest = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        after_blank = number > 1 and not lines[number - 1]
        if block and line and not indented:
            block = False
        doctest = bool(line) and (doctest or line.lstrip().startswith(">>>"))
        if indented and after_blank and not block and _is_prose(lines[:number]):
            text += ["::", ""]
            block = True
        text.append(line if block or doctest else _escape(line))
    lines[:] = text


def _is_prose(lines):
    """Whether what is before an indented line is no section's item."""
    before = [line for line in lines if line][-1]
    return not before.startswith(" ")


def _escape(line):
    """Escape what is markup in reStructuredText, outside of code."""
    parts = re.split(r"(``.*?``|`[^`]*`)", line)
    parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
    for number in range(2, len(parts), 2):
        if re.match(r"\w", parts[number]):  # The plural of a name.
            parts[number] = "\\ " + parts[number]
    return "".join(parts)


def own_signature(app, what, name, obj, options, signature, returned):
    """Give a layer's arguments, which Keras' metaclass hides."""
    if what != "class":
        return None
    found = inspect.signature(obj)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in found.parameters.values()
    ]
    return str(found.replace(parameters=parameters)), None


TABLES = {
    "<!-- table: layer × format -->\n": layer_formats.table,
    "<!-- table: network × insertion point -->\n": families.table,
}


def write_tables(app, name, source):
    """Put what is generated where a page's comment asks for it."""
    for place, table in TABLES.items():
        if place in source[0]:
            source[0] = source[0].replace(place, table())


def setup(app):
    app.connect("source-read", write_tables)
    app.connect("autodoc-process-signature", own_signature)
    # Before napoleon, which has 500.
    app.connect("autodoc-process-docstring", to_restructured_text, priority=400)
