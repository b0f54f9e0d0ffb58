//! `query`: shows what a query would be answered, from where, and why.
use hickory_proto::rr::RecordType;

use super::{Format, completion, print, print_json};
use crate::control::api::QueryAnswer;
use crate::control::{Client, Command};
use crate::records::{record_type, type_text};

pub(super) const EXAMPLE: &str = "Example: dns-xdp query node1 AAAA";

#[derive(Debug, clap::Args)]
pub(super) struct Query {
    /// The name, relative to the zone or in full
    #[arg(add = completion::nodes())]
    name: String,
    /// The query type
    #[arg(value_name = "TYPE", default_value = "A", value_parser = qtype)]
    qtype: RecordType,
    #[command(flatten)]
    format: Format,
}

fn qtype(text: &str) -> Result<RecordType, String> {
    record_type(text).ok_or_else(|| format!("there is no type {text}; try A, AAAA, NS or SOA"))
}

impl Query {
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let command = Command::Query { name: self.name, qtype: type_text(self.qtype) };
        if self.format.json {
            return print_json(&client.call(&command).await?);
        }
        print(&text(&client.ask(&command).await?))
    }
}

fn text(answer: &QueryAnswer) -> String {
    let QueryAnswer { name, r#type: qtype, rcode, path, why, .. } = answer;
    let ttl = answer.ttl.map(|ttl| format!(", ttl {ttl}s")).unwrap_or_default();
    let mut text = format!("{name} {qtype}: {rcode}{ttl}, answered by {path}: {why}\n");
    for data in &answer.answers {
        text.push_str(data);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_who_answers_and_why() {
        let answer = QueryAnswer {
            name: "node2.demo.example.com.".to_owned(),
            r#type: "A".to_owned(),
            rcode: "NOERROR".to_owned(),
            answers: vec!["192.0.2.11".to_owned()],
            ttl: Some(5),
            path: "xdp".to_owned(),
            why: "node2 is down, node1 answers for it".to_owned(),
        };
        let expected = "node2.demo.example.com. A: NOERROR, ttl 5s, answered by xdp: \
                        node2 is down, node1 answers for it\n192.0.2.11\n";
        assert_eq!(text(&answer), expected);
    }
}
