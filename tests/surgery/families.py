"""Which insertion points are found in which network: the table of the docs.

    PYTHONPATH=.:tests python tests/surgery/families.py

writes `families.txt`, which `docs/conf.py` puts into `docs/how_to/insert.md`.
Every network is built without weights at a small input, and attention is
inserted at all points of each kind. A slow test compares the file with a new
row of each.
"""

import functools
import pathlib

import keras

import keras_attention as ka
from keras_attention.inspection import stages
from keras_attention.surgery.attention_sites import FINDERS

FILE = pathlib.Path(__file__).with_name("families.txt")
APPLICATIONS = (
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "Xception",
)
# With arguments, for the names of presets ask a server for them.
KERAS_CV = {
    "CSPDarkNetBackbone": {
        "stackwise_channels": [48, 96, 192, 384],
        "stackwise_depth": [1, 3, 3, 1],
    },
    "DenseNetBackbone": {"stackwise_num_repeats": [6, 12, 24, 16]},
    "EfficientNetV2Backbone": {
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "stackwise_kernel_sizes": [3] * 6,
        "stackwise_num_repeats": [1, 2, 2, 3, 5, 8],
        "stackwise_input_filters": [32, 16, 32, 48, 96, 112],
        "stackwise_output_filters": [16, 32, 48, 96, 112, 192],
        "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
        "stackwise_squeeze_and_excite_ratios": [0, 0, 0, 0.25, 0.25, 0.25],
        "stackwise_strides": [1, 2, 2, 2, 1, 2],
        "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * 3,
    },
    "MiTBackbone": {
        "depths": [2, 2, 2, 2],
        "embedding_dims": [32, 64, 160, 256],
    },
    "MobileNetV3Backbone": {
        "stackwise_expansion": [1, 4.5, 3.67, 4, 6, 6, 3, 3, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96],
        "stackwise_kernel_size": [3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5],
        "stackwise_stride": [2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [0.25, None, None] + [0.25] * 8,
        "stackwise_activation": ["relu"] * 3 + ["hard_swish"] * 8,
    },
    "ResNetBackbone": {
        "stackwise_filters": [64, 128, 256, 512],
        "stackwise_blocks": [2, 2, 2, 2],
        "stackwise_strides": [1, 2, 2, 2],
    },
    "ResNetV2Backbone": {
        "stackwise_filters": [64, 128, 256, 512],
        "stackwise_blocks": [2, 2, 2, 2],
        "stackwise_strides": [1, 2, 2, 2],
    },
    "VGG16Backbone": {"include_top": False},
    "YOLOV8Backbone": {
        "stackwise_channels": [32, 64, 128, 256],
        "stackwise_depth": [1, 2, 2, 1],
    },
    "DeepLabV3Plus": {"backbone": "ResNetBackbone"},
    "RetinaNet": {
        "backbone": "ResNetBackbone",
        "bounding_box_format": "xywh",
    },
    "YOLOV8Detector": {
        "backbone": "YOLOV8Backbone",
        "bounding_box_format": "xywh",
        "fpn_depth": 1,
    },
}
# Those without padding need more.
SIZES = {"InceptionResNetV2": 192, "InceptionV3": 192, "Xception": 192}
ARGUMENTS = {"VGG16": {"include_top": False, "classes": 1000}}
# Why there is none where a reader would expect one, or it is refused; the
# table has the numbers.
NOTES = (
    "The blocks are layers, which are not entered.",
    "`Lambda` layers cannot be rebuilt.",
    "The class trains itself: insert attention into its backbone first.",
)
NONE = {
    ("CSPDarkNetBackbone", "residual"): 1,
    ("EfficientNetV2Backbone", "residual"): 1,
    **{("MiTBackbone", kind): 1 for kind in FINDERS},
}
# By what the error says.
REFUSED = {"Lambda": 2, "constructor builds the graph": 3}


def application(name: str) -> keras.Model:
    size = SIZES.get(name, 64)
    arguments = {"classes": 3} | ARGUMENTS.get(name, {})
    return getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), **arguments
    )


def keras_cv_model(name: str) -> keras.Model:
    import keras_cv

    make = getattr(keras_cv.models, name)
    arguments = dict(KERAS_CV[name])
    if "backbone" in arguments:
        backbone = keras_cv_model(arguments.pop("backbone"))
        return make(num_classes=3, backbone=backbone, **arguments)
    return make(input_shape=(64, 64, 3), include_rescaling=False, **arguments)


FAMILIES = {
    **{name: functools.partial(application, name) for name in APPLICATIONS},
    **{name: functools.partial(keras_cv_model, name) for name in KERAS_CV},
}


def row(name: str) -> str:
    """Return a line of the table: what is found in a new network."""
    keras.utils.clear_session()  # Layers without a name are counted from 0.
    model = FAMILIES[name]()
    cells = [_cell(name, model, kind) for kind in FINDERS]
    return f"| `{name}` | {' | '.join(cells)} | {_last(model)} |"


def _cell(name, model, kind):
    try:
        found = [s for s in ka.attention_sites(model) if s.kind == kind]
        if not found:
            note = NONE.get((name, kind))
            return f"none ({note})" if note else "none"
        ka.insert_attention(model, "simam", at=kind)
    except (TypeError, ValueError) as error:
        notes = [REFUSED[text] for text in REFUSED if text in str(error)]
        return f"refused ({notes[0]})" if notes else f"refused: {error}"
    return str(len(found))


def _last(model):
    found = [s for s in stages(model) if max(s.size) > 1]
    if not found or len(model.outputs) > 1:
        return "–"
    factor = round(1 / found[-1].resolution[0])
    return f"`{found[-1].name}`, 1/{factor}"


def table() -> str:
    """Return the tables that were written, and their notes."""
    header = [*FINDERS, "end of the last stage"]
    lines = FILE.read_text(encoding="utf-8").splitlines()
    count = len(APPLICATIONS)
    parts = []
    for library, rows in (
        ("`keras.applications`", lines[:count]),
        ("`keras_cv.models`", lines[count:]),
    ):
        parts += [
            f"| {library} | {' | '.join(header)} |",
            "|---" * (len(header) + 1) + "|",
            *rows,
            "",
        ]
    parts += [f"({n}) {note}" for n, note in enumerate(NOTES, 1)]
    return "\n".join(parts) + "\n"


def main() -> None:
    text = "".join(f"{row(family)}\n" for family in FAMILIES)
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
