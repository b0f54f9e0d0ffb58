//! Asks the kernel how the program is attached at this moment, whether a daemon runs or not.
use super::{Attached, Error, inspection};
use crate::config::Config;
use crate::network::{Link, Network, OnInterface, serving};

/// An interface of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// How the program is attached to its device.
    pub attached: Attached,
    /// The device's driver, if the kernel names it: `virtio_net`, `veth`.
    pub driver: Option<String>,
}

/// Returns every interface of the configuration with its XDP mode.
///
/// # Errors
/// The kernel does not list its interfaces.
pub fn attachments(config: &Config) -> Result<Vec<Attachment>, Error> {
    let network = Network::read();
    let network =
        network.map_err(|error| Error::new("cannot list this machine's interfaces").because(error))?;
    let attachment = |interface: crate::network::Interface| {
        let port = interface.port.as_ref().ok();
        let device = port.and_then(|port| network.link(port.device));
        let slaves = port.into_iter().flat_map(|port| &port.slaves);
        let all = device.into_iter().chain(slaves.filter_map(|slave| network.link(slave.index)));
        let attached = all.map(|link| attached(link, config)).find(|attached| *attached != Attached::Off);
        Attachment {
            interface: interface.name,
            attached: attached.unwrap_or(Attached::Off),
            driver: device.and_then(|device| device.driver.clone()),
        }
    };
    Ok(serving(&config.listen, &network).interfaces.into_iter().map(attachment).collect())
}

fn attached(link: &Link, config: &Config) -> Attached {
    // Without dns-xdp's link the program there belongs to another process.
    let is_ours = |there: &OnInterface| inspection::is_pinned(link, *there, &config.xdp.pin);
    match link.program().filter(is_ours) {
        Some(program) if program.native => Attached::Native,
        Some(_) => Attached::Generic,
        None => Attached::Off,
    }
}
