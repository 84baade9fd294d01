//! Which family a graph belongs to, when nobody says: from the shapes and names of its outputs, its metadata
//! and its class names. What only numbers can tell is left to [`super::observe`].

use super::heads::{self, Heads};
use super::listed::{Layout, Listed};
use super::pair::{Activation, Background, Pair};
use super::{Family, in_graph, yolox};
use crate::error::{Error, Kind, Result};
use crate::infer::onnx::Description;

/// Longest list of final boxes that is taken for one: exporters keep 100 or 300; grids have thousands of
/// anchors.
const MAX_FINAL_BOXES: usize = 1000;

/// Anchors per cell of YOLOv5 and v7.
const YOLOV5_ANCHORS: usize = 3;

/// What is known besides the shapes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hints {
    /// How many classes there may be, the likeliest number first; empty: nobody knows.
    pub(crate) counts: Vec<usize>,
    /// Width of the input, pixels.
    pub(crate) width: u32,
    /// Height of the input, pixels.
    pub(crate) height: u32,
    /// Names of the outputs.
    pub(crate) outputs: Vec<String>,
    /// `task` of Ultralytics' metadata.
    pub(crate) task: Option<String>,
    /// Numbers of a pose: points times what each has.
    pub(crate) points: Option<usize>,
}

/// What a graph looks like.
#[derive(Debug)]
pub(crate) struct Recognised {
    pub(crate) family: Family,
    /// What gave it away, and what of the outputs is not used.
    pub(crate) why: String,
}

impl Hints {
    /// For a graph that will run at that size, of so many classes.
    pub(crate) fn of_graph(
        graph: &Description,
        counts: Vec<usize>,
        (width, height): (usize, usize),
    ) -> Hints {
        let side = |side: usize| u32::try_from(side).unwrap_or(0);
        let outputs = graph.output_names().into_iter().map(str::to_owned).collect();
        let points = graph.metadata("kpt_shape").and_then(|text| {
            let numbers = text
                .trim_matches(['[', ']', '(', ')'])
                .split(',')
                .map(|number| number.trim().parse::<usize>().ok());
            numbers.collect::<Option<Vec<usize>>>()?.into_iter().try_fold(1usize, usize::checked_mul)
        });
        let task = graph.metadata("task").map(|task| task.trim().to_lowercase());
        Hints { counts, width: side(width), height: side(height), outputs, task, points }
    }

    fn fits(&self, classes: usize) -> bool {
        classes > 0 && (self.counts.is_empty() || self.counts.contains(&classes))
    }

    /// The output whose name holds one of these words.
    fn named(&self, words: &[&str]) -> Option<usize> {
        self.outputs.iter().position(|name| words.iter().any(|word| name.to_lowercase().contains(word)))
    }
}

/// The family whose outputs look like that, and what gave it away.
pub(crate) fn family(shapes: &[Vec<usize>], hints: &Hints) -> Result<Recognised> {
    let refused = |message: String| Err(Error::new(Kind::ModelArtefact, message));
    match hints.task.as_deref() {
        Some("classify") => {
            return refused(String::from(
                "the model names pictures and finds no boxes: its task is classify",
            ));
        }
        Some("obb") => {
            return refused(String::from(
                "the model finds turned boxes, which are not supported: its task is obb",
            ));
        }
        _ => {}
    }
    let (family, unused) = match find(shapes, hints) {
        Some(found) => found,
        None => {
            let names = hints.counts.first().map_or(String::from("no"), usize::to_string);
            let message = format!(
                "outputs {:?} of shapes {shapes:?} with {names} class names are of no known family",
                hints.outputs
            );
            return refused(message);
        }
    };
    let names = hints.counts.first().map_or(String::from("no"), usize::to_string);
    let unused = unused.map(|unused| format!("; {unused} are not used")).unwrap_or_default();
    Ok(Recognised {
        family,
        why: format!("outputs {:?} of shapes {shapes:?}, {names} class names{unused}", hints.outputs),
    })
}

type Found = (Family, Option<&'static str>);

fn find(shapes: &[Vec<usize>], hints: &Hints) -> Option<Found> {
    let plain = |family: Family| (family, None);
    if let Some(family) = of_lists(shapes, hints) {
        return Some(plain(family));
    }
    // What comes behind the first output as pictures does: prototypes of masks, heads before they are
    // decoded.
    let behind_are_pictures = shapes.len() > 1 && shapes.iter().skip(1).all(|shape| shape.len() >= 4);
    if let Some(first) = shapes.first().filter(|_| shapes.len() == 1 || behind_are_pictures) {
        if let Some(family) = of_one(first, hints) {
            return Some((family, behind_are_pictures.then_some("the other outputs")));
        }
        let masks = shapes
            .get(1)
            .filter(|shape| shapes.len() == 2 && shape.len() == 4)
            .and_then(|shape| shape.get(1).copied());
        for (extra, unused) in [(masks, "masks"), (hints.points, "points")] {
            if let Some(family) = extra.and_then(|extra| of_one_with(first, extra, hints)) {
                return Some((family, Some(unused)));
            }
        }
    }
    if let Some(classes) = heads::classes(shapes, Some((hints.width, hints.height)))
        && hints.fits(classes)
    {
        return Some(plain(Family::Heads(Heads { activated: false })));
    }
    let pair = match shapes {
        [_, _] => of_two(shapes, hints),
        _ => None,
    };
    pair.or_else(|| in_graph::layout(shapes).map(Family::InGraph)).map(plain)
}

fn of_one(shape: &[usize], hints: &Hints) -> Option<Family> {
    let &[1, rows, columns] = shape else { return None };
    let cells = yolox::cells(hints.width, hints.height);
    let behind =
        |count: usize, before: usize| count.checked_sub(before).is_some_and(|classes| hints.fits(classes));
    let known = !hints.counts.is_empty();
    if behind(columns, 5) && rows == YOLOV5_ANCHORS * cells {
        return Some(Family::Yolov5);
    }
    if behind(columns, 5) && rows == cells {
        return Some(Family::Yolox);
    }
    if behind(rows, 4) && (known || rows < columns) {
        return Some(Family::Yolov8);
    }
    if columns == 6 && rows <= MAX_FINAL_BOXES {
        return Some(Family::EndToEnd { limited: true });
    }
    (behind(columns, 5) && (known || rows > columns)).then_some(Family::Yolov5)
}

/// As [`of_one`], with `extra` values for each box that are not used.
fn of_one_with(shape: &[usize], extra: usize, hints: &Hints) -> Option<Family> {
    let &[1, rows, columns] = shape else { return None };
    let cells = yolox::cells(hints.width, hints.height);
    let classes = |count: usize, before: usize| {
        count.checked_sub(before + extra).filter(|classes| hints.fits(*classes))
    };
    if let Some(classes) = classes(columns, 5).filter(|_| rows == YOLOV5_ANCHORS * cells) {
        return Some(Family::Yolov5Part { classes });
    }
    if let Some(classes) = classes(rows, 4) {
        return Some(Family::Yolov8Part { classes });
    }
    (columns == 6 + extra && rows <= MAX_FINAL_BOXES).then_some(Family::EndToEnd { limited: true })
}

/// Families whose graphs end in boxes that are suppressed already.
fn of_lists(shapes: &[Vec<usize>], hints: &Hints) -> Option<Family> {
    let listed = |layout| Some(Family::Listed(Listed { layout, fractions: false }));
    match shapes {
        [_, _, _] => {
            let (boxes, scores) = (hints.named(&["box"])?, hints.named(&["score", "conf"])?);
            let labels = hints.named(&["label", "class"])?;
            let layout = Layout::Apart { labels, boxes, scores };
            let apart = labels != boxes && boxes != scores && labels != scores;
            (apart && Listed { layout, fractions: false }.fits(shapes)).then(|| listed(layout))?
        }
        [rows, count] if matches!(rows[..], [_, 6]) && matches!(count[..], [1] | [1, 1] | []) => {
            listed(Layout::ClassFirst)
        }
        [rows] if matches!(rows[..], [_, 6]) && hints.named(&["nms", "save_infer", ".tmp_"]).is_some() => {
            listed(Layout::ClassFirst)
        }
        [rows] if matches!(rows[..], [_, 7]) && hints.named(&["flat"]).is_some() => listed(Layout::Flat),
        _ => None,
    }
}

/// Boxes and scores, whichever comes first.
fn of_two(shapes: &[Vec<usize>], hints: &Hints) -> Option<Family> {
    let are_boxes = |index: usize| matches!(shapes.get(index).map(Vec::as_slice), Some([1, _, 4]));
    let scored = hints.named(&["score", "conf", "cls", "class", "prob", "logit", "label"]);
    let boxed = hints.named(&["box", "dets", "loc"]);
    let boxes = match (are_boxes(0), are_boxes(1)) {
        (true, false) => 0,
        (false, true) => 1,
        (false, false) => return None,
        // four classes: only names can tell
        (true, true) => boxed.or(scored.map(|scores| 1 - scores.min(1))).unwrap_or(0).min(1),
    };
    let scores = 1 - boxes;
    let &[1, anchors, _] = shapes[boxes].as_slice() else { return None };
    let &[1, first, second] = shapes[scores].as_slice() else { return None };
    let by_class = first != anchors;
    if by_class && second != anchors {
        return None;
    }
    let all = if by_class { first } else { second };
    let name = |index: usize| hints.outputs.get(index).map_or("", String::as_str).to_lowercase();
    let named = |word: &str| hints.outputs.iter().any(|name| name.to_lowercase().contains(word));
    // RF-DETR's exporter names the outputs `dets` and `labels`.
    if named("dets") && named("labels") && boxes == 0 && !by_class {
        return Some(Family::RfDetr { background: None });
    }
    let queries = name(scores).contains("logit");
    let background = match (
        hints.fits(all),
        all.checked_sub(1).is_some_and(|classes| hints.fits(classes)) && !hints.counts.is_empty(),
    ) {
        (true, _) => None,
        (false, true) if queries => Some(Background::Last),
        (false, true) => Some(Background::First),
        // Hugging Face's DETR has names for some ids only
        (false, false) if queries => None,
        (false, false) => return None,
    };
    let activation =
        if background == Some(Background::Last) { Activation::Softmax } else { Activation::Sigmoid };
    if !queries && background.is_none() && boxes == 0 && !by_class {
        return Some(Family::YoloNas);
    }
    Some(Family::Pair(Pair {
        boxes,
        scores,
        by_class,
        centred: queries,
        fractions: queries,
        activation,
        background,
        queries,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(names: usize, outputs: &[&str]) -> Hints {
        let outputs = outputs.iter().map(|name| (*name).to_owned()).collect();
        let counts = if names == 0 { vec![] } else { vec![names] };
        Hints { counts, width: 640, height: 640, outputs, ..Hints::default() }
    }

    fn named(shapes: &[Vec<usize>], names: usize, outputs: &[&str]) -> Option<&'static str> {
        family(shapes, &hints(names, outputs)).ok().map(|found| found.family.name())
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

    #[test]
    fn names_of_outputs_count_before_their_order() {
        let four = [vec![1, 64, 4], vec![1, 64, 4]];
        let Ok(Recognised { family: Family::Pair(pair), .. }) =
            family(&four, &hints(4, &["scores", "boxes"]))
        else {
            panic!("no pair")
        };
        assert_eq!((pair.boxes, pair.scores), (1, 0));
        assert_eq!(named(&four, 4, &["boxes", "scores"]), Some("yolo_nas"));
        let detr = [vec![1, 300, 80], vec![1, 300, 4]];
        assert_eq!(named(&detr, 80, &["logits", "pred_boxes"]), Some("detr"));
        let apart = [vec![1, 300], vec![1, 300, 4], vec![1, 300]];
        assert_eq!(named(&apart, 80, &["labels", "boxes", "scores"]), Some("final_boxes"));
        assert_eq!(named(&[vec![1, 3598, 4], vec![1, 80, 3598]], 80, &["a", "b"]), Some("boxes_and_scores"));
        // UltraFace: one name, two scores, the first for nothing
        let Ok(Recognised { family: Family::Pair(pair), .. }) =
            family(&[vec![1, 4420, 2], vec![1, 4420, 4]], &hints(1, &["scores", "boxes"]))
        else {
            panic!("no pair")
        };
        assert_eq!((pair.background, pair.boxes), (Some(Background::First), 1));
        assert_eq!(
            named(&[vec![0, 6], vec![1]], 80, &["multiclass_nms3_0.tmp_0", "multiclass_nms3_0.tmp_2"]),
            Some("final_boxes")
        );
        assert_eq!(named(&[vec![0, 7]], 80, &["graph2_flat_predictions"]), Some("final_boxes"));
        let heads = [80, 40, 20].map(|grid| vec![1, 3, grid, grid, 85]);
        assert_eq!(named(&heads, 80, &["a", "b", "c"]), Some("yolov5_heads"));
    }

    #[test]
    fn what_other_tasks_add_is_not_used() {
        let masks = [vec![1, 116, 8400], vec![1, 32, 160, 160]];
        let found = family(&masks, &hints(80, &["output0", "output1"])).unwrap();
        assert_eq!(found.family, Family::Yolov8Part { classes: 80 });
        assert!(found.why.contains("masks are not used"), "{}", found.why);
        let pose = Hints { task: Some(String::from("pose")), points: Some(51), ..hints(1, &["output0"]) };
        let found = family(&[vec![1, 56, 8400]], &pose).unwrap();
        assert_eq!(found.family, Family::Yolov8Part { classes: 1 });
        assert!(found.why.contains("points are not used"), "{}", found.why);
        for task in ["classify", "obb"] {
            let error = family(
                &[vec![1, 84, 8400]],
                &Hints { task: Some(task.to_owned()), ..hints(80, &["output0"]) },
            )
            .unwrap_err();
            assert!(error.message().contains(task), "{error}");
        }
    }

    #[test]
    fn without_names_the_shapes_alone_speak() {
        assert_eq!(named(&[vec![1, 84, 8400]], 0, &["output0"]), Some("yolov8"));
        assert_eq!(named(&[vec![1, 25200, 85]], 0, &["output0"]), Some("yolov5"));
        assert_eq!(named(&[vec![1, 8400, 85]], 0, &["output0"]), Some("yolox"));
        assert_eq!(named(&[vec![1, 300, 6]], 0, &["output0"]), Some("yolov10"));
    }
}
