//! The path of a query in the kernel, over packets of the tests'.
use dns_xdp::datapath::Unattached;
use dns_xdp_ebpf::outcome::Action;

/// What became of a packet, and the packet afterwards.
///
/// # Errors
/// The kernel does not run it, or the program returned what is no action of ours.
pub fn run(program: &Unattached, frame: &[u8]) -> Result<(Action, Vec<u8>), String> {
    let (action, after) = program.run(frame).map_err(|error| format!("{error:?}"))?;
    // enum xdp_action of linux/bpf.h.
    let action = match action {
        1 => Action::Drop,
        2 => Action::Pass,
        3 => Action::Transmit,
        _ => return Err(format!("the program returned {action}")),
    };
    Ok((action, after))
}
