//! Which family a graph belongs to, when nobody says: from the shapes and names of its outputs.

use super::Family;
use crate::error::{Error, Kind, Result};
use crate::infer::onnx::Graph;

/// What is known besides the shapes.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    /// How many class names there are.
    pub(crate) names: usize,
}

impl Hints {
    /// For a graph that will run at `_size`.
    pub(crate) fn of_graph(_graph: &Graph, names: usize, _size: (usize, usize)) -> Hints {
        Hints { names }
    }
}

/// The family whose outputs look like that, and what gave it away.
pub(crate) fn family(shapes: &[Vec<usize>], hints: &Hints) -> Result<(Family, String)> {
    match shapes {
        [only] if matches!(only[..], [1, rows, _] if rows == 4 + hints.names) => {
            Ok((Family::Yolov8, format!("one output of shape {only:?} and {} names", hints.names)))
        }
        _ => {
            let message = format!("outputs of shapes {shapes:?} with {} names are of no known family", hints.names);
            Err(Error::new(Kind::ModelArtefact, message))
        }
    }
}
