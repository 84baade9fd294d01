//! Folders that hold what weir trusts (its state, its cache of models, its plans) and that nobody else may
//! have a hand in.
//!
//! Whoever can write to such a folder, or to one above it, chooses what weir runs and reads its passwords. So
//! every folder on the way belongs to this user or to root and is writable by nobody else; a sticky one
//! (`/tmp`), where others can make files but touch nobody's, is no danger. The way is walked without
//! following links, but for links that this user or root made (systemd makes `/var/lib/weir` one).

use crate::error::{Error, Kind, Result};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Links on one way, at most: the kernel's own limit.
const MAX_LINKS: usize = 40;

/// Whom the kernel names in place of users that a container does not have; there, root outside it is one of
/// them.
const UNMAPPED_USER: u32 = 65_534;

/// Why a folder is not used.
#[derive(Debug)]
pub enum Refusal {
    /// Others have, or could have, a hand in it: words for the one who set it up.
    Trust(String),
    /// It is not there, or cannot be made or looked at.
    System(std::io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Trust(words) => f.write_str(words),
            Refusal::System(cause) => cause.fmt(f),
        }
    }
}

impl Refusal {
    /// As an error of whatever wanted the folder `path`.
    pub fn error(self, path: &Path) -> Error {
        match self {
            Refusal::Trust(words) => Error::new(Kind::Configuration, words),
            Refusal::System(cause) => {
                Error::new(Kind::System, format!("cannot use {}", path.display())).because(cause)
            }
        }
    }
}

/// Set by [`accept_open`], once, for the whole process.
static OPEN_ACCEPTED: AtomicBool = AtomicBool::new(false);

/// From now on folders that others can write to are accepted (`service.open_folders`). Links and folders that
/// belong to others are not.
pub fn accept_open() {
    OPEN_ACCEPTED.store(true, Ordering::Relaxed);
}

/// Opens a folder of our own, and makes what is missing of it, for this user only (0700).
pub fn make(path: &Path) -> Result<OwnedFd, Refusal> {
    walk(path, true)?.ok_or(Refusal::System(Errno::NOENT.into()))
}

/// Looks at as much of a folder as is there. `Ok(false)`: not all of it.
pub fn check(path: &Path) -> Result<bool, Refusal> {
    walk(path, false).map(|folder| folder.is_some())
}

fn walk(path: &Path, make: bool) -> Result<Option<OwnedFd>, Refusal> {
    let path = std::path::absolute(path).map_err(Refusal::System)?;
    let here = |errno: Errno| Refusal::System(errno.into());
    let root = || {
        rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(here)
    };
    let mut folder = root()?;
    let mut way = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(&path);
    let mut links = 0;
    judge(&way, &rustix::fs::fstat(&folder).map_err(here)?, &path)?;
    while let Some(name) = rest.pop_front() {
        let step = || {
            rustix::fs::openat(
                &folder,
                &*name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let next = match step() {
            Err(Errno::NOENT) if make => {
                match rustix::fs::mkdirat(&folder, &*name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(here(errno)),
                }
                step()
            }
            Err(Errno::NOENT) => return Ok(None),
            next => next,
        };
        let next = next.map_err(here)?;
        let found = rustix::fs::fstat(&next).map_err(here)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                if name == ".." {
                    way.pop();
                } else {
                    way.push(&name);
                }
                judge(&way, &found, &path)?;
                folder = next;
            }
            FileType::Symlink => {
                links += 1;
                let link = way.join(&name);
                if !is_trusted(found.st_uid) {
                    return Err(distrust(
                        &path,
                        &format!("{} is a link that {} made", link.display(), user(found.st_uid)),
                    ));
                }
                if links > MAX_LINKS {
                    return Err(here(Errno::LOOP));
                }
                let target = rustix::fs::readlinkat(&next, c"", Vec::new()).map_err(here)?;
                let target = PathBuf::from(OsStr::from_bytes(CStr::to_bytes(&target)));
                if target.is_absolute() {
                    folder = root()?;
                    way = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    rest.push_front(name);
                }
            }
            _ => return Err(distrust(&path, &format!("{} is no folder", way.join(&name).display()))),
        }
    }
    Ok(Some(folder))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// Whether a folder on the way to `wanted` is nobody else's.
fn judge(folder: &Path, found: &Stat, wanted: &Path) -> Result<(), Refusal> {
    let (owner, mode) = (found.st_uid, Mode::from_raw_mode(found.st_mode));
    if !is_trusted(owner) {
        return Err(distrust(wanted, &format!("{} belongs to {}", folder.display(), user(owner))));
    }
    let who = if mode.contains(Mode::WOTH) {
        "everybody"
    } else if mode.contains(Mode::WGRP) && !is_private(found.st_gid) {
        "its group"
    } else {
        return Ok(());
    };
    if mode.contains(Mode::SVTX) || OPEN_ACCEPTED.load(Ordering::Relaxed) {
        return Ok(());
    }
    Err(distrust(wanted, &format!("{} can be written to by {who}", folder.display())))
}

/// Most bytes of the files of users and groups that are read: tens of thousands of lines.
const MAX_ACCOUNT_BYTES: u64 = 1 << 20;

/// Whether nobody but this user and root is in a group: where the mask is 002 every user has one of his own, and
/// what he makes can be written to by it. Only what /etc says counts: groups of a directory service are refused.
fn is_private(group: u32) -> bool {
    let read = |path: &str| {
        let mut text = String::new();
        let file = std::fs::File::open(path).ok()?;
        file.take(MAX_ACCOUNT_BYTES).read_to_string(&mut text).ok()?;
        // cut off, it may lack a member
        (text.len() as u64 != MAX_ACCOUNT_BYTES).then_some(text)
    };
    let (users, groups) = (read("/etc/passwd"), read("/etc/group"));
    users.zip(groups).is_some_and(|(users, groups)| {
        is_private_among(group, rustix::process::geteuid().as_raw(), &users, &groups)
    })
}

/// The same by the lines of passwd(5) and group(5).
fn is_private_among(group: u32, user: u32, users: &str, groups: &str) -> bool {
    let is_own = |id: &str| id.parse() == Ok(user) || id.parse() == Ok(0u32);
    // name, password, user, group
    let users: Vec<[&str; 4]> = users.lines().filter_map(fields).collect();
    let known = |member: &str| users.iter().any(|[name, _, id, _]| *name == member && is_own(id));
    let strangers = |[_, _, id, primary]: &[&str; 4]| primary.parse() == Ok(group) && !is_own(id);
    // name, password, group, members
    let mut entries =
        groups.lines().filter_map(fields).filter(|[_, _, id, _]| id.parse() == Ok(group)).peekable();
    entries.peek().is_some()
        && entries.all(|[.., members]| members.split(',').filter(|name| !name.is_empty()).all(known))
        && !users.iter().any(strangers)
}

/// The first four fields of a line.
fn fields(line: &str) -> Option<[&str; 4]> {
    let mut fields = line.split(':').map(str::trim);
    Some([fields.next()?, fields.next()?, fields.next()?, fields.next()?])
}

fn is_trusted(owner: u32) -> bool {
    owner == 0
        || owner == rustix::process::geteuid().as_raw()
        || (owner == UNMAPPED_USER && has_unmapped_users())
}

/// In a container with users of its own (rootless), what belongs to none of them belongs to somebody outside,
/// who can do as he likes anyway.
fn has_unmapped_users() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"] && !map.is_empty()
}

fn user(id: u32) -> String {
    format!("user {id}")
}

fn distrust(wanted: &Path, why: &str) -> Refusal {
    let me = rustix::process::geteuid().as_raw();
    Refusal::Trust(format!(
        "{} is not used: {why}, and weir trusts only what is user {me}'s or root's and nobody else's to write to. Name another \
         folder, or make it so: chown {me}, chmod go-w (service.open_folders where nobody else sees it)",
        wanted.display()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    struct Base(PathBuf);

    impl Base {
        fn new() -> Base {
            let base = std::env::temp_dir().join(format!("weir-folder-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&base).unwrap();
            fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
            Base(base)
        }
    }

    impl Drop for Base {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refused(path: &Path) -> String {
        match make(path) {
            Err(Refusal::Trust(words)) => words,
            other => panic!("{}: {other:?}", path.display()),
        }
    }

    #[test]
    fn what_is_missing_is_made_for_this_user_only() {
        let base = Base::new();
        let wanted = base.0.join("a/../b/c");
        assert!(!check(&wanted).unwrap());
        make(&wanted).unwrap();
        assert!(check(&wanted).unwrap());
        for made in ["a", "b", "b/c"] {
            assert_eq!(fs::metadata(base.0.join(made)).unwrap().mode() & 0o7777, 0o700, "{made}");
        }
    }

    #[test]
    fn a_group_is_private_where_nobody_else_is_in_it() {
        let users = "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n\
                     you:x:1001:1001::/home/you:/bin/sh\nthey:x:1002:50::/:/bin/sh\nbroken\n";
        let groups =
            "root:x:0:\nme:x:1000:\nboth:x:40:me,you\nstaff:x:50:\nmine:x:60:me,root\ngone:x:70:nobody\n";
        let is_private = |group| is_private_among(group, 1000, users, groups);
        assert!(is_private(1000) && is_private(60) && is_private(0));
        // two members; the primary group of another; a member that nobody knows; another's; none at all
        for group in [40, 50, 70, 1001, 99] {
            assert!(!is_private(group), "{group}");
        }
        assert!(!is_private_among(1000, 1000, users, ""));
        assert!(!is_private_among(1000, 1000, "", "me:x:1000:me\n"));
    }

    #[test]
    fn what_others_can_write_to_is_refused_on_the_whole_way_unless_it_is_sticky() {
        let base = Base::new();
        let open = base.0.join("open");
        fs::create_dir(&open).unwrap();
        let strange = Some(rustix::process::Gid::from_raw(12_345));
        // only root can give a folder to a group that he is not in
        let is_given = rustix::fs::chown(&open, None, strange).is_ok();
        for (mode, words) in [(0o777, "everybody"), (0o775, "its group")] {
            if words == "its group" && !is_given {
                continue;
            }
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            assert!(refused(&open).contains(words));
            assert!(refused(&open.join("below")).contains("chmod go-w"));
        }
        assert!(!open.join("below").exists());
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        make(&open.join("below")).unwrap();
    }

    #[test]
    fn links_of_ours_are_followed_and_files_are_no_folders() {
        let base = Base::new();
        fs::create_dir(base.0.join("real")).unwrap();
        symlink("real", base.0.join("relative")).unwrap();
        symlink(base.0.join("relative"), base.0.join("absolute")).unwrap();
        make(&base.0.join("absolute/x")).unwrap();
        assert!(base.0.join("real/x").is_dir());
        symlink("loop", base.0.join("loop")).unwrap();
        assert!(matches!(make(&base.0.join("loop")), Err(Refusal::System(_))));
        fs::write(base.0.join("file"), "").unwrap();
        assert!(refused(&base.0.join("file")).contains("is no folder"));
    }

    #[test]
    fn folders_and_links_of_other_users_are_refused() {
        if !rustix::process::geteuid().is_root() {
            return println!("only root can make files of others");
        }
        let base = Base::new();
        let stranger = Some(rustix::process::Uid::from_raw(12_345));
        let theirs = base.0.join("theirs");
        fs::create_dir(&theirs).unwrap();
        rustix::fs::chown(&theirs, stranger, None).unwrap();
        assert!(refused(&theirs).contains("belongs to user 12345"));
        assert!(refused(&theirs.join("below")).contains("belongs to user 12345"));
        fs::create_dir(base.0.join("ours")).unwrap();
        let link = base.0.join("link");
        symlink("ours", &link).unwrap();
        rustix::fs::chownat(rustix::fs::CWD, &link, stranger, None, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .unwrap();
        assert!(refused(&link).contains("is a link that user 12345 made"));
    }
}
