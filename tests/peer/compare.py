"""The same requests to Roboflow's programs and to weir; prints what differs and ends with the number of comparisons.

1. TCP: Roboflow's manager and weir. The answers must have the same shape: keys, types, and the words of the protocol.
2. HTTP: Roboflow's management API, with weir as the manager behind its TCP client, and weir's own HTTP listener. Status codes and
   shapes must be the same, through the whole life of a pipeline with the toy model.

Everything runs on this machine and without a network. Not compared: `init` of a model by Roboflow's manager, which asks its
cloud about every model; tests/process/goldens.rs holds the recordings of that.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).parents[2]
START_TIMEOUT_S = 180  # Roboflow's programs import a lot, and this may run beside a build
ANSWER_TIMEOUT_S = 15
ID = "00000000-0000-4000-8000-000000000000"
# Texts that are the protocol's own words, not data: compared by value.
WORDS = {"status", "error_type", "type", "detail"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, process):
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"peer: {process.args} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"peer: {process.args} does not listen on {port}")


def ask_tcp(port, body):
    with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S) as stream:
        stream.settimeout(ANSWER_TIMEOUT_S)
        stream.sendall(len(body).to_bytes(4, "big") + body)
        answer = b""
        while chunk := stream.recv(65536):
            answer += chunk
    assert int.from_bytes(answer[:4], "big") == len(answer) - 4, answer
    return json.loads(answer[4:])


def ask_http(port, method, path, body=None, kind="application/json"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, data=body)
    if body is not None:
        request.add_header("content-type", kind)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as response:
            return response.status, decoded(response.read())
    except urllib.error.HTTPError as error:
        return error.code, decoded(error.read())


def decoded(body):
    """Roboflow's API answers its own faults with plain text."""
    try:
        return json.loads(body or b"null")
    except ValueError:
        return body.decode()


def shape(value, key=None):
    """What two answers must have in common."""
    if isinstance(value, dict):
        return {name: shape(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    if isinstance(value, str) and key in WORDS:
        return value
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


class Comparison:
    def __init__(self):
        self.same = self.different = 0

    def __call__(self, what, theirs, ours):
        if theirs == ours:
            self.same += 1
        else:
            self.different += 1
            print(f"{what}\n  theirs: {theirs}\n  ours:   {ours}")


def tcp_requests():
    yield from (b"{", b"", b"{'a': 1}", b"\xff\xfe\xfd", b"null", b"[]", b"3", b'"x"', b"{}", b"NOT JSON")
    for message in (
        {"type": "list_pipelines"},
        {"type": "LIST_PIPELINES"},
        {"type": None},
        {"type": 5},
        {"type": ["init"]},
        {"type": "init"},
        {"type": "init", "model_id": "a/1"},
        {"type": "status"},
    ):
        yield json.dumps(message).encode()
    for command in ("status", "mute", "resume", "terminate", "pause"):
        for pipeline in (ID, "x", None, 5, True, "ä", ["a"], {}):
            yield json.dumps({"type": command, "pipeline_id": pipeline}).encode()


def http_requests():
    for method, path in (
        ("GET", "/list_pipelines"), ("POST", "/list_pipelines"), ("GET", "/"), ("GET", "/nope"), ("GET", "/status"),
        ("GET", "/initialise"), ("PUT", "/initialise"), ("GET", "/status/x/y"),
    ):
        yield method, path, None
    for command, method in (("status", "GET"), ("pause", "POST"), ("resume", "POST"), ("terminate", "POST")):
        for pipeline in (ID, "x", "5", "%C3%A4"):
            yield method, f"/{command}/{pipeline}", None
        yield ("POST" if method == "GET" else "GET"), f"/{command}/{ID}", None
    good = {"model_id": "a/1", "video_reference": "x", "sink_configuration": {"type": "udp_sink", "host": "h", "port": 9}}
    # Left out: NaN, with which Roboflow's API fails (500 in plain text); weir says that it is no JSON.
    bodies = [b"", b"{", b"[]", b"null", b"3", b"\xff", b"{}"]
    for key, values in {
        "model_id": (None, 5, ["a"], {}),
        "video_reference": (None, 1.5, {}, [None], [[]], True),
        "sink_configuration": (None, 5, {}, {"type": "x", "host": "h", "port": 9}, {"type": "udp_sink", "host": 5, "port": "p"}),
        "api_key": (5, []),
        "max_fps": ("x", [], {}),
        "source_buffer_filling_strategy": (5, []),
        "model_configuration": (5, [], {"type": 5}, {"confidence": "x"}, {"confidence": 7}, {"iou_threshold": -1}),
        "video_source_properties": (5, [5], {"a": "x"}, [{"a": []}]),
        "batch_collection_timeout": ("x", []),
        "active_learning_enabled": ("x", 7),
    }.items():
        bodies += [json.dumps({**good, key: value}).encode() for value in values]
    for missing in good:
        bodies.append(json.dumps({key: value for key, value in good.items() if key != missing}).encode())
    for body in bodies:
        yield "POST", "/initialise", body


def life(model, compare, api, own):
    """One pipeline through Roboflow's API, one through our own listener, step by step."""
    clip = ROOT / "tests/assets/long.mp4"
    body = json.dumps({
        "model_id": str(model), "video_reference": f"file://{clip}", "max_fps": 5,
        "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": free_port()},
        "model_configuration": {"type": "object-detection"},
    }).encode()
    ids = {}
    for port in (api, own):
        status, answer = ask_http(port, "POST", "/initialise", body)
        assert status == 200, (status, answer)
        ids[port] = answer["context"]["pipeline_id"]
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < deadline:
            _, report = ask_http(port, "GET", f"/status/{ids[port]}")
            # From the first frame on.
            if any(latency["e2e_latency"] for latency in report["report"]["latency_reports"]):
                break
            time.sleep(0.1)
    steps = [("GET", "/list_pipelines"), ("GET", "/status/ID"), ("POST", "/pause/ID"), ("POST", "/pause/ID"), ("POST", "/resume/ID"),
             ("POST", "/resume/ID"), ("POST", "/terminate/ID"), ("POST", "/terminate/ID"), ("GET", "/status/ID")]
    for method, path in steps:
        answers = []
        for port in (api, own):
            status, answer = ask_http(port, method, path.replace("ID", ids[port]))
            # How many updates there are so far, and the throughput, are matters of time.
            if isinstance(answer, dict) and "report" in answer:
                answer["report"]["video_source_status_updates"] = answer["report"]["video_source_status_updates"][:1]
            answers.append((status, shape(answer)))
        compare(f"life: {method} {path}", *answers)


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    compare = Comparison()
    processes = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model = work / "models/toy"
        model.mkdir(parents=True)
        (model / "weights.onnx").write_bytes((ROOT / "tests/assets/toy.onnx").read_bytes())
        (model / "environment.json").write_text(
            json.dumps({"PREPROCESSING": json.dumps({"resize": {"width": 320, "height": 320, "format": "Stretch to"}})}))
        (model / "class_names.txt").write_text("red\ngreen\nblue")
        (model / "model_type.json").write_text(json.dumps({"project_task_type": "object-detection", "model_type": "yolov8n"}))
        plain = {"PATH": os.environ["PATH"], "HOME": str(work), "MODEL_CACHE_DIR": str(work / "cache"),
                 "API_BASE_URL": "http://127.0.0.1:9", "TELEMETRY_OPT_OUT": "True", "PYTHONWARNINGS": "ignore"}

        def start(arguments, log, **environment):
            with open(work / log, "wb") as output:
                process = subprocess.Popen(arguments, env={**plain, **environment}, cwd=work, stdout=output, stderr=output,
                                           start_new_session=True)
            processes.append(process)
            return process

        try:
            manager_port, weir_port, api_port, own_port = (free_port() for _ in range(4))
            weir = start([binary, "serve"], "weir.log", WEIR_MODELS_DIR=str(work / "models"),
                         STREAM_MANAGER_PORT=str(weir_port), STREAM_MANAGEMENT_API_PORT=str(own_port))
            package = "inference.enterprise.stream_management"
            manager = start([sys.executable, "-m", f"{package}.manager.app"], "manager.log", STREAM_MANAGER_HOST="127.0.0.1",
                            STREAM_MANAGER_PORT=str(manager_port))
            api = start([sys.executable, "-m", f"{package}.api.app"], "api.log", STREAM_MANAGER_HOST="127.0.0.1",
                        STREAM_MANAGER_PORT=str(weir_port), STREAM_MANAGEMENT_API_HOST="127.0.0.1",
                        STREAM_MANAGEMENT_API_PORT=str(api_port))
            for port, process in ((weir_port, weir), (manager_port, manager), (api_port, api)):
                wait_for_port(port, process)
            for body in tcp_requests():
                compare(f"TCP {body!r}", *(shape(ask_tcp(port, body)) for port in (manager_port, weir_port)))
            for method, path, body in http_requests():
                answers = (ask_http(port, method, path, body) for port in (api_port, own_port))
                compare(f"HTTP {method} {path} {body!r}", *((status, shape(answer)) for status, answer in answers))
            life(model, compare, api_port, own_port)
        finally:
            for process in processes:
                # Roboflow's manager starts processes of its own: the whole group goes.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    print(f"{compare.same} answers have the same shape, {compare.different} differ")
    sys.exit(1 if compare.different else 0)


main()
