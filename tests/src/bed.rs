//! The test bed: a cluster on one machine, in network namespaces, with the tools to change and observe it.
//!
//! ```text
//!   node1   node2   node3   client   parent      one namespace each, its end of the cable is eth0
//!     │       │       │       │        │
//!   ══╧═══════╧═══════╧═══════╧════════╧══       the switch's namespace: a bridge, XDP_PASS on every port
//! ```
//!
//! A node runs its database, a [`mod@redis`], and `dns-xdp run`. The parent is NSD with the delegation, and a root
//! above it. The client's [`unbound`] resolves from that root. Everything that one [`run::Run`] makes has the run's
//! name and is removed with it.
//!
//! - A test builds a [`cluster`] by a [`plan`], queries it with the DNS [`client`], and observes it with a
//!   [`mod@watch`].
//! - Servers that share one view use the store of [`mod@etcd`]; [`agreement`] checks whether they agree.
//! - A [`filesystem`] can be frozen, as a snapshot does.
//! - [`doctor`] examines a node and applies the remedies. [`mod@fetch`] reads its metrics, [`terminal`] its screen,
//!   [`browser`] its status page.
//! - [`guest`] runs in QEMU machines that boot other kernels.
//!
//! The right answer to a query is not defined here, but in [`oracle`](crate::oracle).
pub mod agreement;
pub mod browser;
pub mod capabilities;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod control_socket;
pub mod demo;
pub mod doctor;
pub mod etcd;
pub mod fake_clock;
pub mod fetch;
pub mod filesystem;
pub mod gdnsd;
#[cfg(feature = "tests")]
pub mod guest;
pub mod interrupt;
pub mod netns;
pub mod network;
pub mod node;
pub mod nsd;
pub mod nsupdate;
pub mod package;
pub mod parent;
pub mod plan;
pub mod process;
pub mod programs;
pub mod redis;
pub mod router;
pub mod run;
#[cfg(feature = "tests")]
pub mod spoof;
pub mod strace;
pub mod terminal;
pub mod unbound;
pub mod views;
pub mod wait;
pub mod watch;
pub mod web;
