//! Tests of the keys of each kind of probe, and of the errors for wrong keys.
use super::super::Config;
use super::*;
use crate::cluster::{Expect, PasswordFile, Probe, Redis, Role, TcpDialogue};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const CLUSTER: &str = r#"[zone]
name = "demo.example.com"
[listen]
interfaces = ["eth0"]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[[node]]
name = "node2"
ipv6 = "2001:db8::12"
"#;

fn config(more: &str) -> Config {
    Config::parse(&format!("{CLUSTER}{more}"), Path::new("f"))
        .unwrap_or_else(|error| panic!("{more}\n{error}"))
}

/// Returns the error, with lines counted from the first line of `more`.
fn refusal(more: &str) -> String {
    let lines = "\n".repeat(CLUSTER.lines().count());
    let error = Config::parse(&format!("{CLUSTER}{more}"), Path::new("f")).expect_err(more).to_string();
    let mut counted = String::new();
    for line in error.lines() {
        let (number, text) = line.strip_prefix("f:").and_then(|line| line.split_once(": ")).unwrap();
        let number: usize = number.parse().unwrap();
        writeln!(counted, "{}: {text}", number - lines.len()).unwrap();
    }
    counted.trim_end().to_owned()
}

fn probe(more: &str, node: usize) -> Probe {
    config(more).cluster.nodes[node].health.probes[0].clone()
}

fn asked(more: &str) -> ProbeKind {
    probe(more, 1).kind
}

fn http(more: &str) -> Http {
    match asked(more) {
        ProbeKind::Http(http) => http,
        other => panic!("{other}"),
    }
}

fn apex() -> Name {
    Name::from_ascii("demo.example.com.").unwrap()
}

#[test]
fn every_kind_has_defaults() {
    let plain =
        Http { port: 80, tls: None, host: None, path: "/".to_owned(), codes: vec![200..=399], body: None };
    assert_eq!(asked("[health]\nprobe = \"http\""), ProbeKind::Http(plain.clone()));
    let https = Http { port: 443, tls: Some(Trust::System), ..plain };
    assert_eq!(asked("[health]\nprobe = \"https\""), ProbeKind::Http(https));
    let redis = Redis { port: 6379, tls: None, host: None, user: None, password: None, role: Role::Any };
    assert_eq!(asked("[health]\nprobe = \"redis\""), ProbeKind::Redis(redis.clone()));
    let over_tls = Redis { tls: Some(Trust::System), ..redis };
    assert_eq!(asked("[health]\nprobe = \"redis\"\ntls = true"), ProbeKind::Redis(over_tls));
    assert_eq!(asked("[health]\nprobe = \"icmp\""), ProbeKind::Icmp);
    assert_eq!(asked("[health]\nprobe = \"dns\""), ProbeKind::Dns(Dns { port: 53, name: apex() }));
    let moved = CLUSTER.replace("[listen]", "[listen]\nport = 5353") + "[health]\nprobe = \"dns\"";
    let moved = Config::parse(&moved, Path::new("f")).unwrap();
    let kind = &moved.cluster.nodes[0].health.probes[0].kind;
    assert_eq!(
        *kind,
        ProbeKind::Dns(Dns { port: 5353, name: apex() }),
        "where the servers themselves listen"
    );
    let exec = Exec { command: vec!["/bin/true".to_owned()], zone: apex() };
    assert_eq!(asked("[health]\nprobe = \"exec\"\ncommand = [\"/bin/true\"]"), ProbeKind::Exec(exec));
}

#[test]
fn every_key_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem()).unwrap();
    let read = http(&format!(
        "[health]\nprobe = \"https\"\nport = 8443\npath = \"/a?b=c\"\nhost = \"DB.example.com\"\n\
         codes = [204, \"300-399\"]\nbody = \"^ok\"\nca = \"{}\"",
        ca.display()
    ));
    let Some(Trust::Authorities(authorities)) = &read.tls else { panic!("{read:?}") };
    assert_eq!((&authorities.path, authorities.certificates.len()), (&ca, 1));
    let expected = Http {
        port: 8443,
        tls: read.tls.clone(),
        host: Some("db.example.com".to_owned()),
        path: "/a?b=c".to_owned(),
        codes: vec![204..=204, 300..=399],
        body: Some(Pattern(Regex::new("^ok").unwrap())),
    };
    assert_eq!(read, expected);
    assert_eq!(http("[health]\nprobe = \"https\"\nverify = false").tls, Some(Trust::Anybody));
    let dns = Dns { port: 5353, name: Name::from_ascii("other.example.").unwrap() };
    assert_eq!(
        asked("[health]\nprobe = \"dns\"\nport = 5353\nname = \"Other.example\""),
        ProbeKind::Dns(dns)
    );
}

/// Makes a file with this text that no other user may read.
fn password_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (directory, path)
}

#[test]
fn every_key_of_redis_and_of_a_tcp_dialogue_is_read() {
    let (_directory, path) = password_file("hunter2\r\nsecond line\n");
    let shown = path.display();
    let read = asked(&format!(
        "[health]\nprobe = \"redis\"\nport = 6380\nuser = \"probe\"\npassword-file = \"{shown}\"\nrole = \"master\"\n\
         tls = true\nhost = \"DB.example.com\"\nverify = false"
    ));
    let expected = Redis {
        port: 6380,
        tls: Some(Trust::Anybody),
        host: Some("db.example.com".to_owned()),
        user: Some("probe".to_owned()),
        password: Some(PasswordFile { path: path.clone(), password: "hunter2".to_owned() }),
        role: Role::Master,
    };
    assert_eq!(read, ProbeKind::Redis(expected.clone()));
    let on_top = format!(
        "[node.health]\nuser = \"other\"\ntls = false\n[health]\nprobe = \"redis\"\nport = 6380\n\
         password-file = \"{shown}\"\nrole = \"master\"\ntls = true\nhost = \"db\"\nverify = false"
    );
    let other = Some("other".to_owned());
    assert_eq!(asked(&on_top), ProbeKind::Redis(Redis { tls: None, host: None, user: other, ..expected }));

    let tcp = |more: &str| asked(&format!("[health]\nport = 25\n{more}"));
    let (send, expect) = (Some("PING\r\n".to_owned()), Expect::Text("+PONG".to_owned()));
    let dialogue = TcpDialogue { port: 25, send, expect };
    assert_eq!(tcp("send = \"PING\\r\\n\"\nexpect = \"+PONG\""), ProbeKind::TcpDialogue(dialogue.clone()));
    let expect = Expect::Pattern(Pattern(Regex::new("^220 ").unwrap()));
    let greeting = TcpDialogue { send: None, expect: expect.clone(), ..dialogue.clone() };
    assert_eq!(tcp("expect-regex = \"^220 \""), ProbeKind::TcpDialogue(greeting));
    let on_top =
        "[node.health]\nexpect-regex = \"^220 \"\n[health]\nport = 25\nsend = \"PING\\r\\n\"\nexpect = \"x\"";
    assert_eq!(asked(on_top), ProbeKind::TcpDialogue(TcpDialogue { expect, ..dialogue }));
}

#[test]
fn what_of_redis_and_of_a_tcp_dialogue_has_no_effect_is_refused() {
    let (_directory, path) = password_file("\nhunter2\n");
    let redis = |more: &str| refusal(&format!("[health]\nprobe = \"redis\"\n{more}"));
    let password = |text: &[u8]| {
        fs::write(&path, text).unwrap();
        let said = redis(&format!("password-file = \"{}\"", path.display()));
        assert!(!said.contains("hunter2"), "{said}");
        said.replace(&path.display().to_string(), "F")
    };
    assert_eq!(
        password(b"\nhunter2\n"),
        "3: `password-file` is F, whose first line is empty; write the password into it"
    );
    assert_eq!(password(b"hunter2\xff"), "3: `password-file` is F, which is no text in UTF-8");
    assert_eq!(
        password(&[b'x'; 1025]),
        "3: `password-file` is F, which has more than 1024 octets; write one line with the password"
    );
    assert_eq!(
        redis("password-file = \"/nonexistent/p\"\nuser = \"a\""),
        "3: `password-file` is /nonexistent/p, which cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        redis("user = \"a\""),
        "3: `user` has no effect without `password-file`; write that, or remove it"
    );
    assert_eq!(
        redis("ca = \"/x\"\nverify = true\nhost = \"db\"\ntls = false"),
        "3: `ca` has no effect without `tls = true`; write that, or remove it\n\
         5: `host` has no effect without `tls = true`; write that, or remove it"
    );
    assert_eq!(
        redis("role = \"mastr\""),
        "3: `role` is `mastr`; did you mean \"master\"? There is \"any\", \"master\""
    );
    assert_eq!(
        redis("pasword-file = \"/x\""),
        "3: unknown key `pasword-file`; did you mean `password-file`?"
    );
    let tcp = |more: &str| refusal(&format!("[health]\n{more}"));
    assert_eq!(
        tcp("send = \"PING\""),
        "2: `send` has no effect without `expect` or `expect-regex`; write that, or remove it"
    );
    assert_eq!(
        tcp("expect = \"a\"\nexpect-regex = \"b\""),
        "3: `expect-regex` is beside `expect`; remove one of them"
    );
    assert_eq!(
        tcp("expect = \"\""),
        "2: `expect` is empty; write a text such as \"PING\\r\\n\", or leave it out"
    );
    assert_eq!(
        tcp("probe = \"http\"\nsend = \"x\""),
        "3: `send` is for probe = \"tcp\", and this one is \"http\"; remove it"
    );
}

#[test]
fn a_password_that_everybody_may_read_is_a_warning() {
    let (_directory, path) = password_file("hunter2");
    let text = format!("[health]\nprobe = \"redis\"\npassword-file = \"{}\"", path.display());
    let warned = || {
        let warnings = config(&text).warnings();
        warnings.into_iter().filter(|warning| warning.contains("password")).collect::<Vec<_>>()
    };
    assert_eq!(warned(), [""; 0]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = path.display();
    assert_eq!(warned(), [format!("every user may read the password in {shown}: chmod o= {shown}")]);
}

#[test]
fn a_password_that_the_owner_of_the_file_cannot_read_is_a_warning() {
    if !nix::unistd::geteuid().is_root() {
        // Only root may change a file's owner.
        return;
    }
    let (directory, password) = password_file("hunter2");
    let file = directory.path().join("dns-xdp.toml");
    let text = format!("{CLUSTER}[health]\nprobe = \"redis\"\npassword-file = \"{}\"\n", password.display());
    fs::write(&file, text).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let warned = || {
        let warnings = Config::load(&file).unwrap().warnings();
        warnings.into_iter().filter(|warning| warning.contains("password")).collect::<Vec<_>>()
    };
    assert_eq!(warned(), [""; 0]);
    std::os::unix::fs::chown(&file, Some(65_534), Some(65_534)).unwrap();
    let [warning] = &warned()[..] else { panic!("{:?}", warned()) };
    let (file_shown, shown) = (file.display(), password.display());
    assert!(warning.contains(&format!("chown --reference={file_shown} {shown}")), "{warning}");
    std::os::unix::fs::chown(&password, None, Some(65_534)).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(warned(), [""; 0]);
}

#[test]
fn a_file_that_may_not_be_read_says_whose_it_has_to_be() {
    let told = super::super::unreadable(&std::io::ErrorKind::PermissionDenied.into());
    assert!(told.contains("the user that the daemon runs as") && told.contains("0600"), "{told}");
    assert!(!super::super::unreadable(&std::io::ErrorKind::NotFound.into()).contains("0600"));
}

#[test]
fn a_changed_password_is_another_configuration_of_the_same_epoch() {
    let (_directory, path) = password_file("hunter2");
    let text = format!("[health]\nprobe = \"redis\"\npassword-file = \"{}\"", path.display());
    let before = config(&text);
    assert_eq!(before, config(&text));
    fs::write(&path, "hunter3").unwrap();
    let after = config(&text);
    assert_ne!(before, after);
    assert_eq!(before.epoch(), after.epoch());
}

#[test]
fn a_section_on_top_says_only_what_is_different_unless_its_kind_is_another() {
    let same = http("[node.health]\npath = \"/own\"\n[health]\nprobe = \"http\"\nport = 8080\nhost = \"db\"");
    assert_eq!((same.port, same.host.as_deref(), same.path.as_str()), (8080, Some("db"), "/own"));
    let other =
        http("[node.health]\nprobe = \"https\"\n[health]\nprobe = \"http\"\nport = 8080\nhost = \"db\"");
    assert_eq!((other.port, other.host), (443, None));
    let trusting = "[health]\nprobe = \"https\"\nverify = false\n";
    assert_eq!(http(&format!("[node.health]\nverify = true\n{trusting}")).tls, Some(Trust::System));
    assert_eq!(http(&format!("[node.health]\npath = \"/x\"\n{trusting}")).tls, Some(Trust::Anybody));
    let several =
        config("[[health.probes]]\nprobe = \"icmp\"\n[[health.probes]]\nprobe = \"dns\"\n[[health.probes]]");
    let kinds = several.cluster.nodes[0].health.probes.iter().map(|probe| probe.kind.text());
    assert_eq!(kinds.collect::<Vec<_>>(), ["icmp", "dns", "tcp"]);
}

#[test]
fn another_address_than_the_nodes_is_asked_when_one_is_given() {
    let elsewhere = |written: &str, address: &str| {
        Some(Elsewhere { written: written.to_owned(), address: address.parse().unwrap() })
    };
    let by_name = "[node.health]\ntarget = \"localhost\"\n[health]\ntarget = \"192.0.2.1\"";
    assert_eq!(probe(by_name, 0).target, elsewhere("192.0.2.1", "192.0.2.1"));
    assert_eq!(probe(by_name, 1).target, elsewhere("localhost", "127.0.0.1"));
    let said = refusal("[health]\ntarget = \"nobody.invalid\"");
    assert!(said.starts_with("2: `target` is `nobody.invalid`, which resolves to nothing ("), "{said}");
    assert!(said.ends_with("; write the address"), "{said}");
    assert_eq!(
        refusal("[health]\ntarget = \"224.0.0.1\""),
        "2: `target` is 224.0.0.1, a multicast address; write an address such as \"192.0.2.11\" or \"2001:db8::11\""
    );
}

#[test]
fn a_key_of_another_kind_is_refused_by_name() {
    assert_eq!(
        refusal("[health]\nprobe = \"tcp\"\npath = \"/\"\nverify = false"),
        "3: `path` is for probe = \"http\" or \"https\", and this one is \"tcp\"; remove it\n\
         4: `verify` is for probe = \"https\" or \"redis\", and this one is \"tcp\"; remove it"
    );
    assert_eq!(
        refusal("[health]\nprobe = \"icmp\"\nport = 1"),
        "3: `port` is for probe = \"tcp\" or \"redis\" or \"http\" or \"https\" or \"dns\", and this one is \"icmp\"; remove it"
    );
    assert_eq!(
        refusal("[[health.probes]]\nprobe = \"http\"\ncommand = [\"/bin/true\"]"),
        "3: `command` is for probe = \"exec\", and this one is \"http\"; remove it"
    );
    assert_eq!(
        refusal("[health]\nprobe = \"http\"\npth = \"/\""),
        "3: unknown key `pth`; did you mean `path`?"
    );
    let wrong_kind = refusal("[health]\nprobe = \"htps\"\nverify = false");
    assert_eq!(wrong_kind.lines().count(), 1, "{wrong_kind}");
}

#[test]
fn a_wrong_value_is_refused_with_its_line() {
    let cases = [
        ("http", "path = \"health\"", "`path` is `health`; write a path such as \"/health\""),
        ("http", "path = \"/a b\"", "`path` is `/a b`; write a path such as \"/health\""),
        ("http", "path = \"/#a\"", "`path` is `/#a`; write a path such as \"/health\""),
        ("http", "codes = []", "`codes` is empty; write codes = [200, \"300-399\"]"),
        ("http", "codes = [99]", "`codes` is 99; write a number from 100 to 599"),
        (
            "http",
            "codes = [\"299-200\"]",
            "`codes` is `299-200`; write codes such as 200 or \"200-299\", from 100 to 599",
        ),
        (
            "http",
            "codes = [\"2xx\"]",
            "`codes` is `2xx`; write codes such as 200 or \"200-299\", from 100 to 599",
        ),
        ("http", "body = \"(ok\"", "`body` is `(ok`, which is no regular expression: unclosed group"),
        (
            "http",
            "body = \"\"",
            "`body` is empty, which matches every text; write a pattern, or leave it out",
        ),
        (
            "https",
            "host = \"a_b\"",
            "`host` is `a_b`, which is no host name; use letters, digits and inner hyphens, at most 63 to a label",
        ),
        ("https", "ca = \"ca.pem\"", "`ca` is `ca.pem`; write the whole path, from /"),
        (
            "https",
            "ca = \"/nonexistent/ca.pem\"",
            "`ca` is /nonexistent/ca.pem, which cannot be read: No such file or directory (os error 2)",
        ),
        (
            "https",
            "ca = \"/etc/passwd\"",
            "`ca` is /etc/passwd, in which there is no certificate; it has to be in the PEM format",
        ),
        ("https", "verify = \"no\"", "`verify` has the type string; write true or false"),
        (
            "exec",
            "command = []",
            "`command` is empty; write command = [\"/usr/local/bin/probe\", \"argument\"]",
        ),
        ("exec", "command = \"/bin/true\"", "`command` is a list; write it in brackets: [\"…\"]"),
        (
            "exec",
            "command = [\"true\"]",
            "`command` begins with `true`; write the whole path of the program, from /",
        ),
        (
            "exec",
            "command = [\"/nonexistent\"]",
            "`command` begins with /nonexistent, which cannot be run: No such file or directory (os error 2)",
        ),
        (
            "exec",
            "command = [\"/etc/passwd\"]",
            "`command` begins with /etc/passwd, which is not executable; `chmod +x` it",
        ),
        ("exec", "command = [\"/bin\"]", "`command` begins with /bin, which is no file"),
        (
            "exec",
            "command = [\"/bin/true\", \"\\u0000\"]",
            "`command` has a NUL in it, which no program takes; remove it",
        ),
        (
            "dns",
            "name = \"a_b\"",
            "`name` is `a_b`, which is no host name; use letters, digits and inner hyphens, at most 63 to a label",
        ),
    ];
    for (kind, line, said) in cases {
        let own = refusal(&format!("[health]\nprobe = \"{kind}\"\n{line}"));
        assert_eq!(own, format!("3: {said}"), "{line}");
    }
    assert_eq!(
        refusal("[health]\nprobe = \"exec\""),
        "1: [health] has no `command`; write command = [\"/usr/local/bin/probe\", \"argument\"]"
    );
}

#[test]
fn a_file_of_authorities_has_to_hold_good_ones() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    let said = |pem: &str| {
        fs::write(&ca, pem).unwrap();
        let said = refusal(&format!("[health]\nprobe = \"https\"\nca = \"{}\"", ca.display()));
        said.replace(&ca.display().to_string(), "CA")
    };
    let garbled = said("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(garbled.starts_with("3: `ca` is CA, whose certificate 1 is invalid: "), "{garbled}");
    let cut = said("-----BEGIN CERTIFICATE-----\nAAAA\n");
    assert!(cut.starts_with("3: `ca` is CA, which is no PEM file: "), "{cut}");
    let authority = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem();
    fs::write(&ca, &authority).unwrap();
    let both = refusal(&format!("[health]\nprobe = \"https\"\nca = \"{}\"\nverify = false", ca.display()));
    assert_eq!(both, "3: `ca` has no effect with verify = false; remove one of them");
}

#[test]
fn what_is_asked_is_part_of_the_epoch() {
    let mut epochs = vec![config("").epoch()];
    for more in [
        "[health]\nexpect = \"x\"",
        "[health]\nexpect-regex = \"x\"",
        "[health]\nexpect = \"x\"\nsend = \"y\"",
        "[health]\nprobe = \"redis\"",
        "[health]\nprobe = \"redis\"\nrole = \"master\"",
        "[health]\nprobe = \"redis\"\ntls = true",
        "[health]\nprobe = \"redis\"\ntls = true\nverify = false",
        "[health]\nprobe = \"redis\"\ntls = true\nhost = \"db\"",
        "[health]\nprobe = \"redis\"\npassword-file = \"/etc/hostname\"",
        "[health]\nprobe = \"redis\"\npassword-file = \"/etc/hostname\"\nuser = \"x\"",
        "[health]\nprobe = \"icmp\"",
        "[health]\nprobe = \"dns\"",
        "[health]\nprobe = \"dns\"\nname = \"example.\"",
        "[health]\nprobe = \"http\"",
        "[health]\nprobe = \"http\"\npath = \"/x\"",
        "[health]\nprobe = \"http\"\nhost = \"db\"",
        "[health]\nprobe = \"http\"\nbody = \"x\"",
        "[health]\nprobe = \"http\"\ncodes = [200]",
        "[health]\nprobe = \"https\"",
        "[health]\nprobe = \"https\"\nverify = false",
        "[health]\nprobe = \"exec\"\ncommand = [\"/bin/true\", \"x\", \"y\"]",
        "[health]\nprobe = \"exec\"\ncommand = [\"/bin/true\", \"x y\"]",
        "[health]\ntarget = \"192.0.2.1\"",
    ] {
        let epoch = config(more).epoch();
        assert!(!epochs.contains(&epoch), "{more}");
        epochs.push(epoch);
    }
    let written_out = "[health]\nprobe = \"http\"\nport = 80\npath = \"/\"\ncodes = [\"200-399\"]";
    assert!(epochs.contains(&config(written_out).epoch()));
}
