//! Reads `[cluster]`: the store that the servers share, and a configuration whose shared part is in that store.
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::rr::Name;
use toml::de::DeValue;
use toml_edit::DocumentMut;

use super::diagnostic::{At, ConfigError, Diagnostic};
use super::shared::{CONCERNS, Documents, Shared, split};
use super::table_reader::{IsDefault, TableReader, is_empty_list};
use super::{Config, differences, field};

const LEASE: Duration = Duration::from_secs(5);
/// etcd's leases are whole seconds. For a request below 2 s, etcd may grant a longer lease.
const LEASE_MIN: Duration = Duration::from_secs(2);
/// The default prefix; the zone's name follows it.
const PREFIX: &str = "/dns-xdp";

/// `[cluster] store = "etcd"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStore {
    /// URLs of the members; not empty.
    pub endpoints: Vec<String>,
    /// The beginning of the keys, without a slash at the end.
    pub prefix: String,
    /// A PEM file of authorities for `https`; `None`: the authorities that this machine trusts.
    pub ca: Option<PathBuf>,
    /// This server's certificate and key, in PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A user, and the file that holds the password.
    pub user: Option<(String, PathBuf)>,
    /// How long the other servers believe a silent server. Whole seconds.
    pub lease: Duration,
    /// This server's name in the cluster; `None`: the name of the node whose address it serves.
    pub server: Option<String>,
    /// The file with the last good copy of the documents.
    pub copy: PathBuf,
    /// The path of the SkyDNS keys that define nodes and services; `None`: only the documents define them.
    pub skydns_follow: Option<String>,
    /// The path below which the answers are written as SkyDNS keys; `None`: they are not written.
    pub skydns_mirror: Option<String>,
}

impl SharedStore {
    /// Returns a warning about a value that is valid, but probably not meant.
    pub(super) fn warning(&self) -> Option<String> {
        let speaks_tls = self.endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
        (speaks_tls && self.ca.is_none()).then(|| {
            "[cluster] has `endpoints` over https and no `ca`: a member is trusted if any certificate authority that \
             this machine trusts has signed its certificate; name the store's own authority in `ca`"
                .to_owned()
        })
    }
}

/// The kinds of `[cluster] store`.
const STORES: [(&str, bool); 2] = [("file", false), ("etcd", true)];

/// The setting that the keys of a store need. The message that refuses such a key names this setting.
pub(super) const WANTED: &str = "[cluster] store = \"etcd\"";

/// The keys that need a store.
const OF_A_STORE: [(&str, IsDefault); 11] = [
    ("endpoints", is_empty_list),
    ("prefix", never),
    ("ca", never),
    ("cert", never),
    ("key", never),
    ("user", never),
    ("password-file", never),
    ("lease", |value| field::period(value) == Ok(LEASE)),
    ("server", never),
    ("skydns-follow", never),
    ("skydns-mirror", never),
];

/// Returns `false`, for a key without a default that could be written.
fn never(_: &DeValue<'_>) -> bool {
    false
}

pub(super) fn read(mut section: TableReader<'_>, apex: Option<&Name>, state: &Path) -> Option<SharedStore> {
    let is_named = section.has("store");
    let is_shared = section.value("store", |value| field::one_of(value, &STORES)).unwrap_or(false);
    if !is_named {
        section.without_effect(&OF_A_STORE, WANTED);
        section.close();
        return None;
    }
    let endpoints = section.list("endpoints", endpoint);
    let prefix = section.value("prefix", prefix);
    let follow = section.located("skydns-follow", skydns);
    let mirror = section.located("skydns-mirror", skydns);
    let (ca, cert, key) = (
        section.value("ca", field::path),
        section.located("cert", field::path),
        section.located("key", field::path),
    );
    let user = section.located("user", field::word);
    let password = section.located("password-file", field::path);
    let lease = section.located("lease", field::period);
    let server = section.value("server", field::relative_name);
    if is_shared && endpoints.is_empty() {
        section.problem(
            section.at(),
            "[cluster] has no `endpoints`; write endpoints = [\"https://192.0.2.21:2379\"]",
        );
    }
    let speaks_tls = endpoints.iter().any(|endpoint| endpoint.value.starts_with("https:"));
    if is_shared && !endpoints.is_empty() && !speaks_tls {
        let of_tls: [(&str, IsDefault); 3] = [("ca", never), ("cert", never), ("key", never)];
        section.without_effect(&of_tls, "https in `endpoints`");
    }
    if let Some(plain) = endpoints.iter().find(|endpoint| !endpoint.value.starts_with("https:"))
        && speaks_tls
    {
        let text = format!(
            "{:?} in `endpoints` is http and others are https; write all with https, or all with http",
            plain.value
        );
        section.problem(plain.at, text);
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
        copy: copy_beside(state),
        skydns_follow: follow.map(|follow| follow.value),
        skydns_mirror: mirror.map(|mirror| mirror.value),
    })
}

/// Returns the path of the last good copy of the documents: beside the file of the intents, with a name derived from
/// that file's name.
fn copy_beside(state: &Path) -> PathBuf {
    state.with_extension("store.json")
}

/// Refuses overlapping paths: the followed keys must not lie where the mirror or the servers write.
fn apart(section: &TableReader<'_>, prefix: &str, follow: Option<&At<String>>, mirror: Option<&At<String>>) {
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

fn both<A, B>(
    section: &TableReader<'_>,
    a: (&str, Option<At<A>>),
    b: (&str, Option<At<B>>),
) -> Option<(A, B)> {
    match (a, b) {
        ((_, Some(a)), (_, Some(b))) => Some((a.value, b.value)),
        ((has, Some(At { at, .. })), (lacks, None)) | ((lacks, None), (has, Some(At { at, .. }))) => {
            section.problem(at, format!("`{has}` is without `{lacks}`; write both, or neither"));
            None
        }
        ((_, None), (_, None)) => None,
    }
}

fn endpoint(value: &DeValue<'_>) -> Result<String, String> {
    const WANTED: &str = "a URL such as \"https://192.0.2.21:2379\"";
    let text = field::text(value, WANTED)?;
    // The text before `@` may be a password, which no message shows.
    if text.contains('@') {
        return Err(format!("has `@` in it; write {WANTED}, with `user` and `password-file` beside it"));
    }
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let authority: Option<hyper::http::uri::Authority> = rest.and_then(|rest| rest.parse().ok());
    match authority {
        Some(authority) if authority.port().is_some() => Ok(text.to_owned()),
        _ => Err(format!("is {text:?}; write {WANTED}")),
    }
}

fn prefix(value: &DeValue<'_>) -> Result<String, String> {
    path(value, "a path such as \"/dns-xdp/demo.example.com\"")
}

fn skydns(value: &DeValue<'_>) -> Result<String, String> {
    path(value, "a path such as \"/skydns\"")
}

/// Reads a path of keys, without a slash at the end.
fn path(value: &DeValue<'_>, wanted: &str) -> Result<String, String> {
    let text = field::text(value, wanted)?;
    let is_right =
        text.starts_with('/') && text.trim_end_matches('/').len() > 1 && !text.contains(char::is_whitespace);
    if is_right {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(format!("is {text:?}; write {wanted}"))
    }
}

/// Does the work of [`Config::parse_with`].
pub(super) fn parse_with(text: &str, path: &Path, documents: &Documents) -> Result<Config, ConfigError> {
    let invalid = |line, text| {
        let problems = vec![Diagnostic { line, document: None, text }];
        ConfigError::Invalid { path: path.to_owned(), problems }
    };
    let (local, shared) = split(text).map_err(|problem| invalid(1, problem))?;
    let own = of_file(text, path)?;
    if let Some(problem) = documents.stray() {
        return Err(ConfigError::Invalid { path: path.to_owned(), problems: vec![problem] });
    }
    let joined = format!("{local}{}", documents.text());
    let parsed = super::spec::parse_shared(&joined, path).map_err(|error| placed(error, &local, documents));
    let mut config = match (parsed, unknown_keys(text, &local, path)) {
        (Ok(config), unknown) if unknown.is_empty() => config,
        (Ok(_), problems) => return Err(ConfigError::Invalid { path: path.to_owned(), problems }),
        (Err(ConfigError::Invalid { path, mut problems }), unknown) => {
            problems.extend(unknown);
            return Err(ConfigError::Invalid { path, problems });
        }
        (Err(error), _) => return Err(error),
    };
    // The store may depend on the zone's name, but only on the name in the file.
    config.store = own;
    config.revision = Some(documents.epoch());
    config.overridden = overridden(&shared, documents);
    Ok(config)
}

/// Finds unknown keys in a file's shared sections. Only this check reads those sections; they are not in force.
fn unknown_keys(text: &str, local: &str, path: &Path) -> Vec<Diagnostic> {
    // The local part has an empty line for each shared line.
    let local: Vec<&str> = local.lines().collect();
    let is_shared = |problem: &Diagnostic| local.get(problem.line - 1).is_none_or(|line| line.is_empty());
    if text.lines().eq(local.iter().copied()) {
        return Vec::new();
    }
    super::spec::unknown_keys(text, path).into_iter().filter(is_shared).collect()
}

/// Returns the shared sections that differ from the documents. A `[zone]` with only a name does not count, because it
/// may select the store.
fn overridden(shared: &Shared, documents: &Documents) -> Vec<&'static str> {
    let differs = |(key, name): &&(&str, &str)| {
        let (Some(text), stored) = (shared.get(*key), documents.texts.get(*key)) else { return false };
        let is_name_alone =
            *name == "zone" && text.parse::<DocumentMut>().is_ok_and(|zone| names_alone(&zone));
        !is_name_alone && !differences(stored.map_or("", String::as_str), text).is_empty()
    };
    CONCERNS.iter().filter(differs).map(|(_, name)| *name).collect()
}

fn names_alone(document: &DocumentMut) -> bool {
    document.get("zone").and_then(|zone| zone.as_table_like()).is_some_and(|zone| zone.len() == 1)
}

/// Gives each problem of a document the document's key and its line there.
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

/// Reads the `[cluster]` of a file whose shared sections may be elsewhere.
///
/// # Errors
/// The file cannot be read, or its `[cluster]` is wrong.
pub(super) fn of_file(text: &str, path: &Path) -> Result<Option<SharedStore>, ConfigError> {
    super::spec::document(text, path, |document, path, problems| {
        let mut file = TableReader::file(document, problems);
        let apex = file.section("zone", "[zone]").value("name", field::zone_name);
        // Always `Some`: the recorded problems tell whether the file is wrong.
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
    fn endpoints_are_all_http_or_all_https() {
        let with = |endpoints: &str| {
            let text = format!(
                "[listen]\ninterfaces = [\"eth0\"]\n[zone]\nname = \"demo.example.com\"\n\
                 [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n\
                 [cluster]\nstore = \"etcd\"\nendpoints = [{endpoints}]\n"
            );
            Config::parse(&text, Path::new("f")).map_err(|error| error.to_string())
        };
        let [http, https] = ["\"http://192.0.2.61:2379\"", "\"https://192.0.2.62:2379\""];
        for mixed in [format!("{http}, {https}"), format!("{https}, {http}")] {
            let error = with(&mixed).unwrap_err();
            assert!(error.contains("http://192.0.2.61:2379") && error.contains("https"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        assert!(with(&format!("{http}, {http}")).is_ok() && with(&format!("{https}, {https}")).is_ok());
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

    #[test]
    fn a_password_in_an_endpoint_is_refused_and_not_shown() {
        let endpoint = "http://root:hunter2@192.0.2.61:2379";
        let text = format!("[cluster]\nstore = \"etcd\"\nendpoints = [{endpoint:?}]\n");
        for text in [text.clone(), text.replace("http://", "")] {
            let error = Config::parse(&text, Path::new("f")).unwrap_err().to_string();
            assert!(error.contains("`user` and `password-file`"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("root"), "{error}");
        }
    }

    /// Parses a file with these shared sections, beside a store that has a zone of its own.
    fn beside_a_store(sections: &str) -> Result<Config, String> {
        let text = format!(
            "[listen]\ninterfaces = [\"eth0\"]\n{sections}[cluster]\nstore = \"etcd\"\n\
             endpoints = [\"http://192.0.2.61:2379\"]\n[xdp]\nmode = \"off\"\n"
        );
        let document = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let texts = [
            document("config/zone", "[zone]\nname = \"demo.example.com\"\nttl = \"9s\"\n"),
            document("config/failover", "[failover]\nquorum = 1\n"),
            document("config/nodes", "[[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n"),
        ];
        let documents = Documents { texts: Shared::from(texts), ..Documents::default() };
        let config = Config::parse_with(&text, Path::new("f"), &documents);
        config.map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_key_of_a_section_that_the_store_stands_in_for_is_refused() {
        let error = beside_a_store("[failover]\nquroum = 2\n").unwrap_err();
        assert_eq!(error, "f:4: unknown key `quroum`; did you mean `quorum`?");
        // Other problems are refused when the sections are written to the store.
        let error = beside_a_store("[health]\nprobe = \"htp\"\nintervall = \"1s\"\n").unwrap_err();
        assert_eq!(error, "f:5: unknown key `intervall`; did you mean `interval`?");
        let error = beside_a_store("intrefaces = []\n[failover]\nquroum = 2\n").unwrap_err();
        assert_eq!(error.lines().count(), 2, "{error}");
    }

    #[test]
    fn shared_sections_that_differ_from_the_store_are_warned_of() {
        let warned = |sections: &str| {
            let config = beside_a_store(sections).unwrap();
            config
                .warnings()
                .into_iter()
                .filter(|warning| warning.contains("cluster diff"))
                .collect::<Vec<_>>()
        };
        let [warning] = &warned("[failover]\nquorum = 2\n[zone]\nname = \"demo.example.com\"\n")[..] else {
            panic!("one warning")
        };
        assert!(warning.starts_with("[failover] of f differ from the store"), "{warning}");
        for same in
            ["", "[zone]\nname = \"demo.example.com\"\n", "[failover]\n# as in the store\nquorum = 1\n"]
        {
            assert!(warned(same).is_empty(), "{same}");
        }
    }
}
