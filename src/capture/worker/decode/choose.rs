//! Which decoder a stream is given: what the configuration allows, in order, the first that decodes a known
//! picture; builtin where none does.

use super::foreign::{Foreign, Guarded};
use super::{Codec, Decoder, builtin, known};
use crate::capture::{DecoderChoice, DecoderKind, DecoderSettings};
use crate::error::{Error, Kind, Result};

/// The decoders that one worker may use.
pub(in crate::capture::worker) struct Decoders {
    settings: DecoderSettings,
    /// What people should know: why another decoder is used than was asked for.
    news: Option<String>,
}

/// Told whose code runs next, before it runs.
pub(in crate::capture::worker) type Tell<'a> = dyn FnMut(DecoderKind) -> Result<()> + 'a;

impl Decoders {
    /// Nothing but our own.
    pub(in crate::capture::worker) fn builtin() -> Decoders {
        let settings = DecoderSettings { choice: DecoderChoice::Builtin, names: Vec::new() };
        Decoders { settings, news: None }
    }

    /// Opens what must be opened before the worker is locked in, and before it has a second thread.
    pub(in crate::capture::worker) fn load(
        settings: &DecoderSettings,
        _tell: &mut Tell<'_>,
    ) -> Result<Decoders> {
        Ok(Decoders { settings: settings.clone(), news: None })
    }

    /// A decoder for a stream of that codec.
    ///
    /// Errors: `SourceUnsupported`: nothing here decodes it; what `tell` says.
    pub(in crate::capture::worker) fn open(
        &mut self,
        codec: Codec,
        tell: &mut Tell<'_>,
    ) -> Result<Box<dyn Decoder>> {
        if codec != Codec::Jpeg {
            for kind in self.candidates() {
                tell(*kind)?;
                match self.foreign(*kind, codec) {
                    Ok(foreign) => {
                        log::debug!("event=decoder codec={} decoder=\"{}\"", codec.name(), foreign.name());
                        return Ok(Box::new(Guarded::new(codec, foreign)));
                    }
                    Err(why) => self.refuse(*kind, codec, &why),
                }
            }
        }
        tell(DecoderKind::Builtin)?;
        builtin(codec).ok_or_else(|| {
            Error::new(Kind::SourceUnsupported, format!("nothing here decodes {}", codec.name()))
        })
    }

    /// What is tried before builtin, in order.
    fn candidates(&self) -> &'static [DecoderKind] {
        match self.settings.choice {
            DecoderChoice::Builtin => &[],
            DecoderChoice::Auto => &[DecoderKind::V4l2, DecoderKind::Libavcodec],
            DecoderChoice::Libavcodec => &[DecoderKind::Libavcodec],
            DecoderChoice::V4l2 => &[DecoderKind::V4l2],
        }
    }

    /// A decoder of that kind that has decoded a known picture; else why there is none.
    fn foreign(&mut self, kind: DecoderKind, codec: Codec) -> Result<Box<dyn Foreign>, String> {
        let opened: Result<Box<dyn Foreign>, String> = match kind {
            DecoderKind::Builtin => Err("it is our own".to_owned()),
            DecoderKind::Libavcodec | DecoderKind::V4l2 => {
                Err(format!("{} is not in this build yet", kind.name()))
            }
        };
        let mut foreign = opened?;
        known::check(foreign.as_mut(), codec)?;
        Ok(foreign)
    }

    /// One that was asked for by name is missed; what `auto` does not find is not worth a word.
    fn refuse(&mut self, kind: DecoderKind, codec: Codec, why: &str) {
        let (name, codec) = (kind.name(), codec.name());
        if self.settings.choice == DecoderChoice::Auto {
            return log::debug!("event=decoder_unavailable decoder={name} codec={codec} error={why:?}");
        }
        log::warn!("event=decoder_unavailable decoder={name} codec={codec} error={why:?}");
        self.news =
            Some(format!("capture.decoder = \"{name}\" cannot be used for {codec} ({why}): builtin decodes"));
    }

    /// See [`Decoder::news`].
    pub(in crate::capture::worker) fn news(&mut self) -> Option<String> {
        self.news.take()
    }
}
