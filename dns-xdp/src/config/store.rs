//! `[cluster]`: the store that the servers share, and a configuration that is partly there.
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::rr::Name;

use super::problem::{At, ConfigError, Problem};
use super::section::Section;
use super::{Config, value};
use crate::store::documents::{CONCERNS, split};
use crate::store::{Documents, copy};

const LEASE: Duration = Duration::from_secs(5);
/// etcd's leases are of whole seconds, and it may not keep its word below two.
const LEASE_MIN: Duration = Duration::from_secs(2);
/// Below it, with the zone's name behind it.
const PREFIX: &str = "/dns-xdp";

/// `[cluster] store = "etcd"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStore {
    /// URLs of the members; not empty.
    pub endpoints: Vec<String>,
    /// What the keys begin with, without a slash at the end.
    pub prefix: String,
    /// Authorities for `https` in a PEM file; `None`: nobody else's are trusted.
    pub ca: Option<PathBuf>,
    /// This server's certificate and key, in PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A user, and the file that holds the password.
    pub user: Option<(String, PathBuf)>,
    /// How long the others believe in a server that they do not hear of. Whole seconds.
    pub lease: Duration,
    /// This server's name among them; `None`: that of the node whose address it serves.
    pub server: Option<String>,
    /// Where the last good copy of the documents is kept.
    pub copy: PathBuf,
    /// The SkyDNS keys that nodes and services are taken from are below this; `None`: they are in the documents alone.
    pub skydns_follow: Option<String>,
    /// What is answered is kept as SkyDNS keys below this; `None`: nowhere.
    pub skydns_mirror: Option<String>,
}

/// The kinds of `[cluster] store`.
const STORES: [(&str, bool); 2] = [("file", false), ("etcd", true)];

pub(super) fn read(mut section: Section<'_>, apex: Option<&Name>, state: &Path) -> Option<SharedStore> {
    let is_shared = section.value("store", |value| value::one_of(value, &STORES)).unwrap_or(false);
    let endpoints = section.list("endpoints", endpoint);
    let prefix = section.value("prefix", prefix);
    let follow = section.located("skydns-follow", skydns);
    let mirror = section.located("skydns-mirror", skydns);
    let (ca, cert, key) = (
        section.value("ca", value::path),
        section.located("cert", value::path),
        section.located("key", value::path),
    );
    let user = section.located("user", value::word);
    let password = section.located("password-file", value::path);
    let lease = section.located("lease", value::period);
    let server = section.value("server", value::relative_name);
    if is_shared && endpoints.is_empty() {
        section.problem(
            section.at(),
            "[cluster] has no `endpoints`; write endpoints = [\"https://192.0.2.21:2379\"]",
        );
    }
    let identity = both(&section, ("cert", cert), ("key", key));
    let user = both(&section, ("user", user), ("password-file", password));
    let lease = lease.map_or(LEASE, |At { at, value }| {
        if value < LEASE_MIN || value.subsec_nanos() != 0 {
            section.problem(at, "`lease` is a number of seconds, at least 2s".to_owned());
        }
        value
    });
    let by_zone = || apex.map(|apex| format!("{PREFIX}/{}", apex.to_ascii().trim_end_matches('.')));
    let prefix = prefix.or_else(by_zone).unwrap_or_else(|| PREFIX.to_owned());
    section.close();
    if is_shared {
        apart(&section, &prefix, follow.as_ref(), mirror.as_ref());
    }
    let endpoints = endpoints.into_iter().map(|endpoint| endpoint.value).collect();
    is_shared.then_some(SharedStore {
        endpoints,
        prefix,
        ca,
        identity,
        user,
        lease,
        server,
        copy: copy::path(state),
        skydns_follow: follow.map(|follow| follow.value),
        skydns_mirror: mirror.map(|mirror| mirror.value),
    })
}

/// What is followed must not be what is written, neither by the mirror nor by the servers themselves.
fn apart(section: &Section<'_>, prefix: &str, follow: Option<&At<String>>, mirror: Option<&At<String>>) {
    let below = |path: &str, other: &str| path.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    let overlap = |a: &str, b: &str| a == b || below(a, b) || below(b, a);
    for (key, path) in [("skydns-follow", follow), ("skydns-mirror", mirror)] {
        if let Some(At { at, value }) = path.filter(|path| overlap(&path.value, prefix)) {
            let text = format!("`{key}` {value:?} and `prefix` {prefix:?} overlap; keep them apart");
            section.problem(*at, text);
        }
    }
    if let (Some(follow), Some(mirror)) = (follow, mirror)
        && overlap(&follow.value, &mirror.value)
    {
        let text = format!(
            "`skydns-mirror` {:?} and `skydns-follow` {:?} overlap: the servers would follow their own answers; \
             write another path, such as \"/skydns-live\"",
            mirror.value, follow.value
        );
        section.problem(mirror.at, text);
    }
}

fn both<A, B>(section: &Section<'_>, a: (&str, Option<At<A>>), b: (&str, Option<At<B>>)) -> Option<(A, B)> {
    match (a, b) {
        ((_, Some(a)), (_, Some(b))) => Some((a.value, b.value)),
        ((has, Some(At { at, .. })), (lacks, None)) | ((lacks, None), (has, Some(At { at, .. }))) => {
            section.problem(at, format!("`{has}` is without `{lacks}`; write both, or neither"));
            None
        }
        ((_, None), (_, None)) => None,
    }
}

fn endpoint(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    const WANTED: &str = "a URL such as \"https://192.0.2.21:2379\"";
    let text = value::text(value, WANTED)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let authority: Option<hyper::http::uri::Authority> = rest.and_then(|rest| rest.parse().ok());
    match authority {
        Some(authority) if authority.port().is_some() => Ok(text.to_owned()),
        _ => Err(format!("is {text:?}; write {WANTED}")),
    }
}

fn prefix(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    path(value, "a path such as \"/dns-xdp/demo.example.com\"")
}

fn skydns(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    path(value, "a path such as \"/skydns\"")
}

/// Of keys; without a slash at the end.
fn path(value: &toml::de::DeValue<'_>, wanted: &str) -> Result<String, String> {
    let text = value::text(value, wanted)?;
    let is_right =
        text.starts_with('/') && text.trim_end_matches('/').len() > 1 && !text.contains(char::is_whitespace);
    if is_right {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(format!("is {text:?}; write {wanted}"))
    }
}

/// [`Config::parse_with`]
pub(super) fn parse_with(text: &str, path: &Path, documents: &Documents) -> Result<Config, ConfigError> {
    let invalid = |line, text| {
        let problems = vec![Problem { line, document: None, text }];
        ConfigError::Invalid { path: path.to_owned(), problems }
    };
    let (local, _) = split(text).map_err(|problem| invalid(1, problem))?;
    let own = of_file(text, path)?;
    if let Some(problem) = documents.stray() {
        return Err(ConfigError::Invalid { path: path.to_owned(), problems: vec![problem] });
    }
    let joined = format!("{local}{}", documents.text());
    let mut config = Config::parse(&joined, path).map_err(|error| placed(error, &local, documents))?;
    // Which store this is can depend on the name of the zone in the file alone.
    config.store = own;
    config.revision = Some(documents.epoch());
    Ok(config)
}

/// The problem's place in the document that it is in.
fn placed(error: ConfigError, local: &str, documents: &Documents) -> ConfigError {
    let ConfigError::Invalid { path, mut problems } = error else { return error };
    for problem in &mut problems {
        let mut first = local.lines().count();
        for (key, _) in CONCERNS {
            let lines = documents.texts.get(key).map_or(0, |text| text.trim_end().lines().count().max(1));
            if problem.line > first && problem.line <= first + lines {
                (problem.line, problem.document) = (problem.line - first, Some(key.to_owned()));
                break;
            }
            first += lines;
        }
    }
    ConfigError::Invalid { path, problems }
}

/// The `[cluster]` of a file whose shared sections may be elsewhere.
///
/// # Errors
/// The file cannot be read, or its `[cluster]` is wrong.
pub(super) fn of_file(text: &str, path: &Path) -> Result<Option<SharedStore>, ConfigError> {
    super::spec::document(text, path, |document, path, problems| {
        let mut file = Section::file(document, problems);
        let apex = file.section("zone", "[zone]").value("name", value::zone_name);
        // The outer one: whether there is a problem or not is known by the problems.
        let control = super::spec::control(file.section("control", "[control]"), path);
        Some(read(file.section("cluster", "[cluster]"), apex.as_ref(), &control.state))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lines: &str) -> Result<SharedStore, String> {
        let text = format!(
            "[listen]\ninterfaces = [\"eth0\"]\n[zone]\nname = \"demo.example.com\"\n\
             [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n\
             [cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n{lines}"
        );
        let config = Config::parse(&text, Path::new("/etc/dns-xdp/dns-xdp.toml"));
        config.map(|config| config.store.unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_followed_is_apart_from_what_is_written() {
        let store = parsed("skydns-follow = \"/skydns/\"\nskydns-mirror = \"/skydns-live\"\n").unwrap();
        assert_eq!(store.skydns_follow.as_deref(), Some("/skydns"));
        assert_eq!(store.skydns_mirror.as_deref(), Some("/skydns-live"));
        for (follow, mirror) in [("/skydns", "/skydns/"), ("/a/b", "/a"), ("/a", "/a/b/c")] {
            let error =
                parsed(&format!("skydns-follow = {follow:?}\nskydns-mirror = {mirror:?}\n")).unwrap_err();
            assert!(error.contains("would follow their own answers"), "{error}");
        }
        for key in ["skydns-follow", "skydns-mirror"] {
            let error = parsed(&format!("{key} = \"/dns-xdp\"\n")).unwrap_err();
            assert!(error.contains("`prefix` \"/dns-xdp/demo.example.com\" overlap"), "{error}");
            let error = parsed(&format!("{key} = \"skydns\"\n")).unwrap_err();
            assert!(error.contains("a path such as \"/skydns\""), "{error}");
        }
        let error = parsed("skydns-folow = \"/skydns\"\n").unwrap_err();
        assert!(error.contains("did you mean `skydns-follow`?"), "{error}");
    }
}
