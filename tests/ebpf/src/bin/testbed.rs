//! Programs for the other ends of cables and for the ports of switches. No node runs these programs.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    #![expect(unsafe_code, reason = "maps and context belong to the kernel")]

    use aya_ebpf::bindings::xdp_action;
    use aya_ebpf::btf_maps::Array;
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;
    use dns_xdp_ebpf::frame::{Field, Region};
    use dns_xdp_testbed::frame;

    /// The number of SYN-ACKs to each last octet of an address.
    #[btf_map]
    static SYN_ACKS: Array<u64, 256> = Array::new();

    /// Passes every frame. A veth delivers transmitted frames only if its other end has a program, such as this one.
    #[xdp]
    pub(crate) fn pass(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Passes every frame, also in fragments, for an end with a large MTU.
    #[xdp(frags)]
    pub(crate) fn pass_frags(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Runs on a switch's port, and drops every second SYN-ACK of the station behind it. It counts SYN-ACKs by the last
    /// octet of their IPv4 destination. Every second connection of a client therefore fails.
    #[xdp]
    pub(crate) fn halve(ctx: XdpContext) -> u32 {
        const ETHER_TYPE: Field<u16, 12> = Field::new();
        const PROTOCOL: Field<u8, 23> = Field::new();
        const LAST_OCTET: Field<u8, 33> = Field::new();
        const FLAGS: Field<u8, 47> = Field::new();
        const IPV4: u16 = 0x0800_u16.to_be();
        const TCP: u8 = 6;
        const SYN_ACK: u8 = 0x12;
        let Some(frame): Option<Region<'_, 54>> = frame(&ctx).region(0) else { return xdp_action::XDP_PASS };
        if frame.read(ETHER_TYPE) != IPV4 || frame.read(PROTOCOL) != TCP || frame.read(FLAGS) != SYN_ACK {
            return xdp_action::XDP_PASS;
        }
        let Some(count) = SYN_ACKS.get_ptr_mut(frame.read(LAST_OCTET).into()) else {
            return xdp_action::XDP_PASS;
        };
        // SAFETY: the element is valid as long as the map is; a count that is off by one does no harm.
        let count = unsafe {
            *count += 1;
            *count
        };
        if count % 2 == 0 { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
