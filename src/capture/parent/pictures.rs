//! Pictures under way: which were asked for, and the buffer in which they come.

use crate::capture::Ring;
use crate::capture::shown::{self, Drawn, JOBS};
use crate::error::Result;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The pictures that a worker was asked for, and the buffer in which they come.
#[derive(Debug)]
pub(super) struct Pictures {
    /// A slot for each job.
    buffer: Ring,
    slot_bytes: usize,
    jobs: [Cell<Job>; JOBS as usize],
}

/// What a slot of the buffer is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Job {
    #[default]
    Free,
    /// The worker writes a picture of this frame.
    Ordered(u64),
    /// The picture lies in the buffer.
    Announced(Drawn),
}

impl Pictures {
    /// A buffer for pictures of at most that width, and the file to hand to the worker; `None`: none are
    /// made.
    pub(super) fn create(width: u32) -> Result<Option<(Pictures, OwnedFd)>> {
        if width == 0 {
            return Ok(None);
        }
        let slot_bytes = shown::jpeg_bytes(width);
        let (buffer, file) = Ring::create(JOBS, slot_bytes)?;
        Ok(Some((Pictures { buffer, slot_bytes, jobs: Default::default() }, file)))
    }

    /// A job that nobody has.
    pub(super) fn free_job(&self) -> Option<u32> {
        (0..JOBS).zip(&self.jobs).find(|(_, job)| job.get() == Job::Free).map(|(index, _)| index)
    }

    /// The worker was asked for it.
    pub(super) fn ordered(&self, job: u32, frame_id: u64) {
        if let Some(job) = self.jobs.get(job as usize) {
            job.set(Job::Ordered(frame_id));
        }
    }

    /// The worker says that it is there. False: it cannot be what it says.
    pub(super) fn announced(&self, drawn: &Drawn) -> bool {
        let job = self.jobs.get(drawn.job as usize);
        let is_asked_for = job.is_some_and(|job| job.get() == Job::Ordered(drawn.frame_id));
        let fits = is_asked_for && drawn.bytes as usize <= self.slot_bytes;
        if let Some(job) = job.filter(|_| fits) {
            job.set(Job::Announced(*drawn));
        }
        fits
    }

    /// Its bytes, whatever they are; from now on the worker may write over them. `None`: it could not be
    /// made.
    pub(super) fn take(&self, drawn: &Drawn) -> Option<Arc<[u8]>> {
        let job = self.jobs.get(drawn.job as usize).filter(|job| job.get() == Job::Announced(*drawn))?;
        job.set(Job::Free);
        if drawn.bytes == 0 {
            return None;
        }
        let mut jpeg = vec![0; drawn.bytes as usize];
        self.buffer.copy_slot(drawn.job, &mut jpeg);
        Some(jpeg.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::ipc::RingWriter;

    #[test]
    fn only_what_was_asked_for_is_taken_and_only_once() {
        let (pictures, file) = Pictures::create(64).unwrap().unwrap();
        let mut worker = RingWriter::open(file, JOBS, shown::jpeg_bytes(64)).unwrap();
        assert_eq!(pictures.free_job(), Some(0));
        pictures.ordered(0, 7);
        assert_eq!(pictures.free_job(), Some(1));
        let drawn = Drawn { job: 0, frame_id: 7, bytes: 3 };
        worker.slot_mut(0).unwrap()[..3].copy_from_slice(b"jpg");
        for wrong in [
            Drawn { frame_id: 8, ..drawn },
            Drawn { job: 1, ..drawn },
            Drawn { job: JOBS, ..drawn },
            Drawn { bytes: shown::jpeg_bytes(64) as u32 + 1, ..drawn },
        ] {
            assert!(!pictures.announced(&wrong), "{wrong:?}");
        }
        assert_eq!(pictures.take(&drawn), None, "not there yet");
        assert!(pictures.announced(&drawn) && !pictures.announced(&drawn));
        assert_eq!(pictures.take(&drawn).as_deref(), Some(&b"jpg"[..]));
        assert_eq!((pictures.take(&drawn), pictures.free_job()), (None, Some(0)));
        pictures.ordered(0, 9);
        let failed = Drawn { job: 0, frame_id: 9, bytes: 0 };
        assert!(pictures.announced(&failed));
        assert_eq!((pictures.take(&failed), pictures.free_job()), (None, Some(0)));
    }
}
