//! `weir models`: models of one's own.

use super::{Options, usage};
use crate::config::Config;
use crate::error::Result;
use crate::infer::registry::{Addition, own};
use crate::{infer, service};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
weir models add FILE.onnx [OPTIONS]   copy a model below models.dirs, in the layout of the cache, once it has been loaded
  --name NAME                         name of its folder, and of the model (default: the file's)
  --names FILE|coco|a,b,c             class names: a file (one a line, JSON or YAML), COCO's 80, or the names themselves
  --family FAMILY                     how outputs are read, where they do not show it
  --input rgb|bgr,0-1|0-255|-1-1|imagenet
                                      what the input was trained with
  --decoded                           the boxes are decoded in the graph
weir models list                      the models below models.dirs
weir models show NAME                 what a model is and costs, as weir check says it
weir models remove NAME               take one away that weir models add has put there
Options of all: --config FILE
";

/// Runs one of them.
pub(super) fn run(arguments: Vec<OsString>) -> Result<ExitCode> {
    let (addition, words, config) = parse(arguments).map_err(|error| usage(error.to_string()))?;
    let Some((command, rest)) = words.split_first() else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let config = Options { config, ..Options::default() }.configure()?;
    let settings = service::registry_settings(&config);
    match (command.as_str(), rest) {
        ("add", [file]) => {
            let report = infer::check::add(&settings, &Addition { file: PathBuf::from(file), ..addition })?;
            println!("{report}");
        }
        ("list", []) => list(&config, &own::list(&settings)),
        ("show", [name]) => println!("{}", infer::check::run(&settings, name)?),
        ("remove", [name]) => match own::remove(name, &settings)? {
            None => println!("{name} is gone"),
            Some(folder) => println!("{name} is gone; what weir did not write is still in {}", folder.display()),
        },
        _ => return Err(usage(HELP.trim_end())),
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
        println!("no models below {}", dirs.join(", "));
    }
    for model in models {
        println!(
            "{:<32} {:>7.1} MiB  {}",
            model.name.escape_debug(),
            model.bytes as f64 / f64::from(1 << 20),
            model.path.display()
        );
    }
}
