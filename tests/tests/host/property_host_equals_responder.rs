//! The property: the program's answer, on host code, has the same meaning as the responder's answer to the same
//! message.
use dns_xdp_tests::oracle::frame_oracle::States;
use dns_xdp_tests::oracle::property::PropertyRun;

const CASES: u32 = 20_000;

#[test]
fn host_an_answer_means_what_the_responder_means() {
    let mut run = PropertyRun::new(CASES);
    for (zone, cases) in run.zones() {
        let states = States::of(zone.clone());
        run.hold(&zone, cases, &|frame| states.hold(frame));
    }
    run.judge();
}
