"""Half of the valid `initialise` requests name a model that exists and a source that is refused at once (nothing is ever
asked beyond this machine: see run.sh), so that pipelines come to be and the commands that follow have something to work
on. Invalid ones stay as they are: what this put in place of the one wrong member would make them valid."""

import schemathesis
from schemathesis import GenerationMode


@schemathesis.hook
def map_case(context, case):
    body = case.body
    meta = case.meta
    if case.operation.path != "/initialise" or meta is None or meta.generation.mode != GenerationMode.POSITIVE:
        return case
    if isinstance(body, dict) and len(str(body)) % 2 == 0 and isinstance(body.get("model_id"), str):
        case.body = {**body, "model_id": "some/1", "video_reference": "rtsp://127.0.0.1:9/camera"}
    return case
