//! Code for the kernel's verifier: bounds that it recognises, and paths that it can merge.
//!
//! The verifier follows every path through the program and gives up after 1,000,000 instructions. The program has to
//! load on every kernel from 5.10 on, and verifiers differ. These rules therefore hold for the whole program:
//!
//! | rule | kernels that need it |
//! |---|---|
//! | No call from one BPF function to another: everything is inlined. | 5.10 to 6.3 do not follow precision through a call. They then treat every number as precise, and never merge two paths. |
//! | A bound is set by a mask, in the instructions right before the address is computed ([`element`], `bounded`). | 6.8 forgets a bound that was checked, spilled to the stack and reloaded; 5.10 and 5.11 forget every bound that is spilled. |
//! | If joining paths differ by a constant, the constant is widened ([`widen`], [`widen_offset`]), even if only one path uses it. | All. Up to 5.15 a constant on the stack and an unknown number on the stack never compare as equal. |
//! | Packet pointers are reloaded after each loop over the packet. | All. The verifier derives another least length of the frame from each length of a name. |
//! | Helpers and map types are those of 5.10. The clock is `bpf_jiffies64`. | 5.10. Programs for fragmented frames use `bpf_xdp_get_buff_len`, which came with such frames in 5.18. |
#![cfg_attr(
    target_arch = "bpf",
    expect(unsafe_code, reason = "inline assembly, and one reference behind a mask")
)]

/// The largest offset within a frame, a mask. Frames may be longer, but octets behind it are not read.
pub const OFFSET_MAX: usize = 2047;

/// Returns `base + offset`, by an instruction that the compiler cannot analyse. Otherwise the compiler would compute
/// the checked and the used pointer separately, and the verifier would not recognise that they are equal.
#[inline(always)]
pub(crate) fn step(base: *mut u8, offset: usize) -> *mut u8 {
    #[cfg(target_arch = "bpf")]
    {
        let mut pointer = base;
        // SAFETY: an addition.
        unsafe {
            core::arch::asm!(
                "{pointer} += {offset}",
                pointer = inout(reg) pointer,
                offset = in(reg) offset,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        pointer
    }
    #[cfg(not(target_arch = "bpf"))]
    base.wrapping_add(offset)
}

/// Returns `base` moved on by one `T`, computed as in [`step`].
#[inline(always)]
pub(crate) fn step_over<T>(base: *mut u8) -> *mut u8 {
    #[cfg(target_arch = "bpf")]
    {
        let mut pointer = base;
        // SAFETY: an addition.
        unsafe {
            core::arch::asm!(
                "{pointer} += {size}",
                pointer = inout(reg) pointer,
                size = const size_of::<T>(),
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        pointer
    }
    #[cfg(not(target_arch = "bpf"))]
    base.wrapping_add(size_of::<T>())
}

/// Bounds an offset within a frame. Offsets up to [`OFFSET_MAX`] stay as they are.
#[inline(always)]
pub(crate) fn bounded(offset: usize) -> usize {
    offset & OFFSET_MAX
}

/// Returns the element at `index` modulo `N`, which is a power of two.
#[inline(always)]
pub fn element<T, const N: usize>(elements: &[T; N], index: usize) -> &T {
    const { assert!(N.is_power_of_two(), "the bound is a mask") };
    #[cfg(target_arch = "bpf")]
    {
        let mut element = elements.as_ptr();
        // SAFETY: the index is less than N when it is added, so the pointer is to an element of the array.
        unsafe {
            core::arch::asm!(
                "{index} &= {mask}",
                "{index} *= {size}",
                "{element} += {index}",
                mask = const N - 1,
                size = const size_of::<T>(),
                index = inout(reg) index => _,
                element = inout(reg) element,
                options(pure, nomem, nostack, preserves_flags),
            );
            &*element
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    &elements[index & (N - 1)]
}

/// Returns the same number, but the verifier no longer knows its value. `unknown` is any number that the verifier does
/// not know, for example one read from the packet.
#[inline(always)]
pub fn widen(number: u64, unknown: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: adding a number and taking it away again.
        unsafe {
            core::arch::asm!(
                "{number} += {unknown}",
                "{number} -= {unknown}",
                number = inout(reg) number,
                unknown = in(reg) unknown,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = unknown;
        number
    }
}

/// Like [`widen`], for an offset within a frame or another number up to [`OFFSET_MAX`]. The verifier then knows only
/// that bound. Otherwise it follows every possible length of a name through the rest of the program.
#[inline(always)]
pub fn widen_offset(offset: usize, unknown: u64) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut offset = offset;
        // SAFETY: adds a number and subtracts it again. The assembly sets the bound, because the compiler would
        // otherwise go on using the unbounded number too.
        unsafe {
            core::arch::asm!(
                "{offset} += {unknown}",
                "{offset} -= {unknown}",
                "{offset} &= {max}",
                max = const OFFSET_MAX,
                offset = inout(reg) offset,
                unknown = in(reg) unknown,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        offset
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = unknown;
        bounded(offset)
    }
}

/// Adds an instruction to the branch that calls this. Otherwise the compiler merges the branch into the path of the
/// other frames, which costs those frames 2 instructions.
#[inline(always)]
pub(crate) fn keep_branch(number: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: a move of a register to itself.
    unsafe {
        core::arch::asm!(
            "{number} = {number}",
            number = inout(reg) number => _,
            options(nomem, nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = number;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_outside_an_array_comes_round() {
        let elements = [0, 1, 2, 3];
        assert_eq!((*element(&elements, 3), *element(&elements, 6)), (3, 2));
    }
}
