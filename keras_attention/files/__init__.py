"""Reads files that others sent: checked before anything is allocated or run."""

from keras_attention.files.arrays import read_array as read_array
from keras_attention.files.arrays import read_arrays as read_arrays
from keras_attention.files.inspect_file import FileReport as FileReport
from keras_attention.files.inspect_file import inspect_file as inspect_file
from keras_attention.files.json_text import parse_json as parse_json
from keras_attention.files.json_text import read_json as read_json
from keras_attention.files.keras_file import (
    check_keras_file as check_keras_file,
)
from keras_attention.files.onnx_file import check_onnx as check_onnx
from keras_attention.files.tensorflow_graph import (
    check_saved_model as check_saved_model,
)
from keras_attention.files.torch_file import (
    check_torch_file as check_torch_file,
)

__all__ = [
    "FileReport",
    "check_keras_file",
    "check_onnx",
    "check_saved_model",
    "check_torch_file",
    "inspect_file",
    "parse_json",
    "read_array",
    "read_arrays",
    "read_json",
]
