//! DNS queries in wire form, valid or not.
use super::octets;

/// QTYPEs and types (RFC 1035, section 3.2.2; RFC 3596).
pub const A: u16 = 1;
/// See [`A`].
pub const AAAA: u16 = 28;
/// The type of an OPT record (RFC 6891, section 6.1.1).
pub const OPT: u16 = 41;
/// Class IN.
pub const IN: u16 = 1;
/// RD: recursion is desired.
pub const RD: u16 = 0x0100;
/// CD: checking is disabled.
pub const CD: u16 = 0x0010;
/// DO: the client understands DNSSEC, among the flags of an OPT record.
pub const DO: u16 = 0x8000;

/// A query under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The identification.
    pub id: u16,
    /// QR, opcode, flags and response code.
    pub flags: u16,
    /// Questions, answers, authorities and additionals; `None`: the valid counts.
    pub counts: Option<[u16; 4]>,
    /// The question: name, type and class.
    pub question: Vec<u8>,
    /// The additional record.
    pub opt: Option<Opt>,
    /// The octets after the records.
    pub trailing: Vec<u8>,
}

/// An OPT record (RFC 6891, section 6.1.2), or other data in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    /// The owner name.
    pub owner: Vec<u8>,
    /// The type.
    pub rtype: u16,
    /// The client's UDP size in octets.
    pub size: u16,
    /// The upper bits of a response code, which a query does not have.
    pub extended_rcode: u8,
    /// The version.
    pub version: u8,
    /// DO and reserved bits.
    pub flags: u16,
    /// Octets of the options; `None`: the valid length.
    pub length: Option<u16>,
    /// The options.
    pub options: Vec<u8>,
}

impl Message {
    /// A message with a question only.
    pub fn query(qname: &[u8], qtype: u16, qclass: u16) -> Self {
        let question = [qname, &octets(&[qtype, qclass])].concat();
        Message { id: 0xa1b2, flags: 0, counts: None, question, opt: None, trailing: Vec::new() }
    }

    /// The same message with this OPT record.
    pub fn with(self, opt: Opt) -> Self {
        Message { opt: Some(opt), ..self }
    }

    /// The message in wire form.
    pub fn bytes(&self) -> Vec<u8> {
        let additionals = u16::from(self.opt.is_some());
        let counts = self.counts.unwrap_or([1, 0, 0, additionals]);
        let mut bytes = octets(&[self.id, self.flags]);
        bytes.extend(octets(&counts));
        bytes.extend(&self.question);
        bytes.extend(self.opt.iter().flat_map(Opt::bytes));
        bytes.extend(&self.trailing);
        bytes
    }
}

impl Opt {
    /// An OPT record of a client that accepts this many octets.
    pub fn of_size(size: u16) -> Self {
        let (owner, options) = (vec![0], Vec::new());
        Opt { owner, rtype: OPT, size, extended_rcode: 0, version: 0, flags: 0, length: None, options }
    }

    fn bytes(&self) -> Vec<u8> {
        let options = u16::try_from(self.options.len()).expect("options have less than 64 KiB");
        let mut bytes = self.owner.clone();
        bytes.extend(octets(&[self.rtype, self.size]));
        bytes.extend([self.extended_rcode, self.version]);
        bytes.extend(octets(&[self.flags, self.length.unwrap_or(options)]));
        bytes.extend(&self.options);
        bytes
    }
}

/// An EDNS option.
pub fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("an option has less than 64 KiB");
    [&octets(&[code, length]), value].concat()
}

/// A name in wire form: labels that end in a dot each, or the root as an empty text.
pub fn name(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in text.split_terminator('.') {
        octets.push(u8::try_from(label.len()).expect("a label has at most 63 octets"));
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets
}
