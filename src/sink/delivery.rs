//! One frame's detections on their way out: what every kind of sink is handed.

use super::datagram::{self, ClassNames};
use super::frame::{FrameInfo, Prediction};
use crate::detection::Detection;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use uuid::Uuid;

/// Packs the frames of one pipeline; its buffers are used again, so that a frame allocates nothing.
#[derive(Debug)]
pub struct Packer {
    names: Rc<ClassNames>,
    predictions: Vec<Prediction>,
    spare: RefCell<Vec<u8>>,
}

impl Packer {
    /// For a model with these class names.
    pub fn new(classes: &[String]) -> Packer {
        Packer {
            names: Rc::new(ClassNames::new(classes)),
            predictions: Vec::new(),
            spare: RefCell::default(),
        }
    }

    /// A frame and its detections by falling confidence. JSON has no NaN: a model that computes one loses the
    /// box, not the frame.
    pub fn pack(&mut self, frame: FrameInfo, detections: &[Detection]) -> Delivery<'_> {
        let finite = detections.iter().filter(|detection| detection.is_finite());
        self.predictions.clear();
        self.predictions
            .extend(finite.map(|detection| Prediction { detection: *detection, id: Uuid::new_v4() }));
        let Packer { names, predictions, spare } = self;
        Delivery { frame, predictions, names, datagram: OnceCell::new(), spare }
    }
}

/// A packed frame. Its written form is made once, for the first who asks.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Which frame it is, and when it was taken.
    pub frame: FrameInfo,
    /// What was found, by falling confidence.
    pub predictions: &'a [Prediction],
    /// Names of their classes.
    pub names: &'a Rc<ClassNames>,
    datagram: OnceCell<Datagram>,
    spare: &'a RefCell<Vec<u8>>,
}

#[derive(Debug)]
struct Datagram {
    bytes: Vec<u8>,
    /// How many predictions had room in it.
    written: usize,
}

impl Delivery<'_> {
    /// The payload of the frame's datagram, as the reference writes it.
    pub fn datagram(&self) -> &[u8] {
        &self.written().bytes
    }

    fn written(&self) -> &Datagram {
        self.datagram.get_or_init(|| {
            let mut bytes = self.spare.take();
            let written = datagram::write(&mut bytes, &self.frame, self.predictions, self.names);
            Datagram { bytes, written }
        })
    }

    /// The predictions that fit into a datagram: those of lowest confidence may not.
    pub fn fitting(&self) -> &[Prediction] {
        if datagram::surely_fit(self.predictions.len(), self.names) {
            return self.predictions;
        }
        self.predictions.get(..self.written().written).unwrap_or(self.predictions)
    }

    /// How many do not.
    pub fn omitted(&self) -> usize {
        self.predictions.len() - self.fitting().len()
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if let Some(datagram) = self.datagram.take() {
            self.spare.replace(datagram.bytes);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock::Wall;

    pub(in crate::sink) fn frame(frame_id: u64) -> FrameInfo {
        let at = Wall::from_micros(1_700_000_000_000_001);
        FrameInfo { width: 640, height: 480, source_id: 0, frame_id, decoded: at, emitted: at }
    }

    const BOX: Detection =
        Detection { left: 1.0, top: 2.0, right: 3.0, bottom: 4.0, confidence: 0.5, class_id: 0 };

    #[test]
    fn nan_never_reaches_a_datagram() {
        let mut packer = Packer::new(&[]);
        let delivery = packer.pack(frame(1), &[Detection { left: f32::NAN, ..BOX }, BOX]);
        let text = String::from_utf8_lossy(delivery.datagram());
        assert_eq!(text.matches("detection_id").count(), 1);
        assert!(!text.contains("NaN") && !text.contains("null"));
        assert_eq!(delivery.omitted(), 0);
    }

    #[test]
    fn what_is_omitted_is_the_same_whether_or_not_the_datagram_was_written_and_its_buffer_is_used_again() {
        let mut packer = Packer::new(&["cat".to_owned()]);
        let many = vec![BOX; 1000];
        let delivery = packer.pack(frame(1), &many);
        let omitted = delivery.omitted();
        assert!(omitted > 0 && delivery.fitting().len() + omitted == 1000);
        let buffer = delivery.datagram().as_ptr();
        let text = String::from_utf8_lossy(delivery.datagram()).into_owned();
        assert_eq!(text.matches("detection_id").count(), 1000 - omitted);
        drop(delivery);
        let delivery = packer.pack(frame(2), &many[..10]);
        assert_eq!((delivery.datagram().as_ptr(), delivery.omitted()), (buffer, 0));
    }
}
