//! Writes an answer in wire form: once, in order, up to a size limit.
//!
//! Names are compressed against the question's name and against names that were written whole before (RFC 1035, section
//! 4.1.4). The SOA of negative answers is not compressed, as in the program, so that both paths truncate at the same
//! length.
use std::collections::HashMap;
use std::sync::Arc;

use dns_xdp_ebpf::message::HEADER_LENGTH;
use dns_xdp_ebpf::table::SOA_MAX;
use hickory_proto::op::{Header, HeaderCounts, Metadata, Query};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::zone::{EncodedNameServers, soa_octets};

/// A pointer to a name, with its offset in the lower bits.
const POINTER: u16 = 0xc000;

/// An OPT record (RFC 6891, section 6.1.2).
#[derive(Debug)]
pub(super) struct OutgoingOpt {
    /// The UDP size that this server accepts, in octets.
    pub(super) payload_size: u16,
    /// The upper eight bits of the response code.
    pub(super) rcode_high: u8,
    /// Whether the DO bit is set.
    pub(super) dnssec_ok: bool,
    /// The options as code and data.
    pub(super) options: Vec<(u16, Vec<u8>)>,
}

/// An answer before it is encoded.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Id, flags and the lower bits of the response code.
    pub(super) metadata: Metadata,
    /// The question; `None`: the query has no readable question.
    pub(super) question: Option<Query>,
    /// The records of the three sections.
    pub(super) records: Records,
    /// The OPT.
    pub(super) opt: Option<OutgoingOpt>,
}

/// The records of an answer.
#[derive(Debug)]
pub(super) enum Records {
    /// Records to encode.
    Plain {
        /// The answer section.
        answers: Vec<Record>,
        /// The authority section.
        authorities: Vec<Record>,
        /// The additional section. The records of an RRset follow each other.
        additionals: Vec<Record>,
    },
    /// The name servers, as encoded for an earlier query.
    NameServers(Arc<EncodedNameServers>),
}

impl Records {
    /// No records.
    pub(super) const NONE: Records =
        Records::Plain { answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new() };
}

/// Encodes NS records and glue as they follow `question`. Names point to the question by its offset. The result
/// therefore fits every question with a name of the same length.
pub(super) fn encode_name_servers(
    question: &Query,
    answers: &[Record],
    glue: &[Record],
) -> EncodedNameServers {
    let mut writer = Writer::new(Some(question), usize::MAX);
    let question_end = writer.octets.len();
    writer.records(answers);
    let answers_end = writer.octets.len();
    let additionals = if writer.records(glue) { glue.len() as u16 } else { 0 };
    EncodedNameServers {
        octets: writer.octets.split_off(question_end),
        answers_length: answers_end - question_end,
        answers: answers.len() as u16,
        additionals,
    }
}

impl Outgoing {
    /// Returns the message in at most `limit` octets. Leaves out all glue, or each additional RRset, that does not fit.
    /// That does not count as truncation (RFC 2181, section 9). If the rest does not fit either, sets TC and writes only
    /// question and OPT.
    pub(super) fn write(&self, limit: usize) -> Vec<u8> {
        let mut writer = Writer::new(self.question.as_ref(), limit.saturating_sub(self.opt_length()));
        let question_end = writer.octets.len();
        let queries = u16::from(self.question.is_some());
        let mut counts = HeaderCounts { queries, ..HeaderCounts::default() };
        let fits = match &self.records {
            Records::Plain { answers, authorities, additionals } => {
                counts.answers = answers.len() as u16;
                counts.authorities = authorities.len() as u16;
                let fits = writer.records(answers) && writer.records(authorities);
                if fits {
                    counts.additionals = writer.additionals(additionals);
                }
                fits
            }
            Records::NameServers(encoded) => {
                let (answers, glue) = encoded.octets.split_at(encoded.answers_length);
                counts.answers = encoded.answers;
                let fits = writer.encoded(answers);
                if fits && writer.encoded(glue) {
                    counts.additionals = encoded.additionals;
                }
                fits
            }
        };
        let mut metadata = self.metadata;
        if !fits {
            metadata.truncation = true;
            writer.octets.truncate(question_end);
            counts = HeaderCounts { queries, ..HeaderCounts::default() };
        }
        let mut octets = writer.octets;
        if let Some(opt) = &self.opt {
            opt.write(&mut octets);
            counts.additionals += 1;
        }
        let header = Header { metadata, counts }.to_bytes().unwrap_or_default();
        for (place, octet) in octets.iter_mut().zip(header) {
            *place = octet;
        }
        octets
    }

    fn opt_length(&self) -> usize {
        let mut octets = Vec::new();
        if let Some(opt) = &self.opt {
            opt.write(&mut octets);
        }
        octets.len()
    }
}

impl OutgoingOpt {
    fn write(&self, octets: &mut Vec<u8>) {
        const ROOT_AND_TYPE: [u8; 3] = [0, 0, 41];
        let options: Vec<u8> = self
            .options
            .iter()
            .flat_map(|(code, data)| {
                let length = data.len() as u16;
                [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
            })
            .collect();
        octets.extend(ROOT_AND_TYPE);
        octets.extend(self.payload_size.to_be_bytes());
        octets.extend([self.rcode_high, 0, u8::from(self.dnssec_ok) << 7, 0]);
        octets.extend((options.len() as u16).to_be_bytes());
        octets.extend(options);
    }
}

/// Writes a message after its header.
struct Writer<'m> {
    octets: Vec<u8>,
    limit: usize,
    question: Option<&'m Name>,
    /// Offsets of written names that are neither the question's name nor above it.
    written: HashMap<&'m Name, u16>,
}

impl<'m> Writer<'m> {
    fn new(question: Option<&'m Query>, limit: usize) -> Self {
        let mut writer =
            Writer { octets: vec![0; HEADER_LENGTH], limit, question: None, written: HashMap::new() };
        if let Some(query) = question {
            writer.whole_name(query.name());
            writer.octets.extend(u16::from(query.query_type()).to_be_bytes());
            writer.octets.extend(u16::from(query.query_class()).to_be_bytes());
            writer.question = Some(query.name());
        }
        writer
    }

    /// Writes records. Returns `false`, and stops, when the limit is passed.
    fn records(&mut self, records: &'m [Record]) -> bool {
        records.len() <= usize::from(u16::MAX)
            && records.iter().all(|record| {
                self.record(record);
                self.octets.len() <= self.limit
            })
    }

    /// Writes the RRsets that fit. Returns how many records were written.
    fn additionals(&mut self, records: &'m [Record]) -> u16 {
        let mut count = 0;
        let is_one_set =
            |one: &Record, next: &Record| (&one.name, one.record_type()) == (&next.name, next.record_type());
        for set in records.chunk_by(is_one_set) {
            let start = self.octets.len();
            if self.records(set) {
                count += set.len() as u16;
            } else {
                self.octets.truncate(start);
                self.written.retain(|_, offset| usize::from(*offset) < start);
            }
        }
        count
    }

    /// Copies encoded records. Returns `false`, and copies none, if they exceed the limit.
    fn encoded(&mut self, records: &[u8]) -> bool {
        let fits = self.octets.len() + records.len() <= self.limit;
        if fits {
            self.octets.extend(records);
        }
        fits
    }

    fn record(&mut self, record: &'m Record) {
        self.name(&record.name);
        self.octets.extend(u16::from(record.record_type()).to_be_bytes());
        self.octets.extend(u16::from(record.dns_class).to_be_bytes());
        self.octets.extend(record.ttl.to_be_bytes());
        let length_at = self.octets.len();
        self.octets.extend([0; 2]);
        match &record.data {
            RData::A(address) => self.octets.extend(address.octets()),
            RData::AAAA(address) => self.octets.extend(address.octets()),
            RData::NS(target) => self.name(&target.0),
            RData::CNAME(target) => self.name(&target.0),
            RData::PTR(target) => self.name(&target.0),
            RData::MX(mx) => {
                self.octets.extend(mx.preference.to_be_bytes());
                self.name(&mx.exchange);
            }
            RData::SOA(soa) => self.soa(soa),
            other => self.other(other),
        }
        let length = (self.octets.len() - length_at - 2) as u16;
        for (place, octet) in self.octets.iter_mut().skip(length_at).zip(length.to_be_bytes()) {
            *place = octet;
        }
    }

    /// Writes an SOA. If it is too long for the program, only the responder sends it, so it is compressed.
    fn soa(&mut self, soa: &'m SOA) {
        if soa_octets(soa) > SOA_MAX {
            self.name(&soa.mname);
            self.name(&soa.rname);
        } else {
            self.whole_name(&soa.mname);
            self.whole_name(&soa.rname);
        }
        self.octets.extend(soa.serial.to_be_bytes());
        for timer in [soa.refresh, soa.retry, soa.expire] {
            self.octets.extend(timer.to_be_bytes());
        }
        self.octets.extend(soa.minimum.to_be_bytes());
    }

    /// Writes data without names that could be compressed.
    fn other(&mut self, data: &RData) {
        let mut octets = Vec::new();
        if data.emit(&mut BinEncoder::new(&mut octets)).is_ok() {
            self.octets.extend(octets);
        }
    }

    /// Writes a name. Replaces its end by a pointer if an earlier name has the same end.
    fn name(&mut self, name: &'m Name) {
        if let Some(&offset) = self.written.get(name) {
            self.octets.extend((POINTER | offset).to_be_bytes());
            return;
        }
        let (own, pointer) = self.against_question(name);
        if own != 0
            && let Ok(offset) = u16::try_from(self.octets.len())
            && offset < POINTER.wrapping_neg()
        {
            self.written.insert(name, offset);
        }
        for label in name.iter().take(own) {
            self.label(label);
        }
        self.octets.extend(match pointer {
            Some(offset) => (POINTER | offset).to_be_bytes().to_vec(),
            None => vec![0],
        });
    }

    /// Returns how many of the name's first labels are not in the question's name, and the offset of the rest.
    fn against_question(&self, name: &Name) -> (usize, Option<u16>) {
        let labels = name.iter().len();
        let Some(question) = self.question else { return (labels, None) };
        let same = name.iter().rev().zip(question.iter().rev());
        let common = same.take_while(|(ours, theirs)| ours.eq_ignore_ascii_case(theirs)).count();
        if common == 0 {
            return (labels, None);
        }
        let before = question.iter().take(question.iter().len() - common).map(|label| 1 + label.len());
        (labels - common, Some((HEADER_LENGTH + before.sum::<usize>()) as u16))
    }

    fn whole_name(&mut self, name: &Name) {
        name.iter().for_each(|label| self.label(label));
        self.octets.push(0);
    }

    fn label(&mut self, label: &[u8]) {
        // A label has at most 63 octets.
        self.octets.push(label.len() as u8);
        self.octets.extend(label);
    }
}
