//! What is said around the program, held against the tree: paths, sections and tests that documents name are
//! there, the version is the same wherever it stands, and the compiler is pinned.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders at the top whose contents documents may name.
const FOLDERS: [&str; 10] = [
    "assets/",
    "benches/",
    "cross/",
    "docs/",
    "packaging/",
    "scripts/",
    "src/",
    "tests/",
    "yocto/",
    ".github/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a place (itself, when it is one), from the root, without what Python leaves beside its
/// sources.
fn files(place: &str) -> Vec<PathBuf> {
    let (mut found, mut places) = (Vec::new(), vec![root().join(place)]);
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()));
        } else if !place.iter().any(|step| step == "__pycache__") {
            found.push(place.strip_prefix(root()).unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// Every document: those at the top, and those of the folders.
fn documents() -> Vec<PathBuf> {
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());
    let top = top.map(PathBuf::from).filter(|path| root().join(path).is_file());
    let below = FOLDERS.iter().flat_map(|folder| files(folder));
    let found: Vec<_> = top.chain(below).filter(|path| path.extension() == Some("md".as_ref())).collect();
    assert!(found.len() > 30, "only {} documents found", found.len());
    found
}

/// What stands between backticks on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// `a/{b,c}/d` → `a/b/d`, `a/c/d`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, (inner, after))) =
        path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![path.to_owned()];
    };
    inner.split(',').flat_map(|part| alternatives(&format!("{before}{part}{after}"))).collect()
}

/// Paths of the tree in a quoted text, up to a step that stands for any (`NAME.rs`, `*.cpp`).
fn paths(quoted: &str) -> Vec<String> {
    let words = quoted.split_whitespace().map(|word| word.trim_start_matches("./"));
    words
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        .flat_map(alternatives)
        .map(|path| {
            let stands_for_any = |step: &str| {
                let stem = step.split('.').next().unwrap_or_default();
                step.contains(['*', '…', '<', '$'])
                    || (stem.len() > 1 && stem.chars().all(|c| c.is_ascii_uppercase()) && stem != "README")
            };
            let known: Vec<_> = path.split('/').take_while(|step| !stands_for_any(step)).collect();
            known.join("/").trim_end_matches([',', '.', ';', ':', ')']).to_owned()
        })
        .collect()
}

/// The sections of a document, as links name them.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut found = BTreeSet::new();
    for line in document.lines() {
        is_code ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if !is_code && title.len() < line.len() && title.starts_with(' ') {
            let kept = title.trim().to_lowercase().replace(' ', "-");
            found.insert(kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect());
        }
    }
    found
}

#[test]
fn every_path_that_a_document_names_is_there() {
    let (mut seen, mut missing) = (0, Vec::new());
    for document in documents() {
        for (at, line) in text(&document).lines().enumerate() {
            for path in quoted(line).flat_map(paths) {
                seen += 1;
                if !root().join(&path).exists() {
                    missing.push(format!("{}:{}: {path}", document.display(), at + 1));
                }
            }
        }
    }
    assert!(seen > 300, "only {seen} paths found");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_make_target_that_is_named_is_there() {
    let makefile = text("Makefile");
    let is_target = |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
    let (mut seen, mut missing) = (0, Vec::new());
    for document in documents() {
        for (at, line) in text(&document).lines().enumerate() {
            let named =
                quoted(line).filter_map(|word| word.strip_prefix("make ")).flat_map(str::split_whitespace);
            for target in
                named.filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
            {
                seen += 1;
                if !is_target(target) {
                    missing.push(format!("{}:{}: make {target}", document.display(), at + 1));
                }
            }
        }
    }
    assert!(seen > 30, "only {seen} targets named");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let (mut seen, mut broken) = (0, Vec::new());
    for document in documents() {
        let here = text(&document);
        for link in here.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '\n']).next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let target = document.parent().unwrap_or(Path::new("")).join(path);
            let target = if path.is_empty() { document.clone() } else { target };
            let leads = root().join(&target).exists()
                && (section.is_empty() || anchors(&text(&target)).contains(section));
            if !leads {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(seen > 50, "only {seen} links found");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_document_that_a_source_names_is_there() {
    let (mut seen, mut missing) = (0, Vec::new());
    let sources = ["src", "tests", "benches", "scripts", "cross", "packaging", "yocto"];
    for source in sources.iter().flat_map(|folder| files(folder)) {
        let Ok(here) = fs::read_to_string(root().join(&source)) else { continue };
        for (at, _) in here.match_indices("docs/") {
            let path = here[at..].split(|c: char| !(c.is_alphanumeric() || "/_.-".contains(c))).next();
            let path = path.unwrap_or_default().trim_end_matches('.');
            if path.ends_with(".md") {
                seen += 1;
                if !root().join(path).exists() {
                    missing.push(format!("{}: {path}", source.display()));
                }
            }
        }
    }
    assert!(seen > 20, "only {seen} documents named");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A row's last column: files, and after each the tests in it.
#[test]
fn every_promise_names_tests_that_exist() {
    let (mut seen, mut missing) = (0, Vec::new());
    for (at, line) in text("SPECIFICATION.md").lines().enumerate() {
        let Some(column) = line.trim_end_matches('|').rsplit('|').next().filter(|_| line.starts_with('|'))
        else {
            continue;
        };
        let mut here: Vec<String> = Vec::new();
        for word in quoted(column) {
            // `make page` runs what is in tests/page.
            let named =
                word.strip_prefix("make ").map_or(paths(word), |target| vec![format!("tests/{target}")]);
            if !named.is_empty() {
                let within =
                    named.iter().filter(|path| root().join(path).exists()).flat_map(|path| files(path));
                here = within.filter_map(|path| fs::read_to_string(root().join(path)).ok()).collect();
                continue;
            }
            let (begin, end) = word.split_once('…').unwrap_or((word, ""));
            let is_name = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if here.is_empty() || !begin.contains('_') || !is_name(begin) || !is_name(end) {
                continue;
            }
            seen += 1;
            let begins = |text: &String| {
                ["fn ", "def ", "mod "].iter().any(|word| text.contains(&format!("{word}{begin}")))
            };
            if !here.iter().any(begins) {
                missing.push(format!("SPECIFICATION.md:{}: {word}", at + 1));
            }
        }
    }
    assert!(seen > 50, "only {seen} tests named");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_version_is_the_same_wherever_it_stands() {
    let is_version = |text: &str| {
        let parts: Vec<_> = text.split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
    };
    let (mut seen, mut others) = (0, Vec::new());
    let mut compare = |place: String, version: &str| {
        seen += 1;
        if version != env!("CARGO_PKG_VERSION") {
            others.push(format!("{place}: {version}"));
        }
    };
    for place in ["README.md", "docs", "packaging", "yocto"].iter().flat_map(|place| files(place)) {
        // Names of packages, of images, and of recipes.
        let name = place.to_string_lossy().into_owned();
        let here = fs::read_to_string(root().join(&place)).unwrap_or_default();
        for text in [&name, &here] {
            for before in ["weir-", "weir_", "weir:", "weir ", "weir-bin_", "weir-demo_"] {
                for (at, _) in text.match_indices(before) {
                    let rest = &text[at + before.len()..];
                    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
                    let version = rest[..end].trim_end_matches('.');
                    if is_version(version) {
                        compare(name.clone(), version);
                    }
                }
            }
        }
    }
    let changes = text("CHANGELOG.md");
    let newest = changes.lines().find_map(|line| line.strip_prefix("## ")).unwrap_or_default();
    compare("CHANGELOG.md".to_owned(), newest.split([' ', ',']).next().unwrap_or_default());
    assert!(seen > 8, "only {seen} versions found");
    assert!(others.is_empty(), "not {}: {others:#?}", env!("CARGO_PKG_VERSION"));
}

/// A merge that keeps both sides of a change says it twice.
#[test]
fn the_changelog_says_each_thing_once() {
    let changes = text("CHANGELOG.md");
    let newest = changes.split("\n## ").nth(1).unwrap_or_default();
    let beginnings: Vec<String> = newest
        .lines()
        .filter(|line| line.starts_with("* "))
        .map(|line| line.chars().take(24).collect())
        .collect();
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = beginnings.iter().filter(|beginning| !seen.insert(*beginning)).collect();
    assert!(beginnings.len() > 5, "only {} changes found", beginnings.len());
    assert!(twice.is_empty(), "begin alike: {twice:#?}");
}

#[test]
fn the_compiler_is_pinned_and_not_older_than_what_weir_needs() {
    let field = |document: &str, name: &str| -> Vec<u32> {
        let begins = format!("{name} = \"");
        let text = text(document);
        let value = text.lines().find_map(|line| line.strip_prefix(&begins)?.split('"').next());
        value.unwrap_or_default().split('.').map(|part| part.parse().unwrap()).collect()
    };
    let (pinned, oldest) = (field("rust-toolchain.toml", "channel"), field("Cargo.toml", "rust-version"));
    assert_eq!(pinned.len(), 3, "major, minor and patch: {pinned:?}");
    assert!(pinned >= oldest, "{pinned:?} is older than {oldest:?}");
}

/// On a stand-in of rustup that knows a few toolchains by name.
#[test]
fn a_toolchain_of_the_pinned_version_is_found_under_another_name() {
    let pin = text("rust-toolchain.toml");
    let pinned = pin.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"')).unwrap();
    let folder = std::env::temp_dir().join(format!("weir-toolchain-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let found = |toolchains: &[(&str, &str)]| {
        let list: String = toolchains.iter().map(|(name, _)| format!("{name} (active)\n")).collect();
        let versions: String = toolchains
            .iter()
            .map(|(name, version)| format!("run:{name}) echo 'rustc {version} (59807616e 2026-04-14)' ;;\n"))
            .collect();
        let script = format!(
            "#!/bin/sh\ncase $1:$2 in\ntoolchain:list) printf '%s' '{list}' ;;\n{versions}*) exit 1 ;;\nesac\n"
        );
        fs::write(folder.join("rustup"), script).unwrap();
        let mut command = std::process::Command::new("sh");
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let said = command
            .arg("-c")
            .arg("chmod +x \"$0\" && exec \"$1\"")
            .arg(folder.join("rustup"))
            .arg(root().join("scripts/toolchain.sh"));
        let said = said.env("PATH", path).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    };
    let under_its_name = format!("{pinned}-x86_64-unknown-linux-gnu");
    assert_eq!(found(&[("nightly", "1.999.0-nightly"), ("stable", pinned)]), "stable\n");
    assert_eq!(found(&[("stable", pinned), (&under_its_name, pinned)]), "", "rustup finds it by itself");
    assert_eq!(found(&[("stable", "1.0.0")]), "", "none has it: rustup fetches it");
    assert_eq!(found(&[("stable", &format!("{pinned}0"))]), "", "a longer number is another one");
    assert_eq!(found(&[]), "");
    fs::remove_dir_all(folder).unwrap();
}
