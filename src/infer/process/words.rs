//! What the service and a model's process say to each other. Neither believes the other: what is short, long
//! or out of range is no message.

use crate::bytes::{Reader, Writer};
use crate::error::{Error, Kind};
use crate::infer::Scores;
use crate::infer::onnx::{Description, Seen, Survey};
use crate::infer::{EngineChoice, Precision};

/// Longest text of an error, bytes.
const MAX_TEXT_BYTES: usize = 1024;
/// Longest name of a file of weights, bytes: that of a path.
const MAX_NAME_BYTES: usize = 4096;
/// Most outputs of a graph.
const MAX_OUTPUTS: usize = 64;
/// Most dimensions of an output.
const MAX_RANK: usize = 16;
/// Most frames of one run; `onnx` allows as many.
pub(super) const MAX_FRAMES: usize = 64;
/// Most anchors that a run keeps by themselves.
const MAX_KEPT: usize = 1 << 20;

/// What the service says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    /// Read the file that comes with this.
    Read {
        /// Process id of the service.
        parent: u32,
        /// Most bytes that the process may write to.
        memory_bytes: u64,
        /// Most bytes of any one tensor.
        budget_bytes: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// The file that was wanted comes with this.
    File,
    /// It cannot be had: why.
    NoFile(String),
    /// Compile the graph for an input of this size.
    Compile { width: usize, height: usize, engine: EngineChoice, precision: Precision, threads: usize },
    /// Where the outputs hold scores.
    Scores(Option<Scores>),
    /// Memory for weights and document comes with this.
    Room,
    /// Nobody can write there any more.
    Sealed,
    /// A socket for the orders of a run and memory for its numbers come with this.
    Open {
        /// The test run: others come first.
        polite: bool,
        /// Threads that may work on one run.
        threads: usize,
    },
    /// Bring the graph to 8 bits: say what will have them.
    Survey,
    /// Write the graph whose outputs are `count` of these values, from the `first` on.
    Watch { first: usize, count: usize },
    /// Write the graph in 8 bits. What was seen of each of its values.
    Quantise(Vec<Seen>),
}

/// What a model's process says.
#[derive(Debug)]
pub(super) enum Word {
    /// It cannot be done.
    Failed(Error),
    /// Weights lie in this file beside the model.
    Wants(String),
    /// What the file says about itself.
    Described(Description),
    /// Shapes of the outputs, 0 where a side depends on the picture.
    Shapes(Vec<Vec<usize>>),
    /// Compiled, but for the weights.
    Compiled(Verdict),
    /// Weights and document lie in the memory; or a graph.
    Written,
    /// What will have 8 bits.
    Surveyed(Survey),
    /// A graph is made, and has so many bytes.
    Sized(u64),
}

/// What came out of compiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Our engine, not tract's.
    pub ours: bool,
    /// Packed weights of our engine.
    pub weights_floats: usize,
    /// Bytes of the plan's document; 0: the plan cannot leave its process.
    pub document_bytes: usize,
    /// Weights that are not packed: of tract's engine, or of nodes that it runs.
    pub foreign_bytes: usize,
    /// What each run takes.
    pub arena_bytes: usize,
    /// Frames that the graph takes in one run.
    pub frames: usize,
    /// Numbers of one frame of the input.
    pub input_floats: usize,
    /// Of one frame; 0 where a side depends on the picture.
    pub output_shapes: Vec<Vec<usize>>,
}

/// What a run is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RunOrder {
    /// Frames that lie in the input.
    pub frames: usize,
    /// The lowest score that somebody will look at.
    pub lowest: f32,
}

/// What a run answers.
#[derive(Debug)]
pub(super) enum RunWord {
    /// It can be told to run.
    Ready,
    /// The outputs lie behind the input, frame by frame.
    Done(Done),
    /// This run failed; the next one may not.
    Failed(Error),
}

/// Where the outputs of a run lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    /// Anchors that were kept; `None`: all.
    pub kept: Option<Vec<u32>>,
    /// Numbers of each output of each frame.
    pub lengths: Vec<Vec<usize>>,
    /// Shape of each output, where it can say more than the engine.
    pub shapes: Vec<Option<Vec<usize>>>,
}

fn write_engine(out: &mut Writer, engine: EngineChoice) {
    out.u8(match engine {
        EngineChoice::Auto => 0,
        EngineChoice::Cnn => 1,
        EngineChoice::Tract => 2,
        EngineChoice::TensorRt => 3,
    });
}

fn read_engine(reader: &mut Reader<'_>) -> Option<EngineChoice> {
    [EngineChoice::Auto, EngineChoice::Cnn, EngineChoice::Tract, EngineChoice::TensorRt]
        .get(usize::from(reader.u8()?))
        .copied()
}

impl Order {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Order::Read { parent, memory_bytes, budget_bytes, size } => {
                out.u8(1).u32(*parent).u64(*memory_bytes).u64(*budget_bytes).u64(*size);
            }
            Order::File => {
                out.u8(2);
            }
            Order::NoFile(why) => {
                out.u8(3).text(why, MAX_TEXT_BYTES);
            }
            Order::Compile { width, height, engine, precision, threads } => {
                let half = precision.is_half();
                write_engine(out.u8(4).size(*width).size(*height).size(*threads).bool(half), *engine);
            }
            Order::Scores(scores) => {
                out.u8(5).bool(scores.is_some());
                if let Some(Scores { output, anchor_axis, first, count }) = scores {
                    out.size(*output).size(*anchor_axis).size(*first).size(*count);
                }
            }
            Order::Room => {
                out.u8(6);
            }
            Order::Sealed => {
                out.u8(7);
            }
            Order::Open { polite, threads } => {
                out.u8(8).bool(*polite).size(*threads);
            }
            Order::Survey => {
                out.u8(9);
            }
            Order::Watch { first, count } => {
                out.u8(10).size(*first).size(*count);
            }
            Order::Quantise(seen) => {
                out.u8(11).size(seen.len());
                seen.iter().for_each(|seen| seen.write(&mut out));
            }
        }
        out.into_bytes()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Order> {
        let mut reader = Reader::new(bytes);
        let any = |reader: &mut Reader<'_>| reader.size(usize::MAX);
        let order = match reader.u8()? {
            1 => Order::Read {
                parent: reader.u32()?,
                memory_bytes: reader.u64()?,
                budget_bytes: reader.u64()?,
                size: reader.u64()?,
            },
            2 => Order::File,
            3 => Order::NoFile(reader.text(MAX_TEXT_BYTES)?.to_owned()),
            4 => {
                let (width, height, threads) = (any(&mut reader)?, any(&mut reader)?, any(&mut reader)?);
                let precision = if reader.bool()? { Precision::Half } else { Precision::Full };
                Order::Compile { width, height, threads, precision, engine: read_engine(&mut reader)? }
            }
            5 => Order::Scores(match reader.bool()? {
                false => None,
                true => Some(Scores {
                    output: any(&mut reader)?,
                    anchor_axis: any(&mut reader)?,
                    first: any(&mut reader)?,
                    count: any(&mut reader)?,
                }),
            }),
            6 => Order::Room,
            7 => Order::Sealed,
            8 => Order::Open { polite: reader.bool()?, threads: any(&mut reader)? },
            9 => Order::Survey,
            10 => Order::Watch { first: any(&mut reader)?, count: any(&mut reader)? },
            11 => Order::Quantise(Seen::read_all(&mut reader)?),
            _ => return None,
        };
        reader.end(order)
    }
}

/// Kinds that a model's process may tell; anything else is its first.
const KINDS: [Kind; 5] =
    [Kind::ModelArtefact, Kind::Exhausted, Kind::Inference, Kind::Configuration, Kind::System];

fn write_error(out: &mut Writer, error: &Error) {
    let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(0);
    let cause = error.causes();
    out.u8(kind as u8).text(error.message(), MAX_TEXT_BYTES).text(&cause, MAX_TEXT_BYTES);
}

fn read_error(reader: &mut Reader<'_>) -> Option<Error> {
    let kind = *KINDS.get(usize::from(reader.u8()?))?;
    let one_line =
        |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let (message, cause) = (one_line(reader.text(MAX_TEXT_BYTES)?), one_line(reader.text(MAX_TEXT_BYTES)?));
    let error = Error::new(kind, message);
    Some(if cause.is_empty() { error } else { error.because(cause) })
}

fn write_shapes(out: &mut Writer, shapes: &[Vec<usize>]) {
    out.size(shapes.len());
    shapes.iter().for_each(|shape| {
        out.sizes(shape);
    });
}

fn read_shapes(reader: &mut Reader<'_>) -> Option<Vec<Vec<usize>>> {
    reader.list(MAX_OUTPUTS, |reader| reader.sizes(MAX_RANK, usize::MAX))
}

impl Word {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Word::Failed(error) => write_error(out.u8(1), error),
            Word::Wants(name) => {
                out.u8(2).text(name, MAX_NAME_BYTES);
            }
            Word::Described(description) => description.write(out.u8(3)),
            Word::Shapes(shapes) => {
                write_shapes(out.u8(4), shapes);
            }
            Word::Compiled(verdict) => {
                out.u8(5).bool(verdict.ours).size(verdict.weights_floats).size(verdict.document_bytes);
                out.size(verdict.foreign_bytes)
                    .size(verdict.arena_bytes)
                    .size(verdict.frames)
                    .size(verdict.input_floats);
                write_shapes(&mut out, &verdict.output_shapes);
            }
            Word::Written => {
                out.u8(6);
            }
            Word::Surveyed(survey) => survey.write(out.u8(7)),
            Word::Sized(bytes) => {
                out.u8(8).u64(*bytes);
            }
        }
        out.into_bytes()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Word> {
        let mut reader = Reader::new(bytes);
        let word = match reader.u8()? {
            1 => Word::Failed(read_error(&mut reader)?),
            2 => Word::Wants(reader.text(MAX_NAME_BYTES)?.to_owned()),
            3 => Word::Described(Description::read(&mut reader)?),
            4 => Word::Shapes(read_shapes(&mut reader)?),
            5 => Word::Compiled(Verdict {
                ours: reader.bool()?,
                weights_floats: reader.size(usize::MAX)?,
                document_bytes: reader.size(crate::infer::cnn::MAX_DOCUMENT_BYTES)?,
                foreign_bytes: reader.size(usize::MAX)?,
                arena_bytes: reader.size(usize::MAX)?,
                frames: reader.size(MAX_FRAMES)?.max(1),
                input_floats: reader.size(usize::MAX)?,
                output_shapes: read_shapes(&mut reader)?,
            }),
            6 => Word::Written,
            7 => Word::Surveyed(Survey::read(&mut reader)?),
            8 => Word::Sized(reader.u64()?),
            _ => return None,
        };
        reader.end(word)
    }
}

impl RunOrder {
    pub(super) fn write(self) -> Vec<u8> {
        let mut out = Writer::default();
        out.size(self.frames).f32(self.lowest);
        out.into_bytes()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<RunOrder> {
        let mut reader = Reader::new(bytes);
        let order = RunOrder { frames: reader.size(MAX_FRAMES)?, lowest: reader.f32()? };
        reader.end(order)
    }
}

impl RunWord {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            RunWord::Ready => {
                out.u8(1);
            }
            RunWord::Done(Done { kept, lengths, shapes }) => {
                out.u8(2).bool(kept.is_some());
                if let Some(kept) = kept {
                    out.size(kept.len());
                    kept.iter().for_each(|anchor| {
                        out.u32(*anchor);
                    });
                }
                write_shapes(&mut out, lengths);
                out.size(shapes.len());
                for shape in shapes {
                    out.bool(shape.is_some()).sizes(shape.as_deref().unwrap_or_default());
                }
            }
            RunWord::Failed(error) => write_error(out.u8(3), error),
        }
        out.into_bytes()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<RunWord> {
        let mut reader = Reader::new(bytes);
        let word = match reader.u8()? {
            1 => RunWord::Ready,
            2 => RunWord::Done(Done {
                kept: if reader.bool()? { Some(reader.list(MAX_KEPT, Reader::u32)?) } else { None },
                lengths: reader.list(MAX_FRAMES, |reader| reader.sizes(MAX_OUTPUTS, usize::MAX))?,
                shapes: reader.list(MAX_OUTPUTS, |reader| {
                    let told = reader.bool()?;
                    let shape = reader.sizes(MAX_RANK, usize::MAX)?;
                    Some(told.then_some(shape))
                })?,
            }),
            3 => RunWord::Failed(read_error(&mut reader)?),
            _ => return None,
        };
        reader.end(word)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn orders_survive_and_not_with_a_byte_less_or_more() {
        let scores = Scores { output: 0, anchor_axis: 2, first: 4, count: 80 };
        for order in [
            Order::Read { parent: 1, memory_bytes: 2, budget_bytes: 3, size: 4 },
            Order::File,
            Order::NoFile("why".into()),
            Order::Compile {
                width: 640,
                height: 384,
                engine: EngineChoice::Tract,
                precision: Precision::Half,
                threads: 2,
            },
            Order::Scores(None),
            Order::Scores(Some(scores)),
            Order::Room,
            Order::Sealed,
            Order::Open { polite: true, threads: 2 },
        ] {
            let bytes = order.write();
            assert_eq!(Order::read(&bytes), Some(order));
            assert!((0..bytes.len()).all(|length| Order::read(&bytes[..length]).is_none()));
            assert_eq!(Order::read(&[&bytes[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn words_survive_and_not_with_a_byte_less_or_more() {
        let verdict = Verdict {
            ours: true,
            weights_floats: 10,
            document_bytes: 20,
            foreign_bytes: 30,
            arena_bytes: 40,
            frames: 1,
            input_floats: 3,
            output_shapes: vec![vec![1, 84, 8400], vec![0, 7]],
        };
        let failed = Error::new(Kind::Exhausted, "too\nmuch").because("of it");
        for word in [
            Word::Failed(failed),
            Word::Wants("a/b".into()),
            Word::Shapes(vec![vec![1, 84, 0], vec![7]]),
            Word::Compiled(verdict),
            Word::Written,
        ] {
            let bytes = word.write();
            let read = Word::read(&bytes).unwrap();
            assert_eq!(format!("{read:?}").replace("too much", "too\\nmuch"), format!("{word:?}"));
            assert!((0..bytes.len()).all(|length| Word::read(&bytes[..length]).is_none()));
            assert!(Word::read(&[&bytes[..], &[0]].concat()).is_none());
        }
    }

    #[test]
    fn answers_of_runs_survive() {
        let done =
            Done { kept: Some(vec![1, 2]), lengths: vec![vec![3, 4]], shapes: vec![None, Some(vec![4])] };
        let bytes = RunWord::Done(done.clone()).write();
        let Some(RunWord::Done(read)) = RunWord::read(&bytes) else { panic!("no answer") };
        assert_eq!(read, done);
        assert!((0..bytes.len()).all(|length| RunWord::read(&bytes[..length]).is_none()));
        let order = RunOrder { frames: 2, lowest: 0.4 };
        assert_eq!(RunOrder::read(&order.write()), Some(order));
        assert!(matches!(RunWord::read(&RunWord::Ready.write()), Some(RunWord::Ready)));
    }
}
