//! Scenes: interfaces and addresses as machines have them. `cargo xtask test kernels` plays them on other kernels too.
use dns_xdp_tests::bed::guest::play_without_modules;

macro_rules! scenes {
    ($($name:ident: $sentence:literal;)*) => {$(
        #[test]
        #[ignore = "needs root and XDP: cargo xtask test net"]
        fn $name() {
            if let Err(error) = play_without_modules($sentence) {
                panic!("{error:#}");
            }
        }
    )*};
}

scenes! {
    jumbo_frames: "jumbo frames on a veth are native where the driver takes fragments, and else when the MTU falls";
    a_veth_without_a_program_at_the_other_end: "a veth without a program at the other end is generic until there is one";
    a_name_with_a_dot: "an interface with a dot in its name is served and adopted";
    removed_pins: "removed pins are restored";
    pins_made_anew_with_cookies: "pins are restored with the cookies that a reload has switched on, and counters continue";
    cookies_without_a_pin: "cookies are switched on for every interface, even if a link was unpinned";
    a_renamed_interface: "an interface that was renamed after a stop is taken by the next daemon";
    a_foreign_program: "an interface is taken when another program leaves it";
    a_missing_interface: "an interface that is missing is taken when it appears, and the others are served meanwhile";
    addresses_that_come_and_go: "an address that comes is answered by the program, and one that goes is not";
    many_addresses: "sixty addresses of one interface are answered by the program";
    an_address_elsewhere: "a listed address that appears on another interface is answered by the program";
}
