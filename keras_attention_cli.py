"""The entry point of the command `keras-attention`.

`import keras_attention` imports Keras and its backend, which takes seconds.
Help, completion and the version of the command line need neither, so this
module, which is outside of the package, prepares a package whose
`__init__` has not run yet: the modules of the command line can be imported,
and the library follows when a command runs, by
`keras_attention.commands.library.import_library`.
"""

import importlib.util
import sys


def main() -> None:
    """Run the command that was typed."""
    if "keras_attention" not in sys.modules:
        # To find a top-level package imports nothing.
        spec = importlib.util.find_spec("keras_attention")
        package = importlib.util.module_from_spec(spec)
        sys.modules["keras_attention"] = package
    from keras_attention.cli import main

    main()


if __name__ == "__main__":
    main()
