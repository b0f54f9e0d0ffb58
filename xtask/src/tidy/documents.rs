//! The documents for readers: checks their lengths and the targets of their links.
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The manual's directory below the root.
const MANUAL: &str = "dns-xdp/doc";
/// The longest README, in lines, so that it can be read at once.
const README_LINES: usize = 250;

/// The breaches in the README, in the manual and in the page about the tests.
///
/// # Errors
/// A document cannot be read.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let manual = root.join(MANUAL);
    let entries = fs::read_dir(&manual).with_context(|| format!("cannot list {}", manual.display()))?;
    let mut names: Vec<String> = vec!["README.md".to_owned(), "tests/README.md".to_owned()];
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.ends_with(".md").then(|| format!("{MANUAL}/{name}")));
    }
    names.sort();
    let mut breaches = Vec::new();
    for name in &names {
        let text = read(&root.join(name))?;
        for (line, target) in links(&text) {
            let broken = broken(root, name, target);
            breaches.extend(broken.map(|why| format!("{name}:{line}: {target}: {why}")));
        }
    }
    let readme = read(&root.join("README.md"))?;
    if readme.lines().count() > README_LINES {
        breaches.push(format!("README.md: more than {README_LINES} lines: move a part to {MANUAL}"));
    }
    let pages = names.iter().filter(|name| name.starts_with(MANUAL));
    let lost = pages.filter(|name| !readme.contains(&format!("({name})")));
    breaches.extend(lost.map(|name| format!("{name}: the README has no link to it")));
    Ok(breaches)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The links of a document that lead to files or headings, each with its line.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.extend(targets.filter(|target| !target.contains("://")).map(|target| (number, target)));
    }
    links
}

/// Why a link of the document `from` leads nowhere.
fn broken(root: &Path, from: &str, target: &str) -> Option<&'static str> {
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let from = root.join(from);
    let path = if file.is_empty() { from.clone() } else { from.parent().unwrap_or(root).join(file) };
    if !path.exists() {
        return Some("there is no such file");
    }
    // A picture has no headings.
    let text = fs::read_to_string(path).unwrap_or_default();
    let has_heading = heading.is_empty() || anchors(&text).any(|anchor| anchor == heading);
    (!has_heading).then_some("there is no such heading")
}

/// The anchors of a document's headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings =
        text.lines().filter_map(|line| Some(line.trim_start_matches('#')).filter(|it| *it != line));
    headings.map(|heading| {
        let kept = |letter: char| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter => Some(letter.to_ascii_lowercase()).filter(|letter| letter.is_alphanumeric()),
        };
        heading.trim().chars().filter_map(kept).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_and_headings_are_found() {
        let text = "[a](b.md) and [c](d.md#e)\n[f](https://example.com)\n[g](#h)\n";
        assert_eq!(links(text), [(1, "b.md"), (1, "d.md#e"), (3, "#h")]);
    }

    #[test]
    fn a_heading_is_called_as_in_the_browser() {
        let anchors: Vec<String> = anchors("# DNS cookies: `[cookies]` (RFC 7873)\ntext\n").collect();
        assert_eq!(anchors, ["dns-cookies-cookies-rfc-7873"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_breach() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.md"), "# One\n").unwrap();
        let broken = |target| broken(root.path(), "a.md", target);
        assert_eq!((broken("a.md#one"), broken("#one"), broken("a.md")), (None, None, None));
        assert_eq!(broken("b.md"), Some("there is no such file"));
        assert_eq!(broken("#two"), Some("there is no such heading"));
    }
}
