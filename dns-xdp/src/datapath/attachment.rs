//! How the program is attached at this moment, as the kernel says it, whether a daemon runs or not.
use super::interface::Interface;
use super::{Attached, Error, pins};
use crate::config::{Config, Mode};

/// An interface of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// How the program is attached to it.
    pub attached: Attached,
    /// What drives it, where the kernel tells: `virtio_net`, `veth`.
    pub driver: Option<String>,
}

/// Every interface of the configuration.
///
/// # Errors
/// There is no such interface, or none that XDP knows and the mode is not off.
pub fn attachments(config: &Config) -> Result<Vec<Attachment>, Error> {
    config.listen.interfaces.iter().map(|name| find(name, config)).collect()
}

fn find(name: &str, config: &Config) -> Result<Attachment, Error> {
    match Interface::find(name) {
        Ok(interface) => Ok(attachment(interface, config)),
        Err(_) if config.xdp.mode == Mode::Off => {
            Ok(Attachment { interface: name.to_owned(), attached: Attached::Off, driver: None })
        }
        Err(error) => Err(error),
    }
}

fn attachment(interface: Interface, config: &Config) -> Attachment {
    // Without our link the program there is somebody else's.
    let is_ours = pins::link(&config.xdp.pin, &interface.name).exists();
    let attached = if is_ours { interface.attached() } else { Attached::Off };
    Attachment { interface: interface.name, attached, driver: interface.driver }
}
