//! A change batch of the Route 53 API: the JSON that `change-resource-record-sets` takes.
use serde_json::json;

use super::super::{Delegation, undotted};

/// Returns the change batch. Route 53 applies all of it or nothing. UPSERT makes a set or replaces it.
pub(super) fn change_batch(delegation: &Delegation) -> String {
    let changes = delegation.record_sets().into_iter().map(|set| {
        let records: Vec<_> = set.data.into_iter().map(|data| json!({ "Value": data })).collect();
        json!({
            "Action": "UPSERT",
            "ResourceRecordSet": {
                "Name": set.owner.to_string(),
                "Type": set.rtype.to_string(),
                "TTL": delegation.ttl_seconds,
                "ResourceRecords": records,
            },
        })
    });
    let changes: Vec<_> = changes.collect();
    let comment = format!("the delegation of {}", undotted(&delegation.apex));
    format!("{:#}\n", json!({ "Comment": comment, "Changes": changes }))
}

#[cfg(test)]
mod tests {
    use super::super::super::example;
    use super::*;

    #[test]
    fn each_set_is_one_upsert() {
        let batch: serde_json::Value = serde_json::from_str(&change_batch(&example())).unwrap();
        let set = |name: &str, rtype: &str, values: &[&str]| {
            let records: Vec<_> = values.iter().map(|value| json!({ "Value": value })).collect();
            let set = json!({ "Name": name, "Type": rtype, "TTL": 60, "ResourceRecords": records });
            json!({ "Action": "UPSERT", "ResourceRecordSet": set })
        };
        let expected = json!({
            "Comment": "the delegation of demo.example.com",
            "Changes": [
                set("demo.example.com.", "NS", &["ns1.demo.example.com.", "ns2.demo.example.com."]),
                set("ns1.demo.example.com.", "A", &["192.0.2.11"]),
                set("ns2.demo.example.com.", "A", &["192.0.2.12"]),
                set("ns2.demo.example.com.", "AAAA", &["2001:db8::12"]),
            ],
        });
        assert_eq!(batch, expected);
    }
}
