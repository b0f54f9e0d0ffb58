//! The version of a kernel, in two numbers.
use anyhow::{Context, Result};
use nix::sys::utsname::uname;

/// A kernel version, such as 5.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// Older than every kernel that is tested.
    pub const ANY: Release = Release(0, 0);

    /// Returns the running kernel's version.
    ///
    /// # Errors
    /// The kernel's release does not begin with two numbers.
    pub fn running() -> Result<Self> {
        let names = uname().context("cannot ask for the kernel's release")?;
        let release = names.release().to_string_lossy();
        parse(&release)
            .with_context(|| format!("the kernel's release {release} does not begin with two numbers"))
    }
}

fn parse(release: &str) -> Option<Release> {
    let mut numbers = release.split(['.', '-', '+']).map_while(|number| number.parse().ok());
    Some(Release(numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(parse("5.10.0-32-amd64"), Some(Release(5, 10)));
        assert_eq!(parse("7.3+deb13-amd64"), Some(Release(7, 3)));
        assert_eq!(parse("amd64"), None);
        assert!(Release(5, 9) < Release(5, 10) && Release(5, 10) < Release(6, 1));
    }
}
