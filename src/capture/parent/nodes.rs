//! Which device nodes may be decoders of the kernel.
//!
//! The first worker that may use one opens all nodes and tells; those after it open only what it told, until the
//! machine has other nodes. Opening a node is no small thing: it wakes a camera, and a driver may take its time.
//!
//! What a worker told is believed as far as it goes: later ones open fewer nodes, or others of `/dev/video*` that they
//! could open anyway, and judge by themselves what they find there.

use crate::capture::{DecoderChoice, DecoderSettings};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The nodes of the machine: number, device, and when it was made or its owner changed (seconds, nanoseconds).
pub(super) type Nodes = Vec<(u8, u64, i64, i64)>;

/// The nodes of the machine when a worker last told which of them may be decoders, and what it told.
#[derive(Debug, Default)]
pub struct DecoderNodes(Mutex<Option<(Nodes, Vec<u8>)>>);

impl DecoderNodes {
    /// The settings with what is known, and the nodes of the machine if the worker is to find out.
    pub(super) async fn add_to(&self, settings: &DecoderSettings) -> (DecoderSettings, Option<Nodes>) {
        if !matches!(settings.choice, DecoderChoice::Auto | DecoderChoice::V4l2) {
            return (settings.clone(), None);
        }
        let present = smol::unblock(|| nodes(Path::new("/dev"))).await;
        let known = self.known(&present);
        let wanted = known.is_none().then_some(present);
        (DecoderSettings { nodes: known, ..settings.clone() }, wanted)
    }

    fn known(&self, present: &Nodes) -> Option<Vec<u8>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(nodes, _)| nodes == present).map(|(_, decoders)| decoders.clone())
    }

    /// Of these nodes, a worker found that these may be decoders.
    pub(super) fn learn(&self, present: Nodes, decoders: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((present, decoders));
    }
}

/// The video nodes of a folder, by their numbers.
fn nodes(folder: &Path) -> Nodes {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let node = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix("video")?.parse().ok()?;
        let facts = std::fs::metadata(entry.path()).ok()?;
        Some((number, facts.rdev(), facts.ctime(), facts.ctime_nsec()))
    };
    let mut nodes: Nodes = entries.filter_map(node).collect();
    nodes.sort_unstable();
    nodes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_holds_until_the_nodes_are_others() {
        let folder = std::env::temp_dir().join(format!("weir-nodes-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        for name in ["video10", "video2", "video", "video300", "vbi0"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let known = DecoderNodes::default();
        let present = nodes(&folder);
        assert_eq!(present.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(known.known(&present), None);
        known.learn(present.clone(), vec![10]);
        assert_eq!(known.known(&nodes(&folder)), Some(vec![10]));
        std::fs::write(folder.join("video11"), "").unwrap();
        assert_eq!(known.known(&nodes(&folder)), None);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(nodes(&folder).is_empty());
    }

    #[test]
    fn only_who_may_use_one_is_to_find_out() {
        let known = DecoderNodes::default();
        let asked = |choice| {
            let settings = DecoderSettings { choice, ..DecoderSettings::default() };
            let (settings, wanted) = smol::block_on(known.add_to(&settings));
            (settings.nodes, wanted.is_some())
        };
        assert_eq!(asked(DecoderChoice::Builtin), (None, false));
        assert_eq!(asked(DecoderChoice::Libavcodec), (None, false));
        assert_eq!(asked(DecoderChoice::Auto), (None, true));
        known.learn(nodes(Path::new("/dev")), vec![3]);
        assert_eq!(asked(DecoderChoice::V4l2), (Some(vec![3]), false));
    }
}
