//! The README and the manual against the code: the commands and options that they show exist.
use clap::Command;

const PAGES: [(&str, &str); 13] = [
    ("README.md", include_str!("../../../README.md")),
    ("answers.md", include_str!("../../doc/answers.md")),
    ("configuration.md", include_str!("../../doc/configuration.md")),
    ("coredns.md", include_str!("../../doc/coredns.md")),
    ("delegation.md", include_str!("../../doc/delegation.md")),
    ("etcd.md", include_str!("../../doc/etcd.md")),
    ("failover.md", include_str!("../../doc/failover.md")),
    ("monitoring.md", include_str!("../../doc/monitoring.md")),
    ("operations.md", include_str!("../../doc/operations.md")),
    ("performance.md", include_str!("../../doc/performance.md")),
    ("security.md", include_str!("../../doc/security.md")),
    ("survival.md", include_str!("../../doc/survival.md")),
    ("troubleshooting.md", include_str!("../../doc/troubleshooting.md")),
];

/// The command lines of a page: what follows `dns-xdp ` in code, up to the end of the code or of the command.
fn command_lines(page: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut is_shell = false;
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_shell = !is_shell && ["sh", "text"].contains(&language);
        } else if is_shell {
            let command = line.trim_start_matches("$ ").split(" && ").next().unwrap_or_default();
            lines.extend(command.strip_prefix("dns-xdp "));
        } else {
            lines.extend(line.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("dns-xdp ")));
        }
    }
    lines
}

/// What of a command line is no verb and no option.
fn unknown<'a>(root: &Command, line: &'a str) -> Option<&'a str> {
    // Output, or a comment, stands apart.
    let line = line.split("  ").next().unwrap_or_default();
    let mut command = root.clone();
    for word in line.split([' ', '=', '[', ']', '|', ',']).filter(|word| !word.is_empty()) {
        if let Some(option) = word.strip_prefix("--") {
            let of =
                |command: &Command| command.get_arguments().any(|known| known.get_long() == Some(option));
            if !of(&command) && !of(root) && option != "help" {
                return Some(word);
            }
        } else if command.has_subcommands() {
            if word == "…" {
                return None;
            }
            match command.find_subcommand(word) {
                Some(verb) => command = verb.clone(),
                // What an option takes.
                None if word.chars().all(|letter| letter.is_ascii_uppercase()) => {}
                None => return Some(word),
            }
        }
    }
    None
}

#[test]
fn every_command_in_the_manual_exists() {
    let root = super::command();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (page, text) in PAGES {
        for line in command_lines(text) {
            wrong.extend(unknown(&root, line).map(|word| format!("{page}: `dns-xdp {line}`: {word}")));
            seen += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 40, "{seen}");
}

#[test]
fn a_misspelt_verb_or_option_is_noticed() {
    let root = super::command();
    assert_eq!(unknown(&root, "nod drain node2"), Some("nod"));
    assert_eq!(unknown(&root, "node drian node2"), Some("drian"));
    assert_eq!(unknown(&root, "node drain node2 --wiat"), Some("--wiat"));
    assert_eq!(unknown(&root, "node drain node2 --for 2h --wait"), None);
}
