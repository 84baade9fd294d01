"""The real binary for the page's tests: started on free ports, in a folder of its own, ended by its own handle."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.parse

from browser import PATIENCE_S, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
STOP_S = 20


class Weir:
    def __init__(self, binary, *arguments, http_port=0, **environment):
        self.binary = binary
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-page-service-"))
        self.arguments = arguments
        self.environment = environment
        self.start(http_port)

    def start(self, http_port=0):
        state = self.folder / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("WEIR_", "STREAM_"))}
        environment |= {
            "STREAM_MANAGER_PORT": "0",
            "STREAM_MANAGEMENT_API_PORT": str(http_port),
            "MODEL_CACHE_DIR": str(self.folder / "cache"),
            "WEIR_MODELS_DIR": str(ROOT / "assets"),
            "WEIR_ASSETS_DIR": str(ROOT / "assets"),
            "STATE_DIRECTORY": str(state),
        } | self.environment
        self.process = subprocess.Popen([self.binary, *self.arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, errors="replace", start_new_session=True)
        self.out, self.log = [], []
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.log)):
            threading.Thread(target=self.gather, args=(stream, lines), daemon=True).start()
        line = wait_for("the HTTP listener", lambda: next((line for line in list(self.log) if line.startswith("http=")), self.process.poll() is not None))
        if line is True:
            raise AssertionError("weir ended: " + "".join(self.log))
        self.http_port = int(line.strip().rsplit(":", 1)[1])
        self.url = f"http://127.0.0.1:{self.http_port}/"

    @staticmethod
    def gather(stream, lines):
        with stream:
            for line in stream:
                # A demo prints each frame: the first lines are what is looked for.
                if len(lines) < 5000:
                    lines.append(line)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(PATIENCE_S)

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.wait(PATIENCE_S)

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, path, body=None, method=None, headers=None):
        """Status, head and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_S)
        try:
            text = None if body is None else json.dumps(body)
            fields = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method or ("GET" if body is None else "POST"), path, text, fields | (headers or {}))
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()

    def json(self, path, body=None, headers=None, method=None):
        return json.loads(self.ask(path, body, method, headers)[2])

    def pipelines(self, headers=None):
        return self.json("/list_pipelines", headers=headers)["pipelines"]

    def report(self, pipeline):
        return self.json(f"/status/{pipeline}")["report"]

    def listen(self, pipeline):
        """The pipeline's datagrams by their frame ids, from now on, until the stream is closed: a dictionary that grows."""
        frames = {}
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_S)
        connection.request("GET", f"/pipelines/{urllib.parse.quote(pipeline)}/events")
        reply = connection.getresponse()

        def gather():
            name = ""
            try:
                for line in reply:
                    text = line.decode()
                    if text.startswith("event: "):
                        name = text[7:].strip()
                    elif text.startswith("data: ") and name == "detections":
                        datagram = json.loads(text[6:])
                        frames[datagram["inference_metadata"]["frame_id"]] = datagram
            except (OSError, ValueError, AttributeError, http.client.HTTPException):
                # Closed: by us, or with the service.
                pass

        threading.Thread(target=gather, daemon=True).start()
        return frames, connection

    def add(self, source, model="nanodet-coco-416.onnx", **more):
        body = {"model_id": model, "video_reference": source, "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": 9}} | more
        reply = self.json("/initialise", body)
        if reply.get("status") != "success":
            raise AssertionError(f"initialise: {reply}")
        return reply["context"]["pipeline_id"]


def address_of_demo(weir):
    """The page's address as `weir demo` prints it."""
    first = wait_for("the demo's first line", lambda: weir.out and weir.out[0])
    return re.search(r"http://\S+", first).group(0).rstrip(";,.")
