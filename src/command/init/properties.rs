//! The capture properties a client may name in `video_source_properties`: OpenCV's `CAP_PROP_<NAME>`.

use crate::json::Value;

/// Names without the prefix, in lower case, sorted. Those of single vendors' cameras (DC1394, OpenNI, XIMEA
/// …) are left out: no source of ours has them, and a typing error must not pass as one.
pub const NAMES: [&str; 70] = [
    "audio_base_index",
    "audio_data_depth",
    "audio_pos",
    "audio_samples_per_second",
    "audio_shift_nsec",
    "audio_stream",
    "audio_synchronize",
    "audio_total_channels",
    "audio_total_streams",
    "auto_exposure",
    "auto_wb",
    "autofocus",
    "backend",
    "backlight",
    "bitrate",
    "brightness",
    "buffersize",
    "channel",
    "codec_extradata_index",
    "codec_pixel_format",
    "contrast",
    "convert_rgb",
    "exposure",
    "focus",
    "format",
    "fourcc",
    "fps",
    "frame_count",
    "frame_height",
    "frame_type",
    "frame_width",
    "gain",
    "gamma",
    "guid",
    "hue",
    "hw_acceleration",
    "hw_acceleration_use_opencl",
    "hw_device",
    "iris",
    "iso_speed",
    "lrf_has_key_frame",
    "mode",
    "monochrome",
    "n_threads",
    "open_timeout_msec",
    "orientation_auto",
    "orientation_meta",
    "pan",
    "pos_avi_ratio",
    "pos_frames",
    "pos_msec",
    "read_timeout_msec",
    "rectification",
    "roll",
    "sar_den",
    "sar_num",
    "saturation",
    "settings",
    "sharpness",
    "stream_open_time_usec",
    "temperature",
    "tilt",
    "trigger",
    "trigger_delay",
    "video_stream",
    "video_total_channels",
    "wb_temperature",
    "white_balance_blue_u",
    "white_balance_red_v",
    "zoom",
];

/// The canonical name of a property given in any case; `None` when OpenCV has no such.
pub(super) fn canonical(given: &str) -> Option<&'static str> {
    NAMES.iter().find(|name| name.eq_ignore_ascii_case(given)).copied()
}

/// What the letters of a `fourcc` may be, for JSON Schema: V4L2's codes are printable ASCII, blanks at the
/// end among it.
pub const FOURCC_PATTERN: &str = "^[ -~]{4}$";

/// The four letters that newer clients write for `fourcc`, which OpenCV packs into a number; `None` for any
/// other value.
pub fn fourcc(name: &str, value: &Value) -> Option<[u8; 4]> {
    let letters = value.as_str().filter(|_| canonical(name) == Some("fourcc"))?;
    letters
        .as_bytes()
        .try_into()
        .ok()
        .filter(|letters: &[u8; 4]| letters.iter().all(|letter| (b' '..=b'~').contains(letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_sorted() {
        assert_eq!(canonical("Frame_WIDTH"), Some("frame_width"));
        assert_eq!(canonical("frame_widht"), None);
        assert!(NAMES.is_sorted());
    }
}
