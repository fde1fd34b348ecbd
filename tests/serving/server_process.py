"""Starts and ends the model server of the tests."""

import json
import os
import pathlib
import subprocess
import sys

SERVER = pathlib.Path(__file__).parent / "model_server.py"


class ServerProcess:
    """The server in a process of its own.

    Args:
        folder: where its settings are written.
        models: name to the folder of a model's versions, or the text of a
            model config file.
        ports: of gRPC and REST; 0 for free ones.
        batching: whether outputs must have the batch's axis.
    """

    def __init__(self, folder, models, ports=(0, 0), batching=False):
        config = pathlib.Path(folder) / "models.config"
        if not isinstance(models, str):
            models = "".join(
                f'config {{ name: "{name}" base_path: "{path}" '
                'model_platform: "tensorflow" }\n'
                for name, path in models.items()
            )
            models = f"model_config_list {{\n{models}}}\n"
        config.write_text(models)
        self.process = subprocess.Popen(
            [
                *(sys.executable, SERVER, "--model_config_file", config),
                *("--port", str(ports[0]), "--rest_api_port", str(ports[1])),
                *["--enable_batching"] * batching,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        grpc_port, rest_port, self.imported = json.loads(
            self.process.stdout.readline()
        )
        self.ports = {"grpc": grpc_port, "rest": rest_port}

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
