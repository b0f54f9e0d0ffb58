//! The meaning of an answer, independent of compression: two answers with the same meaning are equal here.
use hickory_proto::op::{Edns, Message, Metadata};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable};

/// The meaning of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Id, flags and response code.
    pub metadata: Metadata,
    /// The question in wire form, case and all.
    pub question: Vec<u8>,
    /// The records of the answer section, in the order of the rotation.
    pub answers: Vec<String>,
    /// The records of the authority section.
    pub authorities: Vec<String>,
    /// The records of the additional section, without OPT.
    pub additionals: Vec<String>,
    /// The OPT record.
    pub edns: Option<Edns>,
}

impl Meaning {
    /// Reads a message to its end.
    ///
    /// # Errors
    /// The message is invalid, or octets follow it.
    pub fn of(bytes: &[u8]) -> Result<Meaning, String> {
        let mut decoder = BinDecoder::new(bytes);
        let message = Message::read(&mut decoder)
            .map_err(|error| format!("the message cannot be read: {error}: {bytes:02x?}"))?;
        if !decoder.is_empty() {
            return Err(format!("the message has something behind it: {bytes:02x?}"));
        }
        let question = message.queries.iter().map(|query| query.to_bytes().map_or(0, |bytes| bytes.len()));
        let question: usize = question.sum();
        let records = |records: &[Record]| records.iter().map(ToString::to_string).collect();
        Ok(Meaning {
            metadata: message.metadata,
            question: bytes[12..12 + question].to_vec(),
            answers: records(&message.answers),
            authorities: records(&message.authorities),
            additionals: records(&message.additionals),
            edns: message.edns,
        })
    }

    /// The kind of this answer.
    pub fn kind(&self) -> String {
        let rcode = format!("{:?}", self.metadata.response_code);
        match (self.metadata.truncation, self.answers.is_empty()) {
            (true, _) => "truncated".to_owned(),
            (false, true) => rcode,
            (false, false) => rcode + " with answers",
        }
    }
}
