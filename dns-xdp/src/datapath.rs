//! The kernel's half as userspace sees it: load, attach, pin, adopt, publish, count. The only module that names aya.
use crate::config::Xdp;

/// Detaches and unpins what is left of a stopped daemon, and says what that was.
pub fn unload(_xdp: &Xdp) -> anyhow::Result<Vec<String>> {
    anyhow::bail!("the datapath is not built yet")
}
