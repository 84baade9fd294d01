//! The first picture of a source that no pipeline has yet: opened once, under all the rules of `init`, and
//! nothing is kept.

use super::Shared;
use super::budget::Budget;
use crate::capture::{self, Event, Worker};
use crate::clock::{Wall, within};
use crate::command::SourceRequest;
use crate::error::{Error, Kind, Result};
use crate::view::Shown;
use std::rc::Rc;

/// At once, in the whole service: each is a process, and people look at one camera after the other.
const MAX_PEEKS: usize = 2;

/// How many pictures are being fetched from sources that belong to no pipeline.
#[derive(Debug, Default)]
pub(super) struct Peeks(Rc<()>);

impl Peeks {
    /// Opens a source, and waits for its first picture.
    pub(super) async fn look(
        &self,
        source: SourceRequest,
        shared: &Shared,
        budget: &Rc<Budget>,
    ) -> Result<Shown> {
        let width = shared.capture.picture_width;
        if width == 0 {
            return Err(Error::new(Kind::Forbidden, "Pictures are turned off (http.pictures)"));
        }
        if Rc::strong_count(&self.0) > MAX_PEEKS {
            return Err(Error::new(Kind::Crowded, format!("At most {MAX_PEEKS} sources are tried at once")));
        }
        let _place = self.0.clone();
        let request = capture::Request {
            properties: source.properties,
            masks: source.masks,
            ..capture::Request::without_model(source.reference)
        };
        let ring = u64::from(request.slots) * request.rule.slot_bytes() as u64;
        let bytes = shared
            .capture
            .worker_memory_bytes
            .saturating_add(ring)
            .saturating_add(capture::picture_bytes(width));
        let _reservation = budget.reserve(bytes, "", 0)?;
        log::info!("event=source_tried reference={}", request.reference);
        // A client that goes away drops the worker, which ends it.
        let worker = Worker::start(&shared.spawner, &shared.capture, request).await?;
        let settings = &shared.capture;
        let patience = settings.open_timeout * 2 + settings.key_frame_timeout + settings.stall_timeout;
        // The widest that there is fits 16 bits.
        let first = first_picture(
            &worker,
            u16::try_from(width).unwrap_or(u16::MAX),
            budget,
            settings.worker_memory_max_bytes,
        );
        let outcome = within(patience, first).await;
        worker.stop().await;
        outcome.unwrap_or_else(|| {
            Err(Error::new(Kind::SourceStalled, "The source is open, and no picture has come"))
        })
    }
}

async fn first_picture(worker: &Worker, width: u16, budget: &Rc<Budget>, most: u64) -> Result<Shown> {
    // Given back with the worker.
    let mut more = Vec::new();
    worker.keep(&[width]);
    let mut timestamp = Wall::default();
    loop {
        match worker.next().await {
            Event::Frame(frame) => {
                if frame.is_kept && worker.draw(&frame, width, None).is_some() {
                    timestamp = frame.timestamp;
                    worker.keep(&[]);
                }
                worker.release(frame.slot);
            }
            Event::Picture(drawn) => {
                let jpeg = worker.picture(&drawn);
                let failed =
                    || Error::new(Kind::NoPicture, "The source has pictures, and none could be made of them");
                return jpeg
                    .map(|jpeg| Shown { frame_id: drawn.frame_id, timestamp, jpeg })
                    .ok_or_else(failed);
            }
            Event::Memory(bytes) => more.push(budget.allow_memory(worker, bytes, most)?),
            Event::Opened(_) | Event::Alive(_) | Event::Notice(_) => {}
            Event::Ended => return Err(Error::new(Kind::SourceLost, "The file has ended without a picture")),
            Event::Failed(error) => return Err(error),
        }
    }
}
