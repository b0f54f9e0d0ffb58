//! `cargo xtask tidy`: checks the project's rules that the compiler does not check. The order of the modules is in
//! `layers`.
mod documents;
mod layers;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::layers::LAYERS;
use crate::cargo::root;

/// The permitted entries of the top level, besides the target directory and the repository's own.
const TOP_LEVEL: [&str; 16] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "dns-xdp",
    "dns-xdp-ebpf",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
    "xtask",
];
const NOT_OURS: [&str; 2] = [".git", "target"];

/// File names that say nothing about the contents.
const EMPTY_NAMES: [&str; 5] = ["common", "helper", "helpers", "manager", "utils"];

/// The longest permitted file: a longer one holds more than one idea.
const LINES: usize = 600;

/// The places outside the eBPF crate where `unsafe` is permitted, each place with its reason in an `expect`.
const UNSAFE: &str = "expect(unsafe_code, reason = ";

/// Each text is in two parts here, so that this file does not break its own rule.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const MACHINE_PATHS: [&str; 2] = [concat!("/ho", "me/"), concat!("/ro", "ot/")];

/// The verbs that the README has to mention.
const VERBS: [&str; 8] = ["demo", "deny", "test", "bench", "dist", "fuzz", "lab", "tidy"];

/// Checks the whole workspace.
///
/// # Errors
/// A rule is broken: every breach has been printed.
pub(crate) fn run() -> Result<()> {
    let mut breaches = top_level(root())?;
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for verb in VERBS.iter().filter(|verb| !readme.contains(&format!("cargo xtask {verb}"))) {
        breaches.push(format!("README.md: does not mention `cargo xtask {verb}`"));
    }
    breaches.extend(documents::check(root())?);
    let mut files = 0;
    for member in ["dns-xdp", "dns-xdp-ebpf", "tests", "xtask"] {
        for path in sources(&root().join(member))? {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(root()).unwrap_or(&path);
            let mut in_file = check(path, &text);
            for layers in &LAYERS {
                if let Ok(below) = path.strip_prefix(layers.source) {
                    in_file.extend(layers.check(below, &text));
                }
            }
            breaches.extend(in_file.into_iter().map(|breach| format!("{}{breach}", path.display())));
            files += 1;
        }
        breaches.extend(without_module(&root().join(member).join("src"))?);
    }
    breaches.extend(LAYERS.iter().flat_map(|layers| layers.missing(root())));
    for breach in &breaches {
        println!("{breach}");
    }
    if !breaches.is_empty() {
        bail!("{} breaches of the house rules", breaches.len());
    }
    println!("tidy: {files} source files, nothing to say");
    Ok(())
}

fn top_level(root: &Path) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for entry in fs::read_dir(root).context("cannot list the top level")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !TOP_LEVEL.contains(&name.as_str()) && !NOT_OURS.contains(&name.as_str()) {
            breaches.push(format!("{name}: does not belong at the top level"));
        }
    }
    for name in TOP_LEVEL.iter().filter(|name| !root.join(name).exists()) {
        breaches.push(format!("{name}: is missing at the top level"));
    }
    Ok(breaches)
}

/// Every `.rs` file below a directory. The fuzz crate, which is no member, may have a target directory in it.
fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if NOT_OURS.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The folders below a source directory without a module file that describes them. The module file is `name.rs` beside
/// the folder, or `mod.rs` in it. Its first line is checked like the first line of every file.
fn without_module(source: &Path) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for entry in fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))? {
        let path = entry?.path();
        // Each file in this folder is a program.
        if !path.is_dir() || path.ends_with("bin") {
            continue;
        }
        if !path.with_extension("rs").exists() && !path.join("mod.rs").exists() {
            let path = path.strip_prefix(root()).unwrap_or(&path).display();
            breaches.push(format!("{path}: has no module file that says in a `//!` sentence what is in it"));
        }
        breaches.extend(without_module(&path)?);
    }
    Ok(breaches)
}

/// The breaches in one file, each as `:line: what`.
fn check(path: &Path, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if !text.starts_with("//! ") {
        breaches.push(":1: does not open with a `//!` sentence that says what the file is for".into());
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.iter().any(|name| stem == *name) {
        breaches.push(format!(":1: the name `{stem}` says nothing: name the file by what it holds"));
    }
    if text.lines().count() > LINES {
        breaches.push(format!(":{LINES}: more than {LINES} lines: split the file by idea"));
    }
    let may_be_unsafe = path.starts_with("dns-xdp-ebpf") || text.contains(UNSAFE);
    for (index, line) in text.lines().enumerate() {
        let mut say = |what: &str| breaches.push(format!(":{}: {what}", index + 1));
        if !may_be_unsafe && (line.contains("unsafe {") || line.contains("unsafe fn")) {
            say("unsafe outside the eBPF crate, without an expect that gives the reason");
        }
        if UNFINISHED.iter().any(|mark| line.contains(mark)) {
            say("unfinished: do it, or leave it out");
        }
        if MACHINE_PATHS.iter().any(|path| line.contains(path)) {
            say("a path of a developer's machine");
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(path: &str, text: &str) -> usize {
        check(Path::new(path), text).len()
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        assert_eq!(breaches("dns-xdp/src/zone.rs", "//! The zone.\n"), 0);
        assert_eq!(breaches("dns-xdp/src/zone.rs", "use std::fmt;\n"), 1);
    }

    #[test]
    fn empty_names_are_refused() {
        assert_eq!(breaches("dns-xdp/src/utils.rs", "//! The rest.\n"), 1);
    }

    #[test]
    fn unsafe_takes_a_reason_outside_the_ebpf_crate() {
        let bare = "//! A.\nfn a() { unsafe { b() } }\n";
        assert_eq!(breaches("dns-xdp/src/a.rs", bare), 1);
        assert_eq!(breaches("dns-xdp-ebpf/src/a.rs", bare), 0);
        let expected = format!("//! A.\n#[{UNSAFE}\"a\")]\nfn a() {{ unsafe {{ b() }} }}\n");
        assert_eq!(breaches("dns-xdp/src/a.rs", &expected), 0);
    }
}
