//! Tests of the findings about the machine, the file, the port and the daemon.
use super::*;

#[test]
fn a_kernel_that_is_too_old_fails_in_the_daemons_words() {
    let old = remarks(|facts| facts.host.kernel = "5.4.0-150".to_owned());
    one(
        &old[..1],
        Severity::Fail,
        "kernel",
        "Linux 5.4 has no BPF link for XDP",
        "install Linux 5.10 or later",
    );
    one(&old[1..], Severity::Warn, "memlock", "memlock", "LimitMEMLOCK");
    let off = remarks(|facts| {
        facts.host.kernel = "5.4.0-150".to_owned();
        facts.setting.as_mut().unwrap().mode = Mode::Off;
    });
    one(&off, Severity::Warn, "memlock", "", "");
}

#[test]
fn a_kernel_that_is_not_tested_is_named_and_a_newer_one_is_a_warning_until_the_program_is_loaded() {
    let on = |kernel: &'static str| move |facts: &mut Facts| facts.host.kernel = kernel.to_owned();
    for tested in ["5.11.0", "6.1.0-50-cloud-amd64", "6.12.1", "6.18.44", "7.3.0"] {
        assert_eq!(remarks(on(tested)), [], "{tested}");
    }
    let untested = "not among the kernels that are tested (5.10, 6.1, 6.12, 6.18, 7.3)";
    assert!(about(&all(on("6.5.0")), "kernel").text.contains(untested));
    assert_eq!(remarks(on("6.5.0")), []);
    one(&remarks(on("7.4.0")), Severity::Warn, "kernel", untested, "dns-xdp status");
    let loaded = remarks(|facts| {
        says(facts, "native", None);
        facts.host.kernel = "7.4.0".to_owned();
    });
    assert_eq!(loaded, []);
    assert_eq!(remarks(on("next")), []);
}

#[test]
fn what_the_machine_lacks_is_told_with_its_remedy() {
    let middling = |facts: &mut Facts| facts.host.kernel = "5.10.0-28-amd64".to_owned();
    one(&remarks(middling), Severity::Warn, "memlock", "before 5.11", "LimitMEMLOCK");
    let unlimited = remarks(|facts| {
        middling(facts);
        let unlimited = Running { pid: 42, unlimited_memory: Some(true), ..Running::default() };
        facts.daemon = Daemon::Running(unlimited);
    });
    assert_eq!(unlimited, []);
    one(&remarks(|facts| facts.host.btf = false), Severity::Warn, "btf", "missing", "CONFIG_DEBUG_INFO_BTF");
    one(&remarks(|facts| facts.host.bpffs = false), Severity::Warn, "bpffs", "/sys/fs/bpf", "mount -t bpf");
    let poor = remarks(|facts| facts.host.lacking = vec!["CAP_BPF"]);
    one(&poor, Severity::Fail, "capabilities", "CAP_BPF", "sudo");
    let unset = remarks(|facts| facts.host.clock_synchronised = Some(false));
    one(&unset, Severity::Warn, "clock", "", "timedatectl");
}

#[test]
fn a_file_that_is_wrong_is_told_and_the_machine_nevertheless() {
    let wrong = remarks(|facts| {
        facts.setting = Err("f:3: unknown key".to_owned());
        facts.host.bpffs = false;
    });
    one(&wrong[..1], Severity::Warn, "bpffs", "", "mount");
    one(&wrong[1..], Severity::Fail, "configuration", "f:3: unknown key", "dns-xdp check");
}

#[test]
fn who_takes_the_port_is_named_and_stopped_by_its_unit_or_its_process() {
    let any = IpAddr::from([0, 0, 0, 0]);
    let taken =
        |address, name: &str| with_setting(|setting| setting.holders = vec![holder(address, 7, name)]);
    let resolved = taken(any, "systemd-resolve");
    one(&resolved, Severity::Fail, "port 53", "systemd-resolve (pid 7)", "DNSStubListener=no");
    one(&taken(OWN, "dnsmasq"), Severity::Fail, "port 53", "bind-interfaces", "kill 7");
    let unit = with_setting(|setting| {
        setting.holders = vec![holder(any, 7, "named")];
        setting.units = BTreeMap::from([(7, "bind9.service".to_owned())]);
    });
    one(&unit, Severity::Fail, "port 53", "named (pid 7)", "systemctl disable --now bind9.service");
    assert_eq!(taken([127, 0, 0, 53].into(), "systemd-resolve"), []);
    let hidden = Holder { protocol: "tcp", address: any, process: None };
    let hidden = with_setting(|setting| setting.holders = vec![hidden]);
    one(&hidden, Severity::Fail, "port 53", "not seen from here", "ss -lunpt");
}

#[test]
fn tcp_that_does_not_come_through_fails_and_rules_alone_are_a_hint() {
    let refused =
        with_setting(|setting| setting.reached = Some(((OWN, 53).into(), Err("refused".to_owned()))));
    one(&refused, Severity::Fail, "tcp 53", "192.0.2.11:53 does not answer: refused", "nft list ruleset");
    let rules = remarks(|facts| facts.host.filters = vec!["nftables"]);
    one(&rules, Severity::Warn, "tcp 53", "nftables has rules", "nft list ruleset");
}

#[test]
fn a_daemon_that_is_not_there_or_raises_an_alarm_is_told() {
    let absent = |unit| {
        remarks(|facts| {
            facts.daemon = Daemon::Absent;
            facts.host.unit = unit;
            let setting = facts.setting.as_mut().unwrap();
            setting.socket = Some("/tmp/s".into());
            setting.holders.clear();
            setting.reached = None;
        })
    };
    one(&absent(true), Severity::Warn, "daemon", "no daemon answers", "systemctl start dns-xdp");
    one(
        &absent(false),
        Severity::Warn,
        "daemon",
        "no daemon answers",
        "dns-xdp --socket /tmp/s run --config f",
    );
    let garbled = remarks(|facts| facts.daemon = Daemon::Garbled("may not use it".to_owned()));
    one(&garbled[garbled.len() - 1..], Severity::Fail, "daemon", "may not use it", "journalctl");
    let alarmed = remarks(|facts| {
        let alarms = vec!["blind".to_owned()];
        facts.daemon = Daemon::Running(Running { pid: 42, alarms, ..Running::default() });
    });
    one(&alarmed, Severity::Warn, "daemon", "blind", "");
}
