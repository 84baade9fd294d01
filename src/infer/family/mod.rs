//! How each family of detectors writes its detections into its outputs: docs/roboflow.md §6.4.
//!
//! A decoder turns outputs into [`Candidate`]s above the threshold, in model-input pixels. Suppression and
//! the way back to the frame are the same for all and lie in [`super::nms`] and [`crate::geometry`].

mod end_to_end;
mod heads;
mod in_graph;
mod listed;
mod observe;
mod pair;
pub(crate) mod recognise;
mod rfdetr;
mod scratch;
#[cfg(test)]
pub(in crate::infer) mod test_run;
mod yolo_nas;
mod yolov5;
mod yolov8;
mod yolox;

pub(crate) use scratch::{Outputs, Scratch};

use super::candidate::Candidate;
use super::fill::Scale;
use super::{Scores, Thresholds, nms};
use crate::geometry::Rounding;

/// A family of output layouts. `C` classes, `N` anchors, `K` boxes, `Q` queries; the batch is always 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `[1, N, 5+C]`, centre and size in input pixels, objectness, scores: YOLOv5, v7. Objectness is what is
    /// reported.
    Yolov5,
    /// `[1, 4+C, N]`, centre and size in input pixels, scores: YOLOv8, v9, v11, v12.
    Yolov8,
    /// As [`Family::Yolov5`], with values behind the scores of `classes` classes that are not used: masks.
    Yolov5Part {
        /// How many values are scores.
        classes: usize,
    },
    /// As [`Family::Yolov8`], with rows behind the scores of `classes` classes that are not used: masks or
    /// points.
    Yolov8Part {
        /// How many rows are scores.
        classes: usize,
    },
    /// Three heads of YOLOv5 before they are decoded.
    Heads(heads::Heads),
    /// `[1, N, 4]` corners in input pixels and `[1, N, C]` scores: YOLO-NAS.
    YoloNas,
    /// `[1, K, 6]` corners in input pixels, score, class; nothing left to suppress: YOLOv10, YOLO26,
    /// Ultralytics with NMS.
    EndToEnd {
        /// Whether `max_detections` holds (YOLO26: the reference does not look at it).
        limited: bool,
    },
    /// `[1, Q, 4]` centre and size as fractions and `[1, Q, C]` logits: RF-DETR.
    RfDetr {
        /// The class that stands for nothing, among the logits.
        background: Option<u32>,
    },
    /// `[1, N, 5+C]` as offsets within a grid, to be scaled by its stride: YOLOX as it is exported by
    /// default.
    Yolox,
    /// The same with the decoding in the graph: centre and size in input pixels.
    YoloxDecoded,
    /// Two outputs of boxes and scores.
    Pair(pair::Pair),
    /// Final boxes with scores and classes.
    Listed(listed::Listed),
    /// The graph ends with its own suppression.
    InGraph(in_graph::Layout),
}

/// What the outputs tell about the number of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Classes {
    /// As many as names.
    Exactly(usize),
    /// Names for some of them.
    UpTo(usize),
    /// Class ids are values, not positions.
    Untold,
}

/// Name of RF-DETR's class that stands for nothing.
const BACKGROUND: &str = "background_class83422";

/// Model types of the API by what they begin with.
const PREFIXES: &[(&str, Family)] = &[
    ("yolov5", Family::Yolov5),
    ("yolov7", Family::Yolov5),
    ("yolov8", Family::Yolov8),
    ("yolov9", Family::Yolov8),
    ("yolov10", Family::EndToEnd { limited: true }),
    ("yolov11", Family::Yolov8),
    ("yolo11", Family::Yolov8),
    ("yolov12", Family::Yolov8),
    ("yolo12", Family::Yolov8),
    ("yolov26", Family::EndToEnd { limited: false }),
    ("yolo26", Family::EndToEnd { limited: false }),
    ("yolo_nas", Family::YoloNas),
    ("yolo-nas", Family::YoloNas),
    ("rfdetr", Family::RfDetr { background: None }),
];

/// Model types that end so are of other tasks, whatever they begin with.
const OTHER_TASKS: [&str; 4] = ["-seg", "-pose", "-cls", "-obb"];

impl Family {
    /// Short name for logs and `weir check`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Yolov5 | Family::Yolov5Part { .. } => "yolov5",
            Family::Yolov8 | Family::Yolov8Part { .. } => "yolov8",
            Family::Heads(_) => "yolov5_heads",
            Family::YoloNas => "yolo_nas",
            Family::EndToEnd { limited: true } => "yolov10",
            Family::EndToEnd { limited: false } => "yolo26",
            Family::RfDetr { .. } => "rfdetr",
            Family::Yolox => "yolox",
            Family::YoloxDecoded => "yolox_decoded",
            Family::Pair(pair) if pair.queries => "detr",
            Family::Pair(_) => "boxes_and_scores",
            Family::Listed(_) => "final_boxes",
            Family::InGraph(_) => "nms_in_graph",
        }
    }

    /// Words for families on the command line.
    pub(crate) const WORDS: [&'static str; 9] =
        ["yolov5", "yolov7", "yolov8", "yolov9", "yolov10", "yolo11", "yolo26", "yolo_nas", "yolox"];

    /// The family of such a word; `decoded`: the graph decodes its boxes itself.
    pub(crate) fn of_word(word: &str, decoded: bool) -> Option<Family> {
        match word {
            "yolox" => Some(if decoded { Family::YoloxDecoded } else { Family::Yolox }),
            other => Self::of_model_type(other),
        }
    }

    /// From the API's `modelType`.
    pub(crate) fn of_model_type(name: &str) -> Option<Family> {
        if OTHER_TASKS.iter().any(|task| name.contains(task)) {
            return None;
        }
        PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, family)| *family)
    }

    /// The family as it is for a model with these class names, and the names that are reported.
    pub(crate) fn with_names(self, mut names: Vec<String>) -> (Family, Vec<String>) {
        let Family::RfDetr { .. } = self else { return (self, names) };
        let place = names.iter().position(|name| name == BACKGROUND);
        if let Some(place) = place {
            names.remove(place);
        }
        (Family::RfDetr { background: place.and_then(|place| u32::try_from(place).ok()) }, names)
    }

    /// What its input wants after dividing by 255. `of_api`: the model comes from the Roboflow API, and is
    /// treated as the reference treats it; a file of one's own is given what its authors trained it with.
    pub(crate) fn scale(self, of_api: bool) -> Scale {
        match self {
            Family::RfDetr { .. } if of_api => Scale::ImageNetSwapped,
            Family::RfDetr { .. } => Scale::ImageNet,
            Family::Yolox | Family::YoloxDecoded => Scale::BgrBytes,
            _ => Scale::Unit,
        }
    }

    /// How this family's coordinates are rounded.
    pub(crate) fn rounding(self) -> Rounding {
        match self {
            Family::RfDetr { .. } => Rounding::Exact,
            _ => Rounding::Whole,
        }
    }

    /// Reads the outputs of a run into `scratch.candidates`, ordered and suppressed.
    pub(crate) fn detect(self, outputs: &Outputs<'_>, thresholds: &Thresholds, scratch: &mut Scratch) {
        scratch.candidates.clear();
        match self {
            Family::Yolov5 => yolov5::decode(outputs, usize::MAX, thresholds, scratch),
            Family::Yolov5Part { classes } => yolov5::decode(outputs, classes, thresholds, scratch),
            Family::Yolov8 => yolov8::decode(outputs, usize::MAX, thresholds, scratch),
            Family::Yolov8Part { classes } => yolov8::decode(outputs, classes, thresholds, scratch),
            Family::Heads(heads) => heads::decode(outputs, heads, thresholds, scratch),
            Family::YoloNas => yolo_nas::decode(outputs, thresholds, scratch),
            Family::Yolox => yolox::decode(outputs, false, thresholds, scratch),
            Family::YoloxDecoded => yolox::decode(outputs, true, thresholds, scratch),
            Family::Pair(pair) => {
                pair::decode(outputs, pair, thresholds, scratch);
                if pair.queries {
                    return;
                }
            }
            Family::Listed(listed) => return listed::decode(outputs, listed, thresholds, scratch),
            Family::EndToEnd { limited } => return end_to_end::decode(outputs, limited, thresholds, scratch),
            Family::RfDetr { background } => return rfdetr::decode(outputs, background, thresholds, scratch),
            Family::InGraph(layout) => return in_graph::decode(outputs, layout, thresholds, scratch),
        }
        nms::suppress(&mut scratch.candidates, thresholds);
    }

    /// Where outputs of these shapes hold what [`Family::detect`] compares with the threshold, where that is
    /// known before anything is decoded.
    pub(crate) fn scores(self, shapes: &[Vec<usize>]) -> Option<Scores> {
        let classes = self.classes(shapes)?;
        let Classes::Exactly(count) = classes else { return None };
        match (self, shapes.len()) {
            (Family::Yolov8Part { classes }, 1) => {
                Some(Scores { output: 0, anchor_axis: 2, first: yolov8::BOX_ROWS, count: classes })
            }
            (Family::Yolov5, 1) => {
                Some(Scores { output: 0, anchor_axis: 1, first: yolov5::OBJECTNESS, count: 1 })
            }
            (Family::Yolov8, 1) => Some(Scores { output: 0, anchor_axis: 2, first: yolov8::BOX_ROWS, count }),
            (Family::YoloNas, 2) => Some(Scores { output: 1, anchor_axis: 1, first: 0, count }),
            _ => None,
        }
    }

    /// The lowest number in the place of a score that [`Family::detect`] may look at, for that threshold.
    pub(crate) fn lowest_raw(self, confidence: f32) -> f32 {
        match self {
            Family::Pair(_) => f32::NEG_INFINITY,
            _ => confidence,
        }
    }

    /// What the shapes of the outputs tell about classes; `None` when they are not of this family.
    pub(crate) fn classes(self, shapes: &[Vec<usize>]) -> Option<Classes> {
        match self {
            Family::Yolov5Part { classes } | Family::Yolov8Part { classes } => {
                Some(Classes::Exactly(classes))
            }
            Family::Heads(_) => heads::classes(shapes, None).map(Classes::Exactly),
            Family::Pair(pair) => pair.size(shapes).map(|(classes, _)| Classes::Exactly(classes)),
            Family::Listed(listed) => listed.fits(shapes).then_some(Classes::Untold),
            Family::Yolov5 | Family::Yolox | Family::YoloxDecoded => {
                yolov5::classes(shapes).map(Classes::Exactly)
            }
            Family::Yolov8 => yolov8::classes(shapes).map(Classes::Exactly),
            Family::YoloNas => yolo_nas::classes(shapes).map(Classes::Exactly),
            Family::RfDetr { .. } => yolo_nas::classes(shapes).map(Classes::UpTo),
            Family::EndToEnd { .. } => end_to_end::is_layout(shapes).then_some(Classes::Untold),
            Family::InGraph(layout) => (in_graph::layout(shapes) == Some(layout)).then_some(Classes::Untold),
        }
    }
}

impl Classes {
    /// Whether that many names go with them.
    pub(crate) fn fit(self, names: usize) -> bool {
        match self {
            Classes::Exactly(count) => count == names,
            Classes::UpTo(count) => names <= count,
            Classes::Untold => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_type_of_the_reference_has_its_family() {
        for (name, family) in [
            ("yolov5v2s", "yolov5"),
            ("yolov8n", "yolov8"),
            ("yolov9", "yolov8"),
            ("yolov11x", "yolov8"),
            ("yolov12m", "yolov8"),
            ("yolov10b", "yolov10"),
            ("yolo26n", "yolo26"),
            ("yolo_nas_s", "yolo_nas"),
            ("rfdetr-base", "rfdetr"),
        ] {
            assert_eq!(Family::of_model_type(name).map(Family::name), Some(family), "{name}");
        }
        for unknown in ["no-such-model-type", "yolov8n-seg", "vit", ""] {
            assert_eq!(Family::of_model_type(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_background_is_no_class() {
        let names = ["a", BACKGROUND, "b"].map(String::from).to_vec();
        let (family, names) = Family::RfDetr { background: None }.with_names(names);
        assert_eq!(family, Family::RfDetr { background: Some(1) });
        assert_eq!(names, ["a", "b"]);
    }
}
