//! Tests that the object fits the oldest supported kernel, Linux 5.10, without booting one.
//!
//! It checks the numbers in the object: helpers and map types that are newer than 5.10, and calls from one BPF
//! function to another. Verifiers before Linux 6.4 follow such a call without the precision of its registers.
use std::collections::BTreeSet;

use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use dns_xdp_ebpf::table;

use super::program::OBJECT;
use super::variant::Variant;

/// The last of `enum bpf_func_id` in Linux 5.10: `bpf_redirect_peer`.
const HELPER_MAX: i32 = 155;
/// The last of `enum bpf_map_type` in Linux 5.10: `BPF_MAP_TYPE_INODE_STORAGE`.
const MAP_TYPE_MAX: u32 = 28;
/// `BPF_JMP | BPF_CALL` of linux/bpf.h.
const CALL: u8 = 0x85;
/// Source registers of a call: a helper, and `BPF_PSEUDO_CALL`, a function of the object.
const HELPER: u8 = 0;
const FUNCTION: u8 = 1;

fn object() -> Object {
    Object::parse(OBJECT).expect("the BPF linker's output is an object")
}

/// Returns the numbers that the instructions call in this way.
fn calls(instructions: &[bpf_insn], source: u8) -> BTreeSet<i32> {
    let calls = instructions.iter().filter(|insn| insn.code == CALL && insn.src_reg() == source);
    calls.map(|insn| insn.imm).collect()
}

/// Whether a function is only loaded on 5.18 and later. This holds for programs for fragmented frames, which may use
/// helpers of 5.18.
fn is_for_later_kernels(function: &str) -> bool {
    Variant::ALL.iter().any(|variant| variant.frags && variant.program() == function)
}

#[test]
fn every_helper_that_is_called_is_one_of_linux_5_10() {
    let object = object();
    let functions = object.functions.values().filter(|function| !is_for_later_kernels(&function.name));
    for function in functions {
        let later: Vec<i32> =
            calls(&function.instructions, HELPER).into_iter().filter(|helper| *helper > HELPER_MAX).collect();
        assert!(later.is_empty(), "{} calls helpers that 5.10 does not have: {later:?}", function.name);
    }
}

#[test]
fn every_map_is_of_a_type_of_linux_5_10() {
    for (name, map) in &object().maps {
        assert!(
            map.map_type() <= MAP_TYPE_MAX,
            "{name} is of type {}, which 5.10 does not have",
            map.map_type()
        );
    }
}

#[test]
fn no_program_that_is_attached_calls_a_function_of_the_object() {
    let object = object();
    // The program that renews the lease is small, and only BPF_PROG_TEST_RUN runs it.
    for (name, program) in object.programs.iter().filter(|(name, _)| *name != table::RENEW) {
        let function = &object.functions[&program.function_key()];
        let calls =
            function.instructions.iter().filter(|insn| insn.code == CALL && insn.src_reg() == FUNCTION);
        let count = calls.count();
        assert_eq!(count, 0, "{name} calls functions of the object at {count} places");
    }
}

#[test]
fn the_object_has_calls_to_look_at() {
    let called: BTreeSet<i32> =
        object().functions.values().flat_map(|function| calls(&function.instructions, HELPER)).collect();
    // bpf_map_lookup_elem and bpf_xdp_adjust_tail. No answer is possible without them.
    assert!(called.contains(&1) && called.contains(&65), "{called:?}");
}
