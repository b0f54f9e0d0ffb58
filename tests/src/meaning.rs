//! What a response says, however it is compressed.
use hickory_proto::op::{Message, Metadata};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncodable;

/// Octets of a header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// A response taken apart; two that are equal say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Id, opcode, flags and rcode, an OPT record's part of it included.
    pub metadata: Metadata,
    /// The question as it is spelt.
    pub question: Vec<u8>,
    /// The answer section, in the order of the records.
    pub answers: Vec<String>,
    /// The authority section.
    pub authorities: Vec<String>,
    /// The additional section, without OPT.
    pub additionals: Vec<String>,
    /// The OPT record.
    pub edns: Option<String>,
}

impl Meaning {
    /// Reads a response.
    ///
    /// # Errors
    /// It is no DNS message.
    pub fn of(bytes: &[u8]) -> Result<Meaning, String> {
        let message = Message::from_vec(bytes).map_err(|error| format!("{error}: {bytes:02x?}"))?;
        let question = message.queries.iter().map(|query| query.to_bytes().map_or(0, |bytes| bytes.len()));
        let question: usize = question.sum();
        // In their order, which is that of the rotation.
        let records = |records: &[Record]| records.iter().map(ToString::to_string).collect();
        Ok(Meaning {
            metadata: message.metadata,
            question: bytes[HEADER..HEADER + question].to_vec(),
            answers: records(&message.answers),
            authorities: records(&message.authorities),
            additionals: records(&message.additionals),
            edns: message.edns.map(|opt| format!("{opt:?}")),
        })
    }

    /// In a word: the rcode, whether there are answers, or that they did not fit.
    pub fn kind(&self) -> String {
        let rcode = format!("{:?}", self.metadata.response_code);
        match (self.metadata.truncation, self.answers.is_empty()) {
            (true, _) => "truncated".to_owned(),
            (false, true) => rcode,
            (false, false) => rcode + " with answers",
        }
    }
}
