//! Which family a graph belongs to, when nobody says: from the shapes and names of its outputs.

use super::{Family, in_graph, yolox};
use crate::error::{Error, Kind, Result};
use crate::infer::onnx::Graph;

/// Longest list of final boxes that is taken for one: exporters keep 100 or 300; grids have thousands of anchors.
const MAX_FINAL_BOXES: usize = 1000;

/// Anchors per cell of YOLOv5 and v7.
const YOLOV5_ANCHORS: usize = 3;

/// What is known besides the shapes.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    /// How many class names there are.
    pub(crate) names: usize,
    /// Width of the input, pixels.
    pub(crate) width: u32,
    /// Height of the input, pixels.
    pub(crate) height: u32,
    /// Names of the outputs.
    pub(crate) outputs: Vec<String>,
}

impl Hints {
    /// For a graph that will run at that size.
    pub(crate) fn of_graph(graph: &Graph, names: usize, (width, height): (usize, usize)) -> Hints {
        let side = |side: usize| u32::try_from(side).unwrap_or(0);
        let outputs = graph.output_names().into_iter().map(str::to_owned).collect();
        Hints { names, width: side(width), height: side(height), outputs }
    }
}

/// The family whose outputs look like that, and what gave it away.
pub(crate) fn family(shapes: &[Vec<usize>], hints: &Hints) -> Result<(Family, String)> {
    let family = match shapes {
        [only] => of_one(only, hints),
        [first, second] => of_two(first, second, hints),
        _ => None,
    };
    let family = family.or_else(|| in_graph::layout(shapes).map(Family::InGraph)).ok_or_else(|| {
        let message = format!("outputs of shapes {shapes:?} with {} class names are of no known family", hints.names);
        Error::new(Kind::ModelArtefact, message)
    })?;
    Ok((family, format!("outputs {:?} of shapes {shapes:?}, {} class names", hints.outputs, hints.names)))
}

fn of_one(shape: &[usize], hints: &Hints) -> Option<Family> {
    let &[1, rows, columns] = shape else { return None };
    let cells = yolox::cells(hints.width, hints.height);
    if columns == 5 + hints.names && rows == YOLOV5_ANCHORS * cells {
        return Some(Family::Yolov5);
    }
    if columns == 5 + hints.names && rows == cells {
        return Some(Family::Yolox);
    }
    if rows == 4 + hints.names {
        return Some(Family::Yolov8);
    }
    if columns == 6 && rows <= MAX_FINAL_BOXES {
        return Some(Family::EndToEnd { limited: true });
    }
    (columns == 5 + hints.names).then_some(Family::Yolov5)
}

fn of_two(first: &[usize], second: &[usize], hints: &Hints) -> Option<Family> {
    let (&[1, boxes, 4], &[1, rows, classes]) = (first, second) else { return None };
    if boxes != rows {
        return None;
    }
    // RF-DETR has the same shapes; its exporter names the outputs `dets` and `labels`, others write of logits.
    let is_detr = hints.outputs.iter().any(|name| ["labels", "logits"].iter().any(|word| name.contains(word)));
    match is_detr {
        true => Some(Family::RfDetr { background: None }),
        false => (classes == hints.names).then_some(Family::YoloNas),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(shapes: &[Vec<usize>], names: usize, outputs: &[&str]) -> Option<&'static str> {
        let outputs = outputs.iter().map(|name| (*name).to_owned()).collect();
        let hints = Hints { names, width: 640, height: 640, outputs };
        family(shapes, &hints).ok().map(|(family, _)| family.name())
    }

    #[test]
    fn outputs_tell_their_family() {
        assert_eq!(named(&[vec![1, 84, 8400]], 80, &["output0"]), Some("yolov8"));
        assert_eq!(named(&[vec![1, 25200, 85]], 80, &["output"]), Some("yolov5"));
        assert_eq!(named(&[vec![1, 8400, 85]], 80, &["output"]), Some("yolox"));
        assert_eq!(named(&[vec![1, 300, 6]], 80, &["output0"]), Some("yolov10"));
        assert_eq!(named(&[vec![1, 8400, 4], vec![1, 8400, 80]], 80, &["a", "b"]), Some("yolo_nas"));
        assert_eq!(named(&[vec![1, 300, 4], vec![1, 300, 91]], 80, &["dets", "labels"]), Some("rfdetr"));
        assert_eq!(named(&[vec![0, 7]], 80, &["output"]), Some("nms_in_graph"));
        assert_eq!(named(&[vec![1, 100, 5], vec![1, 100]], 80, &["dets", "labels"]), Some("nms_in_graph"));
        // One class: the columns of YOLOv5 look like final boxes, the number of rows does not.
        assert_eq!(named(&[vec![1, 25200, 6]], 1, &["output"]), Some("yolov5"));
        assert_eq!(named(&[vec![1, 1000]], 80, &["output"]), None);
        assert_eq!(named(&[vec![1, 84, 8400]], 3, &["output0"]), None);
        assert_eq!(named(&[], 3, &[]), None);
    }
}
