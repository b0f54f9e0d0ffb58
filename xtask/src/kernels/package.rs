//! Debian's kernel packages: found and downloaded by apt with separate lists, unpacked and not installed.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{command, run};
use crate::setup::KEYRING;

/// The name of the newest kernel that Debian stable's backports have.
pub(crate) const NEWEST: &str = "newest";

/// The suites with long-term kernels; every other version is searched in [`BACKPORTS`].
const SUITES: [(&str, &str); 3] = [("5.10", "bullseye"), ("6.1", "bookworm"), ("6.12", "trixie")];
const BACKPORTS: &str = "trixie-backports";
/// A mirror with every suite, for machines whose apt has no mirror of Debian.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const PREFIX: &str = "linux-image-";
/// The flavour with all drivers; the cloud flavour has no e1000e.
const FLAVOUR: &str = "-amd64";
/// Flavours and kinds that end in [`FLAVOUR`] too.
const OTHERS: [&str; 4] = ["-cloud-", "-rt-", "unsigned", "-dbg"];

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its version in two numbers: 6.12.
    pub(crate) version: String,
    /// The kernel image.
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(crate) modules: PathBuf,
    /// The directory of this kernel's files.
    pub(crate) directory: PathBuf,
}

impl Kernel {
    /// Returns the kernel of that version; downloads it unless it is below `directory`.
    ///
    /// # Errors
    /// There is no such kernel, or it cannot be downloaded.
    pub(crate) fn fetch(directory: &Path, version: &str) -> Result<Self> {
        if version != NEWEST
            && let Ok(kernel) = Kernel::unpacked(&directory.join(version), version)
        {
            return Ok(kernel);
        }
        let suite = SUITES.iter().find(|(of, _)| *of == version).map_or(BACKPORTS, |(_, suite)| suite);
        let apt = Apt::new(directory, suite)?;
        apt.update()?;
        let package = apt.newest_image(version)?;
        let release = package.strip_prefix(PREFIX).unwrap_or(&package);
        let version = two_numbers(release);
        let directory = directory.join(&version);
        if let Ok(kernel) = Kernel::unpacked(&directory, &version)
            && kernel.modules.ends_with(release)
        {
            return Ok(kernel);
        }
        println!("kernels: downloading {package} from {suite}");
        apt.unpack(&package, release, &directory)?;
        Kernel::unpacked(&directory, &version)
    }

    /// Returns the kernel that was unpacked into a directory.
    fn unpacked(directory: &Path, version: &str) -> Result<Self> {
        let root = directory.join("root");
        // Before Debian 13 the modules are outside /usr.
        let modules =
            ["usr/lib/modules", "lib/modules"].iter().find_map(|place| only_entry(&root.join(place)));
        let modules = modules.with_context(|| format!("there are no modules in {}", root.display()))?;
        let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Since Linux 6.19 the kernel is beside its modules.
        let places = [root.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
        let image = places.into_iter().find(|place| place.exists());
        let image = image.with_context(|| format!("there is no kernel in {}", root.display()))?;
        Ok(Kernel { version: version.to_owned(), image, modules, directory: directory.to_owned() })
    }
}

/// apt with the lists of one suite.
struct Apt {
    suite: &'static str,
    directory: PathBuf,
}

impl Apt {
    fn new(directory: &Path, suite: &'static str) -> Result<Self> {
        let directory = directory.join("apt").join(suite);
        for part in ["lists/partial", "cache/archives/partial", "state"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let sources = directory.join("sources.list");
        fs::write(&sources, format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        Ok(Apt { suite, directory })
    }

    fn update(&self) -> Result<()> {
        run(self.command("apt-get").args(["-qq", "update"])).with_context(|| {
            format!("cannot fetch the list of packages in {}: is there a way to the mirror?", self.suite)
        })
    }

    /// The package of the newest kernel of a version.
    fn newest_image(&self, version: &str) -> Result<String> {
        let names = output(self.command("apt-cache").args(["pkgnames", PREFIX]))?;
        let numbers_of = |name: &str| numbers(name.strip_prefix(PREFIX).unwrap_or_default());
        let wanted = numbers(version);
        let images = names.lines().filter(|name| {
            let numbers = numbers_of(name);
            name.ends_with(FLAVOUR)
                && !OTHERS.iter().any(|other| name.contains(other))
                && !numbers.is_empty()
                && numbers.starts_with(&wanted)
        });
        let newest = images.max_by_key(|name| numbers_of(name));
        newest.map(str::to_owned).with_context(|| format!("there is no kernel {version} in {}", self.suite))
    }

    /// Downloads a package and the other packages of its kernel, and unpacks them all into `directory/root`.
    fn unpack(&self, package: &str, release: &str, directory: &Path) -> Result<()> {
        let packages = self.packages(package, release)?;
        let downloads = fresh(&self.directory.join("downloads"))?;
        let partial = fresh(&directory.join("partial"))?;
        run(self.command("apt-get").current_dir(&downloads).args(["-qq", "download"]).args(packages))
            .with_context(|| format!("cannot download {package}"))?;
        for entry in fs::read_dir(&downloads).context("cannot list what was downloaded")? {
            run(command("dpkg-deb").arg("--extract").arg(entry?.path()).arg(&partial))?;
        }
        // A directory named `root` is complete.
        let root = directory.join("root");
        remove(&root)?;
        fs::rename(&partial, &root).with_context(|| format!("cannot make {}", root.display()))?;
        remove(&downloads)
    }

    /// An image's package, and the packages of the same release that it depends on. Since Linux 6.19 the kernel and its
    /// modules are in separate packages.
    fn packages(&self, package: &str, release: &str) -> Result<Vec<String>> {
        let description = output(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let depends = description.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
        let names = depends.split(", ").filter_map(|dependency| dependency.split(' ').next());
        let of_release = names.filter(|name| name.ends_with(release)).map(str::to_owned);
        Ok(std::iter::once(package.to_owned()).chain(of_release).collect())
    }

    /// A command that neither reads nor changes the lists of this machine's apt.
    fn command(&self, program: &str) -> Command {
        let mut apt = command(program);
        let directory = self.directory.display();
        apt.arg(format!("-oDir::Etc::SourceList={directory}/sources.list"));
        apt.arg(format!("-oDir::State={directory}/state"))
            .arg(format!("-oDir::State::Lists={directory}/lists"));
        apt.arg(format!("-oDir::Cache={directory}/cache"));
        for none in ["Dir::Etc::SourceParts", "Dir::Etc::Preferences", "Dir::Etc::PreferencesParts"] {
            apt.arg(format!("-o{none}=/dev/null"));
        }
        // apt's own user may not write below the target directory.
        apt.arg("-oAPT::Sandbox::User=root");
        apt
    }
}

/// The mirror of Debian that this machine's apt uses.
fn mirror() -> String {
    let mut targets = command("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let uris = output(&mut targets).unwrap_or_default();
    let mirror = uris.lines().map(|uri| uri.trim_end_matches('/')).find(|uri| uri.ends_with("/debian"));
    mirror.unwrap_or(DEFAULT_MIRROR).to_owned()
}

/// The numbers that a version begins with: 6, 12, 107 of `6.12.107+deb13-amd64`; empty if it is no version.
pub(crate) fn numbers(version: &str) -> Vec<u32> {
    let end = version.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(version.len());
    let (version, behind) = version.split_at(end);
    // Before Debian 13 a release ends in the number of its changes: 5.10.0-32-amd64.
    let changes = behind.strip_prefix('-').and_then(|behind| behind.split('-').next());
    version.split('.').chain(changes).filter_map(|number| number.parse().ok()).collect()
}

fn two_numbers(release: &str) -> String {
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn only_entry(directory: &Path) -> Option<PathBuf> {
    Some(fs::read_dir(directory).ok()?.next()?.ok()?.path())
}

/// An empty directory of that name.
fn fresh(directory: &Path) -> Result<PathBuf> {
    remove(directory)?;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.to_owned())
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout);
    ensure!(text.is_ok(), "{program} printed what is no text");
    Ok(text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        assert!(numbers("6.12.117+deb13-amd64") > numbers("6.12.9+deb13-amd64"));
        assert!(numbers("5.10.0-32-amd64") > numbers("5.10.0-9-amd64"));
        assert!(numbers("6.1.0-50-amd64").starts_with(&numbers("6.1")));
        assert!(!numbers("6.12.117+deb13-amd64").starts_with(&numbers("6.1")));
    }

    #[test]
    fn what_is_no_version_has_no_numbers() {
        assert!(numbers("amd64").is_empty());
        assert!(numbers(NEWEST).is_empty());
    }
}
