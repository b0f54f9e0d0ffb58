//! The errors of the datapath.
use std::error::Error as StdError;
use std::io;
use std::path::Path;

use aya::maps::MapError;

/// Why a step of the datapath failed. The message names the step and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    what: String,
    pub(super) source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Error { what: what.into(), source: None }
    }

    pub(super) fn because(self, error: io::Error) -> Self {
        self.because_of(error)
    }

    pub(super) fn because_of(self, error: impl StdError + Send + Sync + 'static) -> Self {
        Error { source: Some(Box::new(error)), ..self }
    }

    pub(super) fn map(name: &str, error: MapError) -> Self {
        Error::new(format!("map {name}")).because_of(error)
    }

    pub(super) fn too_many(names: usize, capacity: u32) -> Self {
        let what = if names > capacity as usize {
            format!(
                "the zone has {names} names, the table holds {capacity}: raise [xdp] capacity, or set it to \"auto\""
            )
        } else {
            format!(
                "the zone's {names} names do not fit the table together: rename the name that was added last"
            )
        };
        Error::new(what)
    }

    pub(super) fn no_larger_table(names: usize) -> Self {
        Error::new(format!(
            "no table for {names} names can be had, the one before stays: give the daemon more memory, or remove names"
        ))
    }

    pub(super) fn loading(error: anyhow::Error) -> Self {
        let what = "cannot load the XDP program; it needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
        Error { source: Some(error.into()), ..Error::new(what) }
    }

    pub(super) fn pinning(pin: &Path, error: impl StdError + Send + Sync + 'static) -> Self {
        Error::new(format!("cannot pin {}", pin.display())).because_of(error)
    }

    pub(super) fn opening(pin: &Path, error: impl StdError + Send + Sync + 'static) -> Self {
        Error::new(format!("cannot open the pin {}", pin.display())).because_of(error)
    }

    pub(super) fn attaching(interface: &str, error: impl StdError + Send + Sync + 'static) -> Self {
        Error::new(format!("cannot attach to {interface}")).because_of(error)
    }

    /// Makes the error about a place that another dns-xdp already has.
    pub(super) fn occupied(what: String) -> Self {
        Error::new(what)
    }
}
