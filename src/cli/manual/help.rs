//! `--help`, for a terminal.

use super::{COMMANDS, Command, Opt};
use std::fmt::Write as _;

/// Column in which descriptions begin.
const INDENT: usize = 28;

/// Columns of a terminal.
const WIDTH: usize = 110;

/// What `weir help` says.
pub(in crate::cli) fn overview() -> String {
    let mut text = String::from(
        "weir watches many cameras with an object-detection model and is steered over TCP and HTTP.\n\n",
    );
    for command in COMMANDS {
        let name = if command.name == "serve" { "[serve]" } else { command.name };
        entry(&mut text, &format!("weir {name} {}", command.arguments), command.summary);
    }
    text.push_str("\nOptions of serve, demo and check:\n");
    if let Some(serve) = super::find("serve") {
        options(&mut text, serve);
    }
    text.push_str("\n`weir help COMMAND` says more of one; `weir manual | man -l -` has every variable and exit code.\n");
    text
}

/// What `weir help COMMAND` says.
pub(in crate::cli) fn of(command: &Command) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", format!("weir {} {}", command.name, command.arguments).trim_end());
    paragraph(&mut text, &format!("{}.", sentence(command.summary)));
    if !command.details.is_empty() {
        paragraph(&mut text, command.details);
    }
    text.push('\n');
    options(&mut text, command);
    for kind in command.kinds {
        let named = format!("{} {}", kind.name, kind.arguments);
        entry(&mut text, &named, kind.summary);
    }
    // Options that all kinds have are told once.
    let mut told: Vec<&str> = Vec::new();
    for kind in command.kinds {
        let mut own = String::new();
        for option in kind.options() {
            let shared = command
                .kinds
                .iter()
                .filter(|other| other.options().any(|known| known.name == option.name))
                .count()
                > 1;
            if !shared {
                one(&mut own, option);
            }
        }
        if !own.is_empty() {
            let _ = write!(text, "\nOptions of {}:\n{own}", kind.name);
        }
    }
    let mut common = String::new();
    for option in command.kinds.iter().flat_map(Command::options) {
        let holders = command
            .kinds
            .iter()
            .filter(|other| other.options().any(|known| known.name == option.name))
            .count();
        if holders > 1 && !told.contains(&option.name) {
            told.push(option.name);
            one(&mut common, option);
        }
    }
    if !common.is_empty() {
        let _ = write!(text, "\nOptions:\n{common}");
    }
    text
}

/// The text with a capital at its beginning.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn options(text: &mut String, command: &Command) {
    command.options().for_each(|option| one(text, option));
}

fn one(text: &mut String, option: &Opt) {
    let short = option.short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = option.value.map(|(value, _)| format!(" {value}")).unwrap_or_default();
    entry(text, &format!("{short}--{}{value}", option.name), option.help);
}

fn entry(text: &mut String, name: &str, help: &str) {
    let name = name.trim_end();
    let _ = write!(text, "  {name}");
    if name.len() + 4 > INDENT {
        text.push('\n');
    }
    let mut column = if name.len() + 4 > INDENT { 0 } else { name.len() + 2 };
    for word in help.split(' ') {
        if column > INDENT && column + 1 + word.chars().count() > WIDTH {
            text.push('\n');
            column = 0;
        }
        let gap = if column < INDENT { INDENT - column } else { 1 };
        let _ = write!(text, "{:gap$}{word}", "");
        column += gap + word.chars().count();
    }
    text.push('\n');
}

fn paragraph(text: &mut String, words: &str) {
    let mut column = 0;
    for word in words.split_whitespace() {
        if column > 0 && column + 1 + word.len() > WIDTH {
            text.push('\n');
            column = 0;
        }
        let gap = usize::from(column > 0);
        let _ = write!(text, "{:gap$}{word}", "");
        column += gap + word.len();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_terminal_and_every_option_is_there() {
        let whole: String = COMMANDS.iter().map(of).chain([overview()]).collect();
        for line in whole.lines() {
            assert!(line.chars().count() <= WIDTH + 2, "{line}");
            assert_eq!(line.trim_end(), line);
        }
        for option in COMMANDS
            .iter()
            .flat_map(|command| command.options().chain(command.kinds.iter().flat_map(Command::options)))
        {
            assert!(whole.contains(&format!("--{}", option.name)), "{}", option.name);
        }
    }
}
