//! The load generator, the counter of returning frames, and responders to compare with. No node runs these programs.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    #![expect(unsafe_code, reason = "maps, context and helpers belong to the kernel")]

    use aya_ebpf::bindings::xdp_action;
    use aya_ebpf::btf_maps::{Array, PerCpuArray};
    use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_tail, bpf_xdp_load_bytes};
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;
    use dns_xdp_ebpf::frame::{Field, Frame, Region, Word};
    use dns_xdp_testbed::frame;
    use dns_xdp_testbed::load::{
        FRAME_MAX, ID_MASK, SAMPLE_WORDS, SAMPLED, SAMPLES, Sample, Seen, Sending, TEMPLATES, Template,
    };

    #[btf_map]
    static TEMPLATE: Array<Template, TEMPLATES> = Array::new();
    #[btf_map]
    static INTERVAL: Array<u64, 1> = Array::new();
    #[btf_map]
    static SENDING: PerCpuArray<Sending, 1> = PerCpuArray::new();
    #[btf_map]
    static SEEN: PerCpuArray<u64, { Seen::COUNT }> = PerCpuArray::new();
    #[btf_map]
    static SAMPLE: Array<Sample, SAMPLES> = Array::new();

    /// The most queries that a delayed generator sends late. It skips further queries: the veth's ring holds 256.
    const CATCH_UP: u64 = 32;

    /// How often the clock is read before a frame is given up; one read takes about 30 ns.
    const LOOKS: u32 = 32;

    const ETHERTYPE: Field<u16, 12> = Field::new();
    const IPV4: u16 = 0x0800_u16.to_be();
    const IPV6: u16 = 0x86dd_u16.to_be();
    const DNS_PORT: u16 = 53_u16.to_be();

    /// Writes the next query over the frame and sends it. It runs over live frames, which still have the responder's
    /// contents.
    #[xdp]
    pub(crate) fn generate(ctx: XdpContext) -> u32 {
        generated(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
    }

    #[inline(always)]
    fn generated(ctx: &XdpContext) -> Option<u32> {
        let sending = SENDING.get_ptr_mut(0)?;
        let interval = *INTERVAL.get(0)?;
        // SAFETY: the element is this CPU's, which runs one generator.
        let [sent, due] = unsafe { &mut *sending };
        if interval != 0 {
            let now = await_time(*due);
            if now < *due {
                return Some(xdp_action::XDP_DROP);
            }
            *due = interval + (*due).max(now.saturating_sub(CATCH_UP * interval));
        }
        let nth = *sent;
        *sent = nth + 1;
        let [length, ipv6, words @ ..] = TEMPLATE.get((nth % TEMPLATES as u64) as u32)?;
        let id = ((nth & ID_MASK) as u16).to_be();
        write(frame(ctx).region(0)?, words, *ipv6 != 0, id);
        // The kernel restores a live frame's length only if this program changes it, and the responder has changed it
        // before.
        let delta = *length as i32 - FRAME_MAX as i32;
        // SAFETY: the context is the one that the program was given.
        match unsafe { bpf_xdp_adjust_tail(ctx.ctx, delta) } {
            0 => Some(xdp_action::XDP_TX),
            _ => None,
        }
    }

    /// Waits a while for a time to come. Returns the present time. Frames are sent in batches, so a batch must not take
    /// long. Dropped frames return to a pool that the server's core uses too. The two cores hinder each other there.
    #[inline(always)]
    fn await_time(time: u64) -> u64 {
        let mut now = 0;
        for _ in 0..LOOKS {
            // SAFETY: the helper has no preconditions.
            now = unsafe { bpf_ktime_get_ns() };
            if now >= time {
                break;
            }
        }
        now
    }

    #[inline(always)]
    fn write(frame: Region<'_, FRAME_MAX>, words: &[u64; FRAME_MAX / 8], ipv6: bool, id: u16) {
        const PORT_IPV4: Field<u16, 34> = Field::new();
        const ID_IPV4: Field<u16, 42> = Field::new();
        const PORT_IPV6: Field<u16, 54> = Field::new();
        const ID_IPV6: Field<u16, 62> = Field::new();
        macro_rules! write {
            ($($nth:literal)*) => { $(frame.write(const { Field::<u64, { 8 * $nth }>::new() }, words[$nth]);)* };
        }
        write!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        if ipv6 {
            frame.write(PORT_IPV6, !id);
            frame.write(ID_IPV6, id);
        } else {
            frame.write(PORT_IPV4, !id);
            frame.write(ID_IPV4, id);
        }
    }

    /// Counts returning frames, keeps samples, and drops the frames.
    #[xdp]
    pub(crate) fn receive(ctx: XdpContext) -> u32 {
        let Some(seen) = seen(frame(&ctx)) else { return xdp_action::XDP_PASS };
        if let Some(counter) = SEEN.get_ptr_mut(seen as u32) {
            // SAFETY: the element is this CPU's, and no other program runs on it meanwhile.
            let count = unsafe {
                *counter += 1;
                *counter
            };
            if count % SAMPLED == 0 && seen != Seen::Reflected {
                keep(&ctx, (count / SAMPLED) as u32 % SAMPLES as u32);
            }
        }
        xdp_action::XDP_DROP
    }

    /// Reads a frame from port 53. Other frames are for the stack.
    #[inline(always)]
    fn seen(frame: Frame<'_>) -> Option<Seen> {
        const PROTOCOL_IPV4: Field<u8, 9> = Field::new();
        const PROTOCOL_IPV6: Field<u8, 6> = Field::new();
        const PORT: Field<u16, 0> = Field::new();
        const FLAGS: Field<u16, 10> = Field::new();
        const ANSWERS: Field<u16, 14> = Field::new();
        /// QR, TC and RCODE (RFC 1035, section 4.1.1).
        const RESPONSE: u16 = 0x8000_u16.to_be();
        const LOOKED_AT: u16 = 0x820f_u16.to_be();
        const NXDOMAIN: u16 = 0x8003_u16.to_be();
        const UDP: u8 = 17;
        let ethernet: Region<'_, 14> = frame.region(0)?;
        let ip: Region<'_, 20> = frame.region(14)?;
        let (protocol, udp) = match ethernet.read(ETHERTYPE) {
            IPV4 => (ip.read(PROTOCOL_IPV4), 34),
            IPV6 => (ip.read(PROTOCOL_IPV6), 54),
            _ => return None,
        };
        let message: Region<'_, 20> = frame.region(udp)?;
        if protocol != UDP || message.read(PORT) != DNS_PORT {
            return None;
        }
        Some(match message.read(FLAGS) & LOOKED_AT {
            flags if flags & RESPONSE == 0 => Seen::Reflected,
            RESPONSE if message.read(ANSWERS) != 0 => Seen::Answer,
            NXDOMAIN => Seen::NxDomain,
            _ => Seen::Other,
        })
    }

    #[inline(always)]
    fn keep(ctx: &XdpContext, nth: u32) {
        const MOST: usize = 8 * SAMPLE_WORDS - 1;
        let length = frame(ctx).length() & MOST;
        let Some(sample) = SAMPLE.get_ptr_mut(nth) else { return };
        if length == 0 {
            return;
        }
        // SAFETY: the sample has more octets than are loaded. No process reads it during the load.
        unsafe {
            let [kept, words @ ..] = &mut *sample;
            *kept = length as u64;
            let _failed = bpf_xdp_load_bytes(ctx.ctx, 0, words.as_mut_ptr().cast(), length as u32);
        }
    }

    /// Lets everything pass. A veth device accepts frames from XDP only when it has a program itself.
    #[xdp]
    pub(crate) fn through(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// The bare reflector: it only sends a UDP datagram back.
    #[xdp]
    pub(crate) fn reflect(ctx: XdpContext) -> u32 {
        turn_round(frame(&ctx)).map_or(xdp_action::XDP_PASS, |()| xdp_action::XDP_TX)
    }

    /// The reflector that also makes room for an A record, as every answer has to.
    #[xdp]
    pub(crate) fn reflect_grown(ctx: XdpContext) -> u32 {
        // SAFETY: the context is the one that the program was given.
        if unsafe { bpf_xdp_adjust_tail(ctx.ctx, 16) } != 0 {
            return xdp_action::XDP_ABORTED;
        }
        turn_round(frame(&ctx)).map_or(xdp_action::XDP_PASS, |()| xdp_action::XDP_TX)
    }

    #[inline(always)]
    fn turn_round(frame: Frame<'_>) -> Option<()> {
        let ethernet: Region<'_, 14> = frame.region(0)?;
        match ethernet.read(ETHERTYPE) {
            IPV4 => {
                let datagram: Region<'_, 28> = frame.region(14)?;
                swap::<u32, 12, 16, 28>(datagram);
                swap::<u16, 20, 22, 28>(datagram);
            }
            IPV6 => {
                let datagram: Region<'_, 48> = frame.region(14)?;
                swap::<u64, 8, 24, 48>(datagram);
                swap::<u64, 16, 32, 48>(datagram);
                swap::<u16, 40, 42, 48>(datagram);
            }
            _ => return None,
        }
        swap::<u32, 0, 6, 14>(ethernet);
        swap::<u16, 4, 10, 14>(ethernet);
        Some(())
    }

    #[inline(always)]
    fn swap<T: Word, const A: usize, const B: usize, const N: usize>(region: Region<'_, N>) {
        let (a, b) = (region.read(Field::<T, A>::new()), region.read(Field::<T, B>::new()));
        region.write(Field::<T, A>::new(), b);
        region.write(Field::<T, B>::new(), a);
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
