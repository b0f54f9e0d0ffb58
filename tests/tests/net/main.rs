//! Scenes in network namespaces, and the comparison with NSD, which need root: `cargo xtask test net`.
//!
//! Each file is a module of scenes. Scenes of servers that share a store are in `store`.
mod delegation_records;
mod property_fallback_equals_nsd;
mod scenes_answering;
mod scenes_bench;
mod scenes_delegation;
mod scenes_delegation_forms;
mod scenes_doctor;
mod scenes_doctor_program;
mod scenes_drain;
mod scenes_events;
mod scenes_failback;
mod scenes_failover;
mod scenes_failover_change;
mod scenes_failover_clock;
mod scenes_failover_link;
mod scenes_failover_time;
mod scenes_floods;
mod scenes_frozen;
mod scenes_install;
mod scenes_interfaces;
mod scenes_kernel_equals_fallback;
mod scenes_lifecycle;
mod scenes_load;
mod scenes_metrics;
mod scenes_network;
mod scenes_operator;
mod scenes_pins;
mod scenes_privileges;
mod scenes_probes;
mod scenes_publishing;
mod scenes_refused_path;
mod scenes_reload;
mod scenes_services;
mod scenes_stalled_files;
mod scenes_top;
