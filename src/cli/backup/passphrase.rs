//! Where the passphrase comes from: a file, the environment, or whoever sits at the terminal.

use super::seal::MIN_PASSPHRASE;
use crate::error::{Error, Kind, Result, system};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::Command;

/// The terminal of the process, whatever its standard input is.
const TERMINAL: &str = "/dev/tty";

/// A longer line is none.
const MAX_BYTES: u64 = 4 << 10;

/// For a new backup: long enough, and typed twice.
pub(super) fn new(file: Option<&Path>) -> Result<String> {
    let passphrase = match given(file)? {
        Some(passphrase) => passphrase,
        None => {
            let first = ask("Passphrase for the backup: ")?;
            if ask("Once more: ")? != first {
                return Err(Error::new(Kind::Usage, "the two differ"));
            }
            first
        }
    };
    if passphrase.chars().count() < MIN_PASSPHRASE {
        let message = format!(
            "a passphrase needs at least {MIN_PASSPHRASE} characters: who finds the file may try for ever"
        );
        return Err(Error::new(Kind::Usage, message));
    }
    Ok(passphrase)
}

/// Of a backup that is there.
pub(super) fn known(file: Option<&Path>) -> Result<String> {
    match given(file)? {
        Some(passphrase) => Ok(passphrase),
        None => ask("Passphrase of the backup: "),
    }
}

fn given(file: Option<&Path>) -> Result<Option<String>> {
    let Some(file) = file else {
        return Ok(std::env::var("WEIR_PASSPHRASE").ok().filter(|passphrase| !passphrase.is_empty()));
    };
    let opened = File::open(file).map_err(|cause| super::unreadable(file, &cause))?;
    let mut line = String::new();
    BufReader::new(opened.take(MAX_BYTES))
        .read_line(&mut line)
        .map_err(|cause| super::unreadable(file, &cause))?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(Error::new(
            Kind::Usage,
            format!("{} has no passphrase in its first line", file.display()),
        ));
    }
    Ok(Some(line.to_owned()))
}

/// Asks at the terminal, which does not show what is typed.
fn ask(question: &str) -> Result<String> {
    let nobody = |_| {
        Error::new(
            Kind::Usage,
            "there is no passphrase: --passphrase-file FILE, WEIR_PASSPHRASE, or a terminal to ask at",
        )
    };
    let mut terminal = File::options().read(true).write(true).open(TERMINAL).map_err(nobody)?;
    echo(false)?;
    let mut line = String::new();
    let asked = terminal.write_all(question.as_bytes());
    let read = asked.and_then(|()| BufReader::new((&terminal).take(MAX_BYTES)).read_line(&mut line));
    echo(true)?;
    read.map_err(system("read from the terminal"))?;
    let _ = terminal.write_all(b"\n");
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Whether the terminal shows what is typed. By the program that every system has for it (coreutils,
/// busybox).
fn echo(on: bool) -> Result<()> {
    let failed = "cannot keep the terminal from showing the passphrase (stty): use --passphrase-file FILE";
    let terminal = File::open(TERMINAL).map_err(system(failed))?;
    let status = Command::new("stty").arg(if on { "echo" } else { "-echo" }).stdin(terminal).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Error::new(Kind::System, failed)),
    }
}
