//! Bounds-checked reads and writes at named offsets of a frame: the only pointer code.
//!
//! The kernel's verifier accepts a packet access only through a pointer that was compared with the packet's end. It
//! recognises the pointer by its origin: `start + offset`, computed once, checked, and used. A [`Region`] is such a
//! pointer with its checked length in its type. A [`Field`] is an offset within a region.
#![expect(
    unsafe_code,
    reason = "this module is where packets are dereferenced, behind the check of Frame::region"
)]

use core::marker::PhantomData;

use crate::verifier::{OFFSET_MAX, bounded, step, step_over};

/// The bytes of a frame as the kernel lays them out, from the Ethernet header on. A resize borrows the
/// [`Packet`](crate::host::Packet) mutably, so no `Frame` and no [`Region`] outlives it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'f> {
    start: *mut u8,
    end: *mut u8,
    packet: PhantomData<&'f ()>,
}

/// `N` bytes that were checked to lie within a frame.
#[derive(Debug, Clone, Copy)]
pub struct Region<'f, const N: usize>(*mut u8, PhantomData<&'f ()>);

/// A field of `T` at byte `AT` of a region. Values are as they lie in memory: numbers in network order.
#[derive(Debug)]
pub struct Field<T, const AT: usize>(PhantomData<T>);

impl<T, const AT: usize> Field<T, AT> {
    /// Names a field.
    pub const fn new() -> Self {
        Field(PhantomData)
    }
}

impl<T, const AT: usize> Default for Field<T, AT> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'f> Frame<'f> {
    /// Octets of a frame behind this offset are not read. No query is that long, and the verifier demands bounded
    /// offsets.
    pub const MAX_LENGTH: usize = OFFSET_MAX;

    /// Makes a frame of the bytes from `start` to `end`.
    ///
    /// # Safety
    /// The bytes from `start` to `end` belong to the caller for as long as the frame or its regions are used.
    pub const unsafe fn new(start: *mut u8, end: *mut u8) -> Self {
        Frame { start, end, packet: PhantomData }
    }

    /// Bytes in the frame.
    #[inline(always)]
    pub fn length(self) -> usize {
        self.end as usize - self.start as usize
    }

    /// Returns the `N` bytes at `offset`, if the frame has them.
    #[inline(always)]
    pub fn region<const N: usize>(self, offset: usize) -> Option<Region<'f, N>> {
        let from = step(self.start, bounded(offset));
        if from.wrapping_add(N) > self.end { None } else { Some(Region(from, PhantomData)) }
    }

    /// Like [`Frame::region`], for an offset that is a constant where this is inlined. Bounding it then takes no
    /// instructions.
    #[inline(always)]
    pub fn fixed<const N: usize>(self, offset: usize) -> Option<Region<'f, N>> {
        let from = self.start.wrapping_add(bounded(offset));
        if from.wrapping_add(N) > self.end { None } else { Some(Region(from, PhantomData)) }
    }

    /// Returns the frame from `offset` on.
    #[inline(always)]
    pub fn from(self, offset: usize) -> Frame<'f> {
        Frame { start: step(self.start, bounded(offset)), ..self }
    }

    /// Returns a cursor over the octets from `offset` on.
    #[inline(always)]
    pub fn cursor(self, offset: usize) -> Cursor<'f> {
        let at = step(self.start, bounded(offset));
        Cursor { at, end: self.end, packet: PhantomData }
    }

    /// Like [`Frame::cursor`], for an offset that is a constant where this is inlined.
    #[inline(always)]
    pub fn fixed_cursor(self, offset: usize) -> Cursor<'f> {
        let at = self.start.wrapping_add(bounded(offset));
        Cursor { at, end: self.end, packet: PhantomData }
    }
}

/// A place in a frame. Each word that is taken or put moves it on.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'f> {
    at: *mut u8,
    end: *mut u8,
    packet: PhantomData<&'f ()>,
}

impl Cursor<'_> {
    /// Returns the next word, if the frame has it.
    #[inline(always)]
    pub fn take<T: Word>(&mut self) -> Option<T> {
        self.pass::<T>()?;
        // SAFETY: `pass` has checked that the word lies within the frame.
        Some(unsafe { T::load_before(self.at) })
    }

    /// Puts a word, if the frame has room for it.
    #[inline(always)]
    pub fn put<T: Word>(&mut self, word: T) -> Option<()> {
        self.pass::<T>()?;
        // SAFETY: `pass` has checked that the word lies within the frame. Only this program uses the frame while it
        // runs.
        unsafe { T::store_before(self.at, word) };
        Some(())
    }

    /// Moves on by a word.
    #[inline(always)]
    fn pass<T: Word>(&mut self) -> Option<()> {
        let behind = step_over::<T>(self.at);
        if behind > self.end {
            return None;
        }
        self.at = behind;
        Some(())
    }
}

impl<'f, const N: usize> Region<'f, N> {
    /// Returns the `M` bytes at `AT` of the region, which need no further check.
    #[inline(always)]
    pub fn part<const AT: usize, const M: usize>(self) -> Region<'f, M> {
        const { assert!(AT + M <= N, "the part lies outside the region") };
        Region(self.0.wrapping_add(AT), PhantomData)
    }

    /// Reads a field.
    #[inline(always)]
    pub fn read<T: Word, const AT: usize>(self, _field: Field<T, AT>) -> T {
        const { assert!(AT + size_of::<T>() <= N, "the field lies outside the region") };
        // SAFETY: Frame::region has checked N bytes from self.0, and the field lies within them.
        unsafe { T::load::<AT>(self.0) }
    }

    /// Writes a field.
    #[inline(always)]
    pub fn write<T: Word, const AT: usize>(self, _field: Field<T, AT>, value: T) {
        const { assert!(AT + size_of::<T>() <= N, "the field lies outside the region") };
        // SAFETY: as in `read`. Only this program uses the frame while it runs.
        unsafe { T::store::<AT>(self.0, value) }
    }
}

/// A number that one instruction reads or writes, at any alignment.
pub trait Word: Copy {
    /// Loads the word at `base + AT`.
    ///
    /// # Safety
    /// `size_of::<Self>()` bytes at `base + AT` are readable.
    unsafe fn load<const AT: usize>(base: *mut u8) -> Self;
    /// Stores a word at `base + AT`.
    ///
    /// # Safety
    /// `size_of::<Self>()` bytes at `base + AT` are writable.
    unsafe fn store<const AT: usize>(base: *mut u8, value: Self);
    /// Loads the word that ends at `end`.
    ///
    /// # Safety
    /// `size_of::<Self>()` bytes before `end` are readable.
    unsafe fn load_before(end: *mut u8) -> Self;
    /// Stores a word that ends at `end`.
    ///
    /// # Safety
    /// `size_of::<Self>()` bytes before `end` are writable.
    unsafe fn store_before(end: *mut u8, value: Self);
}

// For the BPF target rustc splits an unaligned access into bytes, because some machines need that. Machines with XDP do
// not need it, so this is a single instruction.
#[cfg(target_arch = "bpf")]
macro_rules! word {
    ($($word:ty, $size:literal;)*) => {$(
        impl Word for $word {
            #[inline(always)]
            unsafe fn load<const AT: usize>(base: *mut u8) -> Self {
                // SAFETY: the caller vouches for the memory.
                unsafe { word!(load $word, $size, base, "+", AT) }
            }

            #[inline(always)]
            unsafe fn store<const AT: usize>(base: *mut u8, value: Self) {
                // SAFETY: the caller vouches for the memory.
                unsafe { word!(store $size, base, "+", AT, value) }
            }

            #[inline(always)]
            unsafe fn load_before(end: *mut u8) -> Self {
                // SAFETY: the caller vouches for the memory.
                unsafe { word!(load $word, $size, end, "-", size_of::<Self>()) }
            }

            #[inline(always)]
            unsafe fn store_before(end: *mut u8, value: Self) {
                // SAFETY: the caller vouches for the memory.
                unsafe { word!(store $size, end, "-", size_of::<Self>(), value) }
            }
        }
    )*};
    // A load clears the bits above its width. The compiler cannot know this about inline assembly, and would clear the
    // bits again.
    (load $word:ty, $size:literal, $base:ident, $sign:literal, $at:expr) => {{
        let value: u64;
        core::arch::asm!(
            concat!("{value} = *(", $size, " *)({base} ", $sign, " {at})"),
            value = lateout(reg) value,
            base = in(reg) $base,
            at = const $at,
            options(pure, readonly, nostack, preserves_flags),
        );
        core::hint::assert_unchecked(value <= <$word>::MAX as u64);
        value as $word
    }};
    (store $size:literal, $base:ident, $sign:literal, $at:expr, $value:ident) => {
        core::arch::asm!(
            concat!("*(", $size, " *)({base} ", $sign, " {at}) = {value}"),
            value = in(reg) u64::from($value),
            base = in(reg) $base,
            at = const $at,
            options(nostack, preserves_flags),
        )
    };
}

#[cfg(not(target_arch = "bpf"))]
macro_rules! word {
    ($($word:ty, $size:literal;)*) => {$(
        impl Word for $word {
            unsafe fn load<const AT: usize>(base: *mut u8) -> Self {
                // SAFETY: the caller vouches for the memory.
                unsafe { base.add(AT).cast::<$word>().read_unaligned() }
            }

            unsafe fn store<const AT: usize>(base: *mut u8, value: Self) {
                // SAFETY: the caller vouches for the memory.
                unsafe { base.add(AT).cast::<$word>().write_unaligned(value) }
            }

            unsafe fn load_before(end: *mut u8) -> Self {
                // SAFETY: the caller vouches for the memory.
                unsafe { end.cast::<$word>().sub(1).read_unaligned() }
            }

            unsafe fn store_before(end: *mut u8, value: Self) {
                // SAFETY: the caller vouches for the memory.
                unsafe { end.cast::<$word>().sub(1).write_unaligned(value) }
            }
        }
    )*};
}

word! { u8, "u8"; u16, "u16"; u32, "u32"; u64, "u64"; }
