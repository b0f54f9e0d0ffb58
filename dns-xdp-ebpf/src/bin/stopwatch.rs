//! The programs of `dns-xdp bench`. One program restores the packet before each run. Each other program does a single
//! step of an answer, for comparison. None of them answers queries, and none is attached.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    #![expect(unsafe_code, reason = "maps, context and helpers belong to the kernel")]

    use aya_ebpf::bindings::{BPF_F_MMAPABLE, xdp_action};
    use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, ProgramArray};
    use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;
    use dns_xdp_ebpf::frame::{Field, Frame, Region};

    /// Words of 8 octets in a template. This bounds the frames that can be timed.
    const WORDS: usize = 46;
    /// Number of templates, a power of two. The loader may set a smaller number.
    const TEMPLATES: usize = 1 << 16;

    /// A frame that is written over the packet before a run.
    #[repr(C)]
    pub(crate) struct Template {
        length: u64,
        /// The frame's last eight octets.
        last: u64,
        words: [u64; WORDS],
    }

    /// The template and the variant that come next. The number of each is a power of two.
    #[repr(C)]
    pub(crate) struct Turn {
        /// Templates in use, less one.
        templates: u64,
        /// Variants in use, less one.
        variants: u64,
        /// Offset of the variants; 0: there are none.
        at: u64,
    }

    #[btf_map]
    static TEMPLATE: Array<Template, TEMPLATES> = Array::new();
    /// 8 octets that are written over a template. Frames that differ only there share one template, so that the
    /// templates do not push the measured program's data out of the cache.
    #[btf_map]
    static VARIANT: Array<u64, TEMPLATES> = Array::new();
    #[btf_map]
    static TURN: Array<Turn, 1> = Array::new();
    #[btf_map]
    static NEXT: PerCpuArray<u64, 2> = PerCpuArray::new();
    /// The packet's beginning at its first run, and its present beginning. The first is 0 before that run.
    #[btf_map]
    static START: Array<[u64; 2], 1> = Array::new();
    /// The program that is timed.
    #[btf_map]
    static TIMED: ProgramArray<1> = ProgramArray::new();

    /// One entry, under [`KEY`].
    #[btf_map]
    static HASH: HashMap<[u64; 2], u64, 1024> = HashMap::new();
    /// As many cache lines as the table of the largest zone has.
    #[btf_map]
    static LINES: Array<[u64; 8], LINES_COUNT, { BPF_F_MMAPABLE as usize }> = Array::new();
    const LINES_COUNT: usize = 1 << 16;
    const KEY: [u64; 2] = [1, 2];

    const WORD: Field<u64, 0> = Field::new();

    /// Does nothing. Subtract its time from another program's to get that program's own time.
    #[xdp]
    pub(crate) fn transmit(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_TX
    }

    /// Swaps the addresses of an Ethernet frame with an IPv4 datagram, and no more. No answer can cost less.
    #[xdp]
    pub(crate) fn reflect(ctx: XdpContext) -> u32 {
        const MAC_HIGH: Field<u32, 0> = Field::new();
        const MAC_LOW: Field<u16, 4> = Field::new();
        const OTHER_HIGH: Field<u32, 6> = Field::new();
        const OTHER_LOW: Field<u16, 10> = Field::new();
        const SOURCE: Field<u32, 26> = Field::new();
        const DESTINATION: Field<u32, 30> = Field::new();
        const PORTS: Field<u32, 34> = Field::new();
        let Some(frame): Option<Region<'_, 42>> = frame(&ctx).region(0) else { return xdp_action::XDP_PASS };
        let (high, low) = (frame.read(MAC_HIGH), frame.read(MAC_LOW));
        frame.write(MAC_HIGH, frame.read(OTHER_HIGH));
        frame.write(MAC_LOW, frame.read(OTHER_LOW));
        frame.write(OTHER_HIGH, high);
        frame.write(OTHER_LOW, low);
        let source = frame.read(SOURCE);
        frame.write(SOURCE, frame.read(DESTINATION));
        frame.write(DESTINATION, source);
        frame.write(PORTS, frame.read(PORTS).rotate_left(16));
        xdp_action::XDP_TX
    }

    /// Adds 16 octets at the tail, as many as one A record needs.
    #[xdp]
    pub(crate) fn grow(ctx: XdpContext) -> u32 {
        // SAFETY: the context is the one that the program was given.
        match unsafe { bpf_xdp_adjust_tail(ctx.ctx, 16) } {
            0 => xdp_action::XDP_TX,
            _ => xdp_action::XDP_PASS,
        }
    }

    /// Adds 16 octets at the head.
    #[xdp]
    pub(crate) fn grow_head(ctx: XdpContext) -> u32 {
        // SAFETY: the context is the one that the program was given.
        match unsafe { bpf_xdp_adjust_head(ctx.ctx, -16) } {
            0 => xdp_action::XDP_TX,
            _ => xdp_action::XDP_PASS,
        }
    }

    /// Finds the only entry of a hash map by a key of 16 octets.
    #[xdp]
    pub(crate) fn look_up(_ctx: XdpContext) -> u32 {
        // SAFETY: the entry is never removed.
        match unsafe { HASH.get(&KEY) } {
            Some(_) => xdp_action::XDP_TX,
            None => xdp_action::XDP_PASS,
        }
    }

    /// Reads one cache line. Each run reads another one, in an order that no prefetcher foresees.
    #[xdp]
    pub(crate) fn read_line(_ctx: XdpContext) -> u32 {
        let Some(next) = NEXT.get_ptr_mut(1) else { return xdp_action::XDP_PASS };
        // SAFETY: the element is this CPU's.
        let index = unsafe { *next } as u32 % LINES_COUNT as u32;
        let Some([word, ..]) = LINES.get(index) else { return xdp_action::XDP_PASS };
        // A generator that visits every number (Knuth, The Art of Computer Programming, 3.2.1.2). `word` is always 0.
        // SAFETY: as above.
        unsafe { *next = u64::from(index.wrapping_mul(0x19_660d).wrapping_add(0x3c6e_f35f)) + word };
        xdp_action::XDP_TX
    }

    /// Writes the next template over the packet and calls the measured program. Otherwise each run of BPF_PROG_TEST_RUN
    /// would find the packet as the previous run left it.
    #[xdp]
    pub(crate) fn restore(ctx: XdpContext) -> u32 {
        match restored(&ctx) {
            // SAFETY: the context is the one that the program was given.
            Some(()) => unsafe {
                let _missing = TIMED.tail_call(&ctx, 0);
                xdp_action::XDP_ABORTED
            },
            None => xdp_action::XDP_ABORTED,
        }
    }

    #[inline(always)]
    fn restored(ctx: &XdpContext) -> Option<()> {
        restore_start(ctx)?;
        let next = NEXT.get_ptr_mut(0)?;
        // SAFETY: the element is this CPU's.
        let nth = unsafe {
            *next += 1;
            *next
        };
        let turn = TURN.get(0)?;
        let template = TEMPLATE.get((nth & turn.templates) as u32)?;
        let variant = VARIANT.get((nth & turn.variants) as u32)?;
        let length = template.length as usize & 0x1ff;
        let delta = length as i32 - frame(ctx).length() as i32;
        // SAFETY: the context is the one that the program was given.
        if delta != 0 && unsafe { bpf_xdp_adjust_tail(ctx.ctx, delta) } != 0 {
            return None;
        }
        let frame = frame(ctx);
        let mut at = 0;
        for word in &template.words {
            if at + 8 >= length {
                let region: Region<'_, 8> = frame.region(length.wrapping_sub(8))?;
                region.write(WORD, template.last);
                break;
            }
            let region: Region<'_, 8> = frame.region(at)?;
            region.write(WORD, *word);
            at += 8;
        }
        if turn.at != 0 {
            let region: Region<'_, 8> = frame.region(turn.at as usize)?;
            region.write(WORD, *variant);
        }
        Some(())
    }

    /// Removes the octets that the timed program prepended; otherwise the headroom would be used up.
    #[inline(always)]
    fn restore_start(ctx: &XdpContext) -> Option<()> {
        let start = START.get_ptr_mut(0)?.cast::<u64>();
        // SAFETY: this is the map's only element, two words that no other program uses meanwhile. The address goes
        // through the map, so that the verifier treats it as a number.
        let moved = unsafe {
            let now = start.add(1);
            now.write_volatile(u64::from((&raw const (*ctx.ctx).data).read_volatile()));
            if start.read_volatile() == 0 {
                start.write_volatile(now.read_volatile());
            }
            start.read_volatile().wrapping_sub(now.read_volatile()) as i32
        };
        // SAFETY: the context is the one that the program was given.
        if moved != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, moved) } != 0 {
            return None;
        }
        Some(())
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
