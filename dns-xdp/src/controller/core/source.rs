//! Changes to the configuration in force: from the file as a whole, or a node, a service or records alone. The functions turn a
//! text into a [`Proposal`]; nothing takes effect here.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cluster_change::ClusterChange;
use crate::cluster::{Node, Parts, Service, Suffix};
use crate::config::edit::Edited;
use crate::config::{Config, ConfigError, differences};
use crate::control::{Refusal, RefusalKind};
use crate::records::Records;
use crate::store::documents::{Documents, Shared, split};

/// The text that the configuration in force was read from, with the changes made to it since.
#[derive(Debug, Clone)]
pub(in crate::controller) struct Source {
    path: PathBuf,
    /// The control socket that the command line named instead of the file's.
    socket: Option<PathBuf>,
    text: String,
    /// The text of the file when the whole file was last in force.
    filed: String,
    /// The file's nodes; all others are ephemeral.
    nodes: Vec<Node>,
    /// The file's services; all others are ephemeral.
    services: Vec<Service>,
    /// The file's suffixes; all others are ephemeral.
    suffixes: Vec<Suffix>,
    /// The file's static records; all others are ephemeral.
    records: Arc<Records>,
    /// The shared sections, if the store has them instead of the file.
    documents: Option<Documents>,
}

/// The documents to write to the store for a change.
#[derive(Debug, Default)]
pub(in crate::controller) struct Push {
    /// The new values by their keys; empty: nothing to write.
    pub(super) writes: BTreeMap<String, Vec<u8>>,
    /// Notes for the operator.
    pub(super) notes: Vec<String>,
    /// The nodes that the change removes.
    pub(super) removed: Removed,
}

/// The nodes of a whole configuration that are not in the next one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Removed {
    /// Their names.
    pub(super) names: Vec<String>,
    /// The number of nodes before.
    pub(super) of: usize,
}

/// The configuration that would be in force, and the text that would be in the file.
#[derive(Debug)]
pub(in crate::controller) struct Proposal {
    pub(in crate::controller) config: Config,
    pub(in crate::controller) source: Source,
    /// The file's new text; `None`: it stays as it is.
    pub(in crate::controller) write: Option<String>,
    /// Notes for the operator.
    pub(in crate::controller) notes: Vec<String>,
    /// Warnings about the new configuration that the old one does not have.
    pub(in crate::controller) warnings: Vec<String>,
    /// The differences from what is in force, one line for each key.
    pub(in crate::controller) differences: Vec<String>,
}

impl Removed {
    fn between(before: &[Node], after: &[Node]) -> Removed {
        let after: BTreeSet<&str> = after.iter().map(|node| node.name.as_str()).collect();
        let names = before.iter().map(|node| &node.name).filter(|name| !after.contains(name.as_str()));
        Removed { names: names.cloned().collect(), of: before.len() }
    }
}

impl Source {
    /// Reads the configuration to put in force from `text`, the text of the file at `path`. The daemon listens on
    /// `socket`, whatever the text says.
    pub(in crate::controller) fn new(
        path: &Path,
        socket: &Path,
        text: String,
        documents: Option<Documents>,
    ) -> Result<(Self, Config), ConfigError> {
        let path = path.to_owned();
        let (nodes, services, suffixes) = (Vec::new(), Vec::new(), Vec::new());
        let (filed, records) = (text.clone(), Arc::default());
        let mut source =
            Source { path, socket: None, filed, nodes, services, suffixes, records, text, documents };
        let filed = source.parse(&source.text)?;
        source.socket = (filed.control.socket != socket).then(|| socket.to_owned());
        source.records = filed.records;
        let Parts { nodes, services, suffixes } = filed.cluster.into_parts();
        (source.nodes, source.services, source.suffixes) = (nodes, services, suffixes);
        let config = source.parse(&source.text)?;
        Ok((source, config))
    }

    fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        let mut config = match &self.documents {
            Some(documents) => Config::parse_with(text, &self.path, documents)?,
            None => Config::parse(text, &self.path)?,
        };
        if let Some(socket) = &self.socket {
            config.control.socket.clone_from(socket);
        }
        Ok(config)
    }

    /// The file.
    pub(in crate::controller) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether everything in this text of the file is in force.
    pub(super) fn is_filed(&self, text: &str) -> bool {
        self.filed == text
    }

    /// Whether a node, or its position, is not in the file.
    pub(super) fn ephemeral(&self, node: &Node) -> bool {
        !self.nodes.iter().any(|filed| filed.name == node.name && filed.addresses().eq(node.addresses()))
    }

    /// Whether a service, or a command's change of it, is not in the file.
    pub(super) fn ephemeral_service(&self, service: &Service) -> bool {
        let changed = |service: &Service| (service.min_healthy, service.order, service.all_down);
        let same = |filed: &Service| {
            (&filed.name, &filed.nodes, &filed.backup) == (&service.name, &service.nodes, &service.backup)
                && changed(filed) == changed(service)
        };
        !self.services.iter().any(same)
    }

    /// Returns the file's static records; all others are ephemeral.
    pub(super) fn filed_records(&self) -> &Arc<Records> {
        &self.records
    }

    /// Whether a suffix is not in the file, or has other addresses there.
    pub(super) fn ephemeral_suffix(&self, suffix: &Suffix) -> bool {
        !self.suffixes.contains(suffix)
    }

    /// Proposes the whole file, or refuses it. Ephemeral changes are dropped.
    pub(super) fn reload(&self, in_force: &Config, file: String) -> Result<Proposal, Refusal> {
        let config = self.parse(&file)?;
        let sections = in_force.needs_restart(&config);
        if !sections.is_empty() {
            let sections: Vec<String> = sections.iter().map(|section| format!("[{section}]")).collect();
            let message = format!(
                "{} of {} take effect at a start only: nothing was reloaded; \
                 change them back, or take over with `dns-xdp run --replace`",
                sections.join(" and "),
                self.path.display()
            );
            return Err(Refusal::new(RefusalKind::Conflict, message));
        }
        let Parts { nodes, services, suffixes } = config.cluster.clone().into_parts();
        let (filed, records) = (file.clone(), Arc::clone(&config.records));
        let source = Source { nodes, services, suffixes, records, filed, text: file, ..self.clone() };
        let differences = self.differences(&source);
        let mut notes = differences.clone();
        if source.text == self.text && config.cluster != in_force.cluster {
            notes = vec![
                "the text is the same; what it takes from another file or a name has changed".to_owned(),
            ];
        }
        let warnings = config.warnings_beyond(in_force);
        Ok(Proposal { config, source, write: None, notes, warnings, differences })
    }

    /// The nodes of the file, or of the store's documents, that `next` does not have. Ephemeral nodes do not count.
    pub(super) fn removed(&self, next: &Source) -> Removed {
        Removed::between(&self.nodes, &next.nodes)
    }

    /// The differences of `next`, one line for each key.
    fn differences(&self, next: &Source) -> Vec<String> {
        let in_force = |source: &Source| match &source.documents {
            Some(documents) => split(&source.text).unwrap_or_default().0 + &documents.text(),
            None => source.text.clone(),
        };
        let differences = differences(&in_force(self), &in_force(next));
        if differences.is_empty() { vec!["nothing has changed".to_owned()] } else { differences }
    }

    /// Proposes a change to a node or service. The change is also made in the file, if the file's text is given.
    pub(super) fn change(
        &self,
        in_force: &Config,
        change: &ClusterChange,
        file: Option<&str>,
    ) -> Result<Proposal, Refusal> {
        let change = &*change.against(in_force)?;
        // What is removed may be in force alone, or in the file alone.
        let is_in_the_file = || change.is_removal() && file.is_some_and(|file| change.edit(file).is_ok());
        let Edited { text, notes } = match change.edit(&self.text) {
            Err(error) if error.is_unknown() && is_in_the_file() => Edited::unchanged(&self.text),
            edited => edited?,
        };
        let config = self.parse(&text).map_err(|error| of_the_change(&error))?;
        let warnings = config.warnings_beyond(in_force);
        let source = Source { text, ..self.clone() };
        let differences = self.differences(&source);
        let mut proposal = Proposal { config, source, write: None, notes, warnings, differences };
        if let Some(file) = file {
            self.change_file(change, file, &mut proposal)?;
        }
        Ok(proposal)
    }

    /// The documents in force, if they come from the store.
    pub(in crate::controller) fn documents(&self) -> Option<&Documents> {
        self.documents.as_ref()
    }

    /// Returns the same source with documents that differ only in intents.
    pub(super) fn with_documents(&self, documents: Documents) -> Source {
        Source { documents: Some(documents), ..self.clone() }
    }

    /// Proposes all documents that the store has now, or refuses them.
    pub(super) fn join(&self, in_force: &Config, documents: Documents) -> Result<Proposal, Refusal> {
        let next = Source { documents: Some(documents), ..self.clone() };
        let config = next.parse(&next.text)?;
        if !in_force.needs_restart(&config).is_empty() {
            let message = "a document takes effect at a start only: take over with `dns-xdp run --replace`";
            return Err(Refusal::new(RefusalKind::Conflict, message));
        }
        let Parts { nodes, services, suffixes } = config.cluster.clone().into_parts();
        let records = Arc::clone(&config.records);
        let source = Source { nodes, services, suffixes, records, ..next };
        let differences = self.differences(&source);
        let (notes, warnings) = (differences.clone(), config.warnings_beyond(in_force));
        Ok(Proposal { config, source, write: None, notes, warnings, differences })
    }

    /// The documents to write to the store for a change of a node or service.
    pub(super) fn share(&self, in_force: &Config, change: &ClusterChange) -> Result<Push, Refusal> {
        let Some(documents) = &self.documents else { return Ok(Push::default()) };
        let change = change.against(in_force)?;
        let Edited { text, mut notes } = change.edit(&documents.text())?;
        let invalid = |problem| Refusal::new(RefusalKind::Invalid, problem);
        let (_, shared) = split(&text).map_err(invalid)?;
        let config = self.checked(documents, &shared).map_err(|error| of_the_change(&error))?;
        notes.extend(config.warnings_beyond(in_force).iter().map(|text| as_note(text)));
        Ok(Push { writes: documents.writes(&shared), notes, ..Push::default() })
    }

    /// The documents to write to the store for the shared sections of the file's text, if it has any.
    pub(super) fn push(&self, in_force: &Config, file: &str) -> Result<Push, Refusal> {
        let Some(documents) = &self.documents else { return Ok(Push::default()) };
        let invalid = |problem| Refusal::new(RefusalKind::Invalid, problem);
        let (_, shared) = split(file).map_err(invalid)?;
        if !shared.contains_key("config/nodes") {
            // Without nodes, these sections do not describe a cluster. They have no effect, and the operator is warned.
            let notes = self.parse(file)?.overridden_warning().into_iter().collect();
            return Ok(Push { notes, ..Push::default() });
        }
        let before = documents.text();
        let after = crate::store::documents::join(&shared);
        let config = self.checked(documents, &shared)?;
        let mut notes = differences(&before, &after);
        notes.extend(config.warnings_beyond(in_force).iter().map(|text| as_note(text)));
        let removed = Removed::between(&self.nodes, &config.cluster.nodes);
        Ok(Push { writes: documents.writes(&shared), notes, removed })
    }

    /// Returns the configuration that would be in force with these documents.
    fn checked(&self, documents: &Documents, shared: &Shared) -> Result<Config, ConfigError> {
        let documents = Documents { texts: shared.clone(), ..documents.clone() };
        let next = Source { documents: Some(documents), ..self.clone() };
        next.parse(&next.text)
    }

    fn change_file(
        &self,
        change: &ClusterChange,
        file: &str,
        proposal: &mut Proposal,
    ) -> Result<(), Refusal> {
        let path = self.path.display();
        let edited = match change.edit(file) {
            Err(error) if error.is_unknown() && change.is_removal() => Edited::unchanged(file),
            Err(error) if error.is_unknown() => {
                let text =
                    format!("`{}` is not in {path}: repeat with --ephemeral, or add it first", change.name());
                return Err(Refusal::new(RefusalKind::Conflict, text));
            }
            edited => edited?,
        };
        let filed = self.parse(&edited.text)?;
        proposal.source.records = filed.records;
        let Parts { nodes, services, suffixes } = filed.cluster.into_parts();
        (proposal.source.nodes, proposal.source.services) = (nodes, services);
        proposal.source.suffixes = suffixes;
        if edited.text != proposal.source.text {
            let text =
                format!("{path} differs from what is in force: `dns-xdp reload` would bring it into force");
            proposal.notes.push(text);
        }
        if edited.text != file {
            // The operator needs the notes about the file more than those about the copy in force.
            let others = proposal.notes.split_off(0).into_iter().filter(|note| !edited.notes.contains(note));
            proposal.notes = edited.notes.iter().cloned().chain(others).collect();
            if self.is_filed(file) {
                proposal.source.filed.clone_from(&edited.text);
            }
            proposal.write = Some(edited.text);
        }
        Ok(())
    }
}

/// Returns a warning in the form that the answer to a command shows.
pub(super) fn as_note(warning: &str) -> String {
    format!("warning: {warning}")
}

/// Returns the refusal of a change, without the lines of its problems. The changed text is not in the file yet.
fn of_the_change(error: &ConfigError) -> Refusal {
    Refusal::new(RefusalKind::Invalid, error.without_lines())
}

#[cfg(test)]
mod tests {
    use super::super::cluster_change::{NodeChange, ServiceChange};
    use super::super::state::tests::{TEXT, config};
    use super::*;
    use crate::config::edit::ServiceKeys;
    use std::net::Ipv4Addr;

    fn source(text: &str) -> Source {
        let config = config(text);
        Source::new(&config.path, &config.control.socket, text.to_owned(), None).unwrap().0
    }

    fn add(name: &str, last: u8) -> ClusterChange {
        let ipv4 = Some(Ipv4Addr::new(192, 0, 2, last));
        ClusterChange::Node(NodeChange::Add { name: name.to_owned(), ipv4, ipv6: None, keys: Box::default() })
    }

    fn names(proposal: &Proposal) -> Vec<&str> {
        proposal.config.cluster.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn a_node_that_is_added_is_in_force_and_in_the_file() {
        let proposal = source(TEXT).change(&config(TEXT), &add("node4", 14), Some(TEXT)).unwrap();
        assert_eq!(names(&proposal), ["node1", "node2", "node3", "node4"]);
        assert_eq!(proposal.write.as_ref(), Some(&proposal.source.text));
        assert!(!proposal.config.cluster.nodes.iter().any(|node| proposal.source.ephemeral(node)));
        assert!(proposal.notes.is_empty());
    }

    #[test]
    fn an_ephemeral_node_is_in_force_only_until_it_is_added_for_good_or_forgotten() {
        let proposal = source(TEXT).change(&config(TEXT), &add("node4", 14), None).unwrap();
        assert_eq!((names(&proposal).len(), &proposal.write), (4, &None));
        assert!(proposal.source.ephemeral(&proposal.config.cluster.nodes[3]));

        let kept = proposal.source.change(&config(TEXT), &add("node4", 14), Some(TEXT)).unwrap();
        assert!(kept.write.is_some() && !kept.source.ephemeral(&kept.config.cluster.nodes[3]));

        let forgotten = proposal.source.reload(&proposal.config, TEXT.to_owned()).unwrap();
        assert_eq!(names(&forgotten), ["node1", "node2", "node3"]);
        assert_eq!(forgotten.notes, ["node4 removed"]);
    }

    #[test]
    fn a_node_that_the_file_does_not_have_cannot_be_changed_there() {
        let added = source(TEXT).change(&config(TEXT), &add("node4", 14), None).unwrap().source;
        let (name, ipv4) = ("node4".to_owned(), Some([192, 0, 2, 44].into()));
        let set = ClusterChange::Node(NodeChange::Set { name, ipv4, ipv6: None, keys: Box::default() });
        let refusal = added.change(&config(TEXT), &set, Some(TEXT)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        assert!(refusal.message.contains("repeat with --ephemeral"), "{refusal}");
        assert_eq!(
            added.change(&config(TEXT), &set, None).unwrap().config.cluster.nodes[3].ipv4,
            Some([192, 0, 2, 44].into())
        );
    }

    #[test]
    fn a_service_is_kept_in_the_file_or_forgotten_as_a_node_is() {
        let (name, nodes) = ("cache".to_owned(), vec!["node3".to_owned()]);
        let keys = ServiceKeys { nodes, ..ServiceKeys::default() };
        let add = ClusterChange::Service(ServiceChange::Add { name, keys });
        for (file, is_ephemeral) in [(Some(TEXT), false), (None, true)] {
            let proposal = source(TEXT).change(&config(TEXT), &add, file).unwrap();
            let [_, added] = &proposal.config.cluster.services[..] else { panic!("two services") };
            assert_eq!((added.name.as_str(), proposal.write.is_some()), ("cache", !is_ephemeral));
            assert_eq!(proposal.source.ephemeral_service(added), is_ephemeral);
        }
        let unknown = vec!["nobody".to_owned()];
        let keys = ServiceKeys { nodes: unknown, ..ServiceKeys::default() };
        let set = ServiceChange::Set { name: "db".to_owned(), keys };
        let refusal =
            source(TEXT).change(&config(TEXT), &ClusterChange::Service(set), Some(TEXT)).unwrap_err();
        assert!(refusal.kind == RefusalKind::Invalid && refusal.message.contains("nobody"), "{refusal}");
    }

    #[test]
    fn edits_that_wait_in_the_file_stay_there_and_are_pointed_out() {
        let waiting = TEXT.replace("192.0.2.13", "192.0.2.33");
        let proposal = source(TEXT).change(&config(TEXT), &add("node4", 14), Some(&waiting)).unwrap();
        assert_eq!(proposal.config.cluster.nodes[2].ipv4, Some([192, 0, 2, 13].into()));
        let written = proposal.write.unwrap();
        assert!(written.contains("192.0.2.33") && written.contains("node4"), "{written}");
        assert!(proposal.notes[0].contains("`dns-xdp reload`"), "{:?}", proposal.notes);
    }

    #[test]
    fn what_we_write_ourselves_is_in_force_unless_it_has_edits_that_wait() {
        let ephemeral = source(TEXT).change(&config(TEXT), &add("node5", 15), None).unwrap().source;
        let added = ephemeral.change(&config(TEXT), &add("node4", 14), Some(TEXT)).unwrap();
        assert!(added.source.is_filed(added.write.as_ref().unwrap()) && !added.source.is_filed(TEXT));

        let waiting = TEXT.replace("192.0.2.13", "192.0.2.33");
        let added = source(TEXT).change(&config(TEXT), &add("node4", 14), Some(&waiting)).unwrap();
        assert!(!added.source.is_filed(added.write.as_ref().unwrap()));
        let reloaded = added.source.reload(&added.config, waiting.clone()).unwrap();
        assert!(reloaded.source.is_filed(&waiting));
    }

    #[test]
    fn sections_of_a_file_without_nodes_are_not_written_to_the_store_and_that_is_said() {
        let local = "[listen]\ninterfaces = [\"eth0\"]\n[cluster]\nstore = \"etcd\"\n\
                     endpoints = [\"http://192.0.2.61:2379\"]\n";
        let (_, texts) = split(TEXT).unwrap();
        let documents = Documents { texts, ..Documents::default() };
        let path = Path::new("f");
        let (source, _) =
            Source::new(path, Path::new("/run/f.sock"), local.to_owned(), Some(documents)).unwrap();
        let push = |file: &str| source.push(&config(TEXT), file).unwrap();
        let pushed = push(&format!("{local}[failover]\nquorum = 1\n"));
        assert!(pushed.writes.is_empty());
        assert!(pushed.notes[0].starts_with("[failover] of f differ from the store"), "{:?}", pushed.notes);
        assert!(push(local).notes.is_empty());
    }

    #[test]
    fn watching_the_file_is_switched_without_a_restart() {
        let watched = format!("{TEXT}[control]\nwatch = true\n");
        let proposal = source(TEXT).reload(&config(TEXT), watched).unwrap();
        assert!(proposal.config.control.watch);
        assert_eq!(proposal.notes, ["[control] watch: default -> true"]);
    }

    #[test]
    fn a_change_that_makes_the_configuration_invalid_is_refused() {
        let refusal = source(TEXT).change(&config(TEXT), &add("node4", 13), Some(TEXT)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Invalid);
        assert!(refusal.message.contains("192.0.2.13"), "{refusal}");
        let remove = ClusterChange::Node(NodeChange::Remove { name: "nobody".to_owned() });
        let refusal = source(TEXT).change(&config(TEXT), &remove, Some(TEXT)).unwrap_err();
        assert_eq!(refusal.message, "there is no node `nobody`; `dns-xdp node list` shows them");
    }

    #[test]
    fn what_is_in_force_alone_or_in_the_file_alone_is_removed() {
        let remove = |name: &str| ClusterChange::Node(NodeChange::Remove { name: name.to_owned() });
        let added = source(TEXT).change(&config(TEXT), &add("node4", 14), None).unwrap();
        let proposal = added.source.change(&added.config, &remove("node4"), Some(TEXT)).unwrap();
        assert_eq!((names(&proposal).len(), proposal.write), (3, None));
        let removed = source(TEXT).change(&config(TEXT), &remove("node3"), None).unwrap();
        let proposal = removed.source.change(&removed.config, &remove("node3"), Some(TEXT)).unwrap();
        assert_eq!(names(&proposal).len(), 2);
        assert!(proposal.write.is_some_and(|text| !text.contains("\"node3\"")));
    }

    #[test]
    fn a_reload_says_what_it_changes() {
        let new = TEXT
            .replace("192.0.2.12", "192.0.2.22")
            .replace("backup = [\"node3\"]", "[node.health]\nport = 7000")
            .replace("\nname = \"node3\"\n", "\nname = \"node4\"\n")
            .replace("[listen]", "ttl = \"9s\"\n[listen]");
        let proposal = source(TEXT).reload(&config(TEXT), new).unwrap();
        let expected = [
            "[zone] ttl: default -> \"9s\"",
            "node2 ipv4: \"192.0.2.12\" -> \"192.0.2.22\"",
            "node2 [health] port: default -> 7000",
            "node2 backup: [\"node3\"] -> default",
            "node4 added: 192.0.2.13, ns = \"ns3\"",
            "node3 removed",
        ];
        assert_eq!(proposal.notes, expected);
        let same = source(TEXT).reload(&config(TEXT), TEXT.to_owned()).unwrap();
        assert_eq!(same.notes, ["nothing has changed"]);

        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "one").unwrap();
        let file = password.path().display();
        let text = format!("{TEXT}[health]\nprobe = \"redis\"\npassword-file = \"{file}\"\n");
        let (source, in_force) = (source(&text), config(&text));
        std::fs::write(password.path(), "two").unwrap();
        let other = source.reload(&in_force, text).unwrap();
        assert_eq!(
            other.notes,
            ["the text is the same; what it takes from another file or a name has changed"]
        );
    }

    #[test]
    fn a_reload_has_the_warnings_that_the_configuration_in_force_does_not_have() {
        let any = format!("{TEXT}[health]\nfamilies = \"any\"\n");
        let proposal = source(TEXT).reload(&config(TEXT), any.clone()).unwrap();
        let [warning] = &proposal.warnings[..] else { panic!("{:?}", proposal.warnings) };
        assert!(warning.starts_with("`families = \"any\"` has no effect"), "{warning}");
        let same = source(&any).reload(&config(&any), format!("{any}rise = 3\n")).unwrap();
        assert_eq!(same.warnings, <[String; 0]>::default());

        let (_, texts) = split(TEXT).unwrap();
        let local = "[listen]\ninterfaces = [\"eth0\"]\n[cluster]\nstore = \"etcd\"\n\
                     endpoints = [\"http://192.0.2.61:2379\"]\n";
        let documents = Documents { texts, ..Documents::default() };
        let path = Path::new("f");
        let (source, _) =
            Source::new(path, Path::new("/run/f.sock"), local.to_owned(), Some(documents)).unwrap();
        let (_, shared) = split(&any).unwrap();
        let file = format!("{local}{}", crate::store::documents::join(&shared));
        let notes = source.push(&config(TEXT), &file).unwrap().notes;
        assert!(notes.iter().any(|note| note.starts_with("warning: `families")), "{notes:?}");
    }

    #[test]
    fn sections_that_need_a_restart_are_refused_by_name() {
        let new = TEXT.replace("eth0", "eth1") + "[xdp]\nmode = \"off\"\n";
        let refusal = source(TEXT).reload(&config(TEXT), new).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        assert!(refusal.message.starts_with("[listen] and [xdp] of /etc/"), "{refusal}");
    }

    #[test]
    fn a_socket_named_on_the_command_line_stays_over_a_reload() {
        let path = Path::new("/etc/dns-xdp/dns-xdp.toml");
        let other = Path::new("/run/other.sock");
        let (source, config) = Source::new(path, other, TEXT.to_owned(), None).unwrap();
        assert_eq!(config.control.socket, other);
        let moved = format!("{TEXT}[control]\nsocket = \"/run/elsewhere.sock\"\n");
        assert_eq!(source.reload(&config, moved).unwrap().config.control.socket, other);
    }
}
