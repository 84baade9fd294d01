//! The man page, in troff.

use super::help::sentence;
use super::{COMMANDS, Command, EXIT_CODES, FILES, Opt, VARIABLES};
use std::fmt::Write as _;

/// The manual page `weir(1)`, in troff.
pub(in crate::cli) fn page() -> String {
    let mut page = format!(
        ".\\\" Made by `weir manual`; packaging/manual.sh writes it here.\n.TH WEIR 1 \"\" \"weir {}\" \"User Commands\"\n.SH NAME\nweir \
         \\- object detection on many cameras, steered from outside\n.SH SYNOPSIS\n",
        env!("CARGO_PKG_VERSION")
    );
    let synopses = COMMANDS.iter().map(|command| {
        let name = if command.name == "serve" { "[serve]" } else { command.name };
        format!(".B weir {name}\n{}[\\fIOPTIONS\\fR]\n", italic(command.arguments))
    });
    page.push_str(&synopses.collect::<Vec<_>>().join(".br\n"));
    page.push_str(".SH DESCRIPTION\n");
    page.push_str(&escaped(
        "weir watches RTSP cameras, V4L2 devices and video files with an object-detection model and sends what it finds as UDP \
         datagrams. It is steered over a TCP protocol (port 7070) and an HTTP API (port 8080), both those of the Roboflow Stream \
         Manager.",
    ));
    page.push_str("\n.SH COMMANDS\n");
    for command in COMMANDS {
        let _ = writeln!(page, ".SS {} {}", command.name, escaped(command.arguments));
        let _ = writeln!(page, "{}.", escaped(&sentence(command.summary)));
        if !command.details.is_empty() {
            let _ = writeln!(page, "{}", escaped(command.details));
        }
        command.options().for_each(|option| write_option(&mut page, option));
        for kind in command.kinds {
            let _ = writeln!(
                page,
                ".TP\n.B {} {} {}\n{}.",
                command.name,
                kind.name,
                escaped(kind.arguments),
                escaped(&sentence(kind.summary))
            );
            let named: Vec<String> =
                kind.options().map(|option| format!("\\fB\\-\\-{}\\fR", escaped(option.name))).collect();
            let _ = writeln!(page, "Options: {}.", named.join(", "));
        }
        let mut told: Vec<&str> = Vec::new();
        for option in command.kinds.iter().flat_map(Command::options) {
            if !told.contains(&option.name) {
                told.push(option.name);
                write_option(&mut page, option);
            }
        }
    }
    for (title, entries) in [("FILES", FILES), ("ENVIRONMENT", VARIABLES)] {
        let _ = writeln!(page, ".SH {title}");
        for (name, meaning) in entries {
            let _ =
                writeln!(page, ".TP\n.B {}\n{}", escaped(name), full_stop(&escaped(&sentence_of(meaning))));
        }
    }
    page.push_str(".SH EXIT STATUS\n");
    for (code, meaning) in EXIT_CODES {
        let _ = writeln!(page, ".TP\n.B {code}\n{}.", escaped(&sentence(meaning)));
    }
    page.push_str(
        ".SH SIGNALS\nSIGTERM and SIGINT end every pipeline, say goodbye to the cameras and exit. SIGHUP reads tokens, certificates, \
         [mqtt] and declared pipelines again.\n.SH SEE ALSO\n",
    );
    page.push_str(&escaped(
        "/usr/share/doc/weir/reference.md: every key of the configuration, the protocols, metrics.",
    ));
    page.push('\n');
    page
}

fn write_option(page: &mut String, option: &Opt) {
    let short = option.short.map(|short| format!("\\-{short}, ")).unwrap_or_default();
    let value = option.value.map(|(value, _)| format!(" \\fI{}\\fR", escaped(value))).unwrap_or_default();
    let _ = writeln!(
        page,
        ".TP\n\\fB{short}\\-\\-{}\\fR{value}\n{}.",
        escaped(option.name),
        escaped(&sentence(option.help))
    );
}

fn italic(arguments: &str) -> String {
    if arguments.is_empty() { String::new() } else { format!("\\fI{}\\fR ", escaped(arguments)) }
}

/// Keys of the configuration stay as they are written.
fn sentence_of(text: &str) -> String {
    let first = text.split([' ', ',', ';']).next().unwrap_or_default();
    if first.contains('.') && !first.ends_with('.') { text.to_owned() } else { sentence(text) }
}

fn full_stop(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// What troff would take for an instruction of its own.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    // A line that begins with a dot is an instruction.
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
