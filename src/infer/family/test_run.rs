//! A run whose outputs are given, for the tests of the decoders.

use super::{Outputs, Thresholds};
use crate::error::Result;
use crate::infer::Run;

pub(crate) const THRESHOLDS: Thresholds =
    Thresholds { confidence: 0.4, iou: 0.3, max_detections: 300, class_agnostic: false };

pub(crate) struct Fixed {
    shapes: Vec<Vec<usize>>,
    outputs: Vec<Vec<f32>>,
    size: (u32, u32),
}

impl Fixed {
    pub(crate) fn new(outputs: impl IntoIterator<Item = (Vec<usize>, Vec<f32>)>) -> Fixed {
        let (shapes, outputs) = outputs.into_iter().unzip();
        Fixed { shapes, outputs, size: (100, 100) }
    }

    pub(crate) fn of_size(self, width: u32, height: u32) -> Fixed {
        Fixed { size: (width, height), ..self }
    }

    pub(crate) fn outputs(&self) -> Outputs<'_> {
        Outputs { shapes: &self.shapes, run: self, width: self.size.0, height: self.size.1 }
    }
}

impl Run for Fixed {
    fn input(&mut self) -> &mut [f32] {
        &mut []
    }
    fn execute(&mut self) -> Result<()> {
        Ok(())
    }
    fn output(&self, index: usize) -> &[f32] {
        &self.outputs[index]
    }
}
