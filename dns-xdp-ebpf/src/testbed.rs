//! Programs for tests and benchmarks: no node runs them.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::xdp_action;
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;

    /// For the other end of a veth pair, which delivers what is transmitted to it only when it has a program.
    #[xdp]
    pub(crate) fn pass(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
