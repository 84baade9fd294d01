//! Weights that an ONNX file keeps in other files beside itself.

use super::lean::LEAST_BYTES;
use super::stored::{Element, Stored, WeightsFile};
use super::{artefact, clean, element_bytes, elements, quietly};
use crate::error::{Error, Kind, Result, system};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};
use tract_onnx::prelude::Framework;

/// Most files that the weights of one model may be spread over; exporters write one, or one for each tensor.
const MAX_FILES: usize = 10_000;

/// Gives a file beside the model by the name that the model calls it, and its size.
pub(in crate::infer) type Beside<'a> = &'a mut dyn FnMut(&str) -> Result<(File, u64)>;

/// Reads every tensor that lies in another file into `proto`. `budget` is the most bytes that all of them
/// together may have. Large weights of the graph itself stay in their files where `stored` says so, and are
/// named there.
pub(super) fn load(
    proto: &mut ModelProto,
    beside: Beside<'_>,
    budget: u64,
    stored: Option<&mut Vec<(String, Stored)>>,
) -> Result<()> {
    let mut reader = Reader { beside, last: None, opened: 0, left: budget, budget };
    if let (Some(stored), Some(graph)) = (stored, &mut proto.graph) {
        for tensor in &mut graph.initializer {
            stored.extend(reader.leave(tensor)?.map(|weights| (tensor.name.clone(), weights)));
        }
    }
    let functions = proto.functions.iter_mut().flat_map(|function| &mut function.node);
    for attribute in functions.flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(|tensor| reader.tensor(tensor))?;
    }
    proto.graph.as_mut().map_or(Ok(()), |graph| reader.graph(graph))
}

/// The files beside the model at `path` in which its weights lie, as it names them: each lies below its
/// folder.
pub(in crate::infer) fn other_files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut file = File::open(path).map_err(system("the weights cannot be read"))?;
    let proto = quietly(|| tract_onnx::onnx().proto_model_for_read(&mut file))
        .map_err(|cause| artefact("the weights are not an ONNX file").because(cause))?;
    let mut found = Vec::new();
    let mut graphs: Vec<&GraphProto> = proto.graph.iter().collect();
    while let Some(graph) = graphs.pop() {
        let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
        let constants = attributes().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
        for entry in graph.initializer.iter().chain(constants).flat_map(|tensor| &tensor.external_data) {
            let location = PathBuf::from(&entry.value);
            if entry.key == "location" && !found.contains(&location) {
                open_beside(path.parent(), &entry.value)?;
                found.push(location);
            }
        }
        graphs.extend(attributes().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)));
    }
    Ok(found)
}

struct Reader<'a> {
    beside: Beside<'a>,
    /// The one that was read last, and its size: exporters write tensors one after the other.
    last: Option<(String, Arc<WeightsFile>, u64)>,
    opened: usize,
    /// Bytes that may still be read.
    left: u64,
    budget: u64,
}

impl Reader<'_> {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<()> {
        for tensor in &mut graph.initializer {
            self.tensor(tensor)?;
        }
        for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
            for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                self.tensor(tensor)?;
            }
            // protobuf's own nesting limit (100) bounds this recursion
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                self.graph(inner)?;
            }
        }
        Ok(())
    }

    /// Large floats, which stay where they are.
    fn leave(&mut self, tensor: &mut TensorProto) -> Result<Option<Stored>> {
        let element = u64::try_from(tensor.data_type).ok().and_then(Element::of);
        let Some(element) = element.filter(|_| is_external(tensor) && !tensor.name.is_empty()) else {
            return Ok(None);
        };
        let Place { source, at, bytes, .. } = self.place(tensor)?;
        if bytes < LEAST_BYTES {
            return Ok(None);
        }
        let count = usize::try_from(bytes / element.bytes()).unwrap_or(usize::MAX);
        self.left -= bytes;
        is_here(tensor);
        Ok(Some(Stored::new(source, at, count, element)))
    }

    fn tensor(&mut self, tensor: &mut TensorProto) -> Result<()> {
        if !is_external(tensor) {
            return Ok(());
        }
        let Place { source, at, bytes, shown } = self.place(tensor)?;
        let unreadable = || artefact(format!("{shown} cannot be read"));
        // bounded by the file's size and by the budget
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        source.file().read_exact_at(&mut content, at).map_err(|cause| unreadable().because(cause))?;
        self.left -= bytes;
        tensor.raw_data = content;
        is_here(tensor);
        Ok(())
    }

    /// Where a tensor lies: within its file, and within what may still be read.
    fn place(&mut self, tensor: &TensorProto) -> Result<Place> {
        let name = clean(&tensor.name);
        let entry = |key: &str| {
            tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone())
        };
        let number = |key: &str| match entry(key).map(|text| text.parse::<u64>()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(artefact(format!("tensor {name} has an external {key} that is no number"))),
        };
        let location = entry("location")
            .ok_or_else(|| artefact(format!("tensor {name} does not say in which file its data is")))?;
        let (at, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let wanted = elements(tensor.dims.iter().copied())
            .and_then(|count| count.checked_mul(element_bytes(tensor.data_type)));
        let bytes =
            wanted.ok_or_else(|| artefact(format!("tensor {name} claims shape {:?}", tensor.dims)))?;
        if length.is_some_and(|length| length != bytes) {
            let claimed = length.unwrap_or_default();
            return Err(artefact(format!(
                "tensor {name} of shape {:?} has {claimed} bytes in another file, not {bytes}",
                tensor.dims
            )));
        }
        if bytes > self.left {
            let message = format!("the weights of the model would not fit into {} MiB", self.budget >> 20);
            return Err(Error::new(Kind::Exhausted, message));
        }
        let shown = clean(&location);
        let (source, size) = self.open(&location)?;
        if at.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(artefact(format!(
                "tensor {name} ends behind the end of {shown}, which has {size} bytes"
            )));
        }
        Ok(Place { source, at, bytes, shown })
    }

    fn open(&mut self, location: &str) -> Result<(Arc<WeightsFile>, u64)> {
        if self.last.as_ref().is_none_or(|(name, ..)| name != location) {
            if self.opened >= MAX_FILES {
                return Err(artefact(format!("the weights lie in more than {MAX_FILES} files")));
            }
            self.opened += 1;
            let (file, size) = (self.beside)(location)?;
            self.last = Some((location.to_owned(), WeightsFile::new(Arc::new(file)), size));
        }
        let last = self.last.as_ref().map(|(_, source, size)| (source.clone(), *size));
        last.ok_or_else(|| artefact("a file of weights is gone"))
    }
}

/// Where a tensor lies.
struct Place {
    source: Arc<WeightsFile>,
    at: u64,
    bytes: u64,
    /// The file's name, for messages.
    shown: String,
}

fn is_external(tensor: &TensorProto) -> bool {
    const EXTERNAL: i32 = 1;
    tensor.data_location.unwrap_or(0) == EXTERNAL
}

/// It does not point elsewhere any more.
fn is_here(tensor: &mut TensorProto) {
    tensor.external_data.clear();
    tensor.data_location = None;
}

/// Opens `location`, which must be a regular file below `folder` after every link and `..` is resolved.
pub(in crate::infer) fn open_beside(folder: Option<&Path>, location: &str) -> Result<(File, u64)> {
    let shown = clean(location);
    let missing =
        || artefact(format!("the weights lie in another file, {shown}, which must lie beside the model"));
    let outside = || artefact(format!("the weights lie in {shown}, outside the folder of the model"));
    let relative = Path::new(location);
    let folder = folder.ok_or_else(missing)?;
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // a FIFO must not make anybody wait for its writer
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|folder| {
            rustix::fs::openat2(
                &folder,
                relative,
                flags,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            )
        });
    let file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::XDEV | Errno::LOOP) => return Err(outside()),
        // Linux before 5.6, or a container that knows no openat2: what no link on the way may lead out of
        Err(Errno::NOSYS | Errno::PERM) => File::from(resolved(folder, relative, flags).ok_or_else(outside)?),
        Err(errno) => return Err(missing().because(std::io::Error::from(errno))),
    };
    let facts =
        file.metadata().map_err(|cause| artefact(format!("{shown} cannot be read")).because(cause))?;
    if !facts.is_file() {
        return Err(artefact(format!("{shown}, where weights should be, is no file")));
    }
    Ok((file, facts.len()))
}

/// The file with all links resolved, where it then lies below `folder`.
fn resolved(folder: &Path, relative: &Path, flags: OFlags) -> Option<std::os::fd::OwnedFd> {
    let folder = folder.canonicalize().ok()?;
    let path: PathBuf = folder.join(relative).canonicalize().ok()?;
    let inside = path.starts_with(&folder);
    inside.then(|| rustix::fs::open(&path, flags | OFlags::NOFOLLOW, Mode::empty()).ok())?
}
