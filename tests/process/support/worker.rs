//! Capture workers without a service: starts one and takes what it says.

use ::weir::capture::{CaptureSettings, Event, Frame, Request, Spawner, Worker};
use ::weir::command::{SourceProperties, SourceReference};
use ::weir::error::Error;
use ::weir::geometry::{Fit, InputRule};
use futures_lite::FutureExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest that these functions wait for one event.
const PATIENCE: Duration = Duration::from_secs(30);

/// A small model's input.
pub const RULE: InputRule = InputRule {
    width: 64,
    height: 64,
    fit: Fit::Letterbox { fill: 114 },
    crop: None,
    grayscale: false,
    contrast: None,
};

/// As the service's, and less patient.
pub fn settings() -> CaptureSettings {
    CaptureSettings {
        worker_memory_bytes: 192 << 20,
        worker_memory_max_bytes: 512 << 20,
        open_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(2),
        key_frame_timeout: Duration::from_secs(15),
        stop_grace: Duration::from_millis(500),
        rtsp_udp: false,
        user_agent: "weir-test".into(),
        network: Default::default(),
        picture_width: 1280,
        tls: Default::default(),
        decoders: Default::default(),
        decoder_nodes: Default::default(),
    }
}

pub fn request(reference: impl Into<String>) -> Request {
    Request {
        reference: SourceReference::Text(reference.into()),
        properties: Vec::new(),
        masks: Vec::new(),
        rule: RULE,
        slots: 4,
        first_frame_id: 1,
        filling: None,
        file_max_fps: None,
        muted: false,
        only_builtin: false,
        recorded: None,
    }
}

pub fn spawner() -> Spawner {
    Spawner::with_executable(PathBuf::from(env!("CARGO_BIN_EXE_weir"))).unwrap()
}

pub async fn start(request: Request) -> Worker {
    start_with(&settings(), request).await
}

pub async fn start_with(settings: &CaptureSettings, request: Request) -> Worker {
    Worker::start(&spawner(), settings, request).await.unwrap()
}

pub async fn next(worker: &Worker) -> Event {
    next_before(worker, Instant::now() + PATIENCE).await
}

/// The same with a deadline of the caller's, for who waits for one event among others: signs of life come for
/// ever. Memory that the worker asks for it gets.
async fn next_before(worker: &Worker, deadline: Instant) -> Event {
    loop {
        let late = async {
            smol::Timer::at(deadline).await;
            panic!("no event in time")
        };
        match worker.next().or(late).await {
            Event::Memory(bytes) => worker.allow_memory(bytes).unwrap(),
            event => return event,
        }
    }
}

/// The bytes of memory that the worker asks for.
pub async fn asks_for_memory(worker: &Worker) -> u64 {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        panic!("no event in time")
    };
    match worker.next().or(late).await {
        Event::Memory(bytes) => bytes,
        other => panic!("no question for memory: {other:?}"),
    }
}

pub async fn opened(worker: &Worker) -> SourceProperties {
    match next(worker).await {
        Event::Opened(properties) => properties,
        other => panic!("not opened: {other:?}"),
    }
}

/// The next frame, whose slot the caller then holds; signs of life are passed over.
pub async fn frame(worker: &Worker) -> Frame {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match next_before(worker, deadline).await {
            Event::Frame(frame) => return frame,
            Event::Alive(_) | Event::Notice(_) => {}
            other => panic!("no frame: {other:?}"),
        }
    }
}

/// Takes and releases so many frames, from the opening on if need be; the last one's number.
pub async fn frames(worker: &Worker, count: usize) -> u64 {
    let (mut left, mut last) = (count, 0);
    let mut deadline = Instant::now() + PATIENCE;
    while left > 0 {
        match next_before(worker, deadline).await {
            Event::Frame(frame) => {
                worker.release(frame.slot);
                (left, last) = (left - 1, frame.frame_id);
                deadline = Instant::now() + PATIENCE;
            }
            Event::Opened(_) | Event::Alive(_) | Event::Notice(_) => {}
            other => panic!("no frame: {other:?}"),
        }
    }
    last
}

/// The error that it ends with.
pub async fn failure(worker: &Worker) -> Error {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match next_before(worker, deadline).await {
            Event::Failed(error) => return error,
            Event::Frame(frame) => worker.release(frame.slot),
            Event::Ended => panic!("ended well"),
            Event::Opened(_) | Event::Picture(_) | Event::Alive(_) | Event::Notice(_) | Event::Memory(_) => {}
        }
    }
}

/// Whether a process exists, as a zombie or otherwise.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub async fn gone(pid: u32) {
    let started = Instant::now();
    while exists(pid) {
        assert!(started.elapsed() < PATIENCE, "worker {pid} is still there");
        // /proc cannot be waited for.
        smol::Timer::after(Duration::from_millis(5)).await;
    }
}
