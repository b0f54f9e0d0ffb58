//! Tests of the program in the kernel by BPF_PROG_TEST_RUN, which need root: `cargo xtask test kernel`.
mod packets;
mod property_kernel_equals_responder;
