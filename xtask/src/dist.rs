//! `cargo xtask dist`: builds the release as a tarball and as a Debian package.
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::cargo::{BUILD_FOR_TESTS, cargo, command, root, run};
use crate::{notices, setup};

/// The installed file name of the completion for each shell.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "dns-xdp.bash"), ("zsh", "_dns-xdp"), ("fish", "dns-xdp.fish")];
/// The files of the repository that go into the tarball.
const FILES: [&str; 9] = [
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "dns-xdp/dist/dns-xdp.toml",
    "dns-xdp/dist/dns-xdp.service",
    "dns-xdp/dist/dns-xdp.sysusers",
    "dns-xdp/dist/dns-xdp.tmpfiles",
    "dns-xdp/dist/grafana-dashboard.json",
    "dns-xdp/dist/prometheus-alerts.yml",
];

/// Builds in `profile` and packs.
///
/// # Errors
/// Something cannot be built.
pub(crate) fn run_in(profile: &str) -> Result<()> {
    setup::packaging()?;
    // In the tests' profile everything is built already.
    let what = ["build", "--workspace", "--bin", "dns-xdp", "--bin", "manual"];
    let what = if profile == "dev" { BUILD_FOR_TESTS.as_slice() } else { &what };
    cargo(&[what, &["--quiet", "--profile", profile]].concat())?;
    let target = target()?;
    let built = target.join(if profile == "dev" { "debug" } else { profile });
    let dist = root().join("target/dist");
    let stage = dist.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot remove {}", stage.display()))?;
    }
    stage_files(&built, &stage)?;
    write(&stage.join("THIRD-PARTY-NOTICES"), &notices::text()?)?;
    write(&stage.join("README.md"), &readme("manual")?)?;
    let tarball = tarball(&dist, &stage, &built)?;
    let package = package(&dist, profile)?;
    for file in [tarball, package] {
        println!("{}", file.strip_prefix(root()).unwrap_or(&file).display());
    }
    Ok(())
}

/// Manual pages and completions, as the built program generates them.
fn stage_files(built: &Path, stage: &Path) -> Result<()> {
    let completions = stage.join("completions");
    fs::create_dir_all(&completions).with_context(|| format!("cannot make {}", completions.display()))?;
    run(command(text(&built.join("manual"))?).arg(stage.join("man")))?;
    for (shell, file) in COMPLETIONS {
        let path = completions.join(file);
        let output = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut program = command(text(&built.join("dns-xdp"))?);
        // The generated script calls the program by this name.
        program.arg0("dns-xdp").env("COMPLETE", shell).stdout(Stdio::from(output));
        run(&mut program)?;
    }
    Ok(())
}

/// Returns the README with links to the manual in the directory `manual` beside it. Removes links to files that only
/// the sources have.
fn readme(manual: &str) -> Result<String> {
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let readme = readme.replace("](dns-xdp/doc/", &format!("]({manual}/"));
    Ok(readme
        .replace("[which is which](tests/README.md)", "which is which: `tests/README.md` of the sources"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Packs the tarball: one directory with the program and its files.
fn tarball(dist: &Path, stage: &Path, built: &Path) -> Result<PathBuf> {
    let name = format!("dns-xdp-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let directory = stage.join(&name);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let files = FILES.iter().map(|file| root().join(file)).chain([built.join("dns-xdp")]);
    for file in files {
        let to = directory.join(file.file_name().unwrap_or_default());
        fs::copy(&file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    write(&directory.join("README.md"), &readme("doc")?)?;
    let parts = [
        stage.join("THIRD-PARTY-NOTICES"),
        stage.join("man"),
        stage.join("completions"),
        root().join("dns-xdp/doc"),
    ];
    run(command("cp").arg("-r").args(parts).arg(&directory))?;
    let tarball = dist.join(format!("{name}.tar.gz"));
    // The tarball depends neither on the builder's name nor on the order of a directory.
    let mut tar = command("tar");
    tar.args([
        "--create",
        "--gzip",
        "--sort=name",
        "--owner=root:0",
        "--group=root:0",
        "--numeric-owner",
        "--file",
    ]);
    run(tar.arg(&tarball).arg("--directory").arg(stage).arg(&name))?;
    Ok(tarball)
}

/// Builds the package as dns-xdp/Cargo.toml describes it.
fn package(dist: &Path, profile: &str) -> Result<PathBuf> {
    let package = dist.join("dns-xdp.deb");
    let mut deb = command("cargo");
    deb.args(["deb", "--quiet", "--package", "dns-xdp", "--no-build", "--profile", profile, "--output"]);
    deb.arg(&package);
    if profile == "dev" {
        // This package is only for inspection, so compression is not worth its time.
        deb.arg("--fast");
    }
    // The output of cargo-deb is hidden, because it has the file's name before the rename below.
    run(deb.stdout(Stdio::null()))?;
    let fields = ["Package", "Version", "Architecture"];
    let mut named = Vec::new();
    for field in fields {
        let output = command("dpkg-deb").arg("--field").arg(&package).arg(field).output();
        let output = output.context("cannot start dpkg-deb")?;
        ensure!(output.status.success(), "{} is no package", package.display());
        named.push(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let named = dist.join(format!("{}.deb", named.join("_")));
    fs::rename(&package, &named).with_context(|| format!("cannot rename {}", package.display()))?;
    Ok(named)
}

fn target() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where xtask is")?;
    Ok(this.ancestors().nth(2).context("xtask is not in a target directory")?.to_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the directory's name is not UTF-8")
}
