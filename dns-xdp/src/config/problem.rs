//! What is wrong with a configuration file, and on which line.
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no [`super::Config`].
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store that the file names could not be read, and there is no copy of it.
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not a valid configuration; one line of text for each problem.
    Invalid {
        /// The file.
        path: PathBuf,
        /// In the order of the file, not empty.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// The document of the store that it is in, if it is not in the file.
    pub document: Option<String>,
    /// What is wrong and what to do about it.
    pub text: String,
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
            ConfigError::Invalid { path, problems } => {
                for (index, Problem { line, document, text }) in problems.iter().enumerate() {
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

// No source(): the text already ends in the system's own, and a chain would print it twice.
impl std::error::Error for ConfigError {}

/// A value and the byte of the file where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) at: usize,
    pub(super) value: T,
}

pub(super) fn values<T: Clone>(located: &[At<T>]) -> Vec<T> {
    located.iter().map(|located| located.value.clone()).collect()
}

/// Collects problems while the file is read, so that the operator sees all of them at once.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<At<String>>>);

impl Problems {
    pub(super) fn add(&self, at: usize, text: impl Into<String>) {
        self.0.borrow_mut().push(At { at, value: text.into() });
    }

    /// The error that they amount to; `None` when there are none.
    pub(super) fn into_error(self, text: &str, path: &Path) -> Option<ConfigError> {
        let mut found = self.0.into_inner();
        found.sort_by_key(|problem| problem.at);
        let problem = |At { at, value }| Problem { line: line_of(text, at), document: None, text: value };
        let problems: Vec<Problem> = found.into_iter().map(problem).collect();
        if problems.is_empty() {
            return None;
        }
        Some(ConfigError::Invalid { path: path.to_owned(), problems })
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|&&byte| byte == b'\n').count()
}
