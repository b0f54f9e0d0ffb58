//! The XDP hook: the maps, the kernel as the host of the path of a query, and the counter and action of each outcome.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod hook {
    #![expect(unsafe_code, reason = "maps, context and helpers belong to the kernel")]

    use core::cell::UnsafeCell;

    use aya_ebpf::Global;
    use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_RB_NO_WAKEUP, xdp_action, xdp_md};
    use aya_ebpf::btf_maps::{Array, ArrayOfMaps, LruHashMap, PerCpuArray, RingBuf};
    use aya_ebpf::helpers::{
        bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_ns, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
        bpf_xdp_get_buff_len,
    };
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;
    use aya_log_ebpf::debug;
    use dns_xdp_ebpf::frame::{Field, Frame, Region};
    use dns_xdp_ebpf::host::{Host, Packet};
    use dns_xdp_ebpf::outcome::{Action, Outcome};
    use dns_xdp_ebpf::respond::respond;
    use dns_xdp_ebpf::sample::{RING_LENGTH, Sample, Sampling, WORDS};
    use dns_xdp_ebpf::table::limit::{Admissions, Demand, Rate};
    use dns_xdp_ebpf::table::{
        BUCKETS_MAX, FOR_EVER, FloodPolicy, Lease, Local, LocalAddresses, NameEntry, NameOverflow,
        RENEW_ENDED, RENEW_UNCHANGED, RENEWAL_LENGTH, Tags, ZoneHeader,
    };
    use dns_xdp_ebpf::verifier::widen_offset;

    /// The inner map's value, as words and not as a structure. Userspace makes inner maps without BTF. Kernels 5.15 to
    /// 6.1 refuse such a map where the BTF of the outer map names a structure.
    const HEAD_WORDS: usize = size_of::<ZoneHeader>() / 8;
    const LOCALS_WORDS: usize = size_of::<LocalAddresses>() / 8;

    #[btf_map]
    static ZONE: ArrayOfMaps<Array<[u64; HEAD_WORDS], 1>, 1> = ArrayOfMaps::new();
    /// The loader sets the size of this map and of the next. A memory-mappable map begins at a page, so each entry
    /// begins at a cache line.
    #[btf_map]
    static NAMES: Array<NameEntry, 2, { BPF_F_MMAPABLE as usize }> = Array::new();
    #[btf_map]
    static NAME_OVERFLOW: Array<NameOverflow, 2, { BPF_F_MMAPABLE as usize }> = Array::new();
    #[btf_map]
    static LEASE: Array<Lease, 1> = Array::new();
    #[btf_map]
    static RRL_BUCKETS: LruHashMap<u64, u64, BUCKETS_MAX> = LruHashMap::new();
    #[btf_map]
    static FALLBACK_BUCKET: Array<Admissions, 1> = Array::new();
    #[btf_map]
    static FALLBACK_SHARES: LruHashMap<u64, u64, BUCKETS_MAX> = LruHashMap::new();
    #[btf_map]
    static LOCAL_ADDRESSES: ArrayOfMaps<Array<[u64; LOCALS_WORDS], 1>, 1> = ArrayOfMaps::new();
    #[btf_map]
    static COUNTERS: PerCpuArray<u64, { Outcome::ALL.len() }> = PerCpuArray::new();
    #[btf_map]
    static SAMPLES: RingBuf<Sample, RING_LENGTH> = RingBuf::new();
    #[unsafe(link_section = ".data.sampling")]
    static SAMPLING: Shared<Sampling> = Shared(UnsafeCell::new(Sampling::OFF));
    #[unsafe(no_mangle)]
    static PORT: Global<u16> = Global::new(53_u16.to_be());
    #[unsafe(no_mangle)]
    static JIFFY: Global<u64> = Global::new(4_000_000);

    /// Answers the queries that it can, and passes the rest.
    // This function is inlined like the others. Otherwise the entry point that the macro generates would call it.
    #[xdp]
    #[inline(always)]
    pub(crate) fn dns_xdp(ctx: XdpContext) -> u32 {
        answer::<false, false, false>(&ctx)
    }

    /// As [`dns_xdp`], with cookies and limits.
    #[xdp]
    #[inline(always)]
    pub(crate) fn dns_xdp_guarded(ctx: XdpContext) -> u32 {
        answer::<true, false, false>(&ctx)
    }

    /// As [`dns_xdp`], with wildcards.
    #[xdp]
    #[inline(always)]
    pub(crate) fn dns_xdp_wild(ctx: XdpContext) -> u32 {
        answer::<false, true, false>(&ctx)
    }

    /// As [`dns_xdp`], for frames that may lie in several pieces.
    #[xdp(frags)]
    #[inline(always)]
    pub(crate) fn dns_xdp_frags(ctx: XdpContext) -> u32 {
        answer::<false, false, true>(&ctx)
    }

    /// As [`dns_xdp_guarded`], for frames that may lie in several pieces.
    #[xdp(frags)]
    #[inline(always)]
    pub(crate) fn dns_xdp_guarded_frags(ctx: XdpContext) -> u32 {
        answer::<true, false, true>(&ctx)
    }

    /// As [`dns_xdp_wild`], for frames that may lie in several pieces.
    #[xdp(frags)]
    #[inline(always)]
    pub(crate) fn dns_xdp_wild_frags(ctx: XdpContext) -> u32 {
        answer::<false, true, true>(&ctx)
    }

    #[inline(always)]
    fn answer<const GUARDED: bool, const WILDCARDS: bool, const FRAGS: bool>(ctx: &XdpContext) -> u32 {
        let outcome = respond(&mut Context::<FRAGS>(ctx.ctx), &Kernel::<GUARDED, WILDCARDS>);
        let action = match outcome.action() {
            Action::Transmit => xdp_action::XDP_TX,
            Action::Pass => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
        };
        let until = SAMPLING.until();
        // The number is widened, so that the verifier follows the rest once, and not once for each outcome.
        let outcome = widen_offset(outcome as usize, until) as u32;
        let action = widen_offset(action as usize, until) as u32;
        if outcome != Outcome::NotForUs as u32 {
            if let Some(counter) = COUNTERS.get_ptr_mut(outcome) {
                // SAFETY: the element is this CPU's, and no other program runs on it meanwhile.
                unsafe { *counter += 1 };
            }
            debug!(ctx, "outcome {}", outcome);
            if until != 0 {
                sample(ctx.ctx, until);
            }
        }
        action
    }

    /// Copies some frames while an operator watches the names. Sampling ends by itself unless the daemon renews it.
    #[inline(always)]
    fn sample(ctx: *mut xdp_md, until: u64) {
        // SAFETY: the helpers have no preconditions.
        let (now, random) = unsafe { (bpf_ktime_get_ns(), bpf_get_prandom_u32()) };
        if now > until {
            SAMPLING.end();
            return;
        }
        if u64::from(random) & SAMPLING.mask() != 0 {
            return;
        }
        let Some(mut entry) = SAMPLES.reserve(0) else { return };
        let sample = entry.as_mut_ptr();
        // SAFETY: the context is valid while the program runs. Each word is read below the packet's end and written
        // into the reserved sample.
        unsafe {
            let start = (&raw const (*ctx).data).read_volatile() as usize;
            let end = (&raw const (*ctx).data_end).read_volatile() as usize;
            let mut words = 0;
            while words < WORDS && start + 4 * words + 4 <= end {
                let word = ((start + 4 * words) as *const u32).read_volatile();
                (&raw mut (*sample).frame[words]).write_volatile(word);
                words += 1;
            }
            (&raw mut (*sample).words).write(words as u32);
        }
        entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    }

    /// A value that userspace writes while programs run.
    #[repr(transparent)]
    struct Shared<T>(UnsafeCell<T>);

    // SAFETY: the value is read and written only by single accesses of 8 aligned octets.
    unsafe impl Sync for Shared<Sampling> {}

    impl Shared<Sampling> {
        #[inline(always)]
        fn until(&self) -> u64 {
            // SAFETY: see the implementation of Sync.
            unsafe { (&raw const (*self.0.get()).until).read_volatile() }
        }

        #[inline(always)]
        fn mask(&self) -> u64 {
            // SAFETY: see the implementation of Sync.
            unsafe { (&raw const (*self.0.get()).mask).read_volatile() }
        }

        #[inline(always)]
        fn end(&self) {
            // SAFETY: see the implementation of Sync.
            unsafe { (&raw mut (*self.0.get()).until).write_volatile(0) };
        }
    }

    /// Renews the lease. The daemon runs it over a packet that `table` describes. It is never attached.
    #[xdp]
    pub(crate) fn renew_lease(ctx: XdpContext) -> u32 {
        match renew(&Context::<false>(ctx.ctx)) {
            Some(()) => xdp_action::XDP_PASS,
            None => xdp_action::XDP_ABORTED,
        }
    }

    fn renew(packet: &Context<false>) -> Option<()> {
        const LIFE: Field<u64, 0> = Field::new();
        const SECONDS: Field<u64, 8> = Field::new();
        const NOW: Field<u64, 16> = Field::new();
        const DEADLINE: Field<u64, 24> = Field::new();
        let packet: Region<'_, RENEWAL_LENGTH> = packet.frame().region(0)?;
        let lease = LEASE.get_ptr_mut(0)?;
        // SAFETY: this is the map's only element, and it has both fields.
        let (deadline, seconds) = unsafe { (&raw mut (*lease).deadline, &raw mut (*lease).seconds) };
        // SAFETY: the helper has no preconditions.
        let now = unsafe { bpf_jiffies64() };
        packet.write(NOW, now);
        // SAFETY: this is a field of the map's only element.
        packet.write(DEADLINE, unsafe { deadline.read_volatile() });
        let renewed = match packet.read(LIFE) {
            RENEW_UNCHANGED => return Some(()),
            RENEW_ENDED => 0,
            FOR_EVER => FOR_EVER,
            jiffies => now.wrapping_add(jiffies),
        };
        // SAFETY: aligned stores of 8 octets. A reader sees each of them whole.
        unsafe {
            seconds.write_volatile(packet.read(SECONDS));
            deadline.write_volatile(renewed);
        }
        Some(())
    }

    /// Returns the time in nanoseconds on the clock of the limits.
    #[inline(always)]
    fn now() -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_jiffies64().wrapping_mul(JIFFY.load()) }
    }

    /// Returns whether one more answer or query is admitted now. If so, sets `due`, a value in a map, to the time of
    /// the next.
    #[inline(always)]
    fn admitted(due: *mut u64, rate: &Rate) -> bool {
        // SAFETY: `due` is a word that programs on other CPUs read and write whole. If two frames come at the same
        // time, one may stay uncounted.
        let next = rate.admit(unsafe { due.read_volatile() }, now());
        if let Some(next) = next {
            // SAFETY: as above.
            unsafe { due.write_volatile(next) };
        }
        next.is_some()
    }

    /// The packet that the program was given.
    struct Context<const FRAGS: bool>(*mut xdp_md);

    impl<const FRAGS: bool> Packet for Context<FRAGS> {
        #[inline(always)]
        fn frame(&self) -> Frame<'_> {
            // SAFETY: the context holds the packet's bounds, and the packet is the program's while it runs.
            unsafe {
                let start = (&raw const (*self.0).data).read_volatile() as usize as *mut u8;
                let end = (&raw const (*self.0).data_end).read_volatile() as usize as *mut u8;
                Frame::new(start, end)
            }
        }

        #[inline(always)]
        fn resize(&mut self, delta: i32) -> bool {
            // SAFETY: the context is the one that the program was given.
            unsafe { bpf_xdp_adjust_tail(self.0, delta) == 0 }
        }

        #[inline(always)]
        fn prepend(&mut self, delta: i32) -> bool {
            // SAFETY: the context is the one that the program was given.
            unsafe { bpf_xdp_adjust_head(self.0, -delta) == 0 }
        }

        #[inline(always)]
        fn is_linear(&self) -> bool {
            // SAFETY: the context is the one that the program was given.
            !FRAGS || unsafe { bpf_xdp_get_buff_len(self.0) } == self.frame().length() as u64
        }

        #[inline(always)]
        fn interface(&self) -> u32 {
            // SAFETY: the context is valid while the program runs.
            unsafe { (*self.0).ingress_ifindex }
        }
    }

    /// The maps and the clocks.
    struct Kernel<const GUARDED: bool, const WILDCARDS: bool>;

    impl<const GUARDED: bool, const WILDCARDS: bool> Host for Kernel<GUARDED, WILDCARDS> {
        const GUARDED: bool = GUARDED;
        const WILDCARDS: bool = WILDCARDS;

        #[inline(always)]
        fn port(&self) -> u16 {
            PORT.load()
        }

        #[inline(always)]
        fn lease_lives(&self) -> bool {
            // SAFETY: the helper has no preconditions.
            LEASE.get(0).is_some_and(|lease| unsafe { bpf_jiffies64() } <= lease.deadline)
        }

        #[inline(always)]
        fn seconds(&self) -> u32 {
            LEASE.get(0).map_or(0, |lease| lease.seconds as u32)
        }

        #[inline(always)]
        fn admit(&self, prefix: u64, rate: &Rate) -> bool {
            let Some(due) = RRL_BUCKETS.get_ptr_mut(prefix) else {
                // A prefix that cannot be inserted is not limited.
                let _ = RRL_BUCKETS.insert(prefix, now() + rate.interval, 0);
                return true;
            };
            admitted(due, rate)
        }

        #[inline(always)]
        fn admit_fallback(&self, prefix: u64, flood_policy: &FloodPolicy) -> bool {
            let Some(all) = FALLBACK_BUCKET.get_ptr_mut(0) else { return true };
            let place = FALLBACK_SHARES.get_ptr_mut(prefix);
            // SAFETY: as in `admitted`. This is the map's only element, and it has both fields.
            let (due, refused) = unsafe { (&raw mut (*all).due, &raw mut (*all).refused) };
            // SAFETY: as in `admitted`.
            let mut after =
                unsafe { Admissions { due: due.read_volatile(), refused: refused.read_volatile() } };
            // SAFETY: as in `admitted`.
            let before = place.map(|place| Demand(unsafe { place.read_volatile() }));
            let (is_admitted, demand) = flood_policy.admit_fallback(&mut after, before, now());
            // SAFETY: as in `admitted`.
            unsafe {
                if is_admitted {
                    due.write_volatile(after.due);
                } else {
                    refused.write_volatile(after.refused);
                }
            }
            if let Some(place) = place {
                // SAFETY: as in `admitted`.
                unsafe { place.write_volatile(demand.0) };
            } else if is_admitted {
                let _ = FALLBACK_SHARES.insert(prefix, demand.0, 0);
            }
            is_admitted
        }

        #[inline(always)]
        fn random(&self) -> u32 {
            // SAFETY: the helper has no preconditions.
            unsafe { bpf_get_prandom_u32() }
        }

        #[inline(always)]
        fn local(&self, interface: u32, tags: Tags, address: [u64; 2]) -> Option<&Local> {
            let words: *const [u64; LOCALS_WORDS] = LOCAL_ADDRESSES.get_value(0, &0)?;
            // SAFETY: userspace writes a whole table before it puts the map there, and never afterwards.
            let locals = unsafe { &*words.cast::<LocalAddresses>() };
            Some(locals.in_slot(interface, tags, address))
        }

        #[inline(always)]
        fn head(&self) -> Option<&ZoneHeader> {
            let words: *const [u64; HEAD_WORDS] = ZONE.get_value(0, &0)?;
            // SAFETY: as in `local`.
            Some(unsafe { &*words.cast::<ZoneHeader>() })
        }

        #[inline(always)]
        fn entry(&self, index: u32) -> Option<&NameEntry> {
            NAMES.get(index)
        }

        #[inline(always)]
        fn overflow(&self, index: u32) -> Option<&NameOverflow> {
            NAME_OVERFLOW.get(index)
        }
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
