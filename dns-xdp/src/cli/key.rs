//! `key`: makes a key for DNS UPDATE. It needs no daemon and changes nothing.
use anyhow::anyhow;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use data_encoding::BASE64;
use hickory_proto::rr::Name;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::print;
use crate::config::shown;
use crate::records::full_name;
use crate::update::Algorithm;

pub(super) const EXAMPLE: &str = "Example: dns-xdp key generate certbot >> /etc/dns-xdp/dns-xdp.toml";

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Print a new key: its section of the configuration, and its file for nsupdate in comments
    #[command(after_help = "Example: dns-xdp key generate certbot --algorithm hmac-sha512")]
    Generate {
        /// The name of the key, which the client names too
        #[arg(value_parser = name)]
        name: Name,
        /// The algorithm of the signatures
        #[arg(long, default_value = "hmac-sha256", value_parser = algorithms())]
        algorithm: String,
    },
}

fn algorithms() -> PossibleValuesParser {
    Algorithm::ALL.map(|(text, _)| text).into()
}

fn name(text: &str) -> Result<Name, String> {
    let name = full_name(text, &Name::root()).map_err(|problem| format!("the name {problem}"))?;
    if name.is_root() {
        return Err("write a name such as certbot".to_owned());
    }
    Ok(name.to_lowercase())
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Key::Generate { name, algorithm } = self;
        let known = Algorithm::ALL.into_iter().find(|(text, _)| *text == algorithm);
        let (_, algorithm) = known.ok_or_else(|| anyhow!("there is no algorithm {algorithm}"))?;
        let mut secret = vec![0; algorithm.octets()];
        let random = SystemRandom::new().fill(&mut secret);
        random.map_err(|_| anyhow!("the kernel gave no random octets; try again"))?;
        print(&stanza(&name, algorithm, &secret))
    }
}

/// Returns the section of the configuration. The client's file is in comments, which begin with `#: `.
fn stanza(name: &Name, algorithm: Algorithm, secret: &[u8]) -> String {
    let (name, algorithm, secret) = (shown(name), algorithm.text(), BASE64.encode(secret));
    format!(
        "\
[[key]]
name = {name:?}
algorithm = {algorithm:?}
secret = {secret:?}
[[key.grant]]
names = [\"_acme-challenge.*\"]
types = [\"TXT\"]
# The client's file, for nsupdate -k: the lines behind `#: `.
#: key {name:?} {{
#:     algorithm {algorithm};
#:     secret {secret:?};
#: }};
"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const FILE: &str = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n[[node]]\n\
                        name = \"node1\"\nipv4 = \"192.0.2.11\"\n";

    #[test]
    fn the_printed_section_is_a_key_of_the_configuration() {
        for (_, algorithm) in Algorithm::ALL {
            let certbot = name("Certbot.example.org.").unwrap();
            let text = stanza(&certbot, algorithm, &vec![7; algorithm.octets()]);
            let config = Config::parse(&format!("{FILE}{text}"), Path::new("f")).unwrap();
            let [key] = &config.updates.keys[..] else { panic!("one key") };
            assert_eq!((&key.name, key.algorithm), (&certbot, algorithm));
            assert_eq!(key.secret.octets(), vec![7; algorithm.octets()]);
            let file: String = text
                .lines()
                .filter_map(|line| line.strip_prefix("#: "))
                .map(|line| format!("{line}\n"))
                .collect();
            assert!(file.starts_with("key \"certbot.example.org\" {\n    algorithm hmac-"), "{file}");
        }
        assert!(name(".").is_err() && name("a..b").is_err());
    }
}
