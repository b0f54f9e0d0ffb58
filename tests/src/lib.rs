//! What the tests, the demo and the lab share: a cluster on one machine, in network namespaces.
//!
//! ```text
//!   node1   node2   node3   client   parent      one namespace each, its end of the cable is eth0
//!     │       │       │       │        │
//!   ══╧═══════╧═══════╧═══════╧════════╧══       the switch's namespace: a bridge, XDP_PASS on every port
//! ```
//!
//! A node runs its database and `dns-xdp run`; the parent is NSD with the delegation, and a root above it, from which
//! the client's [`unbound`] comes down. All that one [`run::Run`] makes bears its name and is removed with it.
//!
//! Beside it stands the packet table: [`table`] has the rows, [`frames`] builds their packets and takes the answers
//! apart, [`host`] and [`mod@kernel`] run the path of a query over them. [`law`] says what is due to any frame whatever.
//!
//! The laws compare the [`meaning`] of two answers to one of the generated [`queries`]; on the wire they are asked
//! through [`exchange`], and [`nsd`] serves what [`mod@zone_file`] writes.
//!
//! Where the servers share one view, it is in the store that [`mod@etcd`] runs on three stations of its own, and
//! [`mod@concord`] says whether they do.
//!
//! What `doctor` says of a node, and what comes of doing what it says, is seen through [`doctor`].
//!
//! What a node serves besides, a scene sets up with [`web`]; what its metrics listener says, it gets with [`mod@fetch`];
//! what an operator sees, it reads off a [`terminal`].
//!
//! What other kernels do with the program is seen in machines of QEMU's, where [`guest`] runs one check after the other.
//!
//! The benches put [`load`] on one server of [`rivals`] after the other. What [`survive`] puts on them is slower, and
//! accounts for every query.
pub mod ask;
pub mod cgroup;
pub mod cluster;
pub mod command;
pub mod concord;
pub mod demo;
pub mod dice;
pub mod dig;
pub mod doctor;
pub mod etcd;
pub mod exchange;
pub mod fake_clock;
pub mod fetch;
pub mod frames;
pub mod gdnsd;
pub mod guest;
pub mod host;
pub mod interrupt;
pub mod kernel;
pub mod law;
pub mod load;
pub mod meaning;
pub mod mutation;
pub mod netns;
pub mod network;
pub mod node;
pub mod nsd;
pub mod package;
pub mod parent;
pub mod phase;
pub mod plan;
pub mod process;
pub mod programs;
pub mod queries;
pub mod rights;
pub mod rivals;
pub mod run;
pub mod seeds;
pub mod spoof;
pub mod strace;
pub mod survive;
pub mod table;
pub mod terminal;
pub mod unbound;
pub mod untrusted;
pub mod views;
pub mod wait;
pub mod watch;
pub mod web;
pub mod zone_file;
pub mod zones;
