//! The page: hand-written files that a browser reads, packed by `build.rs` and embedded.
//!
//! `page/index.html` is the frame, `page/main.js` begins, and `page/text.js` has every text that a person
//! reads. The files are sent as they lie there: no bundler, no library, no request to anywhere but the
//! devices that the person names.

use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// Bytes of gzip's header as `build.rs` writes it, and of its trailer.
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;

/// What a browser may do with the page: nothing that does not come from here, no markup from text, and in no
/// other page's frame. It may talk to any address, since the person may name other devices.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its name, below `page/`.
    pub name: &'static str,
    /// Content type that it is sent with.
    pub kind: &'static str,
    /// Its length before it was packed.
    pub bytes: usize,
    /// Its entity tag, quotes included: another for every content.
    pub tag: &'static str,
    /// The file, packed by gzip.
    pub packed: &'static [u8],
}

/// The files of the page.
pub const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// The one that a browser asks for first.
pub const INDEX: &str = "index.html";

impl File {
    /// The file of that name.
    pub fn find(name: &str) -> Option<&'static File> {
        FILES.iter().find(|file| file.name == name)
    }

    /// As it was before it was packed: for the few clients that cannot unpack it. A fraction of a
    /// millisecond.
    pub fn unpacked(&self) -> Vec<u8> {
        let end = self.packed.len().saturating_sub(TRAILER_BYTES);
        let deflated = self.packed.get(HEADER_BYTES..end).unwrap_or_default();
        // What the build has packed can be unpacked: a test does it.
        decompress_to_vec_with_limit(deflated, self.bytes).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The bar for all that a first visit transfers.
    const MOST_BYTES: usize = 80_000;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/page")
    }

    #[test]
    fn every_file_is_in_the_program_and_comes_out_as_it_went_in() {
        for entry in std::fs::read_dir(folder()).unwrap() {
            let path = entry.unwrap().path();
            let file = File::find(path.file_name().unwrap().to_str().unwrap()).unwrap();
            assert!(file.unpacked() == std::fs::read(&path).unwrap(), "{}", path.display());
        }
        assert_eq!(std::fs::read_dir(folder()).unwrap().count(), FILES.len());
    }

    #[test]
    fn the_page_is_small() {
        let sum: usize = FILES.iter().map(|file| file.packed.len()).sum();
        assert!(sum <= MOST_BYTES, "{sum} bytes compressed");
    }

    /// The policy forbids what would be needed, and this says it before a browser does.
    #[test]
    fn no_file_has_a_script_in_its_markup_or_makes_markup_of_text() {
        for file in FILES {
            let text = String::from_utf8(file.unpacked()).unwrap();
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "javascript:",
                " style=\"",
            ] {
                assert!(!text.contains(word), "{}: {word}", file.name);
            }
            if file.kind.starts_with("text/html") {
                for tag in text.split("<script").skip(1) {
                    assert!(
                        tag.split('>').next().unwrap().contains(" src="),
                        "{}: a script within",
                        file.name
                    );
                }
            }
        }
    }

    /// Every module that a file imports is there, and so is every text that it shows.
    #[test]
    fn what_files_name_is_there() {
        let text = |name: &str| String::from_utf8(File::find(name).unwrap().unpacked()).unwrap();
        let scripts = || FILES.iter().filter(|file| file.name.ends_with(".js"));
        for file in scripts() {
            for line in text(file.name).lines().filter(|line| line.starts_with("import ")) {
                let name = line.rsplit_once("\"./").unwrap().1.trim_end_matches("\";");
                assert!(File::find(name).is_some(), "{}: {line}", file.name);
                assert!(text(INDEX).contains(&format!("page/{name}")), "{name} is not preloaded by {INDEX}");
            }
        }
        let table = text("text.js");
        for file in scripts().filter(|file| file.name != "text.js") {
            let text = text(file.name);
            let is_call =
                |at: &usize| !text[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '.');
            for (at, call) in text.match_indices("t(\"").filter(|(at, _)| is_call(at)) {
                let key = text[at + call.len()..].split('"').next().unwrap();
                assert!(
                    table.contains(&format!("\n  {key}: ")) || table.contains(&format!("\n  \"{key}\": ")),
                    "{}: no text {key}",
                    file.name
                );
            }
        }
    }
}
