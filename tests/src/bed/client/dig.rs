//! The real `dig` and what it prints, as a value.
//!
//! It is for tests of what a user of that tool sees: its EDNS, cookies and other options, and how dig reads the
//! answers. Other tests ask through [`Client`](super::Client), which starts no process.
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bed::netns::Namespace;
use crate::bed::process;

/// A response as dig shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    /// `qr`, `aa`, `rd`, …
    pub flags: Vec<String>,
    /// The name in the question section, as the server echoed it.
    pub question: String,
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authority: Vec<Record>,
    /// The additional section, without OPT.
    pub additional: Vec<Record>,
    /// The server's own EDNS size in bytes; none without an OPT record.
    pub edns_size: Option<u16>,
    /// The whole output of dig.
    pub text: String,
}

/// One line of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The owner's name, with the final dot.
    pub name: String,
    /// In seconds.
    pub ttl: u32,
    /// `A`, `NS`, …
    pub rtype: String,
    /// The data, in the notation of zone files.
    pub data: String,
}

impl Reply {
    /// The data of the answer's records of one type, sorted.
    pub fn data(&self, rtype: &str) -> Vec<&str> {
        let of_type = self.answers.iter().filter(|record| record.rtype == rtype);
        let mut data: Vec<&str> = of_type.map(|record| record.data.as_str()).collect();
        data.sort_unstable();
        data
    }

    /// Whether the header has this flag, `aa` for one.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }
}

/// Asks `server` once, from a namespace; the arguments are dig's own.
///
/// # Errors
/// Dig gets no answer or is not installed.
pub fn dig(from: &Namespace, server: IpAddr, arguments: &[&str]) -> Result<Reply> {
    let mut command = Command::new("dig");
    command.args([&format!("@{server}"), "+tries=1", "+time=1"]).args(arguments);
    let text = from.enter(|| process::succeed(&mut command, ""))?;
    parse(&text).with_context(|| format!("cannot read what dig prints:\n{text}"))
}

fn parse(text: &str) -> Result<Reply> {
    let header = text.lines().find_map(|line| line.strip_prefix(";; ->>HEADER<<- ")).context("no header")?;
    let status = header.split(", ").find_map(|part| part.strip_prefix("status: ")).context("no status")?;
    let flags = text.lines().find_map(|line| line.strip_prefix(";; flags: ")).context("no flags")?;
    let flags = flags.split(';').next().unwrap_or_default().split_whitespace().map(String::from);
    let edns = text.lines().find_map(|line| line.strip_prefix("; EDNS: "));
    let edns_size = edns.and_then(|line| line.rsplit("udp: ").next()).map(str::parse).transpose()?;
    let question = section(text, "QUESTION").next().and_then(|line| line.strip_prefix(';'));
    let question = question.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    Ok(Reply {
        status: status.into(),
        flags: flags.collect(),
        question: question.into(),
        answers: records(text, "ANSWER")?,
        authority: records(text, "AUTHORITY")?,
        additional: records(text, "ADDITIONAL")?,
        edns_size,
        text: text.into(),
    })
}

fn section<'text>(text: &'text str, name: &str) -> impl Iterator<Item = &'text str> + use<'text> {
    let heading = format!(";; {name} SECTION:");
    text.lines().skip_while(move |line| *line != heading).skip(1).take_while(|line| !line.is_empty())
}

fn records(text: &str, name: &str) -> Result<Vec<Record>> {
    section(text, name)
        .filter(|line| !line.starts_with(';'))
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            ensure!(fields.len() > 4, "no record: {line}");
            Ok(Record {
                name: fields[0].into(),
                ttl: fields[1].parse()?,
                rtype: fields[3].into(),
                data: fields[4..].join(" "),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERRAL: &str = "
; <<>> DiG 9.18.49 <<>> @192.0.2.53 node1.demo.example.com
;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 12803
;; flags: qr rd; QUERY: 1, ANSWER: 0, AUTHORITY: 1, ADDITIONAL: 2
;; WARNING: recursion requested but not available

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags:; udp: 1232
;; QUESTION SECTION:
;Node1.demo.example.com.		IN	A

;; AUTHORITY SECTION:
demo.example.com.	60	IN	NS	ns1.demo.example.com.

;; ADDITIONAL SECTION:
ns1.demo.example.com.	60	IN	A	192.0.2.11

;; Query time: 0 msec
";

    #[test]
    fn a_reply_is_read_section_by_section() {
        let reply = parse(REFERRAL).unwrap();
        assert_eq!((reply.status.as_str(), reply.question.as_str()), ("NOERROR", "Node1.demo.example.com."));
        assert!(reply.has_flag("qr") && !reply.has_flag("aa"));
        assert_eq!(reply.edns_size, Some(1232));
        assert!(reply.answers.is_empty());
        assert_eq!(reply.authority[0].data, "ns1.demo.example.com.");
        assert_eq!((reply.additional[0].ttl, reply.additional[0].data.as_str()), (60, "192.0.2.11"));
    }
}
