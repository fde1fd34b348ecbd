"""A model server for tests: TensorFlow Serving's interfaces, small.

Models are loaded by TensorFlow's C API, as TensorFlow Serving loads them, and
answered from over gRPC (the published protocol) and REST. Like TensorFlow
Serving it takes a `ModelServerConfigList` as text and watches the folders of
it: the newest version is served, a new one is loaded beside the old one and
then takes its place, and one that cannot be loaded changes nothing.

The process imports neither keras nor keras_attention, nor TensorFlow's Python
package but for its messages. It prints its two ports when all models that it
found at its start are loaded, and ends when its standard input does.
"""

import argparse
import base64
import concurrent.futures
import http.server
import importlib.util
import json
import pathlib
import re
import struct
import sys
import threading
import types

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
# TensorFlow's messages without TensorFlow: a package that is only a folder.
TENSORFLOW = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
sys.modules["tensorflow"] = types.ModuleType("tensorflow")
sys.modules["tensorflow"].__path__ = [str(TENSORFLOW)]

import grpc  # noqa: E402
from google.protobuf import json_format  # noqa: E402
from google.protobuf import text_format  # noqa: E402
from tensorflow.core.framework import tensor_pb2  # noqa: E402
from tensorflow.core.framework import types_pb2  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402
from tensorflow_serving.apis import get_model_metadata_pb2  # noqa: E402
from tensorflow_serving.apis import get_model_status_pb2  # noqa: E402
from tensorflow_serving.apis import model_service_pb2_grpc  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402
from tensorflow_serving.apis import prediction_log_pb2  # noqa: E402
from tensorflow_serving.apis import prediction_service_pb2_grpc  # noqa: E402
from tensorflow_serving.config import model_server_config_pb2  # noqa: E402

_spec = importlib.util.spec_from_file_location(
    "c_api", ROOT / "keras_attention" / "serving" / "c_api.py"
)
c_api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(c_api)
LIBRARY = str(next(TENSORFLOW.glob("libtensorflow_cc*")))
NAMES = {**c_api.DTYPES, c_api.STRING: "string"}
CODES = {name: code for code, name in NAMES.items()}
# What TensorFlow Serving's json_tensor.cc calls dtypes, and what it knows.
CPP = {"float32": "float", "float64": "double", "float16": "half"}
MAX_WARMUP = 1000  # WarmupConsts::kMaxNumRecords
MAX_INT64 = 2**63 - 1
HTTP = {
    "FAILED_PRECONDITION": 412,
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "UNIMPLEMENTED": 501,
}


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Version:
    """One version that is loaded: what it takes, gives, and how to run it."""

    session = None
    batching = False

    def __init__(self, path):
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
        self.number = int(path.name)
        self.signatures = dict(saved.meta_graphs[0].signature_def)
        self.session = c_api.SavedModelSession(LIBRARY, path)
        for request in warmup_requests(path):
            name = request.model_spec.signature_name or "serving_default"
            inputs = {k: from_tensor(v) for k, v in request.inputs.items()}
            self.run(name, inputs)

    def __del__(self):
        """Unload, when the last request to it has been answered."""
        if self.session:
            self.session.close()

    def run(self, signature_name, inputs):
        signature = self.signatures.get(signature_name)
        if signature is None:
            raise Refused(
                "INVALID_ARGUMENT",
                f'Serving signature key "{signature_name}" not found.',
            )
        if set(inputs) != set(signature.inputs):
            raise Refused(
                "INVALID_ARGUMENT",
                f"input keys {sorted(inputs)} do not match the signature's "
                f"{sorted(signature.inputs)}",
            )
        feeds = {}
        for number, (name, info) in enumerate(signature.inputs.items()):
            value = inputs[name]
            dtype = "string" if value.dtype == object else value.dtype.name
            if CODES[dtype] != info.dtype:
                expected = NAMES[info.dtype]
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Expects arg[{number}] to be "
                    f"{CPP.get(expected, expected)} but "
                    f"{CPP.get(dtype, dtype)} is provided",
                )
            feeds[info.name] = value
        if self.batching:
            check_batched_inputs(inputs)
        tensors = [info.name for info in signature.outputs.values()]
        try:
            found = self.session.run(feeds, tensors)
        except RuntimeError as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from error
        if self.batching:
            check_batched_outputs(inputs, found)
        return dict(zip(signature.outputs, found, strict=True))


def check_batched_inputs(inputs):
    """As batching_session.cc: a first axis, of one size for all."""
    if any(not value.ndim for value in inputs.values()):
        raise Refused(
            "INVALID_ARGUMENT",
            "Batching session Run() input tensors must have at least one "
            "dimension",
        )
    if len({len(value) for value in inputs.values()}) > 1:
        raise Refused(
            "INVALID_ARGUMENT",
            "Batching session Run() input tensors must have equal "
            "0th-dimension size",
        )


def check_batched_outputs(inputs, outputs):
    """As batching_session.cc: what comes back is split by its first axis."""
    size = len(next(iter(inputs.values())))
    for output in outputs:
        if not output.ndim:
            raise Refused(
                "FAILED_PRECONDITION", "Batched output tensor has 0 dimensions"
            )
        if len(output) != size:
            raise Refused(
                "FAILED_PRECONDITION",
                "Batched output tensor's 0th dimension does not equal the sum "
                "of the 0th dimension sizes of the input tensors",
            )


def warmup_requests(path):
    """The requests that a version replays; more than 1,000 are refused."""
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    if not file.exists():
        return
    data, start, count = file.read_bytes(), 0, 0
    while start < len(data):
        # A TFRecord: length, its checksum, the data, their checksum.
        (size,) = struct.unpack_from("<Q", data, start)
        record = data[start + 12 : start + 12 + size]
        start += size + 16
        count += 1
        if count > MAX_WARMUP:
            raise Refused(
                "INVALID_ARGUMENT",
                f"Number of warmup records exceeds the maximum ({MAX_WARMUP}) "
                f"at {file}",
            )
        log = prediction_log_pb2.PredictionLog.FromString(record)
        yield log.predict_log.request


class Model:
    """The versions of one model that are served, and how all of them are."""

    def __init__(self, config):
        self.name = config.name
        self.folder = pathlib.Path(config.base_path)
        self.policy = config.model_version_policy
        self.labels = dict(config.version_labels)
        self.versions = {}
        self.states = {}

    def wanted(self):
        # As safe_strto64: ASCII digits, an int64.
        found = sorted(
            int(path.name)
            for path in self.folder.glob("[0-9]*")
            if re.fullmatch("[0-9]+", path.name) and int(path.name) <= MAX_INT64
        )
        if self.policy.HasField("specific"):
            return [n for n in found if n in self.policy.specific.versions]
        if self.policy.HasField("all"):
            return found
        # The newest that can be loaded, and newer ones still to be tried.
        while found and self.states.get(found[-1], ("", ""))[1]:
            found.pop()
        return found[-(self.policy.latest.num_versions or 1) :]

    def update(self):
        """Load what is new; then leave off what is wanted no more."""
        wanted = self.wanted()
        for number in wanted:
            if number in self.versions or number in self.states:
                continue
            try:
                loaded = Version(self.folder / str(number))
            except Exception as error:
                self.states[number] = "END", str(error) or repr(error)
            else:
                self.states[number] = "AVAILABLE", ""
                self.versions = {**self.versions, number: loaded}
        wanted = self.wanted()
        if any(number in self.versions for number in wanted):
            for number in set(self.versions) - set(wanted):
                self.states[number] = "END", ""
            self.versions = {
                n: v for n, v in self.versions.items() if n in wanted
            }

    def find(self, number=None, label=None):
        versions = self.versions
        if label:
            number = self.labels.get(label)
        elif number is None:
            number = max(versions, default=None)
        if number not in versions:
            raise Refused(
                "NOT_FOUND",
                f"Servable not found for request: {self.name} "
                f"{label or number or 'Latest'}",
            )
        return versions[number]


class Models(dict):
    def find(self, spec):
        return self.model(spec.name).find(
            spec.version.value if spec.HasField("version") else None,
            spec.version_label,
        )

    def model(self, name):
        if name not in self:
            raise Refused(
                "NOT_FOUND", f"Could not find any versions of model {name}"
            )
        return self[name]

    def watch(self):
        while True:
            for model in self.values():
                model.update()
            threading.Event().wait(0.05)


def answering(method):
    """A service's method whose refusals become gRPC's errors."""

    def answer(self, request, context):
        try:
            return method(self, request)
        except Refused as error:
            context.abort(getattr(grpc.StatusCode, error.code), str(error))

    return answer


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self.models = models

    @answering
    def Predict(self, request):
        version = self.models.find(request.model_spec)
        inputs = {k: from_tensor(v) for k, v in request.inputs.items()}
        name = request.model_spec.signature_name or "serving_default"
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name = request.model_spec.name
        answer.model_spec.version.value = version.number
        for key, value in version.run(name, inputs).items():
            answer.outputs[key].CopyFrom(to_tensor(value))
        return answer

    @answering
    def GetModelMetadata(self, request):
        return metadata(self.models, request.model_spec)


class Status(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models):
        self.models = models

    @answering
    def GetModelStatus(self, request):
        return status(self.models, request.model_spec.name)


def metadata(models, spec):
    version = models.find(spec)
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name = spec.name
    answer.model_spec.version.value = version.number
    found = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in version.signatures.items():
        found.signature_def[name].CopyFrom(signature)
    answer.metadata["signature_def"].Pack(found)
    return answer


def status(models, name):
    answer = get_model_status_pb2.GetModelStatusResponse()
    for number, (state, error) in models.model(name).states.items():
        found = answer.model_version_status.add(version=number)
        found.state = found.State.Value(state)
        found.status.error_message = error
        found.status.error_code = 2 if error else 0
    return answer


def from_tensor(proto):
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.dtype == types_pb2.DT_STRING:
        array = np.empty(len(proto.string_val), object)
        array[:] = list(proto.string_val)
    elif proto.tensor_content:
        array = np.frombuffer(proto.tensor_content, NAMES[proto.dtype])
    else:  # A single number, or one that all of them are.
        fields = {"float32": "float_val", "float64": "double_val"}
        fields["int64"] = "int64_val"
        field = fields.get(NAMES[proto.dtype], "int_val")
        array = np.array(getattr(proto, field), NAMES[proto.dtype])
        if array.size == 1:
            return np.broadcast_to(array, shape)
    return array.reshape(shape)


def to_tensor(array):
    proto = tensor_pb2.TensorProto()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.dtype = CODES[array.dtype.name]
        proto.tensor_content = array.tobytes()
    return proto


class Rest(http.server.BaseHTTPRequestHandler):
    """TensorFlow Serving's REST interface, as strict as its own source."""

    protocol_version = "HTTP/1.1"
    models = None
    PATH = re.compile(
        r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>[0-9]+)"
        r"|/labels/(?P<label>[^/:]+))?(?P<what>:predict|/metadata)?$"
    )

    def do_GET(self):
        self.respond(None)

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        self.respond(self.rfile.read(size))

    def respond(self, body):
        try:
            code, answer = 200, self.answer(body)
        except Refused as error:
            code = HTTP.get(error.code, 500)
            answer = json.dumps({"error": str(error)})
        data = answer.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, body):
        match = self.PATH.match(self.path)
        if not match:
            raise Refused("NOT_FOUND", f"Malformed request: {self.path}")
        spec = predict_pb2.PredictRequest().model_spec
        spec.name = match["name"]
        if match["version"]:
            if int(match["version"]) > MAX_INT64:
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Failed to convert version: {match['version']} to "
                    "numeric.",
                )
            spec.version.value = int(match["version"])
        if match["label"]:
            spec.version_label = match["label"]
        if match["what"] == ":predict":
            return json.dumps(self.predict(spec, body))
        if match["what"] == "/metadata":
            return to_json(metadata(self.models, spec))
        return to_json(status(self.models, spec.name))

    def predict(self, spec, body):
        """As FillPredictRequestFromJson and MakeJsonFromTensors."""
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise refused(f"JSON Parse error: {error}") from error
        if not isinstance(request, dict):
            raise refused(f"JSON Value: {request} Is not object")
        name = request.get("signature_name", "serving_default")
        if not isinstance(name, str):
            raise refused("'signature_name' key must be a string value.")
        version = self.models.find(spec)
        if name not in version.signatures:
            raise refused(f'Serving signature key "{name}" not found.')
        dtypes = {
            key: NAMES[info.dtype]
            for key, info in version.signatures[name].inputs.items()
        }
        if "instances" in request:
            if "inputs" in request:
                raise refused(
                    "Not formatted correctly expecting only one of 'inputs' "
                    "or 'instances' keys to exist"
                )
            arrays = from_rows(request["instances"], dtypes)
            return {"predictions": rows(version.run(name, arrays))}
        if "inputs" not in request:
            raise refused("Missing 'inputs' or 'instances' key")
        arrays = from_columns(request["inputs"], dtypes)
        found = {k: lists(k, v) for k, v in version.run(name, arrays).items()}
        only = len(found) == 1
        return {"outputs": next(iter(found.values())) if only else found}

    def log_message(self, *arguments):
        pass


def to_json(message):
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def refused(message):
    return Refused("INVALID_ARGUMENT", message)


def is_bytes(value):
    return (
        isinstance(value, dict)
        and list(value) == ["b64"]
        and isinstance(value["b64"], str)
    )


def is_named(value):
    return isinstance(value, dict) and not is_bytes(value)


def from_columns(given, dtypes):
    """FillTensorMapFromInputsMap."""
    if not is_named(given):
        if len(dtypes) > 1:
            raise refused(
                "inputs is a plain value/list, but expecting an object as "
                "multiple input tensors required as per tensorinfo_map"
            )
        given = {next(iter(dtypes)): given}
    for name in dtypes:
        if name not in given:
            raise refused(f"Missing named input: {name} in 'inputs' object.")
    return {name: to_array(given[name], t) for name, t in dtypes.items()}


def from_rows(given, dtypes):
    """FillTensorMapFromInstancesList."""
    if not isinstance(given, list):
        raise refused("Excepting 'instances' to be an list/array")
    if not given:
        raise refused("No values in 'instances' array")
    if not isinstance(given[0], dict) and len(dtypes) > 1:
        raise refused(
            "instances is a plain list, but expecting list of objects as "
            "multiple input tensors required as per tensorinfo_map"
        )
    named = is_named(given[0])
    columns = {name: [] for name in dtypes}
    for number, item in enumerate(given):
        if named != is_named(item):
            raise refused(f"Expecting object or list at item {number}")
        items = item if named else {next(iter(dtypes)): item}
        if set(items) != set(dtypes):
            raise refused(
                f"Failed to process element: {number} of 'instances' list. "
                f"keys must be equal to: {','.join(sorted(dtypes))}"
            )
        for name, value in items.items():
            array = to_array(value, dtypes[name])
            if columns[name] and columns[name][0].shape != array.shape:
                raise refused(
                    f"Failed to process element: {number}: Expecting shape "
                    f"{columns[name][0].shape} but got: {array.shape}"
                )
            columns[name].append(array)
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def to_array(value, dtype):
    """GetDenseTensorShape, by the first of each list, and FillTensorProto."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    flat = []

    def fill(value, level):
        if not isinstance(value, list):
            if level != len(shape):
                raise refused(f"JSON Value: {value} found at incorrect level")
            flat.append(to_number(value, dtype))
            return
        if level >= len(shape) or len(value) != shape[level]:
            raise refused(
                f"Encountered list at unexpected size: {len(value)} at level: "
                f"{level}"
            )
        for part in value:
            fill(part, level + 1)

    fill(value, 0)
    array = np.empty(len(flat), object if dtype == "string" else dtype)
    array[:] = flat
    return array.reshape(shape)


def to_number(value, dtype):
    """AddValueToTensor: a value of its own kind, without loss."""
    if dtype == "string":
        if is_bytes(value):
            return base64.b64decode(value["b64"])
        if isinstance(value, str):
            return value.encode()
    elif dtype == "bool":
        if isinstance(value, bool):
            return value
    elif dtype in ("float32", "float64"):
        if isinstance(value, int | float) and not isinstance(value, bool):
            bits = 24 if dtype == "float32" else 53
            if isinstance(value, int) and abs(value) > 2**bits - 1:
                raise refused(
                    f"Cannot convert JSON value: {value} to {CPP[dtype]} "
                    "without loss of precision."
                )
            return value
    elif np.dtype(dtype).kind in "iu" and dtype != "uint16":
        # The 8 and 16 bit ones are read as int32.
        small = np.dtype(dtype).itemsize < 4
        limits = np.iinfo("int32" if small else dtype)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if is_number and limits.min <= value <= limits.max:
            return value
    else:
        raise Refused(
            "UNIMPLEMENTED",
            f"Conversion of JSON Value: {value} to type: "
            f"{CPP.get(dtype, dtype)}",
        )
    raise refused(
        f"JSON Value: {value} Type: {type(value).__name__} is not of expected "
        f"type: {CPP.get(dtype, dtype)}"
    )


def rows(found):
    """MakeRowFormatJsonFromTensors."""
    sizes = set()
    for name, value in found.items():
        if not value.ndim:
            raise refused(f"Tensor name: {name} has no shape information")
        sizes.add(len(value))
        if len(sizes) > 1:
            raise refused(
                f"Tensor name: {name} has inconsistent batch size: {len(value)}"
            )
    columns = {name: lists(name, value) for name, value in found.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    names = list(columns)
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def lists(name, array):
    """Strings as they are, but those of `..._bytes` in base 64."""
    if array.dtype in (np.float16, np.uint16):
        dtype = CPP.get(array.dtype.name, array.dtype.name)
        raise refused(f"Failed to write JSON value for tensor type: {dtype}")
    if array.dtype != object:
        return array.tolist()
    if array.ndim:
        return [lists(name, np.asarray(part, object)) for part in array]
    text = array.item()
    if name.endswith("_bytes"):
        return {"b64": base64.b64encode(text).decode()}
    return text.decode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_config_file", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rest_api_port", type=int, default=0)
    parser.add_argument("--enable_batching", action="store_true")
    options = parser.parse_args()
    Version.batching = options.enable_batching
    config = text_format.Parse(
        pathlib.Path(options.model_config_file).read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    models = Models((c.name, Model(c)) for c in config.model_config_list.config)
    for model in models.values():
        model.update()
    threading.Thread(target=models.watch, daemon=True).start()

    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(8),
        options=[("grpc.so_reuseport", 0)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Predictions(models), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        Status(models), server
    )
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    Rest.models = models
    rest = http.server.ThreadingHTTPServer(
        ("127.0.0.1", options.rest_api_port), Rest
    )
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    forbidden = {"keras", "keras_attention", "tensorflow.python"}
    found = sorted(forbidden & set(sys.modules))
    ports = [port, rest.server_address[1]]
    sys.stdout.write(json.dumps([*ports, found]) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main()
