//! Completions of bash, zsh and fish.

use super::{COMMANDS, Command, Names, Opt};
use std::fmt::Write as _;

/// A command and its kind, as they stand on the line, and what may follow.
fn branches() -> Vec<(Vec<&'static str>, &'static Command)> {
    let mut found = Vec::new();
    for command in COMMANDS {
        found.push((vec![command.name], command));
        found.extend(command.kinds.iter().map(|kind| (vec![command.name, kind.name], kind)));
    }
    found
}

fn names(commands: &[Command]) -> String {
    commands.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

fn longs(command: &Command) -> String {
    command.options().map(|option| format!("--{}", option.name)).collect::<Vec<_>>().join(" ")
}

/// Completions for bash: /usr/share/bash-completion/completions/weir.
pub(in crate::cli) fn bash() -> String {
    let mut text = String::from(
        "# Completions of weir for bash; made by `weir completions bash`.\n_weir() {\n  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} \
         path=\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\"\n  COMPREPLY=()\n  [ \"$COMP_CWORD\" -gt 1 ] || path=\n  [ \"$COMP_CWORD\" -gt 2 ] || \
         path=${path%% *}\n  case \"$before\" in\n",
    );
    let mut told: Vec<&str> = Vec::new();
    for option in branches().into_iter().flat_map(|(_, command)| command.options()) {
        let Some((_, named)) = option.value else { continue };
        if told.contains(&option.name) {
            continue;
        }
        told.push(option.name);
        let reply = match named {
            Names::Something => "return".to_owned(),
            Names::File => "COMPREPLY=($(compgen -f -- \"$word\")); return".to_owned(),
            Names::OneOf(words) => {
                format!("COMPREPLY=($(compgen -W \"{}\" -- \"$word\")); return", words.join(" "))
            }
        };
        let _ = writeln!(text, "    --{}) {reply} ;;", option.name);
    }
    text.push_str("  esac\n  local words=\n  case \"$path\" in\n");
    let _ = writeln!(
        text,
        "    \"\") words=\"{} {}\" ;;",
        names(COMMANDS),
        COMMANDS.first().map(longs).unwrap_or_default()
    );
    // Longer paths first: a shell takes the first that fits.
    let mut branches = branches();
    branches.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    for (path, command) in branches {
        let mut words = format!("{} {}", names(command.kinds), longs(command)).trim().to_owned();
        if command.name == "help" {
            words = names(COMMANDS);
        }
        let mut reply = format!("words=\"{words}\"");
        match command.names {
            Names::Something => {}
            Names::File => {
                reply.push_str("; [ \"${word#-}\" != \"$word\" ] || COMPREPLY=($(compgen -f -- \"$word\"))")
            }
            Names::OneOf(known) => reply = format!("words=\"{words} {}\"", known.join(" ")),
        }
        let pattern = if path.len() == 1 {
            format!("{0}|\"{0} \"*", path.join(" "))
        } else {
            format!("\"{}\"", path.join(" "))
        };
        let _ = writeln!(text, "    {pattern}) {reply} ;;");
    }
    text.push_str("  esac\n  COMPREPLY+=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o filenames -F _weir weir\n");
    text
}

/// For a folder of zsh's `fpath`, as `_weir`.
pub(in crate::cli) fn zsh() -> String {
    let mut text = String::from(
        "#compdef weir\n# Completions of weir for zsh; made by `weir completions zsh`.\n\n_weir() {\n  local -a commands=(\n",
    );
    let described = |text: &mut String, commands: &[Command], indent: &str| {
        for command in commands {
            let _ = writeln!(text, "{indent}'{}:{}'", command.name, plain(command.summary));
        }
    };
    described(&mut text, COMMANDS, "    ");
    text.push_str(
        "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n  case ${words[2]} in\n",
    );
    for command in COMMANDS {
        let _ = writeln!(text, "    {})", command.name);
        if command.kinds.is_empty() {
            let _ =
                writeln!(text, "      shift words; (( CURRENT-- ))\n      _arguments{}", arguments(command));
        } else {
            text.push_str("      local -a kinds=(\n");
            described(&mut text, command.kinds, "        ");
            text.push_str("      )\n      if (( CURRENT == 3 )); then\n        _describe kind kinds\n        return\n      fi\n      case ${words[3]} in\n");
            for kind in command.kinds {
                let _ = writeln!(
                    text,
                    "        {}) shift 2 words; (( CURRENT -= 2 )); _arguments{} ;;",
                    kind.name,
                    arguments(kind)
                );
            }
            text.push_str("      esac\n");
        }
        text.push_str("      ;;\n");
    }
    text.push_str("  esac\n}\n\n_weir \"$@\"\n");
    text
}

/// The specifications of `_arguments`.
fn arguments(command: &Command) -> String {
    let action = |named: Names| match named {
        Names::Something => String::new(),
        Names::File => "_files".to_owned(),
        Names::OneOf(words) => format!("({})", words.join(" ")),
    };
    let mut specifications: Vec<String> = command
        .options()
        .map(|option| {
            let value = option
                .value
                .map(|(value, named)| format!(":{}:{}", plain(value), action(named)))
                .unwrap_or_default();
            let spec = |name: String| format!("'{name}[{}]{value}'", plain(option.help));
            let short =
                option.short.map(|short| format!(" {}", spec(format!("-{short}")))).unwrap_or_default();
            format!("{}{short}", spec(format!("--{}", option.name)))
        })
        .collect();
    if !command.arguments.is_empty() {
        let words =
            if command.name == "help" { format!("({})", names(COMMANDS)) } else { action(command.names) };
        specifications.push(format!("'1:{}:{words}'", plain(command.arguments)));
    }
    specifications.iter().map(|specification| format!(" {specification}")).collect()
}

/// Without what zsh's specifications and quotes give a meaning.
fn plain(text: &str) -> String {
    text.replace(['\'', '[', ']'], "").replace(':', "\\:")
}

/// Completions for fish: /usr/share/fish/vendor_completions.d/weir.fish.
pub(in crate::cli) fn fish() -> String {
    let mut text = String::from(
        "# Completions of weir for fish; made by `weir completions fish`.\ncomplete -c weir -f\n",
    );
    for command in COMMANDS {
        let _ = writeln!(
            text,
            "complete -c weir -n __fish_use_subcommand -a {} -d '{}'",
            command.name,
            quiet(command.summary)
        );
    }
    for option in COMMANDS.first().into_iter().flat_map(Command::options) {
        let _ = writeln!(text, "complete -c weir -n __fish_use_subcommand{}", of_option(option));
    }
    for command in COMMANDS {
        let seen = format!("__fish_seen_subcommand_from {}", command.name);
        let kinds = names(command.kinds);
        for kind in command.kinds {
            let condition = format!("{seen}; and not __fish_seen_subcommand_from {kinds}");
            let _ = writeln!(
                text,
                "complete -c weir -n '{condition}' -a {} -d '{}'",
                kind.name,
                quiet(kind.summary)
            );
            for option in kind.options() {
                let condition = format!("{seen}; and __fish_seen_subcommand_from {}", kind.name);
                let _ = writeln!(text, "complete -c weir -n '{condition}'{}", of_option(option));
            }
            if kind.names == Names::File {
                let _ = writeln!(
                    text,
                    "complete -c weir -n '{seen}; and __fish_seen_subcommand_from {}' -F",
                    kind.name
                );
            }
        }
        for option in command.options() {
            let _ = writeln!(text, "complete -c weir -n '{seen}'{}", of_option(option));
        }
        match command.names {
            Names::File => {
                let _ = writeln!(text, "complete -c weir -n '{seen}' -F");
            }
            Names::OneOf(words) => {
                let _ = writeln!(text, "complete -c weir -n '{seen}' -a '{}'", words.join(" "));
            }
            Names::Something => {}
        }
    }
    let _ = writeln!(text, "complete -c weir -n '__fish_seen_subcommand_from help' -a '{}'", names(COMMANDS));
    text
}

fn of_option(option: &Opt) -> String {
    let short = option.short.map(|short| format!(" -s {short}")).unwrap_or_default();
    let value = match option.value {
        None => String::new(),
        Some((_, Names::Something)) => " -x".to_owned(),
        Some((_, Names::File)) => " -r -F".to_owned(),
        Some((_, Names::OneOf(words))) => format!(" -x -a '{}'", words.join(" ")),
    };
    format!("{short} -l {}{value} -d '{}'", option.name, quiet(option.help))
}

fn quiet(text: &str) -> String {
    text.replace('\'', "")
}
