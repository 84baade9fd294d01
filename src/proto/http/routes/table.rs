//! The table of routes: the one place that says what paths there are, who may ask and what the OpenAPI
//! document says of them.

use crate::command::{Command, PipelineId};
use crate::proto::access::Scope;

/// What stands for an id in a path.
const PIPELINE: &str = "{pipeline_id}";

/// What stands for a file of the page in a path.
const FILE: &str = "{file}";

/// What a path means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Route<'a> {
    List,
    Initialise,
    /// The newer API's `initialise`.
    InitialiseWorkflow,
    /// A question about the pipeline of that id (the text may be no id at all).
    Ask(fn(PipelineId) -> Command, &'a str),
    /// A change of that pipeline.
    Change(fn(PipelineId) -> Command, &'a str),
    /// What that pipeline keeps for who asks.
    Consume(&'a str),
    /// What happens in that pipeline.
    Events(&'a str),
    /// What happens in the pipelines that the query names.
    EventsOf,
    Models,
    Device,
    /// The page, for a browser; nobody else finds anything there, as in the reference.
    Home,
    /// A file of the page.
    Page(&'a str),
    /// A picture of one of its sources.
    Snapshot(&'a str),
    /// The same, one after the other.
    Live(&'a str),
    /// The first picture of a source that no pipeline has.
    Peek,
    OpenApi,
    Health,
    Ready,
    Metrics,
    /// The same page under both names the reference has.
    Docs,
}

/// A row of the table.
pub(super) struct Entry {
    /// Segments; [`PIPELINE`] is any one that could be an id.
    pub path: &'static str,
    /// The methods it takes, as the `allow` header names them.
    pub allow: &'static str,
    /// What a client must be allowed; `None` for what everybody may read: it is the same in every copy of the
    /// program.
    pub scope: Option<Scope>,
    /// What it means for the segment in [`PIPELINE`]'s place.
    route: for<'a> fn(&'a str) -> Route<'a>,
    /// For the OpenAPI document; `None`: it is not in there.
    pub operation: Option<Operation>,
}

/// What the OpenAPI document says of a route.
pub(super) struct Operation {
    /// `operationId` in the OpenAPI document.
    pub id: &'static str,
    /// In a few words.
    pub summary: &'static str,
    /// What it does, in sentences for the OpenAPI document.
    pub description: &'static str,
    /// What its query may hold.
    pub query: &'static [Parameter],
    /// The schema of its body.
    pub body: Option<&'static str>,
    /// What it answers when all is well.
    pub success: Success,
    /// Why it may answer otherwise.
    pub refusals: &'static [&'static [Refusal]],
    /// What can be asked with the id that it answers: names, and `operationId`s.
    pub links: &'static [(&'static str, &'static str)],
}

/// The body of a reply with status 200.
pub(super) enum Success {
    /// JSON of that schema.
    Json(&'static str),
    /// A line of text, and what it means.
    Text(&'static str),
    /// A stream of server-sent events.
    Events,
    /// A picture as JPEG.
    Picture,
    /// One JPEG after the other.
    Live,
}

/// A parameter of a query.
pub(super) struct Parameter {
    pub name: &'static str,
    /// `integer`, `number`, `boolean`, or `ids`: given 1 to 32 times.
    pub kind: &'static str,
    /// The least that it may be.
    pub least: Option<f64>,
    pub words: &'static str,
}

/// A status other than 200.
pub(super) struct Refusal {
    pub status: u16,
    pub words: &'static str,
    pub schema: Option<&'static str>,
}

const fn refusal(status: u16, words: &'static str) -> Refusal {
    Refusal { status, words, schema: Some("FailureResponse") }
}

/// What 429 means, wherever a token is asked for.
const GUESSED: &str = "Too many wrong tokens from this address; Retry-After says when the next is looked at.";

/// What every command may be refused with.
const COMMAND: &[Refusal] = &[
    refusal(401, "No token, a wrong one, or the model registry refused the API key."),
    refusal(403, "The token has not the scope, or the configuration forbids it."),
    refusal(429, GUESSED),
    refusal(500, "The pipeline's state forbids it, or something failed inside."),
    refusal(503, "No answer in time, or the service is stopping."),
];
/// What names a pipeline or a model.
const ABSENT: &[Refusal] = &[refusal(404, "No such pipeline, or no such model.")];
const UNUSABLE: &[Refusal] = &[refusal(400, "A value that cannot be used, or a body that cannot be read.")];
/// What has a body.
const BODY: &[Refusal] =
    &[refusal(408, "The body did not arrive in time."), refusal(413, "The body is too large.")];
const MISSHAPEN: &[Refusal] = &[Refusal {
    status: 422,
    words: "The body does not have the right form.",
    schema: Some("HTTPValidationError"),
}];
const NO_JSON: &[Refusal] =
    &[Refusal { status: 422, words: "The body is no JSON.", schema: Some("HTTPValidationError") }];
const NEVER: &[Refusal] = &[Refusal {
    status: 422,
    words: "Never sent for a path; clients generated from the reference's document know it.",
    schema: Some("HTTPValidationError"),
}];
/// What no command answers.
const TOKEN: &[Refusal] = &[
    refusal(401, "No token, or a wrong one."),
    refusal(403, "The token has not the scope."),
    refusal(429, GUESSED),
];
const LISTEN: &[Refusal] =
    &[refusal(404, "No such pipeline."), refusal(503, "As many clients listen as may.")];
const NO_PICTURE: &[Refusal] = &[
    refusal(404, "No such pipeline, or no such source in it."),
    Refusal { status: 422, words: "A parameter that cannot be used.", schema: Some("HTTPValidationError") },
    refusal(503, "There is no frame, and why; or as many clients look as may."),
];
const NO_SOURCE: &[Refusal] = &[refusal(502, "The source cannot be opened or shows nothing, and why.")];

const SOURCE: Parameter =
    Parameter { name: "source", kind: "integer", least: Some(0.0), words: "Index of the source; absent: 0." };
const WIDTH: Parameter = Parameter {
    name: "width",
    kind: "integer",
    least: Some(16.0),
    words: "Pixels at most; absent, or more than `http.picture_width`: that. The aspect is kept, and nothing enlarged.",
};
const BOXES: Parameter = Parameter {
    name: "boxes",
    kind: "boolean",
    least: None,
    words: "Whether boxes, names and scores are drawn in (`1`); absent: no.",
};
const SNAPSHOT: &[Parameter] = &[SOURCE, WIDTH, BOXES];
const PIPELINES: &[Parameter] =
    &[Parameter { name: "pipeline", kind: "ids", least: None, words: "Ids that initialise answered." }];
const LIVE: &[Parameter] = &[
    SOURCE,
    WIDTH,
    BOXES,
    Parameter {
        name: "fps",
        kind: "number",
        least: Some(1.0 / 60.0),
        words: "Pictures in a second at most, up to 30; absent: 10. A client that does not keep up gets fewer.",
    },
];

const NOT_READY: &[Refusal] = &[Refusal { status: 503, words: "No.", schema: None }];

const READ: Option<Scope> = Some(Scope::Read);
const CONTROL: Option<Scope> = Some(Scope::Control);

const fn get(
    path: &'static str,
    scope: Option<Scope>,
    route: for<'a> fn(&'a str) -> Route<'a>,
    operation: Operation,
) -> Entry {
    Entry { path, allow: "GET", scope, route, operation: Some(operation) }
}

const fn post(path: &'static str, route: for<'a> fn(&'a str) -> Route<'a>, operation: Operation) -> Entry {
    Entry { path, allow: "POST", scope: CONTROL, route, operation: Some(operation) }
}

const fn page(path: &'static str, route: for<'a> fn(&'a str) -> Route<'a>) -> Entry {
    Entry { path, allow: "GET, HEAD", scope: None, route, operation: None }
}

/// What stands in most rows.
const PLAIN: Operation = Operation {
    id: "",
    summary: "",
    description: "",
    query: &[],
    body: None,
    success: Success::Json("CommandResponse"),
    refusals: &[COMMAND],
    links: &[],
};

/// A row for each path.
pub(super) const TABLE: &[Entry] = &[
    get(
        "/list_pipelines",
        READ,
        |_| Route::List,
        Operation {
            id: "list_pipelines_list_pipelines_get",
            summary: "List pipelines",
            description: "Ids of all pipelines in the order in which they were made, those that ended or failed later included.",
            success: Success::Json("ListPipelinesResponse"),
            ..PLAIN
        },
    ),
    get(
        "/status/{pipeline_id}",
        READ,
        |id| Route::Ask(Command::Status, id),
        Operation {
            id: "get_status_status__pipeline_id__get",
            summary: "Report on a pipeline",
            description: "Updates, latencies, throughput, and where each video source stands.",
            success: Success::Json("InferencePipelineStatusResponse"),
            refusals: &[COMMAND, ABSENT, NEVER],
            ..PLAIN
        },
    ),
    post(
        "/initialise",
        |_| Route::Initialise,
        Operation {
            id: "initialise_initialise_post",
            summary: "Start a pipeline",
            description: "Loads the model and starts reading the video sources. Answers when the model is ready; a source that cannot be \
                      opened is seen in the status and tried again.",
            body: Some("PipelineInitialisationRequest"),
            refusals: &[COMMAND, ABSENT, UNUSABLE, BODY, MISSHAPEN],
            links: &[
                ("status", "get_status_status__pipeline_id__get"),
                ("pause", "pause_pause__pipeline_id__post"),
                ("resume", "resume_resume__pipeline_id__post"),
                ("terminate", "terminate_terminate__pipeline_id__post"),
                ("listen", "listen"),
            ],
            ..PLAIN
        },
    ),
    post(
        "/pause/{pipeline_id}",
        |id| Route::Change(Command::Mute, id),
        Operation {
            id: "pause_pause__pipeline_id__post",
            summary: "Pause a pipeline",
            description: "Frames are read and thrown away, so that the camera's connection stays open. Only a running pipeline can be \
                      paused.",
            refusals: &[COMMAND, ABSENT, NEVER],
            ..PLAIN
        },
    ),
    post(
        "/resume/{pipeline_id}",
        |id| Route::Change(Command::Resume, id),
        Operation {
            id: "resume_resume__pipeline_id__post",
            summary: "Resume a pipeline",
            description: "Goes on with the frames that come now. Only a paused pipeline can be resumed.",
            refusals: &[COMMAND, ABSENT, NEVER],
            ..PLAIN
        },
    ),
    post(
        "/terminate/{pipeline_id}",
        |id| Route::Change(Command::Terminate, id),
        Operation {
            id: "terminate_terminate__pipeline_id__post",
            summary: "Terminate a pipeline",
            description: "Closes the video sources and forgets the pipeline.",
            refusals: &[COMMAND, ABSENT, NEVER],
            ..PLAIN
        },
    ),
    get(
        "/pipelines/{pipeline_id}/events",
        READ,
        |id| Route::Events(id),
        Operation {
            id: "listen",
            summary: "Listen to a pipeline",
            description: "Server-sent events, from now on and until the pipeline is terminated: `update` carries an entry of the report's \
                      video_source_status_updates, `detections` what the datagram of a frame carries, and `end` is the last one, with \
                      the reason `terminated` or `too_slow` (a client that does not keep up loses its place). Lines that begin with a \
                      colon are signs of life.",
            success: Success::Events,
            refusals: &[TOKEN, LISTEN],
            ..PLAIN
        },
    ),
    get(
        "/pipelines/{pipeline_id}/history",
        READ,
        |id| Route::Ask(Command::History, id),
        Operation {
            id: "history",
            summary: "A pipeline's last ten minutes",
            description: "Frames a second of all its sources, and latency from a frame's timestamp to its prediction, in steps of \
                          `interval_s`, oldest first; up to ten minutes, without the step under way.",
            success: Success::Json("HistoryResponse"),
            refusals: &[COMMAND, ABSENT],
            ..PLAIN
        },
    ),
    get(
        "/events",
        READ,
        |_| Route::EventsOf,
        Operation {
            id: "listen_to_several",
            summary: "Listen to several pipelines",
            description: "The events of 1 to 32 pipelines in one stream, for clients that may open few connections: \
                      `?pipeline=ID&pipeline=ID`. As for one pipeline, but that the data of each event is an object with \
                      `pipeline_id` and what happened under the event's name: `detections` or `update`; of an `end`, its `reason`.",
            success: Success::Events,
            refusals: &[TOKEN, LISTEN, UNUSABLE],
            query: PIPELINES,
            ..PLAIN
        },
    ),
    get(
        "/pipelines/{pipeline_id}/snapshot.jpg",
        READ,
        |id| Route::Snapshot(id),
        Operation {
            id: "snapshot",
            summary: "A picture of a source",
            description: "The camera's picture of a frame that comes now, as it is shown (turned, privacy masks black), with the frame's id \
                      in `x-frame-id` and its time in `x-timestamp`, both as in its datagram. It is made for who asks, from the very \
                      frame that the detections are of.",
            query: SNAPSHOT,
            success: Success::Picture,
            refusals: &[TOKEN, NO_PICTURE],
            ..PLAIN
        },
    ),
    get(
        "/pipelines/{pipeline_id}/live.mjpeg",
        READ,
        |id| Route::Live(id),
        Operation {
            id: "live",
            summary: "Pictures of a source, one after the other",
            description: "As `snapshot`, until the client closes or the pipeline is terminated. Each part has Content-Type, \
                      Content-Length, X-Frame-Id and X-Timestamp. A picture is made when the one before has gone out; without a new \
                      one for 15 s the last is sent again.",
            query: LIVE,
            success: Success::Live,
            refusals: &[TOKEN, NO_PICTURE],
            ..PLAIN
        },
    ),
    post(
        "/video_sources/snapshot",
        |_| Route::Peek,
        Operation {
            id: "try_source",
            summary: "Try a source",
            description: "Opens a video source once, under all the rules of initialise, and answers its first picture. Nothing is kept. \
                      At most two are tried at once.",
            body: Some("SourceRequest"),
            success: Success::Picture,
            refusals: &[COMMAND, UNUSABLE, BODY, MISSHAPEN, NO_SOURCE],
            ..PLAIN
        },
    ),
    get(
        "/inference_pipelines/list",
        READ,
        |_| Route::List,
        Operation {
            id: "newer_list",
            summary: "List the pipelines",
            description: "The newer API's path: ids of all pipelines in the order in which they were made, those that ended or failed \
                      later included.",
            success: Success::Json("ListPipelinesResponse"),
            ..PLAIN
        },
    ),
    post(
        "/inference_pipelines/initialise",
        |_| Route::InitialiseWorkflow,
        Operation {
            id: "newer_initialise",
            summary: "Start a pipeline from a workflow",
            description: "Takes a workflow whose one step is an object-detection block \
                      (`roboflow_core/roboflow_object_detection_model@v1` or `@v2`) and whose outputs are that step's predictions. Its \
                      results are kept in memory for `consume`. Any other workflow is a 400 that names what is not supported.",
            body: Some("WorkflowInitialisationRequest"),
            refusals: &[COMMAND, ABSENT, UNUSABLE, BODY, NO_JSON],
            links: &[
                ("newer_status", "newer_status"),
                ("newer_pause", "newer_pause"),
                ("newer_resume", "newer_resume"),
                ("newer_terminate", "newer_terminate"),
                ("newer_consume", "newer_consume"),
            ],
            ..PLAIN
        },
    ),
    get(
        "/inference_pipelines/{pipeline_id}/status",
        READ,
        |id| Route::Ask(Command::Status, id),
        Operation {
            id: "newer_status",
            summary: "Report on a pipeline",
            description: "The newer API's path: updates, latencies, throughput, and where each video source stands.",
            success: Success::Json("InferencePipelineStatusResponse"),
            refusals: &[COMMAND, ABSENT],
            ..PLAIN
        },
    ),
    post(
        "/inference_pipelines/{pipeline_id}/pause",
        |id| Route::Change(Command::Mute, id),
        Operation {
            id: "newer_pause",
            summary: "Pause a pipeline",
            description: "The newer API's path: frames are read and thrown away, so that the camera's connection stays open. Only a \
                      running pipeline can be paused.",
            refusals: &[COMMAND, ABSENT],
            ..PLAIN
        },
    ),
    post(
        "/inference_pipelines/{pipeline_id}/resume",
        |id| Route::Change(Command::Resume, id),
        Operation {
            id: "newer_resume",
            summary: "Resume a pipeline",
            description: "The newer API's path: goes on with the frames that come now. Only a paused pipeline can be resumed.",
            refusals: &[COMMAND, ABSENT],
            ..PLAIN
        },
    ),
    post(
        "/inference_pipelines/{pipeline_id}/terminate",
        |id| Route::Change(Command::Terminate, id),
        Operation {
            id: "newer_terminate",
            summary: "Terminate a pipeline",
            description: "The newer API's path: closes the video sources and forgets the pipeline.",
            refusals: &[COMMAND, ABSENT],
            ..PLAIN
        },
    ),
    // Who consumes takes away from others.
    get(
        "/inference_pipelines/{pipeline_id}/consume",
        CONTROL,
        |id| Route::Consume(id),
        Operation {
            id: "newer_consume",
            summary: "Take the oldest results",
            description: "The oldest turn of a pipeline that was started from a workflow: one entry for each source, none when nothing \
                      waits. A pipeline that sends datagrams keeps no results: 400.",
            success: Success::Json("ConsumePipelineResponse"),
            refusals: &[COMMAND, ABSENT, UNUSABLE],
            ..PLAIN
        },
    ),
    // Probes of orchestrators carry no token, and learn one bit.
    get(
        "/healthz",
        None,
        |_| Route::Health,
        Operation {
            id: "healthz",
            summary: "Alive?",
            description: "The event loop turns. Needs no token.",
            success: Success::Text("Yes."),
            refusals: &[],
            ..PLAIN
        },
    ),
    get(
        "/readyz",
        None,
        |_| Route::Ready,
        Operation {
            id: "readyz",
            summary: "Ready?",
            description: "Commands are carried out. Needs no token.",
            success: Success::Text("Yes."),
            refusals: &[NOT_READY],
            ..PLAIN
        },
    ),
    get(
        "/metrics",
        READ,
        |_| Route::Metrics,
        Operation {
            id: "metrics",
            summary: "Figures",
            description: "Prometheus' text form.",
            success: Success::Text("The figures."),
            refusals: &[TOKEN],
            ..PLAIN
        },
    ),
    get(
        "/models",
        READ,
        |_| Route::Models,
        Operation {
            id: "models",
            summary: "Models on this machine",
            description: "What `model_id` may be without a network: models below models.dirs, and those in the cache.",
            success: Success::Json("ModelsResponse"),
            ..PLAIN
        },
    ),
    get(
        "/device",
        READ,
        |_| Route::Device,
        Operation {
            id: "device",
            summary: "The machine",
            description: "What `weir check` says of it (at most a minute old), its memory, and the models and pipelines in use.",
            success: Success::Json("DeviceResponse"),
            ..PLAIN
        },
    ),
    page("/", |_| Route::Home),
    page("/page/{file}", |name| Route::Page(name)),
    page("/openapi.json", |_| Route::OpenApi),
    page("/docs", |_| Route::Docs),
    page("/redoc", |_| Route::Docs),
];

/// A row that a path fits, and what it means.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub entry: &'static Entry,
    pub route: Route<'a>,
}

/// Looks a path up.
pub(super) fn find(path: &str) -> Option<Found<'_>> {
    TABLE.iter().find_map(|entry| Some(Found { entry, route: (entry.route)(fits(entry.path, path)?) }))
}

/// The segment in the id's place (empty where there is none), if the path is of that form.
fn fits<'a>(form: &str, path: &'a str) -> Option<&'a str> {
    let (mut form, mut segments, mut id) = (form.split('/'), path.split('/'), "");
    loop {
        match (form.next(), segments.next()) {
            (None, None) => return Some(id),
            // An escaped slash would be one in the id, and an id is one segment.
            (Some(PIPELINE | FILE), Some(segment))
                if !segment.is_empty() && !segment.to_ascii_lowercase().contains("%2f") =>
            {
                id = segment
            }
            (Some(word), Some(segment)) if word == segment && word != PIPELINE && word != FILE => {}
            _ => return None,
        }
    }
}

impl Entry {
    /// Whether its path names a pipeline.
    pub(super) fn has_pipeline(&self) -> bool {
        self.path.split('/').any(|segment| segment == PIPELINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_by_their_form() {
        let id = |path: &str| {
            find(path).map(|found| match found.route {
                Route::Ask(_, id)
                | Route::Change(_, id)
                | Route::Consume(id)
                | Route::Events(id)
                | Route::Page(id) => id.to_owned(),
                _ => String::new(),
            })
        };
        for (path, expected) in [
            ("/list_pipelines", Some("")),
            ("/status/x", Some("x")),
            ("/status/{pipeline_id}", Some("{pipeline_id}")),
            ("/pipelines/x/events", Some("x")),
            ("/inference_pipelines/list", Some("")),
            ("/inference_pipelines/x/consume", Some("x")),
            ("/status", None),
            ("/status/", None),
            ("/status/x/", None),
            ("/status/x/y", None),
            ("/status/x%2Fy", None),
            ("/pipelines//events", None),
            ("//list_pipelines", None),
            ("list_pipelines", None),
            ("/", Some("")),
            ("/page/main.js", Some("main.js")),
            ("/page/", None),
            ("/page/a/b", None),
            ("", None),
        ] {
            assert_eq!(id(path).as_deref(), expected, "{path}");
        }
    }
}
