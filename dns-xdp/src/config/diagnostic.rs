//! The problems of a configuration file, with their lines.
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::nearest;
use crate::pin_directory::Unfit;

/// Why a file gives no [`super::Config`].
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The store that the file names could not be read, and this server has no copy of it.
    Store {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The daemon cannot use the directory of `[xdp] pin`.
    Pin {
        /// The file.
        path: PathBuf,
        /// The line of the key; `None`: the file leaves it out.
        line: Option<usize>,
        /// The reason.
        unfit: Unfit,
    },
    /// The file is not a valid configuration; one line of text for each problem.
    Invalid {
        /// The file.
        path: PathBuf,
        /// The problems in the order of the file; not empty.
        problems: Vec<Diagnostic>,
    },
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The line, counted from 1.
    pub line: usize,
    /// The document of the store that has the problem; `None`: the file has it.
    pub document: Option<String>,
    /// The problem, and what to do about it.
    pub text: String,
}

impl ConfigError {
    /// Returns the problems without their lines. A text that is not in the file yet has no lines there.
    pub fn without_lines(&self) -> String {
        match self {
            ConfigError::Invalid { problems, .. } => {
                let texts: Vec<&str> = problems.iter().map(|problem| problem.text.as_str()).collect();
                texts.join("; ")
            }
            other => other.to_string(),
        }
    }

    /// Makes the error about an unfit directory of `[xdp] pin` in the file at `path`.
    pub fn pin(path: &Path, unfit: Unfit) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        ConfigError::Pin { path: path.to_owned(), line: line_of_key(&text, "xdp", "pin"), unfit }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { path, source } => {
                let path = path.display();
                write!(f, "{path}: cannot be read: {source}; name another file with --config")
            }
            ConfigError::Store { path, reason } => {
                write!(f, "[cluster] of {path}: {reason}", path = path.display())
            }
            ConfigError::Pin { path, line: Some(line), unfit } => {
                write!(f, "{path}:{line}: `pin` {unfit}", path = path.display())
            }
            ConfigError::Pin { path, line: None, unfit } => {
                write!(f, "[xdp] of {path}: `pin` {unfit}", path = path.display())
            }
            ConfigError::Invalid { path, problems } => {
                for (index, Diagnostic { line, document, text }) in problems.iter().enumerate() {
                    let newline = if index == 0 { "" } else { "\n" };
                    match document {
                        Some(document) => write!(f, "{newline}{document}:{line}: {text}")?,
                        None => write!(f, "{newline}{path}:{line}: {text}", path = path.display())?,
                    }
                }
                Ok(())
            }
        }
    }
}

// There is no source(): the text already ends with the system's error, and a chain would print it twice.
impl std::error::Error for ConfigError {}

/// A value and its byte position in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) at: usize,
    pub(super) value: T,
}

pub(super) fn values<T: Clone>(located: &[At<T>]) -> Vec<T> {
    located.iter().map(|located| located.value.clone()).collect()
}

/// The most problems that a message lists; the others are only counted. The running daemon writes this message too, so
/// its length is bounded.
const TOLD: usize = 100;
/// The limit on unknown names of a file that are compared with all nodes. There may be 65,536 nodes.
const NAMES_COMPARED: usize = 3;
/// The limit on unknown keys that are compared with the keys of their section.
const KEYS_COMPARED: usize = TOLD;

/// Collects problems while the file is read, so that the operator sees all of them at once.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    found: RefCell<Vec<At<String>>>,
    /// The positions of the unknown keys in the file.
    unknown: RefCell<BTreeSet<usize>>,
    names_compared: Cell<usize>,
    keys_compared: Cell<usize>,
}

impl Diagnostics {
    pub(super) fn add(&self, at: usize, text: impl Into<String>) {
        self.found.borrow_mut().push(At { at, value: text.into() });
    }

    /// Records an unknown key, with the known keys of its section.
    pub(super) fn add_unknown_key(&self, at: usize, name: &str, known: &[&'static str]) {
        let remedy = match compared(&self.keys_compared, KEYS_COMPARED, name, known.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.unknown.borrow_mut().insert(at);
        self.add(at, format!("unknown key `{name}`; {remedy}"));
    }

    /// Returns the node's name that was probably meant. Only the first few names are compared.
    pub(super) fn nearest_name<'a>(
        &self,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        compared(&self.names_compared, NAMES_COMPARED, name, known)
    }

    /// Returns only the unknown keys.
    pub(super) fn into_unknown_keys(self, text: &str) -> Vec<Diagnostic> {
        let unknown = self.unknown.into_inner();
        let mut found = self.found.into_inner();
        found.retain(|problem| unknown.contains(&problem.at) && problem.value.starts_with("unknown key"));
        told(found, text)
    }

    /// Returns the error with all problems; `None` if there are none.
    pub(super) fn into_error(self, text: &str, path: &Path) -> Option<ConfigError> {
        let problems = told(self.found.into_inner(), text);
        (!problems.is_empty()).then(|| ConfigError::Invalid { path: path.to_owned(), problems })
    }
}

/// Returns the problems in the order of the file, each with its line.
fn told(mut found: Vec<At<String>>, text: &str) -> Vec<Diagnostic> {
    found.sort_by_key(|problem| problem.at);
    let more = found.len().saturating_sub(TOLD);
    if more > 0 {
        found.truncate(TOLD + 1);
        found[TOLD].value = format!("and {more} more problems");
    }
    let problem = |At { at, value }| Diagnostic { line: line_of(text, at), document: None, text: value };
    found.into_iter().map(problem).collect()
}

/// Calls [`nearest`], unless this was already done `most` times. `count` is the number of calls so far.
fn compared<'a>(
    count: &Cell<usize>,
    most: usize,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if count.get() >= most {
        return None;
    }
    count.set(count.get() + 1);
    nearest(name, known)
}

/// Returns the line of a key's value in the text of a file; `None`: the key is not there.
fn line_of_key(text: &str, section: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let value = document.get_ref().get(section)?.get_ref().as_table()?.get(key)?;
    Some(line_of(text, value.span().start))
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfit_pin_directory_is_named_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f.toml");
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let said = ConfigError::pin(&file, Unfit::NotBpf("/srv/pins".into())).to_string();
            said.replace(&file.display().to_string(), "f")
        };
        let written = said("[zone]\n[xdp]\nmode = \"auto\"\npin = \"/srv/pins\"\n");
        assert!(
            written.starts_with("f:4: `pin` is `/srv/pins`, which is not on a BPF filesystem"),
            "{written}"
        );
        let default = said("[zone]\n");
        assert!(default.starts_with("[xdp] of f: `pin` is `/srv/pins`"), "{default}");
    }
}
