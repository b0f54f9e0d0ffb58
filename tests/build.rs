//! Builds the programs of dns-xdp-testbed for the BPF target.
use std::path::PathBuf;
use std::{env, fs};

use aya_build::{Package, Toolchain, build_ebpf};

#[expect(unsafe_code, reason = "setting a variable of the environment")]
fn main() -> anyhow::Result<()> {
    // The build script of dns-xdp does the same. SAFETY: a build script's main runs before any other thread of it
    // exists.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("CARGO_TERM_QUIET", "true");
        // An incremental build inlines less, and the verifier then refuses or follows another program.
        env::set_var("CARGO_INCREMENTAL", "0");
    }
    build_ebpf(
        [Package { name: "dns-xdp-testbed", root_dir: "ebpf", ..Package::default() }],
        Toolchain::Custom(toolchain()?),
    )?;
    if env::var_os("AYA_BUILD_SKIP").is_some() {
        // A check needs no objects, only files in their places.
        let directory = PathBuf::from(env::var("OUT_DIR")?);
        ["testbed", "load"].iter().try_for_each(|object| fs::write(directory.join(object), ""))?;
    }
    Ok(())
}

/// The channel of rust-toolchain.toml: the BPF linker uses the LLVM of that channel's rustc.
fn toolchain() -> anyhow::Result<&'static str> {
    let lines = &mut include_str!("../rust-toolchain.toml").lines();
    let channel = lines.find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'));
    channel.ok_or_else(|| anyhow::anyhow!("rust-toolchain.toml has no channel"))
}
