//! Builds the programs of dns-xdp-ebpf for the BPF target, so that one binary holds everything.
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Context as _;
use aya_build::{Package, Toolchain, build_ebpf};

/// The machines that run XDP and have cheap unaligned accesses, as the kernel says
/// (CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS).
const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

#[expect(unsafe_code, reason = "setting a variable of the environment")]
fn main() -> anyhow::Result<()> {
    let machine = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    anyhow::ensure!(
        MACHINES.contains(&&*machine),
        "dns-xdp does not run on {machine}: its XDP program reads packets by unaligned loads, which the BPF verifier takes \
         on {} only",
        MACHINES.join(" and ")
    );
    // core has to be built for the BPF target, which the stable toolchain does only when told so.
    // SAFETY: a build script's main runs before any other thread of it exists.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("CARGO_TERM_QUIET", "true");
        // An incremental build inlines less, and the verifier then refuses or follows another program.
        env::set_var("CARGO_INCREMENTAL", "0");
    }
    build_ebpf(
        [Package { name: "dns-xdp-ebpf", root_dir: "../dns-xdp-ebpf", ..Package::default() }],
        Toolchain::Custom(toolchain()?),
    )?;
    let directory = PathBuf::from(env::var("OUT_DIR")?);
    let mut objects = ["responder", "stopwatch"].iter().map(|object| directory.join(object));
    if env::var_os("AYA_BUILD_SKIP").is_some() {
        // A check needs no objects, only files in their places.
        return objects.try_for_each(|object| fs::write(object, "").map_err(anyhow::Error::new));
    }
    objects.try_for_each(|object| strip(&object))
}

/// Removes the debug information, which is three quarters of an object. The kernel reads types and lines from `.BTF` and
/// `.BTF.ext`.
fn strip(path: &Path) -> anyhow::Result<()> {
    let octets = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut elf = object::build::elf::Builder::read(&*octets)?;
    for section in &mut elf.sections {
        section.delete =
            [".debug_", ".rel.debug_"].iter().any(|start| section.name.starts_with(start.as_bytes()));
    }
    // The linker can keep the names of sections and symbols in one table. This library does not write such a table.
    if !elf.sections.iter().any(|section| section.name.as_slice() == b".shstrtab") {
        let names = elf.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = object::elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = object::build::elf::SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    elf.write(&mut stripped)?;
    fs::write(path, stripped).with_context(|| format!("cannot write {}", path.display()))
}

/// The channel of rust-toolchain.toml: the BPF linker takes the LLVM of its rustc.
fn toolchain() -> anyhow::Result<&'static str> {
    let lines = &mut include_str!("../rust-toolchain.toml").lines();
    let channel = lines.find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'));
    channel.ok_or_else(|| anyhow::anyhow!("rust-toolchain.toml has no channel"))
}
