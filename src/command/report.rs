//! The answer to `status`: docs/roboflow.md §3.

use super::{Consumption, Figures, Filling, SourceReference};
use crate::clock::Wall;
use crate::geometry::Polygon;

/// What `status` answers of one pipeline.
#[derive(Debug, Clone)]
pub struct Report {
    /// Oldest first; a ring of the last 512.
    pub updates: Vec<Update>,
    /// One per source, in source order.
    pub latencies: Vec<LatencyReport>,
    /// Frames per second of all sources together.
    pub inference_throughput: f64,
    /// One per source, in source order.
    pub sources: Vec<SourceMetadata>,
    /// Counters and histograms that the reference does not have.
    pub figures: Figures,
}

/// One entry of `video_source_status_updates`.
#[derive(Debug, Clone)]
pub struct Update {
    /// When; of a folded update the last time.
    pub timestamp: Wall,
    /// How bad it is: the reference's levels.
    pub severity: Severity,
    /// What happened, and the facts of its payload.
    pub event: Event,
    /// The part of the pipeline that says so.
    pub context: Context,
    /// How often it was seen in a row; beyond the reference, shown in the payload as `count` when above 1.
    pub count: u32,
}

/// Severity of an update, with the reference's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// 20 on the wire: something normal.
    Info,
    /// 30 on the wire: something that a person should see.
    Warning,
    /// 40 on the wire: something failed.
    Error,
}

impl Severity {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Severity::Info => 20,
            Severity::Warning => 30,
            Severity::Error => 40,
        }
    }
}

/// `context` of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// `inference_pipeline`
    Pipeline,
    /// `video_source`
    Source,
    /// `video_source.video_consumer`
    Consumer,
}

impl Context {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Context::Pipeline => "inference_pipeline",
            Context::Source => "video_source",
            Context::Consumer => "video_source.video_consumer",
        }
    }
}

/// `event_type` with its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `MODEL_LOADING {stage, bytes, total_bytes}`; beyond the reference, and in a report only while it is
    /// so.
    ModelLoading {
        /// `resolving`, `downloading`, `compiling`, `validating`.
        stage: &'static str,
        /// Bytes of weights fetched so far.
        bytes: u64,
        /// Bytes of weights in all, where known.
        total_bytes: Option<u64>,
    },
    /// `MODEL_ENGINE {engine, gpu, percent, message}`; beyond the reference, and only where a GPU may take
    /// over or has.
    ModelEngine {
        /// What runs the model now: `cnn`, `tract`, `tensorrt`.
        engine: &'static str,
        /// How it stands with the GPU: `loading`, `building`, `running`, `lost`.
        gpu: &'static str,
        /// How far a build is, where that is known.
        percent: Option<u8>,
        /// Why the GPU was lost.
        message: Option<String>,
    },
    /// `INFERENCE_THREAD_STARTED {}`
    InferenceStarted,
    /// `INFERENCE_THREAD_FINISHED {}`
    InferenceFinished,
    /// `VIDEO_CONSUMPTION_STARTED {source_id}`
    ConsumptionStarted {
        /// Index of the source, from 0.
        source_id: u32,
    },
    /// `VIDEO_CONSUMPTION_FINISHED {source_id}`
    ConsumptionFinished {
        /// Index of the source, from 0.
        source_id: u32,
    },
    /// `SOURCE_STATE_UPDATE {previous_state, new_state, source_id}`
    StateChanged {
        /// State before the change.
        previous: SourceState,
        /// State after the change.
        new: SourceState,
        /// Index of the source, from 0.
        source_id: u32,
    },
    /// `INFERENCE_ERROR {error_type, error_message, error_context: "inference_thread"}`
    InferenceError {
        /// Class of the error.
        error_type: &'static str,
        /// The error's text, without secrets.
        message: String,
    },
    /// `INFERENCE_RESULTS_DISPATCHING_ERROR {…, error_context: "inference_results_dispatching"}`
    DispatchError {
        /// Class of the error.
        error_type: &'static str,
        /// The error's text, without secrets.
        message: String,
    },
    /// `SOURCE_NOTICE {source_id, message}`; beyond the reference: a source is played, and otherwise than
    /// asked for.
    SourceNotice {
        /// Index of the source, from 0.
        source_id: u32,
        /// What is otherwise than it was asked for.
        message: String,
    },
    /// `SOURCE_ERROR {source_id, error_type, error_message, error_context: "stream_consumer_thread"}`
    SourceError {
        /// Index of the source, from 0.
        source_id: u32,
        /// Class of the error.
        error_type: &'static str,
        /// The error's text, without secrets.
        message: String,
    },
}

/// States of a source: docs/roboflow.md §4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// Not yet asked to start.
    NotStarted,
    /// A worker is opening it.
    Initialising,
    /// Between two attempts to open it.
    Restarting,
    /// Frames are read and processed.
    Running,
    /// Nothing is read. Not reachable through this protocol; kept for the wire.
    Paused,
    /// Frames are read and thrown away.
    Muted,
    /// The worker is being stopped.
    Terminating,
    /// The file is over, or the pipeline was terminated.
    Ended,
    /// The last attempt to open it failed.
    Error,
}

impl SourceState {
    /// Every state that a source can be in.
    pub const ALL: [SourceState; 9] = [
        SourceState::NotStarted,
        SourceState::Initialising,
        SourceState::Restarting,
        SourceState::Running,
        SourceState::Paused,
        SourceState::Muted,
        SourceState::Terminating,
        SourceState::Ended,
        SourceState::Error,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceState::NotStarted => "NOT_STARTED",
            SourceState::Initialising => "INITIALISING",
            SourceState::Restarting => "RESTARTING",
            SourceState::Running => "RUNNING",
            SourceState::Paused => "PAUSED",
            SourceState::Muted => "MUTED",
            SourceState::Terminating => "TERMINATING",
            SourceState::Ended => "ENDED",
            SourceState::Error => "ERROR",
        }
    }
}

/// One entry of `latency_reports`; seconds, mean over the last 64 inferences, absent before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LatencyReport {
    /// Inference start minus frame timestamp.
    pub frame_decoding: Option<f64>,
    /// Pre-processing, model and post-processing.
    pub inference: Option<f64>,
    /// Prediction ready minus frame timestamp.
    pub end_to_end: Option<f64>,
}

/// One entry of `sources_metadata`.
#[derive(Debug, Clone)]
pub struct SourceMetadata {
    /// Absent before the first connection and while lost.
    pub properties: Option<SourceProperties>,
    /// What `init` named; shown without user and password.
    pub reference: SourceReference,
    /// Frames; the configured size of the buffer.
    pub buffer_size: u32,
    /// What is blackened in its frames; shown when there is any.
    pub masks: Vec<Polygon>,
    /// State of the source now.
    pub state: SourceState,
    /// Absent until the source has connected once, unless given.
    pub filling: Option<Filling>,
    /// Absent until the source has connected once, unless given.
    pub consumption: Option<Consumption>,
}

/// `source_properties`: what the opened source is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SourceProperties {
    /// Width of its pictures, pixels.
    pub width: u32,
    /// Height of its pictures, pixels.
    pub height: u32,
    /// As the container declares; -1 or less where it does not.
    pub total_frames: i64,
    /// Local file with a known number of frames.
    pub is_file: bool,
    /// Frames per second as declared.
    pub fps: f64,
    /// File: when its first frame counts as taken; `None` for streams.
    pub timestamp_created: Option<Wall>,
}
