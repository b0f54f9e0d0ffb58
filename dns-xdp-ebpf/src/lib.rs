//! The path of a query.
#![cfg_attr(target_arch = "bpf", no_std)]
