//! Writes the manual pages into a directory: for dns-xdp, for each verb, and for the configuration file.
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use dns_xdp_tests::bed::process::exit_code;

/// The source of `man 5 dns-xdp.toml`.
const CONFIGURATION: &str = include_str!("../../../dns-xdp/doc/configuration.md");

fn main() -> ExitCode {
    exit_code(write())
}

fn write() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [directory] = &arguments[..] else { bail!("usage: manual DIRECTORY") };
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    pages(dns_xdp::cli::command(), directory)?;
    let path = directory.join("dns-xdp.toml.5");
    let page = mandown::convert(&without_tables(CONFIGURATION), "dns-xdp.toml", 5);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the pages of a command, except the help verb, which repeats them.
fn pages(command: clap::Command, directory: &Path) -> Result<()> {
    let command = command.disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("cannot write the pages to {}", directory.display()))
}

/// Returns the Markdown text with a list in place of each table: a manual page of 80 columns has no room for 5 columns.
fn without_tables(markdown: &str) -> String {
    let mut headings: Vec<&str> = Vec::new();
    let mut text = String::new();
    for line in markdown.lines() {
        let cells = cells(line);
        match (&cells[..], headings.is_empty()) {
            ([], _) => {
                headings.clear();
                text.push_str(line);
            }
            (_, true) => headings = cells,
            ([rule, ..], false) if rule.starts_with("---") => {}
            (cells, false) => text.push_str(&item(&headings, cells)),
        }
        text.push('\n');
    }
    text
}

/// The cells of a row of a table; empty: the line is no such row.
fn cells(line: &str) -> Vec<&str> {
    match line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) {
        Some(row) => row.split('|').map(str::trim).collect(),
        None => Vec::new(),
    }
}

/// A row as an item of a list: the first cell, the middle cells with their headings, and the last cell.
fn item(headings: &[&str], cells: &[&str]) -> String {
    let [first, between @ .., last] = cells else { return cells.concat() };
    let named = headings.iter().skip(1).zip(between).filter(|(_, cell)| !cell.is_empty());
    let named: Vec<String> = named.map(|(heading, cell)| format!("{heading} {cell}")).collect();
    format!("- {first}: {}. {last}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_becomes_a_list() {
        let table = "| key | type | default | effect |\n|---|---|---|---|\n| `port` | number | `53` | The port. |\n\nText.";
        assert_eq!(without_tables(table).trim(), "- `port`: type number, default `53`. The port.\n\nText.");
    }

    #[test]
    fn the_page_about_the_configuration_has_no_table_left() {
        let page = mandown::convert(&without_tables(CONFIGURATION), "dns-xdp.toml", 5);
        assert!(page.contains("The delegated zone") && !page.lines().any(|line| line.starts_with('|')));
    }
}
