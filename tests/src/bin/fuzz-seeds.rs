//! Writes the fuzzer's seeds to a directory, in one subdirectory for each target.
use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use dns_xdp_tests::oracle::seeds;

fn main() -> Result<()> {
    let directory = env::args_os().nth(1).context("name the directory to write the seeds to")?;
    for target in seeds::TARGETS {
        let directory = Path::new(&directory).join(target);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let seeds = seeds::of(target);
        for (nth, seed) in seeds.iter().enumerate() {
            let path = directory.join(format!("{nth:05}"));
            fs::write(&path, seed).with_context(|| format!("cannot write {}", path.display()))?;
        }
        println!("{} seeds in {}", seeds.len(), directory.display());
    }
    Ok(())
}
