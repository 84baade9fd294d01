"""Roboflow's own SDK steers weir: start, list, status, pause, resume, consume, terminate.

usage: test_sdk.py WEIR_BINARY
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
import warnings

from inference_sdk import InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError

ASSETS = pathlib.Path(__file__).parent.parent / "assets"
BINARY = sys.argv.pop(1)
DEADLINE_S = 60


def workflow(model, block="roboflow_core/roboflow_object_detection_model@v2"):
    return {
        "version": "1.0",
        "inputs": [{"type": "InferenceImage", "name": "image"}, {"type": "WorkflowParameter", "name": "confidence"}],
        "steps": [
            {"type": block, "name": "model", "images": "$inputs.image", "model_id": model, "confidence": "$inputs.confidence"}
        ],
        "outputs": [{"type": "JsonField", "name": "found", "selector": "$steps.model.predictions"}],
    }


def until(what, ask):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


class Sdk(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        model = pathlib.Path(folder.name) / "some" / "1"
        model.mkdir(parents=True)
        (model / "weights.onnx").write_bytes((ASSETS / "toy.onnx").read_bytes())
        (model / "model_type.json").write_text('{"project_task_type": "object-detection", "model_type": "yolov8n"}')
        resize = {"format": "Stretch to", "width": 320, "height": 320}
        (model / "environment.json").write_text(json.dumps({"PREPROCESSING": {"resize": resize}}))
        (model / "class_names.txt").write_text("red\ngreen\nblue")
        environment = {
            "STREAM_MANAGER_PORT": "0",
            "STREAM_MANAGEMENT_API_PORT": "0",
            "MODEL_CACHE_DIR": folder.name,
            "API_BASE_URL": "http://127.0.0.1:9",
        }
        weir = subprocess.Popen([BINARY, "serve"], env=environment, stderr=subprocess.PIPE, text=True)
        self.addCleanup(weir.stderr.close)
        self.addCleanup(weir.wait)
        self.addCleanup(weir.kill)
        address = next(line for line in weir.stderr if line.startswith("http=")).strip().removeprefix("http=")
        self.client = InferenceHTTPClient(api_url=f"http://{address}", api_key="any")

    def start(self, **options):
        options = {"workflow_specification": workflow("some/1"), **options}
        return self.client.start_inference_pipeline_with_workflow(video_reference=str(ASSETS / "long.mp4"), **options)

    def test_the_life_of_a_pipeline(self):
        started = self.start(max_fps=20, workflows_parameters={"confidence": 0.5})
        self.assertEqual(started["status"], "success")
        pipeline = started["context"]["pipeline_id"]
        self.assertEqual(self.client.list_inference_pipelines()["pipelines"], [pipeline])
        state = lambda: self.client.get_inference_pipeline_status(pipeline)["report"]["sources_metadata"][0]["state"]
        until("RUNNING", lambda: state() == "RUNNING")

        def found():
            result = self.client.consume_inference_pipeline_result(pipeline)
            return result if result["outputs"] and result["outputs"][0]["found"]["predictions"] else None

        result = until("detections", found)
        (output,), (frame,) = result["outputs"], result["frames_metadata"]
        self.assertEqual(list(output["found"]), ["image", "predictions"])
        self.assertEqual(output["found"]["image"], {"width": 640, "height": 480})
        self.assertGreaterEqual(output["found"]["predictions"][0]["confidence"], 0.5)
        self.assertEqual((frame["source_id"], sorted(frame)), (0, ["frame_id", "frame_timestamp", "source_id"]))
        without = until("a result", lambda: self.client.consume_inference_pipeline_result(pipeline, ["found"])["outputs"])
        self.assertEqual(without, [{}])
        self.assertEqual(self.client.pause_inference_pipeline(pipeline)["status"], "success")
        self.assertEqual(state(), "MUTED")
        self.assertEqual(self.client.resume_inference_pipeline(pipeline)["status"], "success")
        self.assertEqual(self.client.terminate_inference_pipeline(pipeline)["status"], "success")
        self.assertEqual(self.client.list_inference_pipelines()["pipelines"], [])

    def test_what_is_not_supported_is_named(self):
        for specification in (
            {"workflow_specification": workflow("some/1", "roboflow_core/ocr_model@v1")},
            {"workflow_specification": None, "workspace_name": "somebody", "workflow_id": "something"},
        ):
            with self.assertRaises(HTTPCallErrorError) as raised:
                self.start(**specification)
            self.assertEqual(raised.exception.status_code, 400)
        with self.assertRaises(HTTPCallErrorError) as raised:
            self.client.get_inference_pipeline_status("00000000-0000-4000-8000-000000000000")
        self.assertEqual(raised.exception.status_code, 404)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    unittest.main()
