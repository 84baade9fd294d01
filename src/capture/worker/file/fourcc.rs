//! Four letters that name a codec: in AVI, in the Matroska tracks that follow its rules, in MP4, in Flash
//! Video.

use crate::capture::worker::decode::Codec;
use crate::error::{Error, Kind};

/// The codec of these letters, or the error that names the one that we lack.
pub(super) fn codec(letters: &[u8]) -> Result<Codec, Error> {
    match letters.to_ascii_lowercase().as_slice() {
        b"avc1" | b"avc2" | b"avc3" | b"avc4" | b"dva1" | b"dvav" | b"h264" | b"x264" | b"davc" | b"vssh"
        | b"q264" | b"v264" | b"gavc" | b"umsv" | b"ssmp" => Ok(Codec::H264),
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" | b"hevc" | b"h265" | b"x265" => Ok(Codec::H265),
        b"jpeg" | b"mjpg" | b"mjpa" | b"avrn" | b"avdj" | b"adjv" | b"dmb1" | b"qivg" | b"ijpg" | b"jpgl" => {
            Ok(Codec::Jpeg)
        }
        b"mp4v" | b"fmp4" | b"xvid" | b"divx" | b"dx50" | b"mp4s" => Ok(Codec::Mpeg4),
        b"vp80" | b"vp08" => Ok(Codec::Vp8),
        b"vp90" | b"vp09" => Ok(Codec::Vp9),
        b"av01" => Ok(Codec::Av1),
        other => Err(missing(name(other))),
    }
}

/// A codec that nothing here decodes; those that are named always are.
pub(in crate::capture::worker) fn missing(name: impl std::fmt::Display) -> Error {
    Error::new(
        Kind::SourceUnsupported,
        format!("video codec {name} is not supported (H.264, H.265 and JPEG are)"),
    )
}

/// What people call the codecs that they meet most and we lack.
fn name(letters: &[u8]) -> String {
    let name = match letters {
        b"vvc1" | b"vvi1" => "H.266",
        b"div3" | b"mp43" | b"mp42" | b"mpg4" => "Microsoft MPEG-4",
        b"mpg1" | b"mpeg" => "MPEG-1 video",
        b"mpg2" | b"mp2v" | b"m2v1" | b"hdv2" | b"hdv3" => "MPEG-2 video",
        b"h263" | b"s263" | b"flv1" => "H.263",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => "ProRes",
        b"mjpb" => "Motion JPEG B",
        b"ljpg" => "lossless JPEG",
        b"mjp2" | b"mj2c" => "JPEG 2000",
        b"dvsd" | b"dvcp" | b"dvc " | b"dvhd" => "DV",
        b"wmv1" | b"wmv2" | b"wmv3" | b"wvc1" => "Windows Media Video",
        b"png " | b"mpng" => "PNG",
        [0, 0, 0, 0] | b"dib " | b"raw " => "uncompressed video",
        other => return other.escape_ascii().to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_known_in_either_case_and_others_are_named() {
        assert_eq!(codec(b"H264").unwrap(), Codec::H264);
        assert_eq!(codec(b"hev1").unwrap(), Codec::H265);
        assert_eq!(codec(b"MJPG").unwrap(), Codec::Jpeg);
        assert_eq!(codec(b"XVID").unwrap(), Codec::Mpeg4);
        assert!(codec(b"WMV3").unwrap_err().message().contains("Windows Media Video"));
        assert!(codec(&[0xff, b'a', b'b', b'c']).unwrap_err().message().contains("\\xffabc"));
    }
}
