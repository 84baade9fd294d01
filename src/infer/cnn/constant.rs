//! What is known while a model is compiled: its weights.

use crate::infer::onnx::{Lease, Stored};
use std::ops::{Deref, Range};
use std::sync::Arc;
use tract_onnx::prelude::Tensor;

/// The content of a constant as 32-bit floats.
pub(super) fn floats(tensor: &Tensor) -> Option<&[f32]> {
    tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()
}

/// A tensor that does not depend on the picture.
#[derive(Debug, Clone)]
pub(super) enum Constant {
    /// A tensor whose content is at hand.
    Tensor(Arc<Tensor>),
    /// 32-bit floats of this shape that still lie in the model's file.
    Stored(Stored, Arc<[usize]>),
    /// 32-bit floats of this shape, whose content another process has already laid among the plan's weights
    /// ([`super::document`]).
    Packed(Arc<[usize]>),
}

impl Constant {
    /// Its dimensions, outermost first.
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Constant::Tensor(tensor) => tensor.shape(),
            Constant::Stored(_, shape) | Constant::Packed(shape) => shape,
        }
    }

    /// How many elements it has.
    pub(super) fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether it holds 32-bit floats.
    pub(super) fn is_float(&self) -> bool {
        match self {
            Constant::Tensor(tensor) => floats(tensor).is_some(),
            Constant::Stored(..) | Constant::Packed(_) => true,
        }
    }

    /// Its content, row-major; `None` where it is not known here or not of 32-bit floats.
    pub(super) fn floats(&self) -> Option<Floats<'_>> {
        self.floats_in(0..self.len())
    }

    /// Part of [`Constant::floats`]: of what still lies in a file no more is read.
    pub(super) fn floats_in(&self, range: Range<usize>) -> Option<Floats<'_>> {
        match self {
            Constant::Tensor(tensor) => floats(tensor)?.get(range).map(Floats::Known),
            Constant::Stored(stored, _) => stored.read(range).map(Floats::Read),
            Constant::Packed(_) => None,
        }
    }

    /// Keeps the shape only.
    pub(super) fn forget_content(&mut self) {
        if self.is_float() {
            *self = Constant::Packed(self.shape().into());
        }
    }

    /// As tract's tensor; `None` where the content is not known here.
    pub(super) fn tensor(&self) -> Option<Arc<Tensor>> {
        match self {
            Constant::Tensor(tensor) => Some(tensor.clone()),
            Constant::Stored(stored, shape) => {
                Some(Arc::new(Tensor::from_shape(shape, &stored.read(0..stored.len())?).ok()?))
            }
            Constant::Packed(_) => None,
        }
    }
}

/// Numbers of a constant.
#[derive(Debug)]
pub(super) enum Floats<'a> {
    /// They were here.
    Known(&'a [f32]),
    /// They were read for this.
    Read(Lease),
}

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Floats::Known(floats) => floats,
            Floats::Read(floats) => floats,
        }
    }
}

impl From<Arc<Tensor>> for Constant {
    fn from(tensor: Arc<Tensor>) -> Constant {
        Constant::Tensor(tensor)
    }
}
