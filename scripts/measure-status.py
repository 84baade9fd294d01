#!/usr/bin/env python3
"""How long `status` takes over TCP while inference holds every core.

usage: scripts/measure-status.py BINARY [SECONDS [PIPELINES]]

Serves the bundled model on PIPELINES (default 4) pipelines of the bundled clip, played at its own rate again and again, and asks one of
them for its status every 3 ms, each time over a connection of its own, for SECONDS (default 20). Prints the time from connecting to the
whole answer, the frames a second of all pipelines together, and the CPU of the whole process tree.
"""

import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from process_tree import cpu_seconds

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAUSE_S = 0.003


def ask(address, request):
    body = json.dumps(request).encode()
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(struct.pack(">I", len(body)) + body)
        stream = connection.makefile("rb")
        (length,) = struct.unpack(">I", stream.read(4))
        return json.loads(stream.read(length))


def main():
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    pipelines = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    work = pathlib.Path(tempfile.mkdtemp())
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    environment = {"PATH": os.environ["PATH"], "STREAM_MANAGER_PORT": "0", "STREAM_MANAGEMENT_API_PORT": "0", "WEIR_TRACEABLE": "1",
                   "MODEL_CACHE_DIR": str(work / "cache"), "WEIR_MODELS_DIR": str(ROOT / "assets"), "LOG_LEVEL": "WARNING"}
    weir = subprocess.Popen([sys.argv[1], "serve"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line.strip() for line in weir.stderr if line.startswith("tcp="))
        threading.Thread(target=weir.stderr.read, daemon=True).start()
        host, port = line[4:].rsplit(":", 1)
        address = (host, int(port))
        init = {"type": "init", "model_configuration": {"type": "object-detection"}, "model_id": f"{ROOT}/assets/nanodet-coco-416.onnx", "video_reference": f"file://{ROOT}/assets/sample.mp4",
                "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": sink.getsockname()[1]}}
        ids = []
        for _ in range(pipelines):
            answer = ask(address, init)
            if answer["response"]["status"] != "success":
                raise SystemExit(f"init: {answer}")
            ids.append(answer["pipeline_id"])
        taken = [0]

        def count():
            while True:
                sink.recv(65536)
                taken[0] += 1

        threading.Thread(target=count, daemon=True).start()
        time.sleep(3)
        times, frames, cpu, began = [], taken[0], cpu_seconds(weir.pid), time.monotonic()
        while time.monotonic() < began + seconds:
            asked = time.perf_counter()
            ask(address, {"type": "status", "pipeline_id": ids[0]})
            times.append((time.perf_counter() - asked) * 1000)
            time.sleep(PAUSE_S)
        took = time.monotonic() - began
        times.sort()
        at = lambda part: times[min(int(len(times) * part), len(times) - 1)]
        print(f"{len(times)} requests, ms: p50={at(0.5):.2f} p90={at(0.9):.2f} p99={at(0.99):.2f} max={times[-1]:.2f}; "
              f"frames/s={(taken[0] - frames) / took:.1f} cpu={(cpu_seconds(weir.pid) - cpu) / took * 100:.0f} %", flush=True)
    finally:
        weir.terminate()
        weir.wait()
        shutil.rmtree(work)


main()
