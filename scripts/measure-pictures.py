#!/usr/bin/env python3
"""What a viewer costs, and how old a picture is when its first byte arrives.

usage: scripts/measure-pictures.py BINARY CLIP [SECONDS]

Serves the toy model on CLIP, played at its own rate again and again (ffmpeg makes one of 1920x1080), and prints for windows of SECONDS
(default 15) without a viewer, with one at 960 pixels and 10 pictures a second, and with boxes: CPU of the whole process tree in percent of
a core, per frame, and the age of pictures (X-Timestamp to the first byte of their part).
"""

import datetime
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from process_tree import cpu_seconds

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENVIRONMENT = {"PREPROCESSING": json.dumps({"resize": {"width": 320, "height": 320, "format": "Stretch to"}})}


def lay_out_toy(models):
    toy = models / "toy"
    toy.mkdir(parents=True)
    shutil.copy(ROOT / "tests/assets/toy.onnx", toy / "weights.onnx")
    (toy / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (toy / "class_names.txt").write_text("red\ngreen\nblue")
    (toy / "model_type.json").write_text(json.dumps({"project_task_type": "object-detection", "model_type": "yolov8n"}))
    return toy


def look(address, path, until, ages):
    """Reads parts and notes how old each is when its head begins."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        stream = connection.makefile("rb")
        while stream.readline().strip():
            pass
        stream.readline()
        while time.time() < until:
            line, arrived, fields = stream.readline(), time.time(), {}
            while line.strip():
                name, value = line.decode().split(":", 1)
                fields[name.lower()] = value.strip()
                line = stream.readline()
            stream.read(int(fields["content-length"]) + 2)
            stream.readline()
            taken = datetime.datetime.fromisoformat(fields["x-timestamp"]).timestamp()
            ages.append((arrived - taken) * 1000)


def main():
    binary, clip = sys.argv[1:3]
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 15.0
    work = pathlib.Path(tempfile.mkdtemp())
    toy = lay_out_toy(work / "models")
    environment = {"PATH": os.environ["PATH"], "STREAM_MANAGER_PORT": "0", "STREAM_MANAGEMENT_API_PORT": "0", "WEIR_TRACEABLE": "1",
                   "MODEL_CACHE_DIR": str(work / "cache"), "WEIR_MODELS_DIR": str(work / "models"), "LOG_LEVEL": "WARNING"}
    weir = subprocess.Popen([binary, "serve"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        address = next(line.strip()[5:] for line in weir.stderr if line.startswith("http="))
        threading.Thread(target=weir.stderr.read, daemon=True).start()

        def counted():
            page = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
            return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith("weir_source_frames_total{"))

        body = {"model_id": str(toy), "video_reference": f"file://{pathlib.Path(clip).resolve()}",
                "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": 9}}
        request = urllib.request.Request(f"http://{address}/initialise", data=json.dumps(body).encode(),
                                         headers={"content-type": "application/json"})
        pipeline = json.load(urllib.request.urlopen(request))["context"]["pipeline_id"]
        time.sleep(2)
        for words, query in [("nobody", None), ("960 px at 10", "width=960&fps=10"), ("nobody", None),
                             ("with boxes", "width=960&fps=10&boxes=1")]:
            ages = []
            frames, cpu, began = counted(), cpu_seconds(weir.pid), time.time()
            if query:
                look(address, f"/pipelines/{pipeline}/live.mjpeg?{query}", began + seconds, ages)
            else:
                time.sleep(seconds)
            cpu, took = cpu_seconds(weir.pid) - cpu, time.time() - began
            frames = counted() - frames
            line = f"{words:14} cpu={cpu / took * 100:5.1f} % frames/s={frames / took:5.1f} cpu/frame={cpu / max(frames, 1) * 1000:5.2f} ms"
            if ages:
                ages.sort()
                line += f" pictures/s={len(ages) / took:4.1f} age p50={ages[len(ages) // 2]:.1f} p90={ages[len(ages) * 9 // 10]:.1f} ms"
            print(line, flush=True)
    finally:
        weir.terminate()
        weir.wait()
        shutil.rmtree(work)


main()
