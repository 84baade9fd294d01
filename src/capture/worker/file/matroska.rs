//! Matroska and WebM, through `matroska-demuxer`.

use super::mp4::NalFormat;
use super::{Medium, Rate, codec_missing, stream_facts};
use crate::capture::worker::decode::annexb::is_key;
use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};
use matroska_demuxer::{DemuxError, Frame, MatroskaFile, TrackEntry, TrackType};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// An open Matroska file.
pub(super) struct Matroska {
    path: PathBuf,
    demuxer: Demuxer,
    track: u64,
    codec: Codec,
    nal: Option<NalFormat>,
    properties: SourceProperties,
    frame: Frame,
    packet: Vec<u8>,
}

type Demuxer = MatroskaFile<BufReader<File>>;

fn demuxer(path: &Path) -> Result<Demuxer> {
    let file =
        File::open(path).map_err(|cause| Error::new(Kind::SourceConnection, "the file cannot be opened").because(cause))?;
    MatroskaFile::open(BufReader::new(file))
        .map_err(|cause| Error::new(Kind::SourceConnection, "the Matroska file is damaged").because(cause))
}

impl Matroska {
    pub(super) fn open(medium: &Medium, path: &Path) -> Result<Matroska> {
        let demuxer = demuxer(path)?;
        let mut missing = None;
        for track in demuxer.tracks().iter().filter(|track| track.track_type() == TrackType::Video) {
            let Some((codec, nal)) = codec_of(track) else {
                missing = missing.or(Some(codec_name(track.codec_id()).to_owned()));
                continue;
            };
            let (number, properties) = (track.track_number().get(), properties(medium, &demuxer, track, codec, nal.as_ref()));
            let path = path.to_owned();
            return Ok(Matroska {
                path,
                demuxer,
                track: number,
                codec,
                nal,
                properties,
                frame: Frame::default(),
                packet: Vec::new(),
            });
        }
        Err(match missing {
            Some(name) => codec_missing(&name),
            None => Error::new(Kind::SourceUnsupported, "the Matroska file holds no video"),
        })
    }
}

/// The codec of a track and how its samples are cut; `None`: one that we lack, or samples that are packed in a way that we lack.
fn codec_of(track: &TrackEntry) -> Option<(Codec, Option<NalFormat>)> {
    if track.content_encodings().is_some_and(|encodings| !encodings.is_empty()) {
        return None;
    }
    let private = track.codec_private().unwrap_or_default();
    match track.codec_id() {
        "V_MPEG4/ISO/AVC" => Some((Codec::H264, Some(NalFormat::from_avcc(private)?))),
        "V_MPEGH/ISO/HEVC" => Some((Codec::H265, Some(NalFormat::from_hvcc(private)?))),
        "V_MJPEG" => Some((Codec::Jpeg, None)),
        _ => None,
    }
}

fn codec_name(id: &str) -> &str {
    match id {
        "V_VP8" => "VP8",
        "V_VP9" => "VP9",
        "V_AV1" => "AV1",
        other => other,
    }
}

fn properties(medium: &Medium, demuxer: &Demuxer, track: &TrackEntry, codec: Codec, nal: Option<&NalFormat>) -> SourceProperties {
    let facts = nal.and_then(|nal| stream_facts(codec, &nal.parameter_sets));
    let side = |side: u64| u32::try_from(side).unwrap_or(0);
    let declared = track.video().map_or((0, 0), |video| (side(video.pixel_width().get()), side(video.pixel_height().get())));
    let (width, height) = facts.map_or(declared, |facts| (facts.width, facts.height));
    let by_track = track.default_duration().map(|nanoseconds| 1e9 / nanoseconds.get() as f64);
    let fps = by_track.or(facts.and_then(|facts| facts.fps)).unwrap_or(0.0);
    let info = demuxer.info();
    let seconds = info.duration().unwrap_or(0.0) * info.timestamp_scale().get() as f64 / 1e9;
    // The container counts no frames; the reference multiplies too.
    let frames = (seconds * fps).round();
    let known = frames.is_finite() && frames > 0.0;
    medium.properties(width, height, known.then_some(frames as u64), Rate(fps))
}

impl Source for Matroska {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        loop {
            match self.demuxer.next_frame(&mut self.frame) {
                Ok(true) if self.frame.track == self.track => break,
                Ok(true) => {}
                Ok(false) => return Ok(Grab::End),
                Err(DemuxError::IoError(cause)) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
                    log::warn!("video file is cut short frame_time={}", self.frame.timestamp);
                    return Ok(Grab::End);
                }
                Err(cause) => return Err(Error::new(Kind::SourceLost, "the Matroska file is damaged").because(cause)),
            }
        }
        let Some(nal) = &self.nal else {
            let unit = AccessUnit { data: &self.frame.data, key: true, shown: !self.frame.is_invisible };
            return Ok(Grab::Packet(self.codec, unit));
        };
        nal.to_key_or_other(self.codec, &self.frame.data, &mut self.packet);
        let key = is_key(self.codec, &self.packet);
        Ok(Grab::Packet(self.codec, AccessUnit { data: &self.packet, key, shown: !self.frame.is_invisible }))
    }

    fn restart(&mut self) -> Result<()> {
        self.demuxer = demuxer(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::capture::worker::clips::{assert_exact, asset};
    use crate::capture::worker::file;
    use crate::error::Kind;

    #[test]
    fn h264_and_h265_in_matroska_are_exact() {
        for name in ["h264.mkv", "h265.mkv"] {
            assert_exact(name, |_| {});
            let properties = file::open(&asset(&format!("clips/{name}"))).unwrap().properties();
            assert_eq!((properties.width, properties.height, properties.total_frames), (192, 144, 25), "{name}");
            assert!((properties.fps - 25.0).abs() < 0.01 && properties.is_file, "{name}");
        }
    }

    #[test]
    fn a_codec_that_we_lack_is_named() {
        for (name, codec) in [("vp8.webm", "VP8"), ("mpeg4.mp4", "MPEG-4 Part 2")] {
            let error = file::open(&asset(&format!("clips/{name}"))).err().unwrap();
            assert_eq!(error.kind(), Kind::SourceUnsupported);
            assert!(error.message().contains(codec), "{}", error.message());
        }
    }
}
