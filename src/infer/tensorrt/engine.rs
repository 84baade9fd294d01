//! A plan as an [`Engine`]: pictures in, outputs as 32-bit floats.
//!
//! `unsafe`: copies and runs are put on a stream and read and write buffers until it was waited for.
#![allow(unsafe_code)]

use super::cuda::{Device, DeviceBuffer, PinnedBuffer, Stream};
use super::element::Element;
use super::runtime::{self, ExecutionContext};
use super::unavailable;
use crate::error::{Error, Result};
use crate::infer::{Batch, Engine, Run};
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a plan has to be for a model.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Width of the input, pixels.
    pub(super) width: usize,
    /// Height of the input, pixels.
    pub(super) height: usize,
    /// Names of the outputs, in the graph's order, which is not the plan's.
    pub(super) outputs: &'a [String],
    /// Most frames in one run.
    pub(super) batch: usize,
    /// How long a frame may wait for others.
    pub(super) batch_wait: Duration,
}

/// One input or output.
#[derive(Debug)]
struct Binding {
    name: CString,
    element: Element,
    /// Values of one frame.
    values: usize,
}

/// A plan that fits its model.
pub(super) struct TensorRtEngine {
    plan: Arc<runtime::Engine>,
    device: Arc<Device>,
    input: Binding,
    /// Size of a picture: channels, height, width.
    picture: [i64; 3],
    /// Whether the plan wants to be told how many pictures there are.
    is_open: bool,
    outputs: Arc<[Binding]>,
    output_shapes: Vec<Vec<usize>>,
    batch: Batch,
    plan_bytes: usize,
    context_bytes: usize,
    /// It has run: who asked for it has it, and no CPU stands by any more.
    is_tried: AtomicBool,
}

/// The plan is not one of this model.
fn misfit(message: impl Into<String>) -> Error {
    unavailable(message.into())
}

impl TensorRtEngine {
    /// Compares a plan of `plan_bytes` with what the model's graph says.
    pub(super) fn new(
        plan: Arc<runtime::Engine>,
        device: Arc<Device>,
        plan_bytes: usize,
        wanted: &Wanted<'_>,
    ) -> Result<TensorRtEngine> {
        let tensors = plan.tensors()?;
        let side = |side: usize| i64::try_from(side).unwrap_or(i64::MAX);
        let picture = [3, side(wanted.height), side(wanted.width)];
        let mut inputs = tensors.iter().filter(|tensor| tensor.is_input);
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            return Err(misfit("the plan does not have exactly one input"));
        };
        let fits = |(found, wanted): (&i64, &i64)| found == wanted || *found == -1;
        let is_picture = match input.shape.split_first() {
            Some((frames, rest)) => {
                (*frames == 1 || *frames == -1)
                    && rest.len() == picture.len()
                    && rest.iter().zip(&picture).all(fits)
            }
            None => false,
        };
        if !is_picture {
            return Err(misfit(format!(
                "the plan's input is {:?}, not one picture of {picture:?}",
                input.shape
            )));
        }
        let is_open = input.shape.contains(&-1);
        let has_open_batch = input.shape.first() == Some(&-1);
        let element =
            Element::of(input.data_type).filter(|element| matches!(element, Element::Float | Element::Half));
        let element =
            element.ok_or_else(|| misfit(format!("the plan's input is of data type {}", input.data_type)))?;
        let input = Binding { name: input.name.clone(), element, values: wanted.width * wanted.height * 3 };

        let found = tensors.len() - 1;
        if found != wanted.outputs.len() {
            return Err(misfit(format!("the plan has {found} outputs, the model {}", wanted.outputs.len())));
        }
        // What a context takes shows in what is free; others that allocate at the same moment blur it.
        let free = device.free_bytes()?;
        let mut context = plan.new_context()?;
        let context_bytes = free.saturating_sub(device.free_bytes()?);
        if is_open {
            context.set_input_shape(&input.name, &batched(1, picture))?;
        }
        let (mut outputs, mut output_shapes) = (Vec::new(), Vec::new());
        for name in wanted.outputs {
            let tensor =
                tensors.iter().find(|tensor| !tensor.is_input && tensor.name.to_bytes() == name.as_bytes());
            let tensor =
                tensor.ok_or_else(|| misfit(format!("the plan has no output {}", name.escape_debug())))?;
            let element = Element::of(tensor.data_type).ok_or_else(|| {
                misfit(format!("output {} is of data type {}", name.escape_debug(), tensor.data_type))
            })?;
            let shape = context.tensor_shape(&tensor.name)?;
            let known: Option<Vec<usize>> = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
            let values = known
                .as_ref()
                .and_then(|shape| shape.iter().try_fold(1_usize, |all, size| all.checked_mul(*size)));
            let (Some(known), Some(values)) = (known, values) else {
                return Err(misfit(format!(
                    "output {} has the shape {shape:?}: it depends on the data",
                    name.escape_debug()
                )));
            };
            outputs.push(Binding { name: tensor.name.clone(), element, values });
            output_shapes.push(known);
        }
        let mut frames = if has_open_batch { wanted.batch.max(1) } else { 1 };
        if frames > 1 && !outputs_grow_with(frames, &mut context, &input, picture, &outputs, &output_shapes) {
            log::info!("engine=tensorrt batch=1 reason=\"the outputs are not one frame after the other\"");
            frames = 1;
        }
        let batch = Batch { frames, wait: wanted.batch_wait };
        let outputs = outputs.into();
        let is_tried = AtomicBool::new(false);
        Ok(TensorRtEngine {
            plan,
            device,
            input,
            picture,
            is_open,
            outputs,
            output_shapes,
            batch,
            plan_bytes,
            context_bytes,
            is_tried,
        })
    }

    /// Runs once: what the driver or a full GPU refuses shows while the CPU can still take over.
    pub(super) fn try_out(&self) -> Result<()> {
        self.new_run()?.execute()?;
        self.is_tried.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of buffers on one side, host or GPU.
    fn buffer_bytes(&self) -> usize {
        let frame: usize = self
            .outputs
            .iter()
            .chain([&self.input])
            .map(|binding| binding.values * binding.element.bytes())
            .sum();
        frame * self.batch.frames
    }
}

/// A shape of that many pictures.
fn batched(frames: usize, [channels, height, width]: [i64; 3]) -> [i64; 4] {
    [i64::try_from(frames).unwrap_or(i64::MAX), channels, height, width]
}

/// Whether every output of `frames` pictures is that many times the one of one picture.
fn outputs_grow_with(
    frames: usize,
    context: &mut ExecutionContext,
    input: &Binding,
    picture: [i64; 3],
    outputs: &[Binding],
    shapes: &[Vec<usize>],
) -> bool {
    if let Err(error) = context.set_input_shape(&input.name, &batched(frames, picture)) {
        log::debug!("engine=tensorrt batch={frames} error=\"{error}\"");
        return false;
    }
    outputs.iter().zip(shapes).all(|(output, single)| {
        let shape = context.tensor_shape(&output.name).unwrap_or_default();
        let same = |(a, b): (&i64, &usize)| usize::try_from(*a) == Ok(*b);
        shape.len() == single.len()
            && single.first() == Some(&1)
            && shape.first().is_some_and(|first| usize::try_from(*first) == Ok(frames))
            && shape.iter().zip(single).skip(1).all(same)
    })
}

impl Engine for TensorRtEngine {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        let frames = self.batch.frames;
        let (context, stream) = (self.plan.new_context()?, Stream::new(&self.device)?);
        let input = Pair::new(&self.device, &self.input, frames)?;
        let outputs = self.outputs.iter().map(|output| Pair::new(&self.device, output, frames));
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        let mut run = TensorRtRun {
            context,
            stream,
            device: self.device.clone(),
            input,
            outputs,
            input_name: self.input.name.clone(),
            picture: self.picture,
            is_open: self.is_open,
            is_trial: !self.is_tried.load(Ordering::Relaxed),
            frames: 1,
            shaped_for: 0,
            selected: 0,
        };
        // SAFETY: each buffer was made for its tensor and the largest batch, and lives in the same
        // `TensorRtRun`, whose context is dropped first.
        unsafe {
            run.context.set_address(&self.input.name, &run.input.device)?;
            for (binding, output) in self.outputs.iter().zip(&run.outputs) {
                run.context.set_address(&binding.name, &output.device)?;
            }
        }
        Ok(Box::new(run))
    }
    fn name(&self) -> &'static str {
        "tensorrt"
    }
    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }
    fn weights_bytes(&self) -> usize {
        self.plan_bytes
    }
    fn arena_bytes(&self) -> usize {
        self.context_bytes + 2 * self.buffer_bytes()
    }
    fn batch(&self) -> Batch {
        self.batch
    }
}

/// An input or output on both sides.
struct Pair {
    host: PinnedBuffer,
    device: DeviceBuffer,
    element: Element,
    /// Values of one frame.
    values: usize,
    /// The values as floats, where the host buffer holds another kind.
    floats: Vec<f32>,
}

impl Pair {
    fn new(device: &Arc<Device>, binding: &Binding, frames: usize) -> Result<Pair> {
        let bytes = binding.values * binding.element.bytes() * frames;
        let floats =
            if binding.element == Element::Float { Vec::new() } else { vec![0.0; binding.values * frames] };
        let (host, device) = (PinnedBuffer::new(device, bytes)?, DeviceBuffer::new(device, bytes)?);
        Ok(Pair { host, device, element: binding.element, values: binding.values, floats })
    }

    /// Bytes of that many frames.
    fn bytes(&self, frames: usize) -> usize {
        self.values * self.element.bytes() * frames
    }

    /// The values of one frame.
    fn frame(&self, frame: usize) -> &[f32] {
        let all = if self.element == Element::Float { self.host.as_floats() } else { &self.floats };
        all.get(frame * self.values..(frame + 1) * self.values).unwrap_or_default()
    }

    /// The values of one frame.
    fn frame_mut(&mut self, frame: usize) -> &mut [f32] {
        let all = if self.element == Element::Float { self.host.as_floats_mut() } else { &mut self.floats };
        all.get_mut(frame * self.values..(frame + 1) * self.values).unwrap_or_default()
    }
}

/// One thread's context, stream and buffers.
struct TensorRtRun {
    // The order of fields is the order in which they go: what uses the buffers before the buffers.
    context: ExecutionContext,
    stream: Stream,
    device: Arc<Device>,
    input: Pair,
    outputs: Vec<Pair>,
    input_name: CString,
    picture: [i64; 3],
    is_open: bool,
    /// A failure says something about the plan, not about the GPU that has run it.
    is_trial: bool,
    /// Of the next run.
    frames: usize,
    /// How many frames the context was told of last.
    shaped_for: usize,
    /// Which frame `input` and `output` mean.
    selected: usize,
}

impl TensorRtRun {
    /// Puts copies and run on the stream.
    ///
    /// # Safety
    /// The stream is waited for before anything else happens to the buffers.
    unsafe fn begin(&mut self) -> Result<()> {
        let frames = self.frames;
        let bytes = self.input.bytes(frames);
        // SAFETY: as the caller promises.
        unsafe {
            self.stream.upload(&self.input.host, &self.input.device, bytes)?;
            self.context.enqueue(&mut self.stream)?;
            for output in &mut self.outputs {
                let bytes = output.bytes(frames);
                self.stream.download(&output.device, &mut output.host, bytes)?;
            }
        }
        Ok(())
    }
}

impl Run for TensorRtRun {
    fn input(&mut self) -> &mut [f32] {
        self.input.frame_mut(self.selected)
    }

    fn expect_frames(&mut self, frames: usize) {
        self.frames = frames.max(1);
    }

    fn select_frame(&mut self, frame: usize) {
        self.selected = frame;
    }

    fn execute(&mut self) -> Result<()> {
        self.device.enter()?;
        if self.is_open && self.shaped_for != self.frames {
            // Of the two calls a failed one leaves the context with no shape that is sure.
            self.shaped_for = 0;
            self.context.set_input_shape(&self.input_name, &batched(self.frames, self.picture))?;
            self.shaped_for = self.frames;
        }
        if self.input.element == Element::Half {
            Element::write_half(&self.input.floats, self.input.host.as_bytes_mut());
        }
        // SAFETY: waited for right below, also when something did not get onto the stream.
        let begun = unsafe { self.begin() };
        let done = self.stream.wait();
        if self.device.is_lost() && !self.is_trial {
            super::lose_gpu();
        }
        begun.and(done)?;
        for output in self.outputs.iter_mut().filter(|output| output.element != Element::Float) {
            output.element.read(output.host.as_bytes(), &mut output.floats);
        }
        Ok(())
    }

    fn output(&self, index: usize) -> &[f32] {
        self.outputs.get(index).map_or(&[], |output| output.frame(self.selected))
    }
}
