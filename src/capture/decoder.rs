//! By whom the pictures of a stream are decoded: what the configuration may say, and what a worker tells.

/// Most names in `capture.decoder_names`: a board has one or two decoders for each codec.
pub const MAX_DECODER_NAMES: usize = 8;

/// Most device nodes that are looked at: the kernel has numbers for 256, boards have fewer than forty.
pub(in crate::capture) const MAX_DECODER_NODES: usize = 64;

/// Longest name of a decoder, bytes. FFmpeg's longest has fewer than 24.
pub(in crate::capture) const MAX_DECODER_NAME_BYTES: usize = 64;

/// What `capture.decoder` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecoderChoice {
    /// What this machine has, the cheapest first; builtin where nothing else passes its check.
    #[default]
    Auto,
    /// The decoders in this program.
    Builtin,
    /// FFmpeg's library; builtin where it is missing or fails.
    Libavcodec,
    /// A stateful decoder of the kernel (V4L2 memory to memory); builtin where there is none, or it fails.
    V4l2,
}

impl DecoderChoice {
    const ALL: [DecoderChoice; 4] =
        [DecoderChoice::Auto, DecoderChoice::Builtin, DecoderChoice::Libavcodec, DecoderChoice::V4l2];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            DecoderChoice::Auto => "auto",
            DecoderChoice::Builtin => "builtin",
            DecoderChoice::Libavcodec => "libavcodec",
            DecoderChoice::V4l2 => "v4l2",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<DecoderChoice> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }

    /// Its number on the wire between service and worker.
    pub(in crate::capture) fn code(self) -> u8 {
        self as u8
    }

    pub(in crate::capture) fn from_code(code: u8) -> Option<DecoderChoice> {
        Self::ALL.into_iter().find(|choice| choice.code() == code)
    }
}

/// What workers are told of decoders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecoderSettings {
    /// Which kind of decoder: `capture.decoder`.
    pub choice: DecoderChoice,
    /// Decoders of libavcodec by name (`h264_v4l2m2m`), tried in order before all others.
    pub names: Vec<String>,
    /// A decoder that [`DecoderChoice::V4l2`] asks for is used though it does not decode known pictures to the
    /// last bit.
    pub unchecked: bool,
    /// Numbers of the device nodes that may be decoders of the kernel; `None`: all are opened, to find out.
    pub nodes: Option<Vec<u8>>,
}

/// Whether a text can be a decoder's name: letters, digits, `_`, `-`.
pub fn is_decoder_name(text: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= MAX_DECODER_NAME_BYTES && text.bytes().all(is_usual)
}

/// Whose code decodes. What is not our own may end its worker by a fault of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecoderKind {
    /// The decoders in this program.
    Builtin,
    /// libavcodec, FFmpeg's library, opened at run time.
    Libavcodec,
    /// A driver of the kernel.
    V4l2,
}

impl DecoderKind {
    const ALL: [DecoderKind; 3] = [DecoderKind::Builtin, DecoderKind::Libavcodec, DecoderKind::V4l2];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            DecoderKind::Builtin => "builtin",
            DecoderKind::Libavcodec => "libavcodec",
            DecoderKind::V4l2 => "v4l2",
        }
    }

    /// Its number on the wire between worker and service.
    pub(in crate::capture) fn code(self) -> u8 {
        self as u8
    }

    pub(in crate::capture) fn from_code(code: u8) -> Option<DecoderKind> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_go_there_and_back() {
        for choice in DecoderChoice::ALL {
            assert_eq!(DecoderChoice::from_name(choice.name()), Some(choice));
            assert_eq!(DecoderChoice::from_code(choice.code()), Some(choice));
        }
        for kind in DecoderKind::ALL {
            assert_eq!(DecoderKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(DecoderChoice::from_name("ffmpeg"), None);
        assert_eq!(DecoderChoice::from_code(4), None);
    }

    #[test]
    fn names_of_decoders_are_words() {
        for good in ["h264_v4l2m2m", "hevc_rkmpp", "libdav1d", "libaom-av1"] {
            assert!(is_decoder_name(good), "{good}");
        }
        for bad in ["", "a b", "../x", "h264\n", "x\0", &"h".repeat(MAX_DECODER_NAME_BYTES + 1)] {
            assert!(!is_decoder_name(bad), "{bad:?}");
        }
    }
}
