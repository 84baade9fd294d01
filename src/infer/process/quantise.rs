//! The service's end of a process that brings a graph to 8 bits.

use super::live::{Limits, Live, ModelFile, broke_protocol};
use super::session::Closing;
use super::words::{Order, Word};
use crate::error::{Error, Kind, Result, system};
use crate::infer::onnx::{Seen, Survey};
use crate::infer::shared::{fix_size, memory_file};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What a graph in 8 bits may have more than the file it was made from, bytes: names and nodes of its values.
const MORE_BYTES: u64 = 64 << 20;

/// A graph that is being brought to 8 bits.
pub(crate) struct Quantising {
    file: ModelFile,
    limits: Limits,
    live: Closing,
}

impl Quantising {
    /// Starts a process and has it look at the graph. Blocks.
    pub(in crate::infer) fn open(weights: &Path, limits: Limits) -> Result<(Quantising, Survey)> {
        let file = ModelFile::open(weights, limits.max_file_bytes)?;
        let live = Closing(Arc::new(Live::start(&file, &limits)?));
        let this = Quantising { file, limits, live };
        let Word::Described(_) = this.hear()? else { return Err(broke_protocol()) };
        this.live.0.say(&Order::Survey, None);
        let Word::Surveyed(survey) = this.hear()? else { return Err(broke_protocol()) };
        Ok((this, survey))
    }

    fn hear(&self) -> Result<Word> {
        let deadline = Instant::now() + self.limits.timeout;
        self.live.0.hear(&self.file, &self.limits, deadline, &|| Ok(()))
    }

    /// The graph whose outputs are these values, as a file. Blocks.
    pub(in crate::infer) fn watch(&self, values: Range<usize>) -> Result<Vec<u8>> {
        self.graph(&Order::Watch { first: values.start, count: values.len() })
    }

    /// The graph in 8 bits, as a file. Blocks.
    pub(in crate::infer) fn write(&self, seen: Vec<Seen>) -> Result<Vec<u8>> {
        self.graph(&Order::Quantise(seen))
    }

    fn graph(&self, order: &Order) -> Result<Vec<u8>> {
        self.live.0.say(order, None);
        let Word::Sized(bytes) = self.hear()? else { return Err(broke_protocol()) };
        // weights that lay in other files are in it
        let most = self.limits.max_file_bytes.max(self.limits.budget_bytes).saturating_add(MORE_BYTES);
        let count = usize::try_from(bytes).ok().filter(|_| bytes <= most);
        let count = count.ok_or_else(|| {
            Error::new(Kind::Exhausted, "the graph in 8 bits is larger than a model may be")
        })?;
        let memory = memory_file(bytes)?;
        fix_size(&memory)?;
        self.live.0.say(&Order::Room, Some(memory.as_fd()));
        let Word::Written = self.hear()? else { return Err(broke_protocol()) };
        let mut graph = vec![0; count];
        File::from(memory).read_exact_at(&mut graph, 0).map_err(system("reading a graph"))?;
        Ok(graph)
    }
}
