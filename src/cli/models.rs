//! `weir models`: models of one's own.

use super::output::say;
use super::{Options, quantise, usage};
use crate::config::Config;
use crate::error::Result;
use crate::infer::registry::{Addition, own};
use crate::{infer, service};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs one of them.
pub(super) fn run(mut arguments: Vec<OsString>) -> Result<ExitCode> {
    if arguments.first().is_some_and(|word| word == "quantise") {
        return quantise::run(arguments.split_off(1));
    }
    let (addition, words, config) = parse(arguments).map_err(|error| usage(error.to_string()))?;
    let Some((command, rest)) = words.split_first() else {
        return Ok(super::told("models"));
    };
    let config = Options { config, ..Options::default() }.configure()?;
    let settings = service::registry_settings(&config);
    match (command.as_str(), rest) {
        ("add", [file]) => {
            let report = infer::check::add(&settings, &Addition { file: PathBuf::from(file), ..addition })?;
            say!("{report}");
        }
        ("list", []) => list(&config, &own::list(&settings)),
        ("show", [name]) => say!("{}", infer::check::run(&settings, name)?),
        ("remove", [name]) => match own::remove(name, &settings)? {
            None => say!("{name} is gone"),
            Some(folder) => {
                say!("{name} is gone; what weir did not write is still in {}", folder.display())
            }
        },
        _ => {
            return Err(usage(
                "weir models add FILE|list|show NAME|remove NAME|quantise MODEL; weir help models says what each takes",
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(arguments: Vec<OsString>) -> Result<(Addition, Vec<String>, Option<PathBuf>), lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let (mut addition, mut words, mut config) = (Addition::default(), Vec::new(), None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("name") => addition.name = Some(parser.value()?.string()?),
            Arg::Long("names") => addition.names = Some(parser.value()?.string()?),
            Arg::Long("family") => addition.family = Some(parser.value()?.string()?),
            Arg::Long("input") => addition.input = Some(parser.value()?.string()?),
            Arg::Long("decoded") => addition.decoded = true,
            Arg::Long("config") => config = Some(parser.value()?.into()),
            Arg::Short('h') | Arg::Long("help") => return Ok((addition, Vec::new(), config)),
            Arg::Value(word) => words.push(word.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok((addition, words, config))
}

fn list(config: &Config, models: &[own::Owned]) {
    if models.is_empty() {
        let dirs: Vec<String> = config.models.dirs.iter().map(|dir| dir.display().to_string()).collect();
        say!("no models below {}", dirs.join(", "));
    }
    for model in models {
        say!(
            "{:<32} {:>7.1} MiB  {}",
            model.name.escape_debug(),
            model.bytes as f64 / f64::from(1 << 20),
            model.path.display()
        );
    }
}
