//! Tests that versions can read each other's documents: documents of the previous version, and documents as a later
//! version may write them. Servers of several versions share a store during an upgrade, and a daemon reads the files of
//! an earlier version.
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Server;
use super::continuity::Accepted;
use super::votes::Verdicts;
use crate::intent::Intents;

/// Reads a document of an earlier version, and checks that writing it again keeps all of its fields, because the
/// earlier version reads it. Also checks that a field of a later version does not prevent reading. Returns the document
/// read from the later version.
fn read_and_written<T: Serialize + DeserializeOwned>(earlier: &str) -> Value {
    let read: T = serde_json::from_str(earlier).unwrap();
    let written = serde_json::to_value(&read).unwrap();
    let fields: Value = serde_json::from_str(earlier).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        assert_eq!(written.get(field), Some(value), "{field} of {written}");
    }
    let later = earlier.replacen('{', "{\"of_a_later_version\": {\"more\": [1, null]}, ", 1);
    serde_json::to_value(serde_json::from_str::<T>(&later).unwrap()).unwrap()
}

#[test]
fn what_servers_say_of_themselves_is_read_across_versions() {
    read_and_written::<Server>(
        r#"{"version": "0.1.0", "epoch": 7, "revision": 9, "entries": 5, "digest": "00ff", "quorum": null, "trouble": "blind"}"#,
    );
    let with_identity = r#"{"version": "0.2.0", "epoch": 7, "revision": 9, "entries": 5, "digest": "00ff", "quorum": null,
                            "instance": "a", "place": "web2 (192.0.2.12)"}"#;
    read_and_written::<Server>(with_identity);
    assert_eq!(serde_json::from_str::<Server>("{}").unwrap(), Server::default());
}

#[test]
fn verdicts_are_read_across_versions() {
    read_and_written::<Verdicts>(r#"{"up": ["node1"], "down": ["node2"], "gone": ["node3"]}"#);
}

#[test]
fn acceptances_are_read_across_versions() {
    read_and_written::<Accepted>(r#"{"generation": 2, "cluster": 7, "instead_of": null, "by": "node1"}"#);
}

#[test]
fn intents_are_read_across_versions_and_keep_what_a_later_one_has_written() {
    let earlier = r#"{"admin": "drain", "since": "2026-01-01T00:00:00Z", "reason": "a rack is moved"}"#;
    let later = earlier.replacen('{', r#"{"of_a_later_version": [1], "#, 1);
    let read: Intents =
        serde_json::from_str(&format!(r#"{{"node1": {earlier}, "node2": {later}}}"#)).unwrap();
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(written["node1"]["reason"], "a rack is moved");
    assert_eq!(written["node2"]["of_a_later_version"], serde_json::json!([1]));
}
