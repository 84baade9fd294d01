//! The newer Roboflow routes: pipelines from a workflow whose results are kept and asked for. With Roboflow's
//! own client: `make sdk`.

use crate::support::{Json, Weir, clip, wait_for};

fn workflow(weir: &Weir, more: &str) -> String {
    format!(
        r#"{{"video_configuration": {{"type": "VideoConfiguration", "video_reference": {}, "max_fps": 20}},
            "processing_configuration": {{"type": "WorkflowConfiguration", "workflow_specification": {{"version": "1.0",
                "inputs": [{{"type": "InferenceImage", "name": "image"}}],
                "steps": [{{"type": "roboflow_core/roboflow_object_detection_model@v2", "name": "model", "images": "$inputs.image",
                    "model_id": "{}"}}],
                "outputs": [{{"type": "JsonField", "name": "found", "selector": "$steps.model.predictions"}}]}}}}{more}}}"#,
        Json::from(clip("short.mp4").as_str()),
        weir.toy()
    )
}

fn start(weir: &Weir, more: &str) -> String {
    let response = weir.post("/inference_pipelines/initialise", &workflow(weir, more));
    assert_eq!(response.status, 200, "{response:?}");
    response.json().at("context/pipeline_id").text().unwrap().to_owned()
}

#[test]
fn results_of_a_workflow_are_kept_until_they_are_asked_for() {
    let weir = Weir::start();
    let id = start(
        &weir,
        r#", "sink_configuration": {"type": "MemorySinkConfiguration", "results_buffer_size": 4}"#,
    );
    let path = |word: &str| format!("/inference_pipelines/{id}/{word}");
    assert_eq!(weir.get("/inference_pipelines/list").json().at("pipelines/0").text(), Some(id.as_str()));
    weir.wait_state(&id, "ENDED");
    // The file's 60 frames are through when no more come: the last four wait.
    let frames: Vec<f64> = (0..4)
        .map(|_| {
            let taken = wait_for("a result", || {
                let taken = weir.get(&path("consume")).json();
                (!taken.get("outputs").items().is_empty()).then_some(taken)
            });
            assert_eq!(taken.keys(), ["status", "context", "outputs", "frames_metadata"]);
            assert_eq!(taken.at("outputs/0/found").keys(), ["image", "predictions"]);
            assert_eq!(taken.at("frames_metadata/0/source_id").number(), Some(0.0));
            taken.at("frames_metadata/0/frame_id").number().unwrap()
        })
        .collect();
    assert!(frames.windows(2).all(|pair| pair[0] < pair[1]), "oldest first: {frames:?}");
    assert_eq!(weir.get(&path("status")).status, 200);
    assert_eq!(weir.post(&path("terminate"), "").status, 200);
    assert_eq!(weir.get(&path("consume")).status, 404);
}

#[test]
fn a_pipeline_whose_results_nobody_takes_ends_when_asked_to() {
    let weir = Weir::start();
    let id = start(&weir, r#", "consumption_timeout": 3"#);
    assert_eq!(weir.list(), [id]);
    wait_for("its end", || weir.list().is_empty().then_some(()));
    wait_for("the end of its worker", || weir.workers().is_empty().then_some(()));
}

#[test]
fn a_pipeline_that_sends_datagrams_keeps_no_results() {
    let weir = Weir::start();
    let init = Json::parse(&format!(
        r#"{{"type": "init", "model_id": "{}", "video_reference": {}, "model_configuration": {{"type": "object-detection"}},
            "sink_configuration": {{"type": "udp_sink", "host": "127.0.0.1", "port": 9}}}}"#,
        weir.toy(),
        Json::from(clip("short.mp4").as_str())
    ));
    let id = weir.init(&init);
    let response = weir.get(&format!("/inference_pipelines/{id}/consume"));
    assert_eq!(response.status, 400, "{response:?}");
    let refused =
        weir.post("/inference_pipelines/initialise", &workflow(&weir, "").replace("object_detection", "ocr"));
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("ocr_model@v2"), "{refused:?}");
    assert_eq!(weir.get("/inference_pipelines/nothing/known").status, 404);
}
