"""Half of the generated `initialise` requests name a model that exists and a source that is refused at once (nothing is
ever asked beyond this machine: see run.sh), so that pipelines come to be and the commands that follow have something
to work on."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    operation = context.operation
    if operation is None or operation.path != "/initialise" or not isinstance(body, dict):
        return body
    if len(str(body)) % 2 == 0 and isinstance(body.get("model_id"), str):
        body = {**body, "model_id": "some/1", "video_reference": "rtsp://127.0.0.1:9/camera"}
    return body
