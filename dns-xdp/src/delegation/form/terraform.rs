//! Terraform files for three providers. Resources have stable names; the zone's identity is a variable.
use std::fmt::Write as _;

use hickory_proto::rr::{Name, RecordType};

use super::super::{Delegation, RecordSet, undotted};

/// Returns `aws_route53_record` resources. The provider strips final dots from owners, so owners have none.
pub(super) fn aws(delegation: &Delegation) -> String {
    let variable = variable("zone_id", "id of the hosted zone", delegation);
    file(delegation, &variable, |set| Resource {
        kind: "aws_route53_record",
        arguments: vec![
            ("zone_id", "var.zone_id".to_owned()),
            ("name", quoted(&undotted(&set.owner))),
            ("type", quoted(&set.rtype.to_string())),
            ("ttl", delegation.ttl_seconds.to_string()),
            ("records", list(&set.data)),
        ],
    })
}

/// Returns `google_dns_record_set` resources, which need final dots.
pub(super) fn google(delegation: &Delegation) -> String {
    let variable = variable("managed_zone", "name of the managed zone", delegation);
    file(delegation, &variable, |set| Resource {
        kind: "google_dns_record_set",
        arguments: vec![
            ("managed_zone", "var.managed_zone".to_owned()),
            ("name", quoted(&set.owner.to_string())),
            ("type", quoted(&set.rtype.to_string())),
            ("ttl", delegation.ttl_seconds.to_string()),
            ("rrdatas", list(&set.data)),
        ],
    })
}

/// Returns `azurerm` resources. Each record type has its own kind of resource. Owners are relative to the zone.
pub(super) fn azurerm(delegation: &Delegation) -> String {
    let variable = variable("resource_group_name", "resource group of the zone", delegation);
    file(delegation, &variable, |set| Resource {
        kind: match set.rtype {
            RecordType::NS => "azurerm_dns_ns_record",
            RecordType::A => "azurerm_dns_a_record",
            _ => "azurerm_dns_aaaa_record",
        },
        arguments: vec![
            ("resource_group_name", "var.resource_group_name".to_owned()),
            ("zone_name", quoted(&undotted(&delegation.parent))),
            ("name", quoted(&relative(&set.owner, &delegation.parent))),
            ("ttl", delegation.ttl_seconds.to_string()),
            ("records", list(&set.data)),
        ],
    })
}

/// Returns the labels before the parent's.
pub(super) fn relative(owner: &Name, parent: &Name) -> String {
    let (owner, parent) = (undotted(owner), undotted(parent));
    owner.strip_suffix(&format!(".{parent}")).map_or_else(|| owner.clone(), str::to_owned)
}

struct Resource {
    kind: &'static str,
    arguments: Vec<(&'static str, String)>,
}

fn variable(name: &str, what: &str, delegation: &Delegation) -> String {
    let description = quoted(&format!("{what} {}", undotted(&delegation.parent)));
    format!("variable \"{name}\" {{\n  type        = string\n  description = {description}\n}}\n")
}

fn file(delegation: &Delegation, variable: &str, resource: impl Fn(&RecordSet) -> Resource) -> String {
    let mut text = format!("# the delegation of {}\n{variable}", undotted(&delegation.apex));
    for set in delegation.record_sets() {
        let Resource { kind, arguments } = resource(&set);
        let width = arguments.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
        writeln!(text, "\nresource \"{kind}\" \"{}\" {{", label(&set)).expect("a string takes every line");
        for (key, value) in arguments {
            writeln!(text, "  {key:width$} = {value}").expect("a string takes every line");
        }
        text.push_str("}\n");
    }
    text
}

/// Returns the name of a resource, from type and owner. It is unique, stays the same for the same name server, and
/// begins with a letter as Terraform demands.
fn label(set: &RecordSet) -> String {
    format!("{}_{}", set.rtype.to_string().to_lowercase(), undotted(&set.owner).replace('.', "_"))
}

/// Returns the text in quotes. Host names and addresses need no escape.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn list(data: &[String]) -> String {
    let quoted: Vec<String> = data.iter().map(|data| quoted(data)).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::super::example;
    use super::*;

    const AWS: &str = r#"# the delegation of demo.example.com
variable "zone_id" {
  type        = string
  description = "id of the hosted zone example.com"
}

resource "aws_route53_record" "ns_demo_example_com" {
  zone_id = var.zone_id
  name    = "demo.example.com"
  type    = "NS"
  ttl     = 60
  records = ["ns1.demo.example.com.", "ns2.demo.example.com."]
}

resource "aws_route53_record" "a_ns1_demo_example_com" {
  zone_id = var.zone_id
  name    = "ns1.demo.example.com"
  type    = "A"
  ttl     = 60
  records = ["192.0.2.11"]
}

resource "aws_route53_record" "a_ns2_demo_example_com" {
  zone_id = var.zone_id
  name    = "ns2.demo.example.com"
  type    = "A"
  ttl     = 60
  records = ["192.0.2.12"]
}

resource "aws_route53_record" "aaaa_ns2_demo_example_com" {
  zone_id = var.zone_id
  name    = "ns2.demo.example.com"
  type    = "AAAA"
  ttl     = 60
  records = ["2001:db8::12"]
}
"#;

    const GOOGLE: &str = r#"resource "google_dns_record_set" "ns_demo_example_com" {
  managed_zone = var.managed_zone
  name         = "demo.example.com."
  type         = "NS"
  ttl          = 60
  rrdatas      = ["ns1.demo.example.com.", "ns2.demo.example.com."]
}
"#;

    const AZURERM: &str = r#"resource "azurerm_dns_aaaa_record" "aaaa_ns2_demo_example_com" {
  resource_group_name = var.resource_group_name
  zone_name           = "example.com"
  name                = "ns2.demo"
  ttl                 = 60
  records             = ["2001:db8::12"]
}
"#;

    #[test]
    fn route_53_has_a_resource_for_each_set() {
        assert_eq!(aws(&example()), AWS);
    }

    #[test]
    fn google_has_final_dots_and_azure_relative_names() {
        let (google, azurerm) = (google(&example()), azurerm(&example()));
        assert!(google.contains(GOOGLE), "{google}");
        assert!(azurerm.ends_with(AZURERM), "{azurerm}");
        assert!(
            azurerm.contains("resource \"azurerm_dns_ns_record\" \"ns_demo_example_com\" {"),
            "{azurerm}"
        );
        assert!(azurerm.contains("  name                = \"demo\"\n"), "{azurerm}");
        for text in [google, azurerm] {
            assert_eq!(text.matches("resource \"").count(), 4, "{text}");
        }
    }

    #[test]
    fn an_owner_below_the_root_keeps_all_its_labels() {
        let name = |text| Name::from_ascii(text).unwrap();
        assert_eq!(relative(&name("ns1.demo."), &Name::root()), "ns1.demo");
        assert_eq!(relative(&name("ns1.demo.example.com."), &name("com.")), "ns1.demo.example");
    }
}
