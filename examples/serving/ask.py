"""Asks both versions of the student for the class of an image.

python examples/serving/ask.py cat.jpg [--protocol rest] [--port 8501]

A second; needs the extra `serving`, and a server as in README.md.
"""

import argparse
import pathlib

from keras_attention.serving import ServingClient
from keras_attention.serving import read_image_bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="+", type=pathlib.Path)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int)
    parser.add_argument("--protocol", choices=("grpc", "rest"), default="grpc")
    options = parser.parse_args()
    # Upright, as the server's graph knows nothing of EXIF.
    contents = [read_image_bytes(path) for path in options.image]
    with ServingClient(options.host, options.port, options.protocol) as client:
        for version, state in client.status("student").items():
            print(f"version {version}: {state['state']} {state['error']}")
        for label in ("stable", "canary"):
            answer = client.predict(
                "student", {"image_bytes": contents}, "image_bytes", label
            )
            ((name, values),) = answer.items()
            for path, row in zip(options.image, values, strict=True):
                print(f"{label}: {path.name}: {name} {row.round(3).tolist()}")


if __name__ == "__main__":
    main()
