//! Tests of `[[key]]` and `[update]`.
use std::path::Path;

use super::super::Config;
use super::super::shared::{Documents, split};

const FILE: &str = r#"[zone]
name = "demo.example.com"
[listen]
interfaces = ["eth0"]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[[service]]
name = "db.apps"
nodes = ["node1"]
"#;
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const GRANT: &str = "[[key.grant]]\nnames = [\"_acme-challenge.*\"]\ntypes = [\"TXT\"]\n";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(&format!("{FILE}{text}"), Path::new("f")).map_err(|error| error.to_string())
}

fn key(name: &str) -> String {
    format!("[[key]]\nname = \"{name}\"\nsecret = \"{SECRET}\"\n")
}

#[test]
fn a_key_has_the_usual_algorithm_and_limits() {
    let config = parse(&format!("{}{GRANT}", key("Certbot"))).unwrap();
    let [key] = &config.updates.keys[..] else { panic!("one key") };
    assert_eq!((key.name.to_string().as_str(), key.algorithm.text()), ("certbot.", "hmac-sha256"));
    let [grant] = &key.grants[..] else { panic!("one grant") };
    assert_eq!((grant.records_max, grant.ttl_max_seconds), (100, 604_800));
    assert!(!format!("{config:?}").contains(SECRET));
    assert_eq!(config.why_no_updates(), None, "it is the only server");
    assert_eq!(parse("").unwrap().updates, super::Updates::default());
}

#[test]
fn a_secret_may_be_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    let text = |path: &Path| format!("[[key]]\nname = \"a\"\nsecret-file = \"{}\"\n{GRANT}", path.display());
    assert_eq!(parse(&text(file.path())).unwrap().updates.keys[0].secret.octets().len(), 32);
    std::fs::write(file.path(), "short").unwrap();
    let error = parse(&text(file.path())).unwrap_err();
    assert!(error.contains("f:13: `secret-file` is /") && !error.contains("short"), "{error}");
    assert!(parse(&text(Path::new("/nowhere"))).unwrap_err().contains("cannot be read"));
}

#[test]
fn what_no_key_can_be_is_refused_with_its_line() {
    // The first line of the keys is line 11.
    let with = |line: &str| format!("{}{line}\n{GRANT}", key("a"));
    let grant = |names: &str, types: &str, more: &str| {
        format!("{}[[key.grant]]\nnames = [{names}]\ntypes = [{types}]\n{more}", key("a"))
    };
    let cases = [
        (
            format!("[[key]]\nname = \"a\"\nsecret = \"no secret\"\n{GRANT}"),
            "f:13: `secret` is not Base64; write what",
        ),
        (format!("[[key]]\nname = \"a\"\nsecret = \"c2hvcnQ=\"\n{GRANT}"), "f:13: `secret` has 5 octets"),
        (
            format!("[[key]]\nname = \"a\"\n{GRANT}"),
            "f:11: [[key]] has no `secret`; write what `dns-xdp key generate",
        ),
        (format!("[[key]]\nsecret = \"{SECRET}\"\n{GRANT}"), "f:11: [[key]] has no `name`"),
        (with("secret-file = \"/x\""), "f:14: "),
        (with("algorithm = \"hmac-md5\""), "f:14: `algorithm` is `hmac-md5`, which is too weak"),
        (with("algorithm = \"hmac-sha265\""), "did you mean \"hmac-sha256\"?"),
        (with("algoritm = \"hmac-sha256\""), "did you mean `algorithm`?"),
        (key("a"), "f:11: [[key]] has no grant, so it may write nothing; write a [[key.grant]]"),
        (
            format!("{}{GRANT}{}{GRANT}", key("a"), key("A.")),
            "f:18: `name` is `a.`, which another [[key]] has",
        ),
        (grant("\"a*\"", "\"TXT\"", ""), "f:15: `names` has `a*`, which has `*` within a label"),
        (grant("\"x.example.org.\"", "\"TXT\"", ""), "f:15: `names` has `x.example.org.`, which is outside"),
        (grant("", "\"TXT\"", ""), "f:15: `names` is empty"),
        (grant("\"x\"", "\"SOA\"", ""), "f:16: `types` is `SOA`: the zone makes its SOA record"),
        (grant("\"x\"", "\"NS\"", ""), "f:16: `types` is `NS`"),
        (grant("\"x\"", "\"TXTT\"", ""), "did you mean \"TXT\"?"),
        (grant("\"x\"", "\"TXT\"", "records = 0\n"), "f:17: `records` is 0; write a number from 1 to 10000"),
        (grant("\"x\"", "\"TXT\"", "ttl-max = \"8d\"\n"), "f:17: `ttl-max` is 8d; write at most \"7days\""),
        (grant("\"*\"", "\"A\"", ""), "f:15: `names` has `*`, which covers"),
        (grant("\"*.apps\"", "\"AAAA\"", ""), "which covers the service `db.apps`"),
        (grant("\"node1\"", "\"CNAME\"", ""), "which covers the node `node1`"),
        (grant("\"ns1.*\"", "\"A\"", ""), "which covers the name server `ns1`"),
        ("[update]\nlocal = true\n".to_owned(), "f:12: `local` has no effect without a [[key]]"),
    ];
    for (text, part) in cases {
        let error = parse(&text).expect_err(&text);
        assert!(error.contains(part), "{text}: {error}");
        assert!(!error.contains(SECRET), "{error}");
    }
    for accepted in [grant("\"*\"", "\"TXT\"", ""), grant("\"*.dyn\"", "\"A\", \"TYPE1234\"", "")] {
        parse(&accepted).unwrap();
    }
}

#[test]
fn several_servers_without_a_store_take_no_updates_unless_it_is_wanted() {
    let second = "[[node]]\nname = \"node2\"\nipv4 = \"192.0.2.12\"\n[[node]]\nname = \"node3\"\nipv4 = \"192.0.2.13\"\n";
    let text = format!("{second}{}{GRANT}", key("a"));
    let refused = parse(&text).unwrap();
    let reason = refused.why_no_updates().unwrap();
    assert!(
        reason.starts_with("3 name servers have this zone") && reason.contains("local = true"),
        "{reason}"
    );
    assert!(refused.warnings().iter().any(|warning| warning.contains("updates are refused")));
    let wanted = parse(&format!("{text}[update]\nlocal = true\n")).unwrap();
    assert_eq!(wanted.why_no_updates(), None);
    assert!(!wanted.warnings().iter().any(|warning| warning.contains("updates")));
}

#[test]
fn keys_are_local_and_documents_of_the_store_are_not_refused_for_them() {
    let text = format!("{FILE}{}[[key.grant]]\nnames = [\"*.apps\"]\ntypes = [\"A\"]\n", key("a"));
    let (local, shared) = split(&text).unwrap();
    assert!(local.contains(SECRET) && !shared.values().any(|text| text.contains(SECRET)));
    let store = "[cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n";
    let documents = Documents { texts: shared, ..Documents::default() };
    let config = Config::parse_with(&(local + store), Path::new("f"), &documents).unwrap();
    assert!(config.warnings().iter().any(|warning| warning.contains("covers the service `db.apps`")));
    assert_eq!(config.why_no_updates(), None);
}

#[test]
fn no_difference_shows_a_secret() {
    let other = SECRET.replace("AAEC", "BBEC");
    let file = |secret: &str| format!("{FILE}[[key]]\nname = \"a\"\nsecret = \"{secret}\"\n{GRANT}");
    let lines = [
        super::super::differences(FILE, &file(SECRET)),
        super::super::differences(&file(SECRET), &file(&other)),
        super::super::differences(&file(SECRET), FILE),
    ]
    .concat();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("key a added: "), "{lines:?}");
    assert_eq!(lines[1..], ["key a secret: changed", "key a removed"]);
    assert!(!lines.iter().any(|line| line.contains("ECAwQ")), "{lines:?}");
}
