//! Reads `[[key]]` and `[update]`: the keys of DNS UPDATE, their grants, and whether this server takes updates alone.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use toml::de::DeValue;

use super::diagnostic::{At, Diagnostics};
use super::field::{self, Read};
use super::spec::ClusterSpec;
use super::table_reader::TableReader;
use super::{Config, record, unreadable};
use crate::cluster::APEX;
use crate::records::{absolute, full_name};
use crate::update::{Algorithm, Grant, Key, Pattern, RECORDS_MAX_USUAL, Secret, TTL_MAX_SECONDS};

/// `[[key]]` and `[update]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updates {
    /// The keys that may write; empty: the server takes no updates.
    pub keys: Vec<Arc<Key>>,
    /// Whether this server takes updates although other servers have the zone from files of their own.
    pub local: bool,
    /// Whether a secret is in the configuration file itself.
    pub has_inline_secret: bool,
    /// The files with the other secrets.
    pub secret_files: Vec<PathBuf>,
}

/// The sections as they were read, with the places that are checked against the rest of the file.
pub(super) struct UpdatesSpec {
    updates: Updates,
    /// The patterns of grants that give addresses.
    addresses: Vec<At<Pattern>>,
}

/// The most octets of a file with a secret.
const LONGEST_SECRET_FILE: u64 = 4096;

/// Reads the sections. Without an apex only the keys of the sections are checked.
pub(super) fn read(file: &mut TableReader<'_>, apex: Option<&Name>, has_store: bool) -> UpdatesSpec {
    let mut spec = UpdatesSpec { updates: Updates::default(), addresses: Vec::new() };
    let mut names: Vec<Name> = Vec::new();
    let sections = file.sections("key", "[[key]]");
    let has_keys = !sections.is_empty();
    for section in sections {
        if let Some(key) = key(section, apex, &mut names, &mut spec) {
            spec.updates.keys.push(Arc::new(key));
        }
    }
    let mut update = file.section("update", "[update]");
    let is_off = |value: &DeValue<'_>| value.as_bool() == Some(false);
    if !has_keys {
        update.without_effect(&[("local", is_off)], "a [[key]]");
    } else if has_store {
        let lacks = "a file for each server: [cluster] store = \"etcd\" takes the updates of all servers";
        update.without_effect(&[("local", is_off)], lacks);
    }
    spec.updates.local = update.value("local", field::boolean).unwrap_or(false);
    update.close();
    spec
}

fn key(
    mut section: TableReader<'_>,
    apex: Option<&Name>,
    names: &mut Vec<Name>,
    spec: &mut UpdatesSpec,
) -> Option<Key> {
    let name = section.required("name", "\"certbot\"", key_name);
    let algorithm = section.value("algorithm", algorithm);
    let secret = section.located("secret", secret);
    let file = section.located("secret-file", secret_file);
    match (section.place("secret"), section.place("secret-file")) {
        (Some(_), Some(at)) => section.problem(at, "`secret-file` is beside `secret`; remove one of them"),
        (None, None) => section.problem(
            section.at(),
            "[[key]] has no `secret`; write what `dns-xdp key generate NAME` prints, or name a `secret-file`",
        ),
        _ => {}
    }
    let sections = section.sections("grant", "[[key.grant]]");
    if sections.is_empty() {
        section.problem(
            section.at(),
            "[[key]] has no grant, so it may write nothing; write a [[key.grant]] with `names` and `types`",
        );
    }
    let grants = sections.into_iter().filter_map(|section| grant(section, apex, spec)).collect();
    section.close();
    if let Some(At { at, value }) = &name {
        if names.contains(value) {
            let text = format!("`name` is `{value}`, which another [[key]] has already; rename one of them");
            section.problem(*at, text);
        }
        names.push(value.clone());
    }
    spec.updates.has_inline_secret |= secret.is_some();
    spec.updates.secret_files.extend(file.iter().map(|file| file.value.1.clone()));
    let secret = secret.map(|secret| secret.value).or_else(|| file.map(|file| file.value.0));
    Some(Key {
        name: name?.value,
        algorithm: algorithm.unwrap_or(Algorithm::HmacSha256),
        secret: secret?,
        grants,
    })
}

fn grant(mut section: TableReader<'_>, apex: Option<&Name>, spec: &mut UpdatesSpec) -> Option<Grant> {
    let written = section.required_list("names", "[\"_acme-challenge.*\"]", pattern_text);
    let types = section.required_list("types", "[\"TXT\"]", granted_type);
    let records_max = section.value("records", field::granted_records).unwrap_or(RECORDS_MAX_USUAL);
    let ttl_max_seconds = section.value("ttl-max", field::ttl_seconds).unwrap_or(TTL_MAX_SECONDS);
    section.close();
    let apex = apex?;
    let mut names = Vec::new();
    for At { at, value } in &written {
        match Pattern::new(value, apex) {
            Ok(pattern) => names.push(At { at: *at, value: pattern }),
            Err(problem) => section.problem(*at, format!("`names` has `{value}`, which {problem}")),
        }
    }
    let types: Vec<RecordType> = types.into_iter().map(|located| located.value).collect();
    let values = names.iter().map(|located| located.value.clone()).collect();
    let grant = Grant { names: values, types, records_max, ttl_max_seconds };
    if grant.gives_addresses() {
        spec.addresses.extend(names);
    }
    Some(grant)
}

fn key_name(value: &DeValue<'_>) -> Read<Name> {
    let text = field::text(value, "the name of a key, such as \"certbot\"")?;
    let name = full_name(text, &Name::root()).map_err(|problem| format!("is `{text}`, which {problem}"))?;
    if text == APEX || name.is_root() {
        return Err(format!("is `{text}`, which is no name of a key; write a name such as \"certbot\""));
    }
    Ok(name.to_lowercase())
}

/// Reads an algorithm. Those that RFC 8945, section 6, forbids or advises against are refused with the reason.
fn algorithm(value: &DeValue<'_>) -> Read<Algorithm> {
    if let Some(text @ ("hmac-md5" | "hmac-sha1" | "hmac-sha224")) = value.as_str() {
        return Err(format!("is `{text}`, which is too weak (RFC 8945, section 6); write \"hmac-sha256\""));
    }
    field::one_of(value, &Algorithm::ALL)
}

/// Reads a secret. No error shows it.
fn secret(value: &DeValue<'_>) -> Read<Secret> {
    Secret::from_base64(field::text(value, "a secret in Base64")?)
}

/// Reads the secret in the first line of a file. No error shows it.
fn secret_file(value: &DeValue<'_>) -> Read<(Secret, PathBuf)> {
    let path: PathBuf = field::path(value)?;
    let shown = path.display();
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(LONGEST_SECRET_FILE).read_to_string(&mut text));
    read.map_err(|error| format!("is {shown}, which cannot be read: {}", unreadable(&error)))?;
    let line = text.lines().next().unwrap_or_default();
    let secret =
        Secret::from_base64(line).map_err(|problem| format!("is {shown}, whose first line {problem}"))?;
    Ok((secret, path))
}

fn pattern_text(value: &DeValue<'_>) -> Read<String> {
    field::text(value, "a pattern of names such as \"_acme-challenge.*\"").map(str::to_owned)
}

fn granted_type(value: &DeValue<'_>) -> Read<RecordType> {
    record::type_of(value, "no update changes such records; remove it")
}

/// Notes every grant of addresses that matches a name of the cluster.
pub(super) fn check(spec: &UpdatesSpec, cluster: &ClusterSpec, problems: &Diagnostics) {
    let Some(apex) = &cluster.apex else { return };
    if spec.addresses.is_empty() {
        return;
    }
    let nodes = cluster
        .nodes
        .iter()
        .map(|node| (node.name.value.as_str(), node.ns.as_ref().map(|ns| ns.value.as_str())));
    let services = cluster.services.iter().map(|service| service.name.value.as_str());
    let holders = holders(apex, nodes, services);
    for At { at, value } in &spec.addresses {
        if let Some(problem) = overlap(value, &holders) {
            problems.add(*at, problem);
        }
    }
}

/// Returns warnings about grants of addresses that match a name of the cluster. With a store, the names come from
/// documents that other servers write. No grant is a reason to refuse such a document, so the update itself is refused.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let Updates { keys, .. } = &config.updates;
    let grants = keys.iter().flat_map(|key| &key.grants).filter(|grant| grant.gives_addresses());
    let patterns: Vec<&Pattern> = grants.flat_map(|grant| &grant.names).collect();
    if patterns.is_empty() {
        return Vec::new();
    }
    let nodes = config.cluster.nodes.iter().map(|node| (node.name.as_str(), node.ns.as_deref()));
    let services = config.cluster.services.iter().map(|service| service.name.as_str());
    let holders = holders(&config.zone.apex, nodes, services);
    patterns.into_iter().filter_map(|pattern| overlap(pattern, &holders)).collect()
}

/// Returns the names whose addresses the zone makes itself, each with its description.
fn holders<'a>(
    apex: &Name,
    nodes: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    services: impl Iterator<Item = &'a str>,
) -> BTreeMap<Name, String> {
    let mut holders = BTreeMap::from([(apex.clone(), "the zone's own name".to_owned())]);
    let mut hold = |name: &str, what: String| {
        if let Ok(name) = full_name(name, apex) {
            holders.entry(name.to_lowercase()).or_insert(what);
        }
    };
    for (name, ns) in nodes {
        hold(name, format!("the node `{name}`"));
        if let Some(ns) = ns {
            hold(ns, format!("the name server `{ns}`"));
        }
    }
    services.for_each(|name| hold(name, format!("the service `{name}`")));
    holders
}

fn overlap(pattern: &Pattern, holders: &BTreeMap<Name, String>) -> Option<String> {
    let (_, holder) = holders.iter().find(|(name, _)| pattern.matches(name))?;
    Some(format!(
        "`names` has `{}`, which covers {holder}, and `types` has A, AAAA or CNAME: no update changes such a name; \
         write a narrower pattern, such as \"*.apps\", or leave these types out",
        pattern.text()
    ))
}

impl UpdatesSpec {
    /// Returns the checked sections.
    pub(super) fn into_updates(self) -> Updates {
        self.updates
    }
}

impl Config {
    /// Returns why this server refuses all updates; `None`: it takes them. Without a store, an update changes only the
    /// file of the server that it reaches.
    pub fn why_no_updates(&self) -> Option<String> {
        let servers = self.cluster.nodes.iter().filter(|node| node.ns.is_some()).count();
        if self.store.is_some() || self.updates.local || servers <= 1 {
            return None;
        }
        Some(format!(
            "{servers} name servers have this zone, each from its own file, and an update would change one of them: \
             share a store ([cluster] store), or set [update] local = true and send each update to every server"
        ))
    }

    /// Returns warnings about `[[key]]`.
    pub(super) fn update_warnings(&self) -> Vec<String> {
        if self.updates.keys.is_empty() {
            return Vec::new();
        }
        let refused = self.why_no_updates().map(|reason| format!("[[key]]: updates are refused: {reason}"));
        refused.into_iter().chain(warnings(self)).collect()
    }

    /// Returns the files that have secrets of `[[key]]`, with the key's remedy for readers.
    pub(super) fn secret_files(&self) -> impl Iterator<Item = &Path> {
        self.updates.secret_files.iter().map(PathBuf::as_path)
    }
}

/// Returns a key's name as operators write it: without its final dot.
pub fn shown(name: &Name) -> String {
    absolute(name).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
