//! The record sets of each form of a delegation.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use dns_xdp_tests::bed::parent::PARENT;
use hcl::{Block, BlockLabel, Body, Expression};

/// TTL and data of each owner and type. Owners are in full, with the final dot.
pub(crate) type Sets = BTreeMap<(String, String), (u64, BTreeSet<String>)>;

/// The provider of the resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Aws,
    Google,
    Azurerm,
}

impl Dialect {
    /// The arguments of a resource. The provider requires all of them; the last has the data.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Dialect::Aws => &["zone_id", "name", "type", "ttl", "records"],
            Dialect::Google => &["managed_zone", "name", "type", "ttl", "rrdatas"],
            Dialect::Azurerm => &["resource_group_name", "zone_name", "name", "ttl", "records"],
        }
    }
}

/// Reads the sets of lines `owner ttl IN type data`.
pub(crate) fn in_zone_file(text: &str) -> Result<Sets> {
    let mut sets = Sets::new();
    for line in text.lines().filter(|line| !line.starts_with(';')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [owner, ttl, "IN", rtype, data] = words[..] else { bail!("no record: {line}") };
        let set = sets.entry((owner.to_owned(), rtype.to_owned())).or_default();
        set.0 = ttl.parse()?;
        ensure!(set.1.insert(data.to_owned()), "twice: {line}");
    }
    Ok(sets)
}

/// Reads the sets of a file in Terraform's language, which has to declare its variable and nothing else.
pub(crate) fn in_terraform(text: &str, dialect: Dialect) -> Result<Sets> {
    let body: Body = hcl::parse(text)?;
    ensure!(body.attributes().next().is_none(), "an argument outside of a block");
    let variable = dialect.arguments()[0];
    let (mut sets, mut names, mut declared) = (Sets::new(), BTreeSet::new(), Vec::new());
    for block in body.blocks() {
        let labels: Vec<&str> = block.labels().iter().map(BlockLabel::as_str).collect();
        match (block.identifier(), &labels[..]) {
            ("variable", [name]) => {
                let [rtype, description] = arguments(block, &["type", "description"])?;
                ensure!(rtype.to_string() == "string" && !string(description)?.is_empty(), "{block:?}");
                declared.push((*name).to_owned());
            }
            ("resource", [kind, name]) => {
                ensure!(is_identifier(name) && names.insert((*name).to_owned()), "the name {name:?}");
                let (set, records) = resource(block, kind, dialect)?;
                ensure!(sets.insert(set, records).is_none(), "two resources for one set: {block:?}");
            }
            other => bail!("a block {other:?}"),
        }
    }
    ensure!(declared == [variable], "the variables are {declared:?}");
    Ok(sets)
}

type Set = ((String, String), (u64, BTreeSet<String>));

fn resource(block: &Block, kind: &str, dialect: Dialect) -> Result<Set> {
    let names = dialect.arguments();
    let values: [&Expression; 5] = arguments(block, names)?;
    let zone = format!("var.{}", names[0]);
    ensure!(matches!(values[0], Expression::Traversal(_)) && values[0].to_string() == zone, "{block:?}");
    let value = |name: &str| {
        let at = names.iter().position(|known| *known == name).context("no such argument")?;
        string(values[at])
    };
    let (owner, rtype) = match (dialect, kind) {
        (Dialect::Aws, "aws_route53_record") => (format!("{}.", value("name")?), value("type")?),
        (Dialect::Google, "google_dns_record_set") => (value("name")?, value("type")?),
        (Dialect::Azurerm, kind) => {
            let zone = value("zone_name")?;
            ensure!(zone == PARENT, "the zone {zone}");
            let rtype = kind.strip_prefix("azurerm_dns_").and_then(|kind| kind.strip_suffix("_record"));
            let rtype = rtype.context("no resource of azurerm's")?.to_uppercase();
            (format!("{}.{PARENT}.", value("name")?), rtype)
        }
        _ => bail!("a resource {kind:?}"),
    };
    ensure!(["NS", "A", "AAAA"].contains(&&*rtype), "the type {rtype}");
    ensure!(owner.ends_with(&format!(".{PARENT}.")) && !owner.contains(".."), "the owner {owner}");
    let Expression::Number(ttl) = values[3] else { bail!("a ttl that is no number: {block:?}") };
    let Expression::Array(data) = values[4] else { bail!("data that are no list: {block:?}") };
    let records: BTreeSet<String> = data.iter().map(string).collect::<Result<_>>()?;
    ensure!(records.len() == data.len(), "a record twice: {block:?}");
    Ok(((owner, rtype), (ttl.as_u64().context("no ttl")?, records)))
}

/// The values of these arguments; the block must have no others.
fn arguments<'b, const COUNT: usize>(block: &'b Block, names: &[&str]) -> Result<[&'b Expression; COUNT]> {
    let body = block.body();
    ensure!(body.blocks().next().is_none() && body.attributes().count() == names.len(), "{block:?}");
    let value = |name: &&str| {
        let mut all = body.attributes().filter(|attribute| attribute.key() == *name);
        all.next().map(|attribute| attribute.expr()).with_context(|| format!("no {name}: {block:?}"))
    };
    let values: Vec<&Expression> = names.iter().map(value).collect::<Result<_>>()?;
    values.try_into().ok().with_context(|| format!("{block:?}"))
}

/// A literal string; a template is refused.
fn string(value: &Expression) -> Result<String> {
    match value {
        Expression::String(text) => Ok(text.clone()),
        other => bail!("{other:?} is no string"),
    }
}

/// Whether a text is a resource name of Terraform: letters, digits, `_` and `-`, not a digit first.
fn is_identifier(name: &str) -> bool {
    let rest = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && name.chars().all(rest)
}
