//! The arrows between modules, read from the sources: they point down the list in `lib.rs`, and no folder's
//! files go round in a circle. What a folder's own file (`mod.rs`) states may be used by the files in it, and
//! the other way round.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where a module lies: `["proto", "tcp", "frame"]`. The crate itself is the empty one.
type Module = Vec<String>;

/// How many re-exports a name may go through.
const MAX_REEXPORTS: usize = 8;

/// The sources without comments and tests.
struct Sources(BTreeMap<Module, String>);

/// An arrow: from a file to the file that holds what it uses.
type Arrow = (Module, Module);

impl Sources {
    /// Everything below `src/`, but for the two roots.
    fn read() -> Sources {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let within = path.strip_prefix(&root).unwrap().with_extension("");
                    let mut module: Module =
                        within.iter().map(|step| step.to_str().unwrap().to_owned()).collect();
                    module.pop_if(|last| last == "mod" || (last == "lib" && within.iter().count() == 1));
                    found.insert(module, std::fs::read_to_string(path).unwrap());
                }
            }
        }
        found.remove(&vec!["main".to_owned()]);
        Sources::new(found)
    }

    fn new(files: BTreeMap<Module, String>) -> Sources {
        let mut tests: Vec<Module> = Vec::new();
        let mut product = BTreeMap::new();
        for (module, text) in files {
            let (text, declared) = without_tests(&text);
            tests.extend(declared.into_iter().map(|name| [module.clone(), vec![name]].concat()));
            product.insert(module, text);
        }
        product.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Sources(product)
    }

    /// All arrows between different files.
    fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        for (module, text) in &self.0 {
            for used in uses(text) {
                let Some(place) = absolute(module, &used.path) else { continue };
                arrows.extend(
                    self.holder(&place, 0)
                        .filter(|holder| holder != module)
                        .map(|holder| (module.clone(), holder)),
                );
            }
        }
        arrows
    }

    /// The file that holds an item, whatever re-exports it.
    fn holder(&self, item: &[String], depth: usize) -> Option<Module> {
        let length = (0..=item.len()).rev().find(|&length| self.0.contains_key(&item[..length]))?;
        let (module, rest) = item.split_at(length);
        if let (Some(name), true) = (rest.first(), depth < MAX_REEXPORTS) {
            let found = uses(&self.0[module]).into_iter().find(|used| used.is_public && used.name == *name);
            if let Some(place) = found.and_then(|used| absolute(module, &used.path)) {
                return self.holder(&[&place, &rest[1..]].concat(), depth + 1);
            }
        }
        Some(module.to_vec())
    }
}

/// One path that a file names.
struct Used {
    is_public: bool,
    /// What it is called here.
    name: String,
    path: Vec<String>,
}

/// A text without comments and without items for tests, and the names of the modules among those.
fn without_tests(text: &str) -> (String, Vec<String>) {
    let (mut kept, mut modules) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("#[cfg(") && line.contains("test") {
            // Formatted sources: an item ends on its own indentation.
            for line in lines.by_ref().filter(|line| line.len() - line.trim_start().len() == indent) {
                let code = line.trim();
                modules.extend(
                    code.strip_suffix(';').and_then(|code| Some(code.split_once("mod ")?.1.to_owned())),
                );
                let is_attribute = code.starts_with('#');
                if !is_attribute && (code.ends_with([';', '}', ',']) && !code.is_empty()) {
                    break;
                }
            }
            continue;
        }
        kept.push_str(line.split("//").next().unwrap_or_default());
        kept.push('\n');
    }
    (kept, modules)
}

/// Every path in `use` items, and every other one that begins with `crate` or `super`.
fn uses(text: &str) -> Vec<Used> {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        let (visibility, item) = code.split_once("use ").unwrap_or(("no", ""));
        if !(visibility.is_empty() || visibility.starts_with("pub") && !visibility.contains(['=', ';', '{']))
        {
            rest.push_str(line);
            rest.push('\n');
            continue;
        }
        let mut item = item.to_owned();
        while !item.contains(';') {
            item.extend(lines.next());
        }
        let item = item.split(';').next().unwrap_or_default().to_owned();
        for leaf in leaves(&item) {
            let (path, name) = leaf
                .split_once(" as ")
                .map_or((leaf.as_str(), None), |(path, name)| (path, Some(name.trim())));
            let mut path: Vec<String> = path.split("::").map(|step| step.trim().to_owned()).collect();
            path.pop_if(|last| last == "self" || last == "*");
            let name = name.map(str::to_owned).or_else(|| path.last().cloned()).unwrap_or_default();
            found.push(Used { is_public: !visibility.is_empty(), name, path });
        }
    }
    for root in ["crate::", "super::"] {
        for (at, _) in rest.match_indices(root) {
            if rest[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
            {
                continue;
            }
            let end = rest[at..]
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .map_or(rest.len(), |end| at + end);
            let path = rest[at..end].trim_end_matches(':').split("::").map(str::to_owned).collect();
            found.push(Used { is_public: false, name: String::new(), path });
        }
    }
    found
}

/// `a::{b, c::d}` → `a::b`, `a::c::d`.
fn leaves(tree: &str) -> Vec<String> {
    let Some((before, inner)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    let whole = |part: &String| {
        leaves(part).into_iter().map(|leaf| format!("{}{leaf}", before.trim())).collect::<Vec<_>>()
    };
    parts.iter().filter(|part| !part.trim().is_empty()).flat_map(whole).collect()
}

/// A path from the crate's root; `None` for other crates and for what is near at hand.
fn absolute(module: &[String], path: &[String]) -> Option<Module> {
    let ups = path.iter().take_while(|step| *step == "super").count();
    match path.first().map(String::as_str) {
        Some("crate") => Some(path[1..].to_vec()),
        Some("self") => Some([module, &path[1..]].concat()),
        Some("super") => Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat()),
        // Of a module's own re-exports: `pub use http::Cors`.
        Some(_) if path.len() > 1 => Some([module, path].concat()),
        _ => None,
    }
}

/// Arrows between the parts of each folder; the crate is the folder of no name.
fn between_neighbours(arrows: &BTreeSet<Arrow>) -> BTreeMap<Module, BTreeMap<(String, String), Vec<String>>> {
    let mut folders: BTreeMap<Module, BTreeMap<(String, String), Vec<String>>> = BTreeMap::new();
    for (from, to) in arrows {
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        // One lies in the other: a folder and what is in it.
        let (Some(part), Some(other)) = (from.get(common), to.get(common)) else { continue };
        let reason = format!("{} → {}", from.join("/"), to.join("/"));
        let folder = folders.entry(from[..common].to_vec()).or_default();
        folder.entry((part.clone(), other.clone())).or_default().push(reason);
    }
    folders
}

/// The arrows that go round in circles, as `from → to` of files.
fn circles(arrows: &BTreeSet<Arrow>) -> Vec<String> {
    let mut found = Vec::new();
    for mut parts in between_neighbours(arrows).into_values() {
        // What points nowhere, or at nothing that remains, and what nothing points at, is in no circle.
        loop {
            let (from, to): (BTreeSet<_>, BTreeSet<_>) = parts.keys().cloned().unzip();
            let before = parts.len();
            parts.retain(|(part, other), _| from.contains(other) && to.contains(part));
            if parts.len() == before {
                break;
            }
        }
        found.extend(parts.into_values().flatten());
    }
    found
}

#[test]
fn no_files_of_a_folder_go_round_in_a_circle() {
    let found = circles(&Sources::read().arrows());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn arrows_point_down_the_list_of_lib_rs() {
    let lib = include_str!("lib.rs");
    let named =
        |line: &'static str| line.strip_prefix("//! * ")?.trim_start_matches(['[', '`']).split('`').next();
    let order: Vec<&str> = lib.lines().filter_map(named).collect();
    let (product, _) = without_tests(lib);
    let module = |line: &str| {
        Some(line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    let declared: BTreeSet<String> = product.lines().filter_map(module).collect();
    assert_eq!(
        order.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
        declared,
        "the list in lib.rs names every module once"
    );
    let place = |name: &String| {
        order.iter().position(|listed| listed == name).unwrap_or_else(|| panic!("{name} is not listed"))
    };
    let folders = between_neighbours(&Sources::read().arrows());
    let top = &folders[&Module::new()];
    assert!(top.len() > 30, "only {} arrows found", top.len());
    let upward: Vec<_> =
        top.iter().filter(|((part, other), _)| place(part) > place(other)).flat_map(|(_, why)| why).collect();
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn circles_are_found_through_reexports_nested_braces_and_plain_paths() {
    let module = |path: &str| -> Module {
        path.split('/').filter(|step| !step.is_empty()).map(str::to_owned).collect()
    };
    let sources = |extra: &str| {
        let files = [
            ("a", "mod b;\nmod c;\nmod d;\npub use b::{B, Other as Renamed};\n"),
            ("a/b", "use super::{c::{C, self}};\n#[cfg(test)]\nmod tests {\n    use crate::a::d::D;\n}\n"),
            ("a/c", "// use super::b::B;\nfn c() -> crate::a::d::D {}\n"),
            ("a/d", extra),
        ];
        Sources::new(files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect())
    };
    assert_eq!(circles(&sources("").arrows()), [""; 0]);
    for closing in
        ["use crate::a::Renamed;", "pub use super::{\n    B,\n};\n", "fn d() { super::b::B::new() }\n"]
    {
        assert_eq!(circles(&sources(closing).arrows()), ["a/b → a/c", "a/c → a/d", "a/d → a/b"], "{closing}");
    }
}
