//! Pictures that lie on their side: cameras that hang upside down, telephones that were held upright.

/// By how much a picture is turned, clockwise, before anybody looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rotation {
    /// It is shown as it lies.
    #[default]
    None,
    /// 90 degrees clockwise, by which a picture is turned to stand upright.
    Quarter,
    /// 180 degrees: it stands on its head.
    Half,
    /// 270 degrees clockwise, which is 90 the other way.
    ThreeQuarters,
}

/// Degrees from a quarter turn that still count as one: files round.
const TOLERANCE_DEGREES: f64 = 1.0;

impl Rotation {
    /// The turn of so many degrees, clockwise. One that is no multiple of 90 is none, as in OpenCV.
    pub(super) fn from_degrees(degrees: f64) -> Rotation {
        let degrees = degrees.rem_euclid(360.0);
        [(90.0, Rotation::Quarter), (180.0, Rotation::Half), (270.0, Rotation::ThreeQuarters)]
            .into_iter()
            .find(|(wanted, _)| (degrees - wanted).abs() <= TOLERANCE_DEGREES)
            .map_or(Rotation::None, |(_, rotation)| rotation)
    }

    /// Width and height of a picture once it is turned.
    pub(super) fn size(self, width: u32, height: u32) -> (u32, u32) {
        if self.exchanges_sides() { (height, width) } else { (width, height) }
    }

    /// Whether the width of a turned picture is its height before.
    pub(super) fn exchanges_sides(self) -> bool {
        matches!(self, Rotation::Quarter | Rotation::ThreeQuarters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_of_every_sign_and_none_between() {
        for (degrees, rotation) in [
            (0.0, Rotation::None),
            (90.0, Rotation::Quarter),
            (-270.0, Rotation::Quarter),
            (180.2, Rotation::Half),
            (-90.0, Rotation::ThreeQuarters),
            (359.5, Rotation::None),
            (45.0, Rotation::None),
            (f64::NAN, Rotation::None),
        ] {
            assert_eq!(Rotation::from_degrees(degrees), rotation, "{degrees}");
        }
        assert_eq!(Rotation::ThreeQuarters.size(640, 480), (480, 640));
        assert_eq!(Rotation::Half.size(640, 480), (640, 480));
    }
}
