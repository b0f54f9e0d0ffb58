//! The delegation as a table, and as a zone file (RFC 1035, section 5).
use std::fmt::Write as _;

use super::super::{Delegation, undotted};

/// Returns one record a line, in aligned columns.
pub(super) fn table(delegation: &Delegation) -> String {
    let width = width(delegation);
    let mut text =
        format!("in the zone {}:\n\n{:width$}  TYPE  TTL  VALUE\n", undotted(&delegation.parent), "NAME");
    for set in delegation.record_sets() {
        for data in set.data {
            let (owner, rtype) = (set.owner.to_string(), set.rtype.to_string());
            writeln!(text, "{owner:width$}  {rtype:<4}  {:<3}  {data}", delegation.ttl_seconds)
                .expect("a string takes every line");
        }
    }
    text
}

/// Returns lines of a zone file. Names are fully qualified, so the lines are right under every `$ORIGIN` and `$TTL`.
pub(super) fn zone_file(delegation: &Delegation) -> String {
    let (width, ttl) = (width(delegation), delegation.ttl_seconds);
    let mut text = format!(
        "; the delegation of {}, for the zone file of {}\n",
        undotted(&delegation.apex),
        undotted(&delegation.parent)
    );
    for set in delegation.record_sets() {
        for data in set.data {
            let (owner, rtype) = (set.owner.to_string(), set.rtype.to_string());
            writeln!(text, "{owner:width$}  {ttl}  IN  {rtype:<4}  {data}")
                .expect("a string takes every line");
        }
    }
    text
}

fn width(delegation: &Delegation) -> usize {
    let owners = delegation.record_sets().into_iter().map(|set| set.owner.to_string().len());
    owners.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::super::example;
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_record() {
        let expected = "\
in the zone example.com:

NAME                   TYPE  TTL  VALUE
demo.example.com.      NS    60   ns1.demo.example.com.
demo.example.com.      NS    60   ns2.demo.example.com.
ns1.demo.example.com.  A     60   192.0.2.11
ns2.demo.example.com.  A     60   192.0.2.12
ns2.demo.example.com.  AAAA  60   2001:db8::12
";
        assert_eq!(table(&example()), expected);
    }

    #[test]
    fn lines_of_a_zone_file_have_every_field() {
        let expected = "\
; the delegation of demo.example.com, for the zone file of example.com
demo.example.com.      60  IN  NS    ns1.demo.example.com.
demo.example.com.      60  IN  NS    ns2.demo.example.com.
ns1.demo.example.com.  60  IN  A     192.0.2.11
ns2.demo.example.com.  60  IN  A     192.0.2.12
ns2.demo.example.com.  60  IN  AAAA  2001:db8::12
";
        assert_eq!(zone_file(&example()), expected);
    }
}
