//! The property: the program's answer, in the kernel, has the same meaning as the responder's answer to the same
//! message.
use dns_xdp::datapath::{Unattached, Variant};
use dns_xdp::program_features::ProgramFeatures;
use dns_xdp_ebpf::table::FloodPolicy;
use dns_xdp_tests::oracle::frame_oracle::Expected;
use dns_xdp_tests::oracle::kernel;
use dns_xdp_tests::oracle::property::PropertyRun;
use dns_xdp_tests::oracle::table::zone::{COOKIES, LARGE_CAPACITY, PORT, places};

const CASES: u32 = 10_000;

/// Every variant answers each query about a zone whose features it has.
#[test]
#[ignore = "needs root and BPF: cargo xtask test kernel"]
fn kernel_an_answer_means_what_the_responder_means() {
    let mut programs = Variant::ALL.map(|variant| {
        let mut program = Unattached::load(variant, &places(), PORT, LARGE_CAPACITY).unwrap();
        program.renew(None, COOKIES.0.into()).unwrap();
        (variant, program)
    });
    let mut run = PropertyRun::new(CASES);
    for (zone, cases) in run.zones() {
        // A program with cookies and limits leaves wildcards to the responder.
        let zone = if zone.has_wildcard() { zone.guarded(FloodPolicy::NONE) } else { zone };
        for (_, program) in &mut programs {
            program.publish(&zone).unwrap();
        }
        let needed = ProgramFeatures::of(&zone);
        run.hold(&zone, cases, &|frame| {
            let expected = Expected::to(&zone, frame);
            let mut kind = None;
            for (variant, program) in programs.iter().filter(|(variant, _)| variant.features.cover(needed)) {
                let (action, after) = kernel::run(program, frame)?;
                let checked = expected.check(frame, action, &after);
                kind = Some(checked.map_err(|error| format!("{variant}: {error}"))?);
            }
            kind.ok_or_else(|| "no variant is for this zone".to_owned())
        });
    }
    run.judge();
}
