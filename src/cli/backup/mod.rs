//! `weir backup FILE` and `weir restore FILE`: what a service needs to go on elsewhere, in one file.

mod archive;
mod gather;
mod passphrase;
mod seal;

use super::{existing, told, uncreatable, usage};
use crate::config::{Config, DEFAULT_PATH};
use crate::error::{Error, Kind, Result};
use archive::{ABOUT, Member, Writer};
use gather::Kind as Kept;
use lexopt::{Arg, Parser};
use seal::{MAGIC, Opener, Sealer};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where systemd's unit keeps pipelines; the environment of whoever makes a backup does not say.
const USUAL_STATE: &str = "/var/lib/weir";

/// Where a backup that nobody has vouched for with a passphrase may write.
const OWN_FOLDERS: [&str; 6] = [
    "etc/weir/",
    "etc/default/weir",
    "etc/credstore/weir.",
    "var/lib/weir/",
    "var/cache/weir/",
    "usr/share/weir/",
];

/// What stands behind a file's name when it has made room.
const ASIDE: &str = ".before-restore";

#[derive(Default)]
struct Request {
    file: Option<PathBuf>,
    config: Option<PathBuf>,
    state: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    root: Option<PathBuf>,
    without_secrets: bool,
    models: bool,
    force: bool,
    list: bool,
    help: bool,
}

impl Request {
    fn parse(arguments: Vec<OsString>, is_restore: bool) -> Result<Request, lexopt::Error> {
        let mut parser = Parser::from_args(arguments);
        let mut request = Request::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("config") => request.config = Some(parser.value()?.into()),
                Arg::Long("state") => request.state = Some(parser.value()?.into()),
                Arg::Long("passphrase-file") => request.passphrase_file = Some(parser.value()?.into()),
                Arg::Long("without-secrets") if !is_restore => request.without_secrets = true,
                Arg::Long("models") if !is_restore => request.models = true,
                Arg::Long("root") if is_restore => request.root = Some(parser.value()?.into()),
                Arg::Long("force") if is_restore => request.force = true,
                Arg::Long("list") if is_restore => request.list = true,
                Arg::Short('h') | Arg::Long("help") => request.help = true,
                Arg::Value(file) if request.file.is_none() => request.file = Some(file.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(request)
    }
}

fn unreadable(path: &Path, cause: &io::Error) -> Error {
    let said = cause.to_string();
    let said = said.split(" (os error").next().unwrap_or(&said);
    Error::new(Kind::NoInput, format!("cannot read {}: {said}", path.display()))
}

/// `weir backup FILE`: writes configuration and state into one archive.
pub(super) fn backup(arguments: Vec<OsString>) -> Result<ExitCode> {
    let request = Request::parse(arguments, false).map_err(|error| usage(error.to_string()))?;
    if request.help {
        return Ok(told("backup"));
    }
    let file = request.file.as_deref().ok_or_else(|| usage("weir backup FILE"))?;
    let config_file =
        request.config.clone().or_else(|| Some(PathBuf::from(DEFAULT_PATH)).filter(|path| path.exists()));
    if let Some(config) = &request.config {
        existing(config)?;
    }
    // The file alone: what the environment of this shell says is not the service's.
    let config = Config::load(config_file.as_deref(), |_| None)?;
    let configured = Some(config.service.state_dir.clone()).filter(|path| !path.as_os_str().is_empty());
    let state = request.state.clone().or(configured).unwrap_or_else(|| PathBuf::from(USUAL_STATE));
    let files = gather::files(&config, config_file.as_deref(), &state, request.models);
    if files.is_empty() {
        return Err(Error::new(
            Kind::NoInput,
            "there is nothing to keep: no configuration, no pipelines; --config names one",
        ));
    }
    let passphrase = if request.without_secrets {
        None
    } else {
        Some(passphrase::new(request.passphrase_file.as_deref())?)
    };
    // Never over something that is there; for nobody else's eyes.
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|cause| uncreatable(file, &cause))?;
    let written = write(opened, passphrase.as_deref(), &files);
    if written.is_err() {
        // Half of one is none.
        let _ = std::fs::remove_file(file);
    }
    let (kept, left_out) = written?;
    super::print(&format!(
        "{}: {kept} files{}\n",
        file.display(),
        if passphrase.is_some() { ", encrypted" } else { ", without secrets" }
    ));
    for path in left_out {
        super::print(&format!("left out: {}\n", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

type Files = std::collections::BTreeMap<PathBuf, Kept>;

/// Writes all files; how many, and which were left out.
fn write(to: File, passphrase: Option<&str>, files: &Files) -> Result<(usize, Vec<PathBuf>)> {
    let failed = || crate::error::system("cannot write the backup");
    let to = io::BufWriter::new(to);
    let finish =
        |mut to: io::BufWriter<File>| to.flush().and_then(|()| to.get_ref().sync_all()).map_err(failed());
    match passphrase {
        Some(passphrase) => {
            let mut writer = Writer::new(Sealer::new(to, passphrase).map_err(failed())?);
            let outcome = add_all(&mut writer, files, true)?;
            finish(writer.finish()?.finish().map_err(failed())?)?;
            Ok(outcome)
        }
        None => {
            let mut writer = Writer::new(to);
            let outcome = add_all(&mut writer, files, false)?;
            finish(writer.finish()?)?;
            Ok(outcome)
        }
    }
}

fn add_all<W: Write>(
    writer: &mut Writer<W>,
    files: &Files,
    with_secrets: bool,
) -> Result<(usize, Vec<PathBuf>)> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let about = format!(
        "weir {} of {host}, {}, {} secrets\n",
        env!("CARGO_PKG_VERSION"),
        crate::clock::Wall::now().iso_local(),
        if with_secrets { "with" } else { "without" }
    );
    let first = Member { path: ABOUT.to_owned(), mode: 0o600, bytes: about.len() as u64 };
    writer.add(&first, &mut about.as_bytes())?;
    let (mut kept, mut left_out) = (0, Vec::new());
    for (path, kind) in files {
        let absolute = std::path::absolute(path).map_err(|cause| unreadable(path, &cause))?;
        let name = absolute.to_str().and_then(|path| path.strip_prefix('/')).map(str::to_owned);
        let Some(name) = name else {
            left_out.push(path.clone());
            continue;
        };
        let opened = File::open(path).map_err(|cause| unreadable(path, &cause))?;
        let about = opened.metadata().map_err(|cause| unreadable(path, &cause))?;
        let mode = about.mode() & 0o777;
        if with_secrets || *kind == Kept::Model {
            writer.add(&Member { path: name, mode, bytes: about.len() }, &mut BufReader::new(opened))?;
        } else if let Some(text) = gather::without_secrets(path, *kind)? {
            writer.add(&Member { path: name, mode, bytes: text.len() as u64 }, &mut text.as_slice())?;
        } else {
            left_out.push(path.clone());
            continue;
        }
        kept += 1;
    }
    Ok((kept, left_out))
}

/// `weir restore FILE`: puts what is in an archive where it was; overwrites nothing unasked.
pub(super) fn restore(arguments: Vec<OsString>) -> Result<ExitCode> {
    let request = Request::parse(arguments, true).map_err(|error| usage(error.to_string()))?;
    if request.help {
        return Ok(told("restore"));
    }
    let file = request.file.as_deref().ok_or_else(|| usage("weir restore FILE"))?;
    existing(file)?;
    let passphrase =
        if is_encrypted(file)? { Some(passphrase::known(request.passphrase_file.as_deref())?) } else { None };
    let root = request.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    // The whole of it is read and checked before anything is written.
    let (mut listed, mut conflicts, mut about) = (Vec::new(), Vec::new(), String::new());
    read(file, passphrase.as_deref(), |member, content| {
        if member.path == ABOUT {
            content.take(1000).read_to_string(&mut about).map_err(crate::error::system("read the backup"))?;
            return Ok(());
        }
        if passphrase.is_none()
            && !OWN_FOLDERS.iter().any(|own| member.path.starts_with(own))
            && request.root.is_none()
        {
            let message = format!(
                "/{} is outside weir's own folders, and nothing vouches for a backup without passphrase: \
                 take it out with tar, or restore it below --root FOLDER",
                member.path
            );
            return Err(Error::new(Kind::Unsupported, message));
        }
        let target = root.join(&member.path);
        if !request.list && target.symlink_metadata().is_ok() && !is_same(&target, content)? {
            conflicts.push(target);
        }
        listed.push(member.clone());
        Ok(())
    })?;
    super::print(&about);
    if request.list {
        listed.iter().for_each(|member| {
            super::print(&format!("{:03o} {:>10} /{}\n", member.mode, member.bytes, member.path))
        });
        return Ok(ExitCode::SUCCESS);
    }
    if !conflicts.is_empty() && !request.force {
        let names: Vec<String> = conflicts.iter().map(|path| path.display().to_string()).collect();
        let message =
            format!("these are there and differ (--force keeps them as NAME{ASIDE}): {}", names.join(", "));
        return Err(Error::new(Kind::CannotCreate, message));
    }
    let mut written = 0;
    read(file, passphrase.as_deref(), |member, content| {
        if member.path != ABOUT {
            written += usize::from(put(
                &root.join(&member.path),
                member,
                content,
                conflicts.contains(&root.join(&member.path)),
            )?);
        }
        Ok(())
    })?;
    super::print(&format!("{written} files written, {} were there already\n", listed.len() - written));
    Ok(ExitCode::SUCCESS)
}

fn is_encrypted(file: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let opened = File::open(file).map_err(|cause| unreadable(file, &cause))?;
    opened.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(|cause| unreadable(file, &cause))?;
    Ok(start == MAGIC)
}

fn read(
    file: &Path,
    passphrase: Option<&str>,
    take: impl FnMut(&Member, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut from = BufReader::new(File::open(file).map_err(|cause| unreadable(file, &cause))?);
    match passphrase {
        None => archive::read(from, take),
        Some(passphrase) => {
            from.read_exact(&mut [0; MAGIC.len()]).map_err(|cause| unreadable(file, &cause))?;
            archive::read(Opener::new(from, passphrase)?, take)
        }
    }
}

/// Whether a file has just this content.
fn is_same(target: &Path, content: &mut dyn Read) -> Result<bool> {
    let Ok(there) = File::open(target) else { return Ok(false) };
    let (mut there, mut content) = (BufReader::new(there), BufReader::new(content));
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let failed = |cause: io::Error| unreadable(target, &cause);
        let (one, other) =
            (fill(&mut there, &mut left).map_err(failed)?, fill(&mut content, &mut right).map_err(failed)?);
        if left.get(..one) != right.get(..other) {
            return Ok(false);
        }
        if one == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or nothing comes.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match from.read(rest)? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// Puts a file in its place; false when it is there already.
fn put(target: &Path, member: &Member, content: &mut dyn Read, makes_room: bool) -> Result<bool> {
    if target.exists() && !makes_room {
        return Ok(false);
    }
    let failed = |cause: io::Error| uncreatable(target, &cause);
    let folder = target.parent().unwrap_or(Path::new("/"));
    // The files have their own modes; a folder that the service's user cannot enter would hide the others.
    DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = folder.join(format!(".{name}.restoring"));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(member.mode).open(&temporary)?;
        io::copy(content, &mut file)?;
        // Whoever owns the folder is who the service runs as, or root.
        let owner = std::fs::metadata(folder)?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.sync_all()?;
        if makes_room {
            std::fs::rename(target, free(folder, &name))?;
        }
        std::fs::rename(&temporary, target)
    };
    let written = { write }();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(failed)?;
    Ok(true)
}

/// A name beside the file that nothing has.
fn free(folder: &Path, name: &str) -> PathBuf {
    let first = folder.join(format!("{name}{ASIDE}"));
    let numbered = (2..1000).map(|number| folder.join(format!("{name}{ASIDE}.{number}")));
    std::iter::once(first.clone())
        .chain(numbered)
        .find(|path| path.symlink_metadata().is_err())
        .unwrap_or(first)
}
