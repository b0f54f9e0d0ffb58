//! A kernel's modules: the wanted modules, each after its dependencies.
use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::cargo::command;

/// A module to load.
#[derive(Debug)]
pub(crate) struct Module {
    /// The name as in `lsmod`.
    pub(crate) name: String,
    /// The object.
    pub(crate) bytes: Vec<u8>,
}

/// Returns the wanted modules that the kernel has as modules, with their dependencies, in load order. A missing module
/// is built in, or does not exist: the check that needs it then fails.
///
/// # Errors
/// A module cannot be read.
pub(crate) fn find(directory: &Path, wanted: &[String]) -> Result<Vec<Module>> {
    let mut there = HashMap::new();
    list(&directory.join("kernel"), &mut there)?;
    let mut found = Vec::new();
    for name in wanted {
        add(name, &there, &mut found)?;
    }
    Ok(found)
}

fn add(name: &str, there: &HashMap<String, PathBuf>, found: &mut Vec<Module>) -> Result<()> {
    let Some(path) = there.get(name) else { return Ok(()) };
    if found.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let bytes = read(path).with_context(|| format!("cannot read {}", path.display()))?;
    for needed in dependencies(&bytes) {
        add(&needed, there, found)?;
    }
    found.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

/// Every module's file by the module's name.
fn list(directory: &Path, there: &mut HashMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, there)?;
        } else if let Some((name, _)) =
            path.file_name().unwrap_or_default().to_string_lossy().split_once(".ko")
        {
            there.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if path.extension().is_some_and(|extension| extension == "xz") { decompress(&bytes) } else { Ok(bytes) }
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut xz = command("busybox");
    let mut xz = xz.args(["xz", "-dc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = xz.stdin.take().context("busybox has no stdin")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes));
        xz.wait_with_output()
    })?;
    ensure!(output.status.success(), "busybox xz failed");
    Ok(output.stdout)
}

/// The names behind `depends=` in the section .modinfo, which is a sequence of texts that end in zero.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let start = module.windows(KEY.len()).position(|window| window == KEY);
    let value = start.and_then(|start| module[start + KEY.len()..].split(|octet| *octet == 0).next());
    let names = String::from_utf8_lossy(value.unwrap_or_default()).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module_itself() {
        let module = b"ELF\0license=GPL\0depends=net_failover,cdc-ncm\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["net_failover", "cdc_ncm"]);
        assert_eq!(dependencies(b"ELF\0depends=\0"), Vec::<String>::new());
    }
}
