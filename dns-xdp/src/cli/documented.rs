//! Tests the README and the manual against the code: the commands and options that they show exist.
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;

/// Returns the paths of the README and the pages of the manual.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_dir(root.join("doc")).unwrap().map(|page| page.unwrap().path());
    let pages = manual.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain([root.join("../README.md")]).collect()
}

/// Returns the command lines of a page, without `dns-xdp`. A command line is in code, or begins a row of a table.
fn command_lines<'a>(root: &Command, page: &'a str) -> Vec<&'a str> {
    let mut lines = Vec::new();
    let mut is_shell = false;
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_shell = !is_shell && ["sh", "text"].contains(&language);
        } else if is_shell {
            let command = line.trim_start_matches("$ ").split(" && ").next().unwrap_or_default();
            lines.extend(command.strip_prefix("dns-xdp "));
        } else {
            let mut code = line.split('`').skip(1).step_by(2);
            lines.extend(code.clone().filter_map(|code| code.strip_prefix("dns-xdp ")));
            let first = code.next().filter(|_| line.starts_with("| `"));
            let is_verb =
                |code: &&str| root.find_subcommand(code.split(' ').next().unwrap_or_default()).is_some();
            lines.extend(first.filter(is_verb));
        }
    }
    lines
}

/// Returns the first word of a command line that should be a verb or an option, but is not.
fn unknown<'a>(root: &Command, line: &'a str) -> Option<&'a str> {
    // Two blanks separate output or a comment.
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
                // The value of an option.
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
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for line in command_lines(&root, &text) {
            let page = page.display();
            wrong.extend(unknown(&root, line).map(|word| format!("{page}: `dns-xdp {line}`: {word}")));
            seen += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 60, "{seen}");
}

#[test]
fn a_misspelt_verb_or_option_is_noticed() {
    let root = super::command();
    assert_eq!(unknown(&root, "nod drain node2"), Some("nod"));
    assert_eq!(unknown(&root, "node drian node2"), Some("drian"));
    assert_eq!(unknown(&root, "node drain node2 --wiat"), Some("--wiat"));
    assert_eq!(unknown(&root, "node drain node2 --for 2h --wait"), None);
}
