"""README.md's factory, run as it is printed: two services, four cameras, a web app's client, a UDP server that tracks.

tests/process/python.rs starts the services and says in the environment where they are.
"""
import json
import os
import subprocess
import tempfile
import time
import unittest

import readme

ADDRESSES = json.loads(os.environ["WEIR_TEST_ADDRESSES"])
# Longest that anything may take on a busy machine.
PATIENCE_S = 60


class Factory(unittest.TestCase):
    def setUp(self):
        self.client = readme.module("client", ADDRESSES)
        self.receiver = readme.module("receiver", ADDRESSES)

    def wait_for(self, state, device, pipeline):
        deadline = time.monotonic() + PATIENCE_S
        while (seen := self.client.status(device, pipeline)[0]) != state:
            self.assertLess(time.monotonic(), deadline, f"still {seen}, not {state}")
            time.sleep(0.05)

    def test_client_and_receiver(self):
        pipelines = {camera: self.client.initialise(camera) for camera in self.client.FACTORY}
        devices = {device for device, _ in pipelines.values()}
        self.assertEqual(len(devices), 2)
        for device in devices:
            expected = [pipeline for at, pipeline in pipelines.values() if at == device]
            self.assertEqual(self.client.list_pipelines(device), expected)

        for camera, (device, pipeline) in pipelines.items():
            port = self.client.FACTORY[camera][2]
            stream = self.receiver.frames(port, "127.0.0.1")
            seen = [next(stream) for _ in range(20)]
            frames = [frame for frame, _ in seen]
            self.assertEqual(frames, sorted(frames))
            # The coloured rectangles of the clip are followed: an id lasts.
            followed = [set(detections.tracker_id.tolist()) - {-1} for _, detections in seen]
            self.assertTrue(followed[-1] & followed[-5], f"{camera}: nothing followed: {followed}")
            names = set(seen[-1][1].data["class_name"].tolist())
            self.assertTrue(names <= {"red", "green", "blue"}, names)

            self.wait_for("RUNNING", device, pipeline)
            self.client.pause(device, pipeline)
            self.wait_for("MUTED", device, pipeline)
            with self.assertRaisesRegex(RuntimeError, "HTTP 500.*Could not MUTE"):
                self.client.pause(device, pipeline)
            self.client.resume(device, pipeline)
            self.wait_for("RUNNING", device, pipeline)
            next(stream)
            stream.close()

        for device, pipeline in pipelines.values():
            self.client.terminate(device, pipeline)
            with self.assertRaisesRegex(RuntimeError, "HTTP 404"):
                self.client.status(device, pipeline)
        for device in devices:
            self.assertEqual(self.client.list_pipelines(device), [])

    def test_wrong_key_and_wrong_request(self):
        self.client.API_KEY = "wrong"
        with self.assertRaisesRegex(RuntimeError, "HTTP 401"):
            # Not in the cache of this service, which another test may have warmed.
            self.client.call("POST", f"{ADDRESSES['http://192.168.0.11:8080']}/initialise", json={
                "video_reference": "x", "model_id": "toy/5", "api_key": "wrong",
                "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": 9}})
        with self.assertRaisesRegex(RuntimeError, "HTTP 422.*model_id"):
            self.client.call("POST", f"{ADDRESSES['http://192.168.0.11:8080']}/initialise", json={})

    def test_shell(self):
        lines = ["set -eu"]
        for line in readme.replaced("shell", ADDRESSES).splitlines():
            lines.append(line)
            if "/status/" in line:
                # Whoever reads the answer before pausing sees RUNNING; a script is faster than the camera is opened.
                asked = line.partition("#")[0]
                lines.append(f"for try in $(seq 200); do {asked} | grep -q RUNNING && break; sleep 0.1; done")
        script = "\n".join(lines)
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        decoder, text, answers = json.JSONDecoder(), done.stdout, []
        while text.strip():
            answer, end = decoder.raw_decode(text.lstrip())
            answers.append(answer)
            text = text.lstrip()[end:]
        self.assertEqual([answer["status"] for answer in answers], ["success"] * 6, done.stdout)
        pipeline = answers[0]["context"]["pipeline_id"]
        self.assertIn(pipeline, answers[1]["pipelines"])
        self.assertIn("sources_metadata", answers[2]["report"])


class Messages(unittest.TestCase):
    """Requests in the very form that the document of the Stream Management API shows: `type`, and `max_fps` as null."""

    def test_documented_form(self):
        import requests

        url = ADDRESSES["http://192.168.0.12:8080"]
        request = {"type": "init", "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": 9},
                   "video_reference": ADDRESSES["rtsp://192.168.0.104/cam"], "model_id": "toy/1",
                   "api_key": "good-key", "max_fps": None}
        headers = {"authorization": f"Bearer {ADDRESSES['YOUR-TOKEN']}"}
        answer = requests.post(f"{url}/initialise", json=request, headers=headers, timeout=PATIENCE_S).json()
        self.assertEqual(answer["status"], "success", answer)
        pipeline = answer["context"]["pipeline_id"]
        self.assertEqual(requests.post(f"{url}/terminate/{pipeline}", headers=headers, timeout=PATIENCE_S).json()["status"],
                         "success")


if __name__ == "__main__":
    unittest.main()
