"""Attention mechanisms for Keras models."""

import importlib
import itertools
import sys


def _is_command_line():
    """Whether this is `python -m keras_attention`.

    Its help needs no Keras: `__main__` runs next, and what is left out here
    is imported when a command runs, by `commands.library.import_library`.
    """
    if sys.argv[:1] != ["-m"]:
        return False
    typed = sys.orig_argv
    return "-mkeras_attention" in typed or ("-m", "keras_attention") in set(
        itertools.pairwise(typed)
    )


if not _is_command_line():
    from keras_attention import positions as positions
    from keras_attention.distillation import (
        AttentionTransferModel as AttentionTransferModel,
    )
    from keras_attention.inspection import attention_layers as attention_layers
    from keras_attention.layers import *
    from keras_attention.pixels import PixelRange as PixelRange
    from keras_attention.pixels import find_pixel_range as find_pixel_range
    from keras_attention.pixels import load_model as load_model
    from keras_attention.pixels import save_model as save_model
    from keras_attention.pixels import set_pixel_range as set_pixel_range
    from keras_attention.surgery import attention_sites as attention_sites
    from keras_attention.surgery import insert_attention as insert_attention
    from keras_attention.surgery import insertion_report as insertion_report
    from keras_attention.surgery import remove_attention as remove_attention
    from keras_attention.version import __version__ as __version__
    from keras_attention.weights import load_weights_from as load_weights_from

# What is not imported above, to be had by `keras_attention.models` all the
# same: each is imported when it is first asked for.
_ROOMS = ("evaluation", "models", "serving", "visualization")


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"keras_attention.{name}")
    raise AttributeError(f"module 'keras_attention' has no attribute {name!r}")
