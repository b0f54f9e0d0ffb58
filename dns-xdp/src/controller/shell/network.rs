//! The network as last read, its addresses that are served, and the responder's sockets, which follow them.
use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context as _;

use crate::config::Listen;
use crate::network::{Listener, Network, Serving, serving};
use crate::responder::{BindError, Responder};

/// The served addresses of the network, which change with it.
#[derive(Debug)]
pub(super) struct ServedNetwork {
    listen: Listen,
    network: Network,
    serving: Serving,
    /// Why the network could not be read after it had changed.
    unread: Option<String>,
}

/// The responder's sockets for the served addresses.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    listeners: Vec<Listener>,
    /// Addresses that could not be bound.
    unbound: Vec<(Listener, BindError)>,
}

impl ServedNetwork {
    /// Reads the network.
    pub(super) fn new(listen: &Listen) -> anyhow::Result<Self> {
        let network = Network::read().context(UNHEARD)?;
        let serving = serving(listen, &network);
        Ok(ServedNetwork { listen: listen.clone(), network, serving, unread: None })
    }

    /// Reads the network again. Returns whether the served addresses have changed. If the network cannot be read, the
    /// served addresses stay, and an alarm is raised.
    pub(super) fn refresh(&mut self) -> bool {
        match Network::read() {
            Ok(network) => {
                self.unread = None;
                self.adopt(network)
            }
            Err(error) => {
                self.unread = Some(format!("cannot read the network, the served addresses stay: {error}"));
                false
            }
        }
    }

    fn adopt(&mut self, network: Network) -> bool {
        let next = serving(&self.listen, &network);
        self.network = network;
        if next == self.serving {
            return false;
        }
        let served = |serving: &Serving| serving.served().into_iter().collect::<BTreeSet<IpAddr>>();
        let (before, now) = (served(&self.serving), served(&next));
        now.difference(&before).for_each(|address| tracing::info!("{address} is served from now on"));
        before.difference(&now).for_each(|address| tracing::info!("{address} is not served any more"));
        let news = next.alarms().iter().filter(|alarm| !self.serving.alarms().contains(alarm));
        news.for_each(|alarm| tracing::warn!("{alarm}"));
        self.serving = next;
        true
    }

    /// The network as it was read last.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// The served interfaces and addresses.
    pub(super) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The addresses that are served or awaited.
    pub(super) fn listened(&self) -> Vec<IpAddr> {
        self.serving.listeners().iter().map(|listener| listener.address).collect()
    }

    /// The alarms about parts of `[listen]` that cannot be served.
    pub(super) fn alarms(&self) -> Vec<String> {
        self.serving.alarms().iter().cloned().chain(self.unread.clone()).collect()
    }
}

impl Bindings {
    /// Makes the responder bind the served addresses, and no others. A failed bind is tried again each time.
    pub(super) fn bind(&mut self, responder: &mut Responder, listeners: Vec<Listener>) {
        if self.listeners == listeners && self.unbound.is_empty() {
            return;
        }
        let unbound = responder.listen(&listeners);
        let is_new = |listener: &Listener| !self.unbound.iter().any(|(known, _)| known == listener);
        for (listener, error) in &unbound {
            if is_new(listener) {
                tracing::warn!("{error}");
            }
        }
        (self.listeners, self.unbound) = (listeners, unbound);
    }

    /// The alarms about served addresses that the responder could not bind.
    pub(super) fn alarms(&self) -> Vec<String> {
        self.unbound.iter().map(|(_, error)| format!("{error}: it is tried again")).collect()
    }
}

/// The error if netlink does not answer.
pub(super) const UNHEARD: &str =
    "cannot ask the kernel about interfaces and addresses (netlink): a sandbox may forbid it";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Address, Link};

    #[test]
    fn another_network_is_told_of_when_something_else_is_served() {
        let addresses = vec!["192.0.2.53".parse().unwrap()];
        let listen = Listen { interfaces: vec!["eth0".to_owned()], addresses, port: 53 };
        let mut served = ServedNetwork::new(&listen).unwrap();
        let eth0 = Link { index: 2, name: "eth0".to_owned(), up: true, ..Link::default() };
        let mut network = Network { links: vec![eth0], addresses: Vec::new() };
        served.adopt(network.clone());
        assert_eq!((served.serving().served(), served.alarms().len()), (vec![], 2));
        assert_eq!(served.serving().listeners().len(), 1);
        assert!(!served.adopt(network.clone()));
        network.addresses.push(Address::new(2, listen.addresses[0], 32));
        assert!(served.adopt(network));
        assert_eq!((served.serving().served(), served.alarms().len()), (listen.addresses, 0));
    }
}
