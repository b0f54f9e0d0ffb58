//! Scripts that change the parent zone, for a shell or for `nsupdate`. Running a script twice does no harm.
use std::fmt::Write as _;

use hickory_proto::rr::RecordType;

use super::super::{Delegation, undotted};
use super::terraform::relative;

/// Returns a script of `gcloud dns record-sets`. That tool makes a set with one verb and replaces it with another.
pub(super) fn gcloud(delegation: &Delegation) -> String {
    let parent = undotted(&delegation.parent);
    let mut text = format!(
        "#!/bin/sh\n\
         # the delegation of {apex}: makes these record sets, or replaces them\n\
         set -eu\n\
         : \"${{MANAGED_ZONE:?set it to the name of the managed zone of {parent}}}\"\n\
         put() {{\n\
         \x20 verb=update\n\
         \x20 gcloud dns record-sets describe \"$1\" --type=\"$2\" --zone=\"$MANAGED_ZONE\" >/dev/null 2>&1 || verb=create\n\
         \x20 gcloud dns record-sets \"$verb\" \"$1\" --type=\"$2\" --zone=\"$MANAGED_ZONE\" --ttl={ttl} --rrdatas=\"$3\"\n\
         }}\n",
        apex = undotted(&delegation.apex),
        ttl = delegation.ttl_seconds,
    );
    for set in delegation.glue_first() {
        line(&mut text, &format!("put {} {} {}", set.owner, set.rtype, set.data.join(",")));
    }
    text
}

/// Returns a script of `az network dns record-set`. Its `create` replaces a set by an empty one.
pub(super) fn azure(delegation: &Delegation) -> String {
    let parent = undotted(&delegation.parent);
    let mut text = format!(
        "#!/bin/sh\n\
         # the delegation of {apex}: replaces these record sets; each is empty until its records are added\n\
         set -eu\n\
         : \"${{RESOURCE_GROUP:?set it to the resource group of the zone {parent}}}\"\n\
         in_zone=\"--resource-group $RESOURCE_GROUP --zone-name {parent}\"\n",
        apex = undotted(&delegation.apex),
    );
    for set in delegation.glue_first() {
        let (rtype, field) = match set.rtype {
            RecordType::NS => ("ns", "nsdname"),
            RecordType::A => ("a", "ipv4-address"),
            _ => ("aaaa", "ipv6-address"),
        };
        let name = relative(&set.owner, &delegation.parent);
        let verb = |verb: &str| format!("az network dns record-set {rtype} {verb} $in_zone");
        line(&mut text, &format!("{} --name {name} --ttl {}", verb("create"), delegation.ttl_seconds));
        for data in set.data {
            line(&mut text, &format!("{} --record-set-name {name} --{field} {data}", verb("add-record")));
        }
    }
    text
}

/// Returns one update message (RFC 2136). The server applies all of it or nothing.
pub(super) fn nsupdate(delegation: &Delegation) -> String {
    let mut text = format!(
        "; the delegation of {}; delete the glue of removed servers by hand\n\
         zone {}\n\
         update delete {} NS\n",
        undotted(&delegation.apex),
        delegation.parent,
        delegation.apex
    );
    for server in &delegation.name_servers {
        for rtype in [RecordType::A, RecordType::AAAA] {
            line(&mut text, &format!("update delete {} {rtype}", server.name));
        }
    }
    for set in delegation.record_sets() {
        for data in set.data {
            let (owner, ttl, rtype) = (&set.owner, delegation.ttl_seconds, set.rtype);
            line(&mut text, &format!("update add {owner} {ttl} {rtype} {data}"));
        }
    }
    text + "send\n"
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes every line");
}

#[cfg(test)]
mod tests {
    use super::super::super::example;
    use super::*;

    #[test]
    fn gcloud_gets_the_glue_before_the_servers_are_named() {
        let expected = r#"#!/bin/sh
# the delegation of demo.example.com: makes these record sets, or replaces them
set -eu
: "${MANAGED_ZONE:?set it to the name of the managed zone of example.com}"
put() {
  verb=update
  gcloud dns record-sets describe "$1" --type="$2" --zone="$MANAGED_ZONE" >/dev/null 2>&1 || verb=create
  gcloud dns record-sets "$verb" "$1" --type="$2" --zone="$MANAGED_ZONE" --ttl=60 --rrdatas="$3"
}
put ns1.demo.example.com. A 192.0.2.11
put ns2.demo.example.com. A 192.0.2.12
put ns2.demo.example.com. AAAA 2001:db8::12
put demo.example.com. NS ns1.demo.example.com.,ns2.demo.example.com.
"#;
        assert_eq!(gcloud(&example()), expected);
    }

    #[test]
    fn azure_gets_names_relative_to_the_zone() {
        let expected = r#"#!/bin/sh
# the delegation of demo.example.com: replaces these record sets; each is empty until its records are added
set -eu
: "${RESOURCE_GROUP:?set it to the resource group of the zone example.com}"
in_zone="--resource-group $RESOURCE_GROUP --zone-name example.com"
az network dns record-set a create $in_zone --name ns1.demo --ttl 60
az network dns record-set a add-record $in_zone --record-set-name ns1.demo --ipv4-address 192.0.2.11
az network dns record-set a create $in_zone --name ns2.demo --ttl 60
az network dns record-set a add-record $in_zone --record-set-name ns2.demo --ipv4-address 192.0.2.12
az network dns record-set aaaa create $in_zone --name ns2.demo --ttl 60
az network dns record-set aaaa add-record $in_zone --record-set-name ns2.demo --ipv6-address 2001:db8::12
az network dns record-set ns create $in_zone --name demo --ttl 60
az network dns record-set ns add-record $in_zone --record-set-name demo --nsdname ns1.demo.example.com.
az network dns record-set ns add-record $in_zone --record-set-name demo --nsdname ns2.demo.example.com.
"#;
        assert_eq!(azure(&example()), expected);
    }

    #[test]
    fn nsupdate_deletes_the_old_sets_and_adds_the_new() {
        let expected = "\
; the delegation of demo.example.com; delete the glue of removed servers by hand
zone example.com.
update delete demo.example.com. NS
update delete ns1.demo.example.com. A
update delete ns1.demo.example.com. AAAA
update delete ns2.demo.example.com. A
update delete ns2.demo.example.com. AAAA
update add demo.example.com. 60 NS ns1.demo.example.com.
update add demo.example.com. 60 NS ns2.demo.example.com.
update add ns1.demo.example.com. 60 A 192.0.2.11
update add ns2.demo.example.com. 60 A 192.0.2.12
update add ns2.demo.example.com. 60 AAAA 2001:db8::12
send
";
        assert_eq!(nsupdate(&example()), expected);
    }
}
