"""Generates a client from the document that a service serves, and steers the service with it: every route is there, and its calls work.

usage: generated_client.py URL TOKEN MODEL CLIP PORT FOLDER
"""

import importlib
import pathlib
import pkgutil
import subprocess
import sys

import httpx

url, token, model, clip, port, folder = sys.argv[1:]
folder = pathlib.Path(folder)
document = httpx.get(f"{url}/openapi.json", timeout=60)
(folder / "openapi.json").write_bytes(document.content)
# It knows no pictures: they are files to it.
(folder / "config.yml").write_text("content_type_overrides:\n  image/jpeg: application/octet-stream\n"
                                   "  multipart/x-mixed-replace: application/octet-stream\n")
tool = [str(pathlib.Path(sys.executable).parent / "openapi-python-client"), "generate", "--path", "openapi.json", "--config", "config.yml",
        "--meta", "none", "--output-path", "weir_client", "--fail-on-warning"]
environment = {"PATH": f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}
made = subprocess.run(tool, cwd=folder, env=environment, capture_output=True, text=True)
assert made.returncode == 0, made.stdout + made.stderr

sys.path.insert(0, str(folder))
import weir_client  # noqa: E402
from weir_client import api, models  # noqa: E402

operations = [operation["operationId"] for path in document.json()["paths"].values() for operation in path.values()]
modules = {name: importlib.import_module(f"weir_client.api.default.{name}")
           for _, name, _ in pkgutil.iter_modules(importlib.import_module("weir_client.api.default").__path__)}
assert len(modules) == len(operations) == len(set(operations)), (sorted(modules), sorted(operations))

stranger = weir_client.Client(base_url=url)
client = weir_client.AuthenticatedClient(base_url=url, token=token)
called = set()


def call(name, status=200, as_whom=client, **arguments):
    called.add(name)
    response = modules[name].sync_detailed(client=as_whom, **arguments)
    assert response.status_code == status, (name, response.status_code, response.content)
    return response.parsed


call("healthz", as_whom=stranger)
call("readyz", as_whom=stranger)
call("list_pipelines_list_pipelines_get", 401, as_whom=stranger)
assert call("list_pipelines_list_pipelines_get").pipelines == []
call("metrics")

body = models.PipelineInitialisationRequest(
    model_id=model, video_reference=clip, sink_configuration=models.UDPSinkConfiguration(host="127.0.0.1", port=int(port)),
    model_configuration=models.ObjectDetectionModelConfiguration(),
)
made = call("initialise_initialise_post", body=body)
assert made.status == "success", made
pipeline = made.context.pipeline_id
assert pipeline in call("list_pipelines_list_pipelines_get").pipelines
with httpx.stream("GET", f"{url}/pipelines/{pipeline}/events", headers={"authorization": f"Bearer {token}"}, timeout=60) as events:
    assert any(line == "event: detections" for line in events.iter_lines())
called.add("listen")
with httpx.stream("GET", f"{url}/events", params={"pipeline": pipeline}, headers={"authorization": f"Bearer {token}"}, timeout=60) as events:
    assert any(line == "event: detections" for line in events.iter_lines())
called.add("listen_to_several")
assert call("models") is not None and call("device") is not None and call("history", pipeline_id=pipeline) is not None
assert call("snapshot", pipeline_id=pipeline, width=320).payload.read(2) == b"\xff\xd8"
assert call("try_source", body=models.SourceRequest(video_reference=clip)).payload.read(2) == b"\xff\xd8"
with httpx.stream("GET", f"{url}/pipelines/{pipeline}/live.mjpeg", headers={"authorization": f"Bearer {token}"}, timeout=60) as live:
    assert any(b"image/jpeg" in piece for piece in live.iter_bytes())
called.add("live")
report = call("get_status_status_pipeline_id_get", pipeline_id=pipeline)
assert report.report.to_dict()["sources_metadata"][0]["state"] == "RUNNING", report
for name in ("pause_pause_pipeline_id_post", "resume_resume_pipeline_id_post", "newer_pause", "newer_resume"):
    assert call(name, pipeline_id=pipeline).status == "success", name
call("newer_status", pipeline_id=pipeline)
assert call("terminate_terminate_pipeline_id_post", pipeline_id=pipeline).status == "success"
assert call("terminate_terminate_pipeline_id_post", 404, pipeline_id=pipeline) is not None

workflow = models.WorkflowInitialisationRequest.from_dict({
    "video_configuration": {"video_reference": clip},
    "processing_configuration": {"workflow_specification": {
        "version": "1.0", "inputs": [{"type": "InferenceImage", "name": "image"}],
        "steps": [{"type": "roboflow_core/roboflow_object_detection_model@v2", "name": "model", "images": "$inputs.image",
                   "model_id": model}],
        "outputs": [{"type": "JsonField", "name": "found", "selector": "$steps.model.predictions"}]}},
})
pipeline = call("newer_initialise", body=workflow).context.pipeline_id
assert pipeline in call("newer_list").pipelines
# Results come with the frames; a turn that waits has one entry of each.
while True:
    turn = call("newer_consume", pipeline_id=pipeline)
    if turn.outputs:
        break
assert "predictions" in turn.outputs[0].to_dict()["found"], turn
assert call("newer_terminate", pipeline_id=pipeline).status == "success"
assert called == set(modules), set(modules) - called
print(len(called), "routes")
