//! Scenes with the load generator: the properties that the benches rely on.
use std::time::Duration;

use dns_xdp_tests::bed::run::Run;
use dns_xdp_tests::competitors::OURS;
use dns_xdp_tests::load::generator::Generator;
use dns_xdp_tests::load::queries::Kind;
use dns_xdp_tests::load::sample;
use dns_xdp_tests::load::window::measure;
use dns_xdp_tests::load::wire::{Counting, Wire};

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_paced_load_is_answered_and_every_answer_is_right() {
    let run = Run::unique().unwrap();
    let mut generator = Generator::load(&run).unwrap();
    let wire = Wire::lay(&run, 0).unwrap();
    generator.attach("receive", &wire.generator, &wire.generator_end.device).unwrap();
    let server = OURS.start(&run, &wire, &mut generator, Counting::WithGenerator).unwrap();
    generator.pace(Some(20_000)).unwrap();
    for kind in Kind::ALL {
        generator.aim(&kind.templates(&wire)).unwrap();
        let window =
            measure(&generator, &wire, &server.workers, kind.expected(), Duration::from_millis(500)).unwrap();
        assert!(window.offered > 1000.0 && window.offered < 22_000.0, "{kind:?}: {window:?}");
        assert!(window.lost() < 0.1 && window.others == 0.0, "{kind:?}: {window:?}");
        let samples = generator.take_samples().unwrap();
        assert!(!samples.is_empty(), "{kind:?}: {window:?}");
        for frame in samples {
            sample::check_ours(kind, &wire, &frame).unwrap();
        }
    }
}
