//! Scenes of servers that share a store, in network namespaces, which need root: `cargo xtask test store`.
mod scenes_connections;
mod scenes_identity;
mod scenes_intents;
mod scenes_records;
mod scenes_skydns;
mod scenes_trouble;
mod scenes_updates;
mod scenes_view;
