//! The kernel's stateful decoders (V4L2 memory to memory) as decoders that are not ours: which of this
//! machine's devices are any, and who has which.

use super::foreign::{Fault, Foreign, Take};
use super::stateful::driver::{Driver, Queue};
use super::stateful::node::Node;
use super::stateful::{Failure, Stateful, fourcc, is_read};
use super::{Codec, known};
use crate::capture::DecoderKind;
use crate::capture::decoder::MAX_DECODER_NODES;
use rustix::io::Errno;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where device nodes are.
const DEVICES: &str = "/dev";

/// Most decoders that are kept open for the codec that the stream turns out to have: boards have one for each.
const MAX_DECODERS: usize = 4;

/// Decoders that are open and belong to nobody.
type Shelf = Rc<RefCell<Vec<Node>>>;

/// The decoders of this machine, opened before the worker is locked in.
#[derive(Debug, Default)]
pub(super) struct Devices {
    shelf: Shelf,
    /// Why others are of no use.
    unusable: Vec<String>,
    /// Numbers of nodes that may be decoders: what [`Devices::found`] tells.
    found: Option<Vec<u8>>,
}

impl Devices {
    /// Opens all that there are, of the nodes that may be some; `None`: of all.
    pub(super) fn open(known: Option<&[u8]>) -> Devices {
        let mut devices = Devices::default();
        let (mut nodes, mut found) = (Vec::new(), Vec::new());
        for (number, path) in paths(Path::new(DEVICES), known) {
            match Node::open(&path) {
                Ok(Some(node)) if nodes.len() < MAX_DECODERS && is_decoder(&node) => nodes.push(node),
                // Cameras, encoders, scalers; what is no video device at all.
                Ok(_) | Err(Errno::NOTTY) => continue,
                Err(errno) => devices.unusable.push(format!("{} cannot be opened: {errno}", path.display())),
            }
            found.push(number);
        }
        devices.found = known.is_none().then_some(found);
        devices.shelf = Rc::new(RefCell::new(nodes));
        devices
    }

    /// Numbers of the nodes that are decoders, or could not be asked, where all were.
    pub(super) fn found(&self) -> Option<&[u8]> {
        self.found.as_deref()
    }

    /// Whether there is one at all.
    pub(super) fn is_empty(&self) -> bool {
        self.shelf.borrow().is_empty()
    }

    /// Whether one takes a codec.
    pub(super) fn takes(&self, codec: Codec) -> bool {
        let takes = |node: &Node, coded| node.formats(Queue::Coded).contains(&coded);
        fourcc(codec).is_some_and(|coded| self.shelf.borrow().iter().any(|node| takes(node, coded)))
    }

    /// The first that takes a codec, `is_good` says of which; the others of that codec are closed.
    ///
    /// Errors: why there is none.
    pub(super) fn decoder(
        &self,
        codec: Codec,
        mut is_good: impl FnMut(&mut dyn Foreign) -> Result<(), String>,
    ) -> Result<Box<dyn Foreign>, String> {
        let mut reasons = self.unusable.clone();
        let coded = fourcc(codec).ok_or_else(|| format!("no driver is asked for {}", codec.name()))?;
        // What takes another codec stays for a stream that changes to that.
        while let Some(node) = self.take(coded) {
            let mut board = Board::new(node, coded, &self.shelf);
            match is_good(&mut board) {
                Ok(()) => return Ok(Box::new(board)),
                Err(why) => {
                    reasons.push(format!("{}: {why}", board.name));
                    // Closed, not put back.
                    board.decoder = None;
                }
            }
        }
        if reasons.is_empty() {
            reasons.push(format!("no device takes {}", codec.name()));
        }
        Err(reasons.join("; "))
    }

    fn take(&self, coded: [u8; 4]) -> Option<Node> {
        let mut nodes = self.shelf.borrow_mut();
        let place = nodes.iter().position(|node| node.formats(Queue::Coded).contains(&coded))?;
        Some(nodes.remove(place))
    }
}

/// What becomes of each codec that a decoder takes: whether it decodes known pictures.
pub(in crate::capture::worker) fn judge(node: Node) -> Vec<(Codec, Result<(), String>)> {
    let taken = node.formats(Queue::Coded);
    let shelf = Rc::new(RefCell::new(vec![node]));
    let devices = Devices { shelf, ..Devices::default() };
    let codecs = [Codec::H264, Codec::H265].into_iter();
    let codecs =
        codecs.filter_map(|codec| Some((codec, fourcc(codec).filter(|coded| taken.contains(coded))?)));
    let judged = codecs.map(|(codec, coded)| {
        let Some(node) = devices.take(coded) else { return (codec, Err("it was taken away".to_owned())) };
        (codec, known::check(&mut Board::new(node, coded, &devices.shelf), codec))
    });
    judged.collect()
}

/// The device nodes of a folder that may be video, by their numbers; of these numbers alone.
fn paths(folder: &Path, known: Option<&[u8]>) -> Vec<(u8, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut numbered: Vec<(u8, PathBuf)> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("video")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    numbered.sort();
    numbered.retain(|(number, _)| known.is_none_or(|known| known.contains(number)));
    numbered.truncate(MAX_DECODER_NODES);
    numbered
}

/// Takes something that weir has, and gives pictures that weir can read.
fn is_decoder(node: &Node) -> bool {
    let taken = node.formats(Queue::Coded);
    let is_taken = |codec| fourcc(codec).is_some_and(|coded| taken.contains(&coded));
    [Codec::H264, Codec::H265].into_iter().any(is_taken)
        && node.formats(Queue::Pictures).into_iter().any(is_read)
}

/// One of them at work; given back when dropped.
#[derive(Debug)]
struct Board {
    decoder: Option<Stateful<Node>>,
    name: String,
    shelf: Shelf,
    /// It has failed: nobody else shall try.
    is_lost: bool,
}

impl Board {
    fn new(node: Node, coded: [u8; 4], shelf: &Shelf) -> Board {
        // Names come from a driver; the log quotes what it must.
        let name = format!("v4l2 {} {}", node.path().display(), node.driver().escape_debug());
        Board { decoder: Some(Stateful::new(coded, node)), name, shelf: Rc::clone(shelf), is_lost: false }
    }

    fn call(&mut self, call: impl FnOnce(&mut Stateful<Node>) -> Result<(), Failure>) -> Result<(), Fault> {
        let decoder = self.decoder.as_mut().ok_or_else(|| Fault::Lost("it was closed".to_owned()))?;
        call(decoder).map_err(|failure| match failure {
            Failure::Damaged => Fault::Damaged("says the driver".to_owned()),
            Failure::Output(error) => Fault::Output(error),
            Failure::Lost(why) => {
                self.is_lost = true;
                Fault::Lost(why)
            }
        })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let node = self.decoder.take().and_then(Stateful::into_driver);
        if let Some(node) = node.filter(|_| !self.is_lost) {
            self.shelf.borrow_mut().insert(0, node);
        }
    }
}

impl Foreign for Board {
    fn kind(&self) -> DecoderKind {
        DecoderKind::V4l2
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn decode(&mut self, data: &[u8], tag: u64, take: &mut Take<'_>) -> Result<(), Fault> {
        self.call(|decoder| decoder.decode(data, tag, take))
    }

    fn drain(&mut self, take: &mut Take<'_>) -> Result<(), Fault> {
        self.call(|decoder| decoder.drain(take))
    }

    fn reset(&mut self) -> Result<(), Fault> {
        self.call(|decoder| {
            decoder.reset();
            Ok(())
        })
    }

    fn can_vanish(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_looked_at_by_their_numbers() {
        let folder = std::env::temp_dir().join(format!("weir-board-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        for name in ["video10", "video2", "video", "video-dec0", "vbi0", "video1x"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let names = |known| -> Vec<String> {
            let name = |(_, path): &(u8, PathBuf)| path.file_name().unwrap().to_str().unwrap().to_owned();
            paths(&folder, known).iter().map(name).collect()
        };
        assert_eq!(names(None), ["video2", "video10"]);
        assert_eq!(names(Some(&[10, 11])), ["video10"]);
        assert!(names(Some(&[])).is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(paths(&folder, None).is_empty());
    }

    #[test]
    fn what_is_missed_is_named() {
        let none = Devices::default();
        assert!(none.is_empty());
        let why = none.decoder(Codec::H264, |_| Ok(())).err();
        assert_eq!(why.as_deref(), Some("no device takes H.264"));
        let denied = Devices { unusable: vec!["/dev/video9 cannot be opened: EACCES".to_owned()], ..none };
        let why = denied.decoder(Codec::H265, |_| Ok(())).err();
        assert_eq!(why.as_deref(), Some("/dev/video9 cannot be opened: EACCES"));
    }
}
