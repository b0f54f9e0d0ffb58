//! The licences of the crates that are linked into the daemon and its program, for package and tarball.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::setup::output;

/// The beginnings of the names of files with licences and notices, in lower case.
const NAMES: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicense", "patents"];
const INTRODUCTION: &str = "\
dns-xdp is licensed under MIT OR Apache-2.0. Its binary contains the crates below and Rust's standard library
(MIT OR Apache-2.0, https://github.com/rust-lang/rust). Each text stands behind the crates that come with it.
";

/// Returns the text of all notices.
///
/// # Errors
/// Cargo fails, or a crate has no licence.
pub(crate) fn text() -> Result<String> {
    let directories = directories()?;
    let mut crates: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for linked in linked()? {
        let (name, licence) = linked.split_once('|').context("cargo tree has another form")?;
        ensure!(!licence.is_empty(), "{name} names no licence");
        let directory = directories.get(name).with_context(|| format!("where is {name}?"))?;
        let mut texts = texts(directory)?;
        if texts.is_empty() {
            texts.push(format!("(It has no text of its own. It is licensed under {licence}.)\n"));
        }
        for text in texts {
            crates.entry(text).or_default().push(format!("{name}, {licence}"));
        }
    }
    let mut notices = INTRODUCTION.to_owned();
    for (text, crates) in crates {
        notices += &format!("\n{}\n{}\n\n{}\n", "=".repeat(100), crates.join("\n"), text.trim_end());
    }
    Ok(notices)
}

/// Each linked crate of another project, as `name vVERSION|LICENCE`.
fn linked() -> Result<Vec<String>> {
    // The program is built for another target, which has its own dependencies.
    let mut linked = linked_into(&["--package", "dns-xdp"])?;
    linked.extend(linked_into(&["--package", "dns-xdp-ebpf", "--target", "bpfel-unknown-none"])?);
    linked.sort();
    linked.dedup();
    Ok(linked)
}

fn linked_into(package: &[&str]) -> Result<Vec<String>> {
    let form = ["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}|{l}"];
    let lines = output("cargo", &[&["tree", "--locked"][..], package, &form].concat())?;
    // cargo prints the directory behind a crate of the workspace, and an asterisk behind a crate that it has printed
    // before.
    let of_others = lines.lines().filter(|line| !line.is_empty() && !line.contains(" (/"));
    let linked: Vec<String> = of_others.map(|line| line.trim_end_matches(" (*)").to_owned()).collect();
    ensure!(!linked.is_empty(), "cargo tree shows no crate for {package:?}");
    Ok(linked)
}

/// The directory of the sources of each crate, by `name vVERSION`.
fn directories() -> Result<BTreeMap<String, PathBuf>> {
    let metadata = output("cargo", &["metadata", "--locked", "--format-version", "1"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata has another form")?;
    let directory = |package: &Value| {
        let name = format!("{} v{}", package["name"].as_str()?, package["version"].as_str()?);
        Some((name, Path::new(package["manifest_path"].as_str()?).parent()?.to_owned()))
    };
    Ok(packages.iter().filter_map(directory).collect())
}

/// The licences and notices in a directory, by their files' names.
fn texts(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NAMES.iter().any(|start| name.starts_with(start)) {
            files.push(path);
        }
    }
    files.sort();
    let read =
        |path: &PathBuf| fs::read(path).map(|octets| String::from_utf8_lossy(&octets).replace("\r\n", "\n"));
    let texts: Vec<String> = files.iter().map(read).collect::<Result<_, _>>()?;
    Ok(texts.into_iter().filter(|text| !text.trim().is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_that_is_linked_has_its_notice() {
        let notices = text().unwrap();
        for linked in ["tokio v", "aya v", "hickory-proto v", "aya-ebpf v"] {
            assert!(notices.lines().any(|line| line.starts_with(linked)), "{linked}");
        }
        assert!(!notices.contains("(*)"), "a crate stands there twice");
        assert!(!notices.contains("dns-xdp v"), "its own licence is a file of its own");
        assert!(notices.contains("Permission is hereby granted"), "no text of a licence");
    }
}
