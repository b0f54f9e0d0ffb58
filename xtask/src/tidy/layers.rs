//! The order of the modules of a crate: each imports only from the layers below its own.
//!
//! It reads tokens, not types: it finds paths that begin with `crate::`, or with enough `super::` to reach the crate's
//! root. Test code counts too. Paths in comments and in strings do not.
use std::collections::BTreeSet;
use std::path::Path;

/// A crate's source directory, and its modules, lowest layer first. Modules of one layer do not import each other.
pub(super) struct Layers {
    pub(super) source: &'static str,
    pub(super) modules: &'static [&'static [&'static str]],
}

/// A module that is not listed here is a breach, so that a new module gets its place.
pub(super) const LAYERS: [Layers; 2] = [
    Layers {
        source: "dns-xdp-ebpf/src",
        modules: &[
            &["message", "verifier"],
            &["checksum", "frame", "outcome", "sample"],
            // The contract with userspace.
            &["table"],
            &["cookie", "host"],
            &["link", "name"],
            &["question"],
            &["edns"],
            &["reply"],
            &["respond"],
        ],
    },
    Layers {
        source: "dns-xdp/src",
        modules: &[
            &["records", "unprivileged"],
            &[
                "atomic_file",
                "authorities",
                "subprocess",
                "cluster",
                "connections",
                "event",
                "fnv",
                "flood_limits",
                "log",
                "pin_directory",
                "severity",
                "update",
                "zone",
            ],
            &["program_features"],
            &["intent", "answered_by"],
            &["config"],
            &["failover", "health", "network"],
            &["datapath", "privileges", "responder"],
            &["bench", "delegation", "store"],
            &["control"],
            &["doctor", "metrics", "repair_bound"],
            &["controller"],
            &["cli"],
        ],
    },
];

/// Files and folders of a source directory that are not modules of the library.
const NO_MODULES: [&str; 3] = ["bin", "lib", "main"];

impl Layers {
    /// The breaches in a file, each as `:line: what`. `path` is the file's path below the source directory.
    pub(super) fn check(&self, path: &Path, text: &str) -> Vec<String> {
        let Some(place) = module_path(path) else { return Vec::new() };
        let Some(module) = place.first() else { return Vec::new() };
        let Some(own) = self.layer(module) else {
            return vec![format!(":1: the module `{module}` is in no layer of xtask/src/tidy/layers.rs")];
        };
        let imports = imports(&place, text).into_iter().filter(|import| import.module != *module);
        let upward =
            imports.filter(|import| self.layer(&import.module).is_some_and(|imported| imported >= own));
        upward
            .map(|Import { line, module: imported }| {
                format!(
                    ":{line}: `{module}` imports `{imported}`, which is not below it: see xtask/src/tidy/layers.rs"
                )
            })
            .collect()
    }

    /// Modules that are listed but do not exist.
    pub(super) fn missing(&self, root: &Path) -> Vec<String> {
        let source = root.join(self.source);
        let is_there =
            |module: &str| source.join(format!("{module}.rs")).exists() || source.join(module).is_dir();
        let modules = self.modules.iter().copied().flatten().filter(|module| !is_there(module));
        modules
            .map(|module| {
                format!("xtask/src/tidy/layers.rs: there is no module `{module}` in {}", self.source)
            })
            .collect()
    }

    fn layer(&self, module: &str) -> Option<usize> {
        self.modules.iter().position(|layer| layer.contains(&module))
    }
}

/// The names of the modules that lead to the file; `None`: it is not part of the library.
fn module_path(path: &Path) -> Option<Vec<String>> {
    let mut names: Vec<String> =
        path.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names.first().is_none_or(|name| NO_MODULES.contains(&name.as_str())) {
        return None;
    }
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    Some(names)
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    line: usize,
    /// The top-level module.
    module: String,
}

/// Every path to a top-level module of the crate in the text of the module at `place`.
fn imports(place: &[String], text: &str) -> Vec<Import> {
    let tokens = tokens(text);
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut found = BTreeSet::new();
    // For each open brace, whether it opens a module.
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match word(at) {
            "{" => braces.push(at >= 2 && word(at - 2) == "mod"),
            "}" => {
                braces.pop();
            }
            _ => {}
        }
        let depth = place.len() + braces.iter().filter(|is_module| **is_module).count();
        let behind = behind_root(&word, at, depth);
        if let Some(behind) = behind {
            found.extend(
                heads(&word, behind)
                    .into_iter()
                    .map(|at| Import { line: tokens[at].line, module: word(at).to_owned() }),
            );
            at = behind;
        } else {
            at += 1;
        }
    }
    found.into_iter().collect()
}

/// The index after `crate::`, or after one `super::` for each level of `depth`; `None`: another path.
fn behind_root<'t>(word: &impl Fn(usize) -> &'t str, at: usize, depth: usize) -> Option<usize> {
    if at > 0 && word(at - 1) == "::" {
        return None;
    }
    let mut end = at;
    while word(end) == "super" && word(end + 1) == "::" {
        end += 2;
    }
    let is_root = word(at) == "crate" && word(at + 1) == "::";
    (is_root || end == at + 2 * depth).then_some(if is_root { at + 2 } else { end })
}

/// The first names of the paths that begin at `at`: one name, or the names of a group in braces.
fn heads<'t>(word: &impl Fn(usize) -> &'t str, at: usize) -> Vec<usize> {
    if word(at) != "{" {
        return vec![at];
    }
    let (mut at, mut depth, mut heads) = (at + 1, 1, Vec::new());
    let mut is_head = true;
    while depth > 0 && !word(at).is_empty() {
        match word(at) {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => is_head = true,
            _ => {
                if is_head {
                    heads.push(at);
                }
                is_head = false;
            }
        }
        at += 1;
    }
    heads
}

struct Token<'t> {
    line: usize,
    text: &'t str,
}

/// The tokens of a text: words, `::` and single characters, without comments, strings and lifetimes.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(rest) = text.get(at..)
        && let Some(first) = rest.chars().next()
    {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (length, is_code) = match first {
            _ if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            _ if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |end| end + 2), false),
            '"' => (string(rest), false),
            'r' | 'b' if raw_string(rest).is_some() => (raw_string(rest).unwrap_or(rest.len()), false),
            '\'' => (character(rest), false),
            _ if is_word(first) => (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), true),
            _ if rest.starts_with("::") => (2, true),
            _ => (first.len_utf8(), !first.is_whitespace()),
        };
        let token = &rest[..length];
        if is_code {
            tokens.push(Token { line, text: token });
        }
        line += token.matches('\n').count();
        at += length;
    }
    tokens
}

/// The length of the string literal that the text begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The length of the raw string literal that the text begins with, if it begins with one.
fn raw_string(text: &str) -> Option<usize> {
    let literal = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let content = literal.trim_start_matches('#').strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(literal.len() - content.len() - 1));
    let end = content.find(&closing).map_or(content.len(), |end| end + closing.len());
    Some(text.len() - content.len() + end)
}

/// The length of a character literal; 1: it begins a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            text[from..].find('\'').map_or(1, |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATE: Layers = Layers { source: "a/src", modules: &[&["zone"], &["config", "health"], &["cli"]] };

    fn breaches(path: &str, text: &str) -> usize {
        CRATE.check(Path::new(path), text).len()
    }

    #[test]
    fn a_module_imports_from_below_alone() {
        assert_eq!(breaches("config.rs", "use crate::zone::Zone;\nuse crate::config::Mode;\n"), 0);
        assert_eq!(breaches("zone.rs", "use crate::config::Config;\n"), 1);
        assert_eq!(breaches("config/spec.rs", "fn run() { crate::cli::run(); }\n"), 1);
        assert_eq!(breaches("health.rs", "use crate::config::Config;\n"), 1, "one layer");
        assert_eq!(breaches("lib.rs", "pub use crate::cli::run;\n"), 0);
    }

    #[test]
    fn a_breach_says_where_it_is() {
        let breach = CRATE.check(Path::new("zone.rs"), "//! The zone.\nuse crate::config::Config;\n");
        assert!(breach[0].starts_with(":2: `zone` imports `config`"), "{breach:?}");
    }

    #[test]
    fn groups_are_looked_into() {
        let text = "use crate::{\n    zone::{self, config},\n    cli::{run, health},\n};\n";
        let expected =
            vec![Import { line: 2, module: "zone".into() }, Import { line: 3, module: "cli".into() }];
        assert_eq!(imports(&["config".into()], text), expected);
    }

    #[test]
    fn paths_by_super_count_where_they_leave_the_folder() {
        assert_eq!(breaches("zone.rs", "use super::config::Config;\n"), 1);
        assert_eq!(breaches("zone/name.rs", "use super::config;\n"), 0);
        assert_eq!(breaches("zone/name.rs", "use super::super::config;\n"), 1);
        let tests = "#[cfg(test)]\nmod tests {\n    use super::super::config;\n}\n";
        assert_eq!((breaches("zone/name.rs", tests), breaches("zone.rs", tests)), (0, 1));
        assert_eq!(breaches("zone/mod.rs", "use super::config;\n"), 1);
    }

    #[test]
    fn comments_and_strings_import_nothing() {
        let text = "//! [`crate::cli`]\n/* crate::cli */ const A: (&str, &str, char) = (\"crate::cli \\\"\", r#\"crate::cli\"#, '\\'');\n";
        assert_eq!(breaches("zone.rs", text), 0);
        assert_eq!(breaches("zone.rs", "fn a<'a>(b: &'a str) { crate::cli::c('{') }\n"), 1);
    }

    #[test]
    fn a_module_that_is_not_listed_is_a_breach() {
        assert_eq!(breaches("novelty.rs", "//! New.\n"), 1);
        assert_eq!(breaches("novelty/part.rs", "//! New.\n"), 1);
        assert_eq!(breaches("bin/tool.rs", "//! A program.\n"), 0);
    }
}
