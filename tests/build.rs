//! Builds the programs of dns-xdp-testbed for the BPF target.
use std::env;

use aya_build::{Package, Toolchain, build_ebpf};

#[expect(unsafe_code, reason = "setting a variable of the environment")]
fn main() -> anyhow::Result<()> {
    // As in the build script of dns-xdp.
    // SAFETY: a build script's main runs before any other thread of it exists.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    build_ebpf(
        [Package { name: "dns-xdp-testbed", root_dir: "ebpf", ..Package::default() }],
        Toolchain::Custom("1.95.0"),
    )
}
