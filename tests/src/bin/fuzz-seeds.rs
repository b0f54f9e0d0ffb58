//! Writes the frames of the packet table to a directory, for the fuzzer to start from.
use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use dns_xdp_tests::table::rows;

fn main() -> Result<()> {
    let directory = env::args_os().nth(1).context("name the directory to write the frames to")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let frames: BTreeSet<Vec<u8>> = rows().into_iter().map(|row| row.frame).collect();
    for (nth, frame) in frames.iter().enumerate() {
        let path = directory.join(format!("{nth:05}"));
        fs::write(&path, frame).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{} frames of the packet table in {}", frames.len(), directory.display());
    Ok(())
}
