//! OpenCV's capture properties (`video_source_properties`) and the V4L2 controls that they name.

use super::ioctl::Device;
use crate::command::Property;

/// OpenCV's name, in lower case without `CAP_PROP_`, and the id of the control (`linux/v4l2-controls.h`).
/// A camera that lacks a control only makes a line in the log: the reference does not check either.
const CONTROLS: [(&str, u32); 21] = [
    ("brightness", 0x0098_0900),
    ("contrast", 0x0098_0901),
    ("saturation", 0x0098_0902),
    ("hue", 0x0098_0903),
    ("auto_wb", 0x0098_090c),
    ("white_balance_red_v", 0x0098_090e),
    ("white_balance_blue_u", 0x0098_090f),
    ("gamma", 0x0098_0910),
    ("gain", 0x0098_0913),
    ("wb_temperature", 0x0098_091a),
    ("temperature", 0x0098_091a),
    ("sharpness", 0x0098_091b),
    ("backlight", 0x0098_091c),
    ("auto_exposure", 0x009a_0901),
    ("exposure", 0x009a_0902),
    ("pan", 0x009a_0908),
    ("tilt", 0x009a_0909),
    ("focus", 0x009a_090a),
    ("autofocus", 0x009a_090c),
    ("zoom", 0x009a_090d),
    ("iris", 0x009a_0911),
];

/// Id of the control that a property names.
fn control_id(name: &str) -> Option<u32> {
    CONTROLS.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
}

/// Sets what can be set, in the order given: a camera takes an exposure only after `auto_exposure` was
/// switched off.
pub(super) fn set(device: &Device, properties: &[Property]) {
    for property in properties {
        let Some(id) = control_id(&property.name) else { continue };
        if let Err(cause) = device.set_control(id, property.value) {
            log::warn!(
                "camera lacks or refuses a control property={} value={} cause=\"{cause}\"",
                property.name,
                property.value
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_opencv() {
        assert_eq!(control_id("brightness"), Some(0x0098_0900));
        assert_eq!(control_id("frame_width"), None);
        assert!(
            CONTROLS
                .iter()
                .all(|(name, _)| name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'))
        );
    }
}
