"""Every public callable says what it takes."""

import importlib
import importlib.resources
import inspect
import pkgutil

import pytest

import keras_attention

# A script that runs when it is imported.
SKIPPED = ("keras_attention.__main__",)


def public_modules():
    for module in pkgutil.walk_packages(
        keras_attention.__path__, "keras_attention."
    ):
        if not module.name.startswith(SKIPPED) and "._" not in module.name:
            yield module.name


def functions(module):
    """Public functions and methods of a module, by their names."""
    for name, value in vars(module).items():
        if name.startswith("_") or (
            getattr(value, "__module__", None) != module.__name__
        ):
            continue
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            for method, function in vars(value).items():
                if isinstance(function, property):
                    function = function.fget
                function = getattr(function, "__func__", function)
                is_public = method in ("__init__", "__call__") or (
                    not method.startswith("_")
                )
                # A lambda is the default of a dataclass's field.
                is_public = is_public and (
                    getattr(function, "__name__", "") != "<lambda>"
                )
                if is_public and inspect.isfunction(function):
                    yield f"{name}.{method}", function


# Each is imported by its backend alone.
NEEDS = {
    "keras_attention.ops.attention.cudnn_attention": "jax",
    "keras_attention.ops.attention.torch_attention": "torch",
}


@pytest.mark.parametrize("name", list(public_modules()))
def test_every_parameter_is_annotated(name):
    bare = []
    if name in NEEDS:
        extra = NEEDS[name]
        pytest.importorskip(extra, reason=f"needs the extra {extra}")
    for function, value in functions(importlib.import_module(name)):
        if getattr(value, "__module__", None) != name:
            continue  # What a dataclass or another library has made.
        signature = inspect.signature(value)
        bare += [
            f"{function}({parameter.name})"
            for parameter in signature.parameters.values()
            if parameter.name not in ("self", "cls")
            and parameter.annotation is parameter.empty
        ]
    assert bare == []


def test_the_package_says_that_it_is_typed():
    folder = importlib.resources.files("keras_attention")
    assert (folder / "py.typed").is_file()
