//! The property: the program's answer, in the kernel, has the same meaning as the responder's answer to the same
//! message.
use dns_xdp::datapath::{Unattached, Variant};
use dns_xdp_tests::oracle::frame_oracle::Expected;
use dns_xdp_tests::oracle::kernel;
use dns_xdp_tests::oracle::property::PropertyRun;
use dns_xdp_tests::oracle::table::zone::{COOKIES, LARGE_CAPACITY, PORT, places};

const CASES: u32 = 10_000;

#[test]
#[ignore = "needs root and BPF: cargo xtask test kernel"]
fn kernel_an_answer_means_what_the_responder_means() {
    let mut program = Unattached::load(Variant::ALL[1], &places(), PORT, LARGE_CAPACITY).unwrap();
    program.renew(None, COOKIES.0.into()).unwrap();
    let mut run = PropertyRun::new(CASES);
    for (zone, cases) in run.zones() {
        program.publish(&zone).unwrap();
        run.hold(&zone, cases, &|frame| {
            let (action, after) = kernel::run(&program, frame)?;
            Expected::to(&zone, frame).check(frame, action, &after)
        });
    }
    run.judge();
}
