//! The command line, with one file for each verb.
//!
//! `columns`, `words`, `terminal` and `refresh` are for output. The work of a verb is in the other modules, or in the
//! daemon.
mod bench;
mod check;
mod cluster;
mod columns;
mod completion;
mod delegation;
mod doctor;
#[cfg(test)]
mod documented;
mod events;
mod key;
mod node;
mod query;
mod record;
mod refresh;
mod reload;
mod run;
mod service;
mod stats;
mod status;
mod suffix;
mod terminal;
mod top;
mod unload;
mod wait;
mod words;
mod zone;

use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::Value;

use crate::config::{Config, ConfigError, DEFAULT_SOCKET, UnloadPaths};
use crate::control::api::Done;
use crate::control::{CallError, Client, Command};
use crate::controller::Unloaded;
use crate::log;
use crate::pin_directory;
use crate::store::{self, Loaded};
use crate::unprivileged;

/// Where the configuration is unless an option names another file.
const DEFAULT_FILE: &str = "/etc/dns-xdp/dns-xdp.toml";

const EXAMPLE: &str = "\
Example: dns-xdp check && dns-xdp doctor && systemctl enable --now dns-xdp && dns-xdp status

The configuration is /etc/dns-xdp/dns-xdp.toml. Exit code 0: the effect is visible to clients; 1: refused or failed; 2: wrong
usage or configuration; 3: only warnings; 4: a `run` that `dns-xdp unload` has ended.";

/// An eBPF/XDP accelerated DNS responder for clusters that clients find through DNS.
#[derive(Debug, Parser)]
#[command(name = "dns-xdp", version, arg_required_else_help = true, after_help = EXAMPLE)]
pub struct Args {
    /// Control socket of the daemon; for `run` and `unload` it overrides the configuration's
    /// [default: /run/dns-xdp/control.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon in the foreground
    #[command(after_help = run::EXAMPLE)]
    Run(run::Run),
    /// Validate the configuration and print what each name would answer, and from where
    #[command(after_help = check::EXAMPLE)]
    Check(ConfigFile),
    /// Make the daemon read its configuration file again; an invalid file changes nothing
    #[command(after_help = reload::EXAMPLE)]
    Reload(reload::Reload),
    /// Show the interfaces, the quorum, every node and the guaranteed repair time
    #[command(after_help = status::EXAMPLE)]
    Status(status::Status),
    /// Show a live screen: rates, nodes, events, and the most asked names
    #[command(after_help = top::EXAMPLE)]
    Top(top::Top),
    /// List and change the nodes, and take them out of the answers
    #[command(subcommand, after_help = node::EXAMPLE)]
    Node(node::Node),
    /// List and change the services: names that answer their healthy nodes
    #[command(subcommand, after_help = service::EXAMPLE)]
    Service(service::Service),
    /// List and change the suffixes: other names under which every name of the zone is repeated
    #[command(subcommand, after_help = suffix::EXAMPLE)]
    Suffix(suffix::Suffix),
    /// List and change the static records of the zone, such as TXT, SRV and CNAME
    #[command(subcommand, after_help = record::EXAMPLE)]
    Record(record::Record),
    /// Make a key for clients that change records by DNS UPDATE, such as certbot and nsupdate
    #[command(subcommand, after_help = key::EXAMPLE)]
    Key(key::Key),
    /// Show and change the configuration that the servers of a shared store have in common
    #[command(subcommand, after_help = cluster::EXAMPLE)]
    Cluster(cluster::Cluster),
    /// Print the zone as a zone file, or take the records of a zone file
    #[command(subcommand, after_help = zone::EXAMPLE)]
    Zone(zone::Zone),
    /// Show what a query would be answered, from where, and why
    #[command(after_help = query::EXAMPLE)]
    Query(query::Query),
    /// Show past events, or follow new ones
    #[command(after_help = events::EXAMPLE)]
    Events(events::Events),
    /// Show every counter
    #[command(after_help = stats::EXAMPLE)]
    Stats(Format),
    /// Time the program over this zone's own names, on one core, without any traffic
    #[command(after_help = bench::EXAMPLE)]
    Bench(bench::Bench),
    /// Show what the parent zone has to hold, and verify that clients see it
    #[command(subcommand, after_help = delegation::EXAMPLE)]
    Delegation(delegation::Delegation),
    /// Find what keeps this machine from answering, and show what to do about it
    #[command(after_help = doctor::EXAMPLE)]
    Doctor(doctor::Doctor),
    /// Detach and unpin the programs that outlive a stopped daemon
    #[command(after_help = unload::EXAMPLE)]
    Unload(ConfigFile),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Format {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Returns the whole command line, for man pages and completion.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the command of the arguments. Writes an error to stderr, and ignores a failure to do so.
pub fn run(args: Args) -> ExitCode {
    let code = match dispatch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::tell(format_args!("{error:#}"));
            ExitCode::from(exit_code(&error))
        }
    };
    log::finish();
    code
}

fn dispatch(args: Args) -> anyhow::Result<()> {
    let socket = args.socket;
    let client = || Client::new(socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)));
    match args.verb {
        Verb::Run(run) => run.run(socket),
        Verb::Bench(bench) => bench.run(socket),
        Verb::Doctor(doctor) => doctor.run(socket),
        Verb::Check(file) => check::check(&file.load(socket)?),
        Verb::Delegation(delegation) => delegation.run(),
        Verb::Cluster(cluster) => cluster.run(&client()),
        Verb::Unload(file) => unload::unload(&file.remains(socket)?),
        Verb::Reload(reload) => briefly(reload.run(&client())),
        Verb::Status(status) => briefly(status.run(&client())),
        Verb::Top(top) => briefly(top.run(&client())),
        Verb::Node(node) => briefly(node.run(&client())),
        Verb::Service(service) => briefly(service.run(&client())),
        Verb::Suffix(suffix) => briefly(suffix.run(&client())),
        Verb::Record(record) => briefly(record.run(&client())),
        Verb::Key(key) => key.run(),
        Verb::Zone(zone) => zone.run(&client()),
        Verb::Query(query) => briefly(query.run(&client())),
        Verb::Events(events) => briefly(events.run(&client())),
        Verb::Stats(format) => briefly(stats::stats(&client(), &format)),
    }
}

/// Returns the exit code of an error. 1: refused or failed; 2: wrong usage (which clap finds) or configuration. 3:
/// `delegation verify` and `doctor` have warnings only. 4: `unload` has ended the daemon.
fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(unsound) = error.downcast_ref::<delegation::Unsound>() {
        return unsound.exit_code();
    }
    match error.downcast_ref::<ConfigError>() {
        Some(ConfigError::Store { .. }) => return 1,
        Some(ConfigError::Unreadable { .. } | ConfigError::Invalid { .. } | ConfigError::Pin { .. }) => {
            return 2;
        }
        None => {}
    }
    if error.downcast_ref::<Unloaded>().is_some() {
        return Unloaded::EXIT_CODE;
    }
    if let Some(found) = error.downcast_ref::<doctor::Found>() {
        return found.exit_code();
    }
    match error.downcast_ref::<CallError>() {
        Some(CallError::Refused(refusal)) => refusal.kind.exit_code(),
        _ => 1,
    }
}

impl ConfigFile {
    fn default_file() -> Self {
        ConfigFile { config: DEFAULT_FILE.into() }
    }

    fn load(&self, socket: Option<PathBuf>) -> Result<Config, ConfigError> {
        let loaded = self.load_all(socket)?;
        if let Some(trouble) = loaded.trouble {
            log::tell(format_args!(
                "warning: this is the last good copy of the cluster's documents: {trouble}"
            ));
        }
        if let Some(unread) = loaded.unread {
            log::tell(format_args!("warning: {unread}"));
        }
        Ok(loaded.config)
    }

    /// Loads the configuration, and the place that it comes from.
    fn load_all(&self, socket: Option<PathBuf>) -> Result<Loaded, ConfigError> {
        let loading = async { Ok(store::load(&self.config).await) };
        let mut loaded = briefly(loading).map_err(|error| ConfigError::Store {
            path: self.config.clone(),
            reason: format!("{error:#}"),
        })??;
        if let Some(socket) = socket {
            loaded.config.control.socket = socket;
        }
        Ok(loaded)
    }

    fn remains(&self, socket: Option<PathBuf>) -> Result<UnloadPaths, ConfigError> {
        let remains = UnloadPaths::load(&self.config)?;
        pin_directory::removable(&remains.pin).map_err(|unfit| ConfigError::pin(&self.config, unfit))?;
        Ok(UnloadPaths { socket: socket.unwrap_or(remains.socket), ..remains })
    }
}

/// Runs a future to its end on one thread. The runtime's pool looks names up, and a look-up may outlast the future.
fn briefly<T>(conversation: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().on_thread_start(unprivileged::give_up_all).build();
    let runtime = runtime.context("cannot start the asynchronous runtime")?;
    let result = runtime.block_on(conversation);
    // Does not wait for a look-up that hangs.
    runtime.shutdown_background();
    result
}

/// Asks the daemon for a change and prints its notes.
async fn change(client: &Client, command: &Command) -> anyhow::Result<Done> {
    let done: Done = client.ask(command).await?;
    for note in &done.notes {
        log::tell(note);
    }
    Ok(done)
}

/// Prints data to stdout. A reader that stops early (`| head`) is not an error.
fn print(text: &str) -> anyhow::Result<()> {
    print_if_read(text).map(drop)
}

/// Prints like [`print`], and returns `false` if the reader is gone.
fn print_if_read(text: &str) -> anyhow::Result<bool> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}

fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::control::{Refusal, RefusalKind};
    use crate::pin_directory::Unfit;

    /// Returns every verb below a command, with the words that lead to it.
    fn verbs(command: &clap::Command, words: &str) -> Vec<(String, clap::Command)> {
        let below = command.get_subcommands().filter(|verb| verb.get_name() != "help");
        let with_its_own = |verb: &clap::Command| {
            let words = format!("{words} {}", verb.get_name());
            let mut all = verbs(verb, &words);
            all.push((words, verb.clone()));
            all
        };
        below.flat_map(with_its_own).collect()
    }

    #[test]
    fn every_verb_has_an_example_of_itself_that_is_understood() {
        let mut command = command();
        command.build();
        command.clone().debug_assert();
        let all = verbs(&command, "dns-xdp");
        assert!(all.len() > 15, "{}", all.len());
        for (words, verb) in all {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let line = help.strip_prefix("Example: ").unwrap_or_else(|| panic!("{words}: {help}"));
            assert!(line.starts_with(&words), "{words}: {line}");
            let line = line.lines().next().unwrap_or_default();
            // The rest of the line is for the shell.
            let line =
                line.split(" && ").flat_map(|line| line.split(" >")).flat_map(|line| line.split(" | "));
            let line = line.map(str::trim_end).next().unwrap_or_default();
            // Blanks within quotes are replaced for a moment.
            let quoted: Vec<String> = line.split('\'').map(str::to_owned).collect();
            let whole = |(index, part): (usize, &String)| {
                if index % 2 == 1 { part.replace(' ', "_") } else { part.clone() }
            };
            let line: String = quoted.iter().enumerate().map(whole).collect();
            Args::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_look_up_that_hangs_is_not_waited_for() {
        let began = Instant::now();
        let told = briefly(async {
            drop(tokio::task::spawn_blocking(|| thread::sleep(Duration::from_secs(60))));
            Ok("done")
        });
        assert_eq!(told.unwrap(), "done");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }

    #[test]
    fn help_of_a_verb_and_the_nearest_verb_are_at_hand() {
        let said = |line: &str| Args::try_parse_from(line.split(' ')).unwrap_err().to_string();
        for line in [
            "dns-xdp help node",
            "dns-xdp help node drain",
            "dns-xdp node help drain",
            "dns-xdp node drain --help",
        ] {
            assert!(said(line).contains("Example: dns-xdp node drain"), "{line}: {}", said(line));
        }
        assert!(said("dns-xdp statsu").contains("'stat"), "{}", said("dns-xdp statsu"));
        assert!(said("dns-xdp node drian node1").contains("'drain'"));
    }

    #[test]
    fn the_verbs_of_the_contract_are_understood() {
        let lines = [
            "run --config f --replace",
            "check --config f",
            "reload",
            "reload --force",
            "status --json",
            "status --watch",
            "status --watch 0.5",
            "top --no-names",
            "--socket s node list --json",
            "node add node4 --ipv4 192.0.2.14 --ipv6 2001:db8::14 --ephemeral",
            "node set node4 --ipv4 192.0.2.15",
            "node remove node4 --socket s --wait",
            "node down node1 --reason disk --for 2h --wait",
            "node up node1 --for 1h30m",
            "node auto node1 --reason done",
            "node failback node1",
            "node drain node1 --local",
            "node auto node1 --local",
            "node drain node1 --reason upgrade --for 45m --force --wait",
            "record list --json",
            "record add _x._tcp SRV a --ttl 1m --ephemeral",
            "record add x type65280 a b",
            "record add x TXT --ttl 5s -- -a",
            "record set x TXT --ttl 5s",
            "record remove x TXT",
            "record remove x TXT a",
            "zone export --configured --config f",
            "zone import f",
            "zone import f --print --config g",
            "query node1",
            "query node1 aaaa --json",
            "events --follow --json",
            "events --since 57",
            "events --since 10m",
            "stats --json",
            "bench --config f --json --seconds 10",
            "delegation show --config f --format terraform-aws --ttl 5m --parent example.com",
            "delegation verify --config f --parent-ns 192.0.2.53 --resolver 2001:db8::53 --json",
            "unload",
            "doctor --config f --json",
        ];
        for line in lines {
            let words = std::iter::once("dns-xdp").chain(line.split(' '));
            Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "",
            "node add node4",
            "node set node4",
            "bench --seconds 0",
            "node add n --ipv4 ::1",
            "query a NONSENSE",
            "record add x TXT",
            "record add x NONSENSE a",
            "record add x TXT a --ttl soon",
            "record set x TXT",
            "zone import",
            "zone import f --config g",
            "node drain",
            "node drain n --for soon",
            "node drain n --for 0s",
            "node drain n --for 2y",
            "node auto n --for 5m",
            "node auto n --wait",
            "node up n --wait",
            "node up n --force",
            "node down n --force",
            "node remove n --force",
            "node list --wait",
            "events --since yesterday",
            "delegation",
            "delegation show --format zonefile",
            "delegation show --ttl 1.5",
            "delegation show --ttl 500ms",
            "delegation show --parent a..b",
            "delegation verify --parent-ns ns.example.com",
            "status --watch 0",
            "status --watch --json",
            "top --json",
            "halt",
        ] {
            let words = std::iter::once("dns-xdp").chain(line.split_whitespace());
            assert_eq!(Args::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
        for words in [&["drain", ""][..], &["remove", " "], &["down", "n", "--reason", ""]] {
            let words = ["dns-xdp", "node"].iter().chain(words);
            assert_eq!(Args::try_parse_from(words.clone()).unwrap_err().exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn the_units_exit_codes_are_those_of_the_daemon() {
        let unit = include_str!("../../dist/dns-xdp.service");
        let codes = |key: &str| {
            let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().split(' ').collect::<Vec<_>>()
        };
        let unloaded = Unloaded::EXIT_CODE.to_string();
        assert_eq!(codes("RestartPreventExitStatus"), ["2", &unloaded]);
        assert_eq!(codes("SuccessExitStatus"), [&unloaded]);
    }

    #[test]
    fn exit_codes_tell_refusals_from_wrong_configuration() {
        let refused = |kind| anyhow::Error::new(CallError::Refused(Refusal::new(kind, "no")));
        let wrong = Config::parse("", Path::new("f")).unwrap_err();
        let unfit = Unfit::MountRoot { pin: "/".into(), own: Vec::new() };
        let cases = [
            (anyhow::Error::new(Unloaded), 4),
            (refused(RefusalKind::Conflict), 1),
            (refused(RefusalKind::Invalid), 2),
            (anyhow::anyhow!("failed"), 1),
            (anyhow::Error::new(wrong), 2),
            (anyhow::Error::new(ConfigError::pin(Path::new("f"), unfit)), 2),
        ];
        for (error, code) in cases {
            assert_eq!(exit_code(&error.context("while testing")), code);
        }
    }
}
