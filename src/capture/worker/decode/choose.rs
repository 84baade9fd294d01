//! Which decoder a stream is given: what the configuration allows, in order, the first that decodes a known
//! picture; builtin where none does.

use super::board::Devices;
use super::foreign::{Foreign, Guarded};
use super::libavcodec::{Libavcodec, Library};
use super::{Codec, Decoder, builtin, known};
use crate::capture::{DecoderChoice, DecoderKind, DecoderSettings};
use crate::error::{Error, Kind, Result};

/// The decoders that one worker may use.
pub(in crate::capture::worker) struct Decoders {
    choice: DecoderChoice,
    /// Nobody minds that pictures come late.
    is_file: bool,
    library: Result<&'static Library, String>,
    /// Of the board, by name: opened before the worker is locked in, which they would not be allowed to do
    /// after it.
    of_board: Vec<(Codec, Box<dyn Foreign>)>,
    /// The kernel's, opened before as well.
    devices: Devices,
    /// Of those: one that was asked for need not decode a known picture.
    unchecked: bool,
    /// What people should know: why another decoder is used than was asked for.
    news: Option<String>,
    /// What they were told last: once is enough, however often a stream begins anew.
    told: Option<String>,
}

/// Why a decoder is not used.
struct Refusal {
    why: String,
    /// It is there, and does not do what it should.
    is_fault: bool,
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal { why, is_fault: false }
    }
}

/// Told whose code runs next, before it runs.
pub(in crate::capture::worker) type Tell<'a> = dyn FnMut(DecoderKind) -> Result<()> + 'a;

impl Decoders {
    /// Nothing but our own.
    pub(in crate::capture::worker) fn builtin() -> Decoders {
        Decoders {
            choice: DecoderChoice::Builtin,
            is_file: false,
            library: Err("it was not asked for".to_owned()),
            of_board: Vec::new(),
            devices: Devices::default(),
            unchecked: false,
            news: None,
            told: None,
        }
    }

    /// Opens what must be opened before the worker is locked in, and before it has a second thread.
    ///
    /// Errors: what `tell` says.
    pub(in crate::capture::worker) fn load(
        settings: &DecoderSettings,
        tell: &mut Tell<'_>,
    ) -> Result<Decoders> {
        let mut decoders = Decoders { choice: settings.choice, ..Decoders::builtin() };
        decoders.unchecked = settings.unchecked && settings.choice == DecoderChoice::V4l2;
        if matches!(settings.choice, DecoderChoice::Auto | DecoderChoice::V4l2) {
            tell(DecoderKind::V4l2)?;
            decoders.devices = Devices::open(settings.nodes.as_deref());
            tell(DecoderKind::Builtin)?;
        }
        let by_name = settings.choice != DecoderChoice::Builtin && !settings.names.is_empty();
        if by_name || matches!(settings.choice, DecoderChoice::Auto | DecoderChoice::Libavcodec) {
            tell(DecoderKind::Libavcodec)?;
            decoders.library = Library::open();
            if by_name {
                decoders.open_by_name(&settings.names);
            }
            tell(DecoderKind::Builtin)?;
        }
        Ok(decoders)
    }

    /// The same for a source that is a file.
    pub(in crate::capture::worker) fn of_file(self) -> Decoders {
        Decoders { is_file: true, ..self }
    }

    /// One decoder of the board for each codec: the first of the names that decodes a known picture.
    fn open_by_name(&mut self, names: &[String]) {
        for name in names {
            let codec = Codec::of_decoder(name);
            if self.of_board.iter().any(|(other, _)| Some(*other) == codec) {
                continue;
            }
            let opened = codec.ok_or_else(|| "it is for a codec that weir does not know".to_owned());
            let opened = opened.and_then(|codec| {
                let library = self.library.clone()?;
                known::check(&mut *Libavcodec::of_board(library, name)?, codec)?;
                // Few drivers begin anew after an end as they began at first.
                Ok((codec, Libavcodec::of_board(library, name)?))
            });
            match opened {
                Ok(decoder) => self.of_board.push(decoder),
                Err(why) => {
                    log::warn!("event=decoder_unavailable decoder={name} error={why:?}");
                    self.news =
                        Some(format!("decoder {name} of capture.decoder_names cannot be used ({why})"));
                }
            }
        }
    }

    /// Whether a decoder needs to ask devices that it has opened, by requests that only its driver knows.
    pub(in crate::capture::worker) fn asks_devices(&self) -> bool {
        !self.of_board.is_empty()
    }

    /// Numbers of the device nodes that may be decoders, where all were opened to find out.
    pub(in crate::capture::worker) fn found_nodes(&self) -> Option<&[u8]> {
        self.devices.found()
    }

    /// Whether a decoder of the kernel is open, whose requests are known.
    pub(in crate::capture::worker) fn has_devices(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Whether there is a decoder for a codec.
    pub(in crate::capture::worker) fn can_open(&self, codec: Codec) -> bool {
        builtin(codec).is_some()
            || self.of_board.iter().any(|(other, _)| *other == codec)
            || self.library.as_ref().is_ok_and(|library| library.decodes(codec))
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
            if let Some(place) = self.of_board.iter().position(|(other, _)| *other == codec) {
                let (_, foreign) = self.of_board.remove(place);
                tell(foreign.kind())?;
                return Ok(guarded(codec, foreign));
            }
            for kind in self.candidates() {
                if self.choice == DecoderChoice::Auto && *kind == DecoderKind::V4l2 && !self.has_devices() {
                    // As on most machines.
                    continue;
                }
                tell(*kind)?;
                match self.foreign(*kind, codec) {
                    Ok(foreign) => return Ok(guarded(codec, foreign)),
                    Err(refusal) => self.refuse(*kind, codec, &refusal),
                }
            }
        }
        tell(DecoderKind::Builtin)?;
        builtin(codec).ok_or_else(|| {
            // Files are asked before; this is one that changes its codec.
            Error::new(Kind::SourceUnsupported, format!("nothing here decodes {}", codec.name()))
        })
    }

    /// What this machine has beyond what is builtin, a fact a line.
    pub(in crate::capture::worker) fn describe(settings: &DecoderSettings) -> Vec<String> {
        let mut decoders = match Decoders::load(settings, &mut |_| Ok(())) {
            Ok(decoders) => decoders,
            Err(error) => return vec![error.to_string()],
        };
        let mut facts: Vec<String> = decoders.news().into_iter().collect();
        let of_board = std::mem::take(&mut decoders.of_board);
        facts.extend(of_board.iter().map(|(codec, foreign)| format!("{}: {}", foreign.name(), codec.name())));
        let kinds: Vec<DecoderKind> =
            decoders.candidates().iter().copied().filter(|kind| *kind == DecoderKind::Libavcodec).collect();
        for kind in kinds {
            if let Err(why) = &decoders.library {
                facts.push(format!("no {} ({why})", kind.name()));
                continue;
            }
            for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::Jpeg) {
                facts.push(match decoders.foreign(kind, codec) {
                    Ok(foreign) => format!("{}: {}", foreign.name(), codec.name()),
                    Err(Refusal { why, .. }) => format!("{}: no {} ({why})", kind.name(), codec.name()),
                });
            }
        }
        facts
    }

    /// What is tried before builtin, in order.
    fn candidates(&self) -> &'static [DecoderKind] {
        match self.choice {
            DecoderChoice::Builtin => &[],
            DecoderChoice::Auto => &[DecoderKind::V4l2, DecoderKind::Libavcodec],
            DecoderChoice::Libavcodec => &[DecoderKind::Libavcodec],
            DecoderChoice::V4l2 => &[DecoderKind::V4l2],
        }
    }

    /// A decoder of that kind that has decoded a known picture; else why there is none.
    fn foreign(&mut self, kind: DecoderKind, codec: Codec) -> Result<Box<dyn Foreign>, Refusal> {
        let mut foreign = match kind {
            DecoderKind::Builtin => return Err("it is our own".to_owned().into()),
            DecoderKind::Libavcodec => Libavcodec::open(self.library.clone()?, codec, self.is_file)?,
            DecoderKind::V4l2 => {
                let (unchecked, is_fault) = (self.unchecked, self.devices.takes(codec));
                let judge = |board: &mut dyn Foreign| {
                    if unchecked { Ok(()) } else { known::check(board, codec) }
                };
                return self.devices.decoder(codec, judge).map_err(|why| Refusal { why, is_fault });
            }
        };
        known::check(foreign.as_mut(), codec).map_err(|why| Refusal { why, is_fault: true })?;
        Ok(foreign)
    }

    /// What was asked for by name and cannot be had is worth a word to people; what `auto` does not find is
    /// not, but what is there and fails is.
    fn refuse(&mut self, kind: DecoderKind, codec: Codec, Refusal { why, is_fault }: &Refusal) {
        let (name, codec) = (kind.name(), codec.name());
        if self.choice == DecoderChoice::Auto && !is_fault {
            return log::debug!("event=decoder_unavailable decoder={name} codec={codec} error={why:?}");
        }
        let told = format!("decoder {name} cannot be used for {codec} ({why}): the next one decodes");
        if self.told.as_ref() == Some(&told) {
            return;
        }
        log::warn!("event=decoder_unavailable decoder={name} codec={codec} error={why:?}");
        self.told = Some(told.clone());
        self.news = Some(told);
    }

    /// What the decoder has to tell, as [`Decoder::news`] says.
    pub(in crate::capture::worker) fn news(&mut self) -> Option<String> {
        self.news.take()
    }
}

fn guarded(codec: Codec, foreign: Box<dyn Foreign>) -> Box<dyn Decoder> {
    log::info!("event=decoder codec={} decoder=\"{}\"", codec.name(), foreign.name());
    Box::new(Guarded::new(codec, foreign))
}
