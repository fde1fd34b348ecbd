"""Prints the lowest versions that pyproject.toml declares, as constraints.

`make test-oldest` installs by them, so that no other list can go stale.
"""

import pathlib
import re
import sys
import tomllib

PYPROJECT = pathlib.Path(__file__).parent.parent / "pyproject.toml"


def oldest(text: str) -> dict[str, str]:
    """Return the lowest version of each requirement of a pyproject.toml.

    Raises:
        ValueError: if a requirement has none.
    """
    project = tomllib.loads(text)["project"]
    requirements = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        requirements += extra
    found = {}
    for requirement in requirements:
        if requirement.startswith(f"{project['name']}["):
            continue
        match = re.fullmatch(
            r"([\w-]+)(?:\[[\w,-]+\])?(?:>=|==)([\d.]+?)(\.\*)?", requirement
        )
        if match is None:
            raise ValueError(
                "A requirement must have a lowest version. "
                f"Received: {requirement}"
            )
        name, version, _ = match.groups()
        found[name] = min(found.get(name, version), version, key=_numbers)
    return found


def _numbers(version):
    return [int(number) for number in version.split(".")]


if __name__ == "__main__":
    versions = oldest(PYPROJECT.read_text())
    # No extra can declare it; its messages are those of one TensorFlow.
    versions["tensorflow-serving-api"] = versions["tensorflow-cpu"]
    for name, version in versions.items():
        sys.stdout.write(f"{name}=={version}\n")
