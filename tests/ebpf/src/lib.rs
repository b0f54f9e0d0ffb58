//! Kernel programs that only tests and benches use: the programs of the test bed, and the load generator with its
//! contract. The shipped programs are in `dns-xdp-ebpf`. The build script of the tests' crate builds these.
#![no_std]

pub mod load;

#[cfg(target_arch = "bpf")]
mod context {
    #![expect(unsafe_code, reason = "the context belongs to the kernel")]

    use aya_ebpf::programs::XdpContext;
    use dns_xdp_ebpf::frame::Frame;

    /// Returns the frame that a program was given.
    #[inline(always)]
    pub fn frame(ctx: &XdpContext) -> Frame<'_> {
        // SAFETY: the context holds the packet's bounds, and the packet is the program's while it runs.
        unsafe {
            let start = (&raw const (*ctx.ctx).data).read_volatile() as usize as *mut u8;
            let end = (&raw const (*ctx.ctx).data_end).read_volatile() as usize as *mut u8;
            Frame::new(start, end)
        }
    }
}

#[cfg(target_arch = "bpf")]
pub use self::context::frame;
