//! Why nothing is seen of a source whose packets come: no source ends, or goes on, without a frame and
//! without a word.

use super::decode::Codec;
use crate::error::{Error, Kind};
use std::time::{Duration, Instant};

/// What became of the packets of a source so far.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Packets that were to be decoded.
    pub(super) packets: u64,
    /// Of those, the ones that the container says are not to be seen.
    pub(super) hidden: u64,
    /// Of those, the ones before any that decoding may begin with.
    pub(super) before_key: u64,
    /// Packets that went by while nobody wanted to see them.
    pub(super) passed: u64,
    /// Packets that could not be decoded one after the other, without a frame between them.
    row: Option<Row>,
}

#[derive(Debug)]
struct Row {
    since: Instant,
    count: u64,
    /// Frames that had been shown before the first.
    shown: u64,
    codec: Codec,
    last: Error,
}

impl Silence {
    /// A packet could not be decoded; `shown` is how many frames have been shown.
    pub(super) fn undecodable(&mut self, codec: Codec, error: Error, shown: u64) {
        let row = self.row.take().filter(|row| row.shown == shown);
        let (since, count) = row.map_or_else(|| (Instant::now(), 0), |row| (row.since, row.count));
        self.row = Some(Row { since, count: count + 1, shown, codec, last: error });
    }

    /// Why a file that is over has shown nothing; `None`: it has, or nobody looked.
    pub(super) fn of_file(&mut self, shown: u64) -> Option<Error> {
        let packets = self.packets;
        if shown > 0 || self.passed > 0 {
            return None;
        }
        Some(match self.row.take() {
            _ if packets == 0 => Error::new(
                Kind::SourceLost,
                "the file holds no pictures: its video track is empty, or it was cut short before the first one",
            ),
            Some(row) => row.explain(),
            None if self.before_key == packets => Error::new(
                Kind::NoKeyFrame,
                format!("none of the {packets} pictures of the file is one that decoding could begin with"),
            ),
            None if self.hidden > 0 => {
                let hidden = self.hidden;
                Error::new(
                    Kind::SourceLost,
                    format!("the file's edit list shows none of its pictures ({hidden} are hidden)"),
                )
            }
            None => Error::new(
                Kind::Undecodable,
                format!("the {packets} packets of the file give no picture: it is damaged"),
            ),
        })
    }

    /// Why a stream goes on without a frame: for that long nothing could be decoded. `None`: not yet.
    pub(super) fn of_stream(&mut self, patience: Duration) -> Option<Error> {
        self.row.take_if(|row| row.since.elapsed() >= patience).map(Row::explain)
    }
}

impl Row {
    fn explain(self) -> Error {
        let Row { count, codec, last, .. } = self;
        let name = codec.name();
        let message = format!(
            "none of {count} {name} pictures in a row could be decoded: they are damaged, or of a kind that is not supported"
        );
        let causes = last.causes();
        let cause = if causes.is_empty() { last.message().to_owned() } else { causes };
        Error::new(Kind::Undecodable, message).because(cause)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn damaged() -> Error {
        Error::new(Kind::Undecodable, "H.264 picture is damaged").because("no such reference")
    }

    #[test]
    fn a_file_without_a_frame_says_why() {
        let reason = |silence: &mut Silence| silence.of_file(0).unwrap().to_string();
        assert!(reason(&mut Silence::default()).contains("holds no pictures"));
        let mut silence = Silence { packets: 3, before_key: 3, ..Silence::default() };
        assert!(reason(&mut silence).starts_with("NoKeyFrameError: none of the 3 pictures"));
        silence.before_key = 1;
        assert!(reason(&mut silence).contains("3 packets of the file give no picture"));
        silence.hidden = 2;
        assert!(reason(&mut silence).contains("edit list"));
        silence.undecodable(Codec::H264, damaged(), 0);
        assert!(reason(&mut silence).contains("none of 1 H.264 pictures in a row"));
    }

    #[test]
    fn a_file_that_was_seen_or_that_nobody_looked_at_needs_no_reason() {
        assert!(Silence::default().of_file(1).is_none());
        assert!(Silence { passed: 1, ..Silence::default() }.of_file(0).is_none());
    }

    #[test]
    fn a_stream_has_its_time_and_a_frame_gives_it_anew() {
        let mut silence = Silence::default();
        silence.undecodable(Codec::H265, damaged(), 5);
        assert!(silence.of_stream(Duration::from_secs(60)).is_none());
        silence.undecodable(Codec::H265, damaged(), 5);
        assert_eq!(silence.row.as_ref().unwrap().count, 2);
        silence.undecodable(Codec::H265, damaged(), 6);
        assert_eq!(silence.row.as_ref().unwrap().count, 1);
        let error = silence.of_stream(Duration::ZERO).unwrap();
        assert_eq!((error.kind(), error.causes().as_str()), (Kind::Undecodable, "no such reference"));
    }
}
