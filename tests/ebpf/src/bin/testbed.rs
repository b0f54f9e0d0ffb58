//! Programs for the other ends of cables and for the ports of switches: no node runs them.
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
    use dns_xdp_ebpf::frame::{Field, Frame, Region};

    /// By the last octet of the address that they go to.
    #[btf_map]
    static SYN_ACKS: Array<u64, 256> = Array::new();

    /// For the other end of a veth pair, which delivers what is transmitted to it only when it has a program.
    #[xdp]
    pub(crate) fn pass(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// The same where frames may lie in several pieces, for an end with a large MTU.
    #[xdp(frags)]
    pub(crate) fn pass_frags(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// For a switch's port: loses every other SYN-ACK of the station behind it, of those to each last octet of an IPv4
    /// address. Whoever connects to it succeeds every other time.
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

    #[inline(always)]
    fn frame(ctx: &XdpContext) -> Frame<'_> {
        // SAFETY: the context holds the packet's bounds, and the packet is the program's while it runs.
        unsafe {
            let start = (&raw const (*ctx.ctx).data).read_volatile() as usize as *mut u8;
            let end = (&raw const (*ctx.ctx).data_end).read_volatile() as usize as *mut u8;
            Frame::new(start, end)
        }
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
