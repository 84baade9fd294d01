//! Pictures that lie on their side: cameras that hang upside down, telephones that were held upright.

/// By how much a picture is turned, clockwise, before anybody looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Turn {
    /// It is shown as it lies.
    #[default]
    None,
    /// 90 degrees.
    Quarter,
    /// 180 degrees.
    Half,
    /// 270 degrees.
    ThreeQuarters,
}

/// Degrees from a quarter turn that still count as one: files round.
const TOLERANCE_DEGREES: f64 = 1.0;

impl Turn {
    /// The turn of so many degrees, clockwise. One that is no multiple of 90 is none, as in OpenCV.
    pub(super) fn from_degrees(degrees: f64) -> Turn {
        let degrees = degrees.rem_euclid(360.0);
        [(90.0, Turn::Quarter), (180.0, Turn::Half), (270.0, Turn::ThreeQuarters)]
            .into_iter()
            .find(|(wanted, _)| (degrees - wanted).abs() <= TOLERANCE_DEGREES)
            .map_or(Turn::None, |(_, turn)| turn)
    }

    /// Width and height of a picture once it is turned.
    pub(super) fn size(self, width: u32, height: u32) -> (u32, u32) {
        if self.exchanges_sides() { (height, width) } else { (width, height) }
    }

    /// Width becomes height.
    pub(super) fn exchanges_sides(self) -> bool {
        matches!(self, Turn::Quarter | Turn::ThreeQuarters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_of_every_sign_and_none_between() {
        for (degrees, turn) in [
            (0.0, Turn::None),
            (90.0, Turn::Quarter),
            (-270.0, Turn::Quarter),
            (180.2, Turn::Half),
            (-90.0, Turn::ThreeQuarters),
            (359.5, Turn::None),
            (45.0, Turn::None),
            (f64::NAN, Turn::None),
        ] {
            assert_eq!(Turn::from_degrees(degrees), turn, "{degrees}");
        }
        assert_eq!(Turn::ThreeQuarters.size(640, 480), (480, 640));
        assert_eq!(Turn::Half.size(640, 480), (640, 480));
    }
}
