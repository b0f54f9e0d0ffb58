//! The keys of `probe = "tcp"`: a connection alone, or with a text and its reply.
use toml::de::DeValue;

use super::super::field::{self, Read};
use super::super::table_reader::TableReader;
use super::{REDIS_PORT, pattern};
use crate::cluster::{Expect, ProbeKind, TcpDialogue};

pub(super) fn tcp(section: &mut TableReader<'_>, usual: &ProbeKind) -> ProbeKind {
    let (usual_port, dialogue) = match usual {
        ProbeKind::Tcp { port } => (*port, None),
        ProbeKind::TcpDialogue(dialogue) => (dialogue.port, Some(dialogue.clone())),
        _ => (REDIS_PORT, None),
    };
    let (usual_send, usual_expect) =
        dialogue.map_or((None, None), |dialogue| (dialogue.send, Some(dialogue.expect)));
    let port = section.value("port", field::port).unwrap_or(usual_port);
    let send = section.value("send", filled).or(usual_send);
    match expect(section).or(usual_expect) {
        Some(expect) => ProbeKind::TcpDialogue(TcpDialogue { port, send, expect }),
        None => {
            if !section.has("expect") && !section.has("expect-regex") {
                section.without_effect(&[("send", |_| false)], "`expect` or `expect-regex`");
            }
            ProbeKind::Tcp { port }
        }
    }
}

fn expect(section: &mut TableReader<'_>) -> Option<Expect> {
    let text = section.value("expect", filled).map(Expect::Text);
    let pattern = section.located("expect-regex", pattern);
    if let (Some(pattern), true) = (&pattern, section.has("expect")) {
        section.problem(pattern.at, "`expect-regex` is beside `expect`; remove one of them");
    }
    text.or(pattern.map(|pattern| Expect::Pattern(pattern.value)))
}

/// Reads a text that is not empty.
fn filled(value: &DeValue<'_>) -> Read<String> {
    const WANTED: &str = "a text such as \"PING\\r\\n\"";
    let text = field::text(value, WANTED)?;
    if text.is_empty() {
        return Err(format!("is empty; write {WANTED}, or leave it out"));
    }
    Ok(text.to_owned())
}
