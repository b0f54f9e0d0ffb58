//! OPT in: size, DO, version, options; and OPT out (RFC 6891, section 6.1).
use crate::checksum::Sum;
use crate::frame::{Field, Frame, Region, forget};
use crate::outcome::{OrRefuse, Outcome};
use crate::question::qtype;
use crate::table::UDP_SIZE;

/// Octets of an OPT record without options.
pub const OPT_LENGTH: usize = 11;
/// Options that are looked through; queries have one or two.
const OPTIONS_MAX: usize = 8;
const OPTION_HEADER_LENGTH: usize = 4;
/// NSID (RFC 5001).
const OPTION_NSID: u16 = 3;
/// What fits without EDNS (RFC 1035, section 4.2.1).
const PLAIN_SIZE: u16 = 512;
const DO: u16 = 0x8000;
/// Root owner, type, our size, response code and version of 0, and the first octet of the flags.
const HEAD: u64 = {
    let [type_high, type_low] = qtype::OPT.to_be_bytes();
    let [size_high, size_low] = UDP_SIZE.to_be_bytes();
    u64::from_ne_bytes([0, type_high, type_low, size_high, size_low, 0, 0, 0])
};

const OWNER: Field<u8, 0> = Field::new();
const TYPE: Field<u16, 1> = Field::new();
const SIZE: Field<u16, 3> = Field::new();
const VERSION: Field<u8, 6> = Field::new();
const FLAGS: Field<u16, 7> = Field::new();
const OPTIONS_LENGTH: Field<u16, 9> = Field::new();
const OPTION_CODE: Field<u16, 0> = Field::new();
const OPTION_LENGTH: Field<u16, 2> = Field::new();

const OUT_HEAD: Field<u64, 0> = Field::new();
const OUT_TAIL: Field<u16, 8> = Field::new();
const OUT_LAST: Field<u8, 10> = Field::new();

/// What a query says by its OPT record, or by having none.
#[derive(Debug, Clone, Copy)]
pub struct Edns {
    /// The query has an OPT record, so the answer has one.
    pub present: bool,
    /// The first eight octets of the answer's OPT record.
    head: u64,
    /// The largest answer, in octets.
    pub limit: usize,
}

impl Edns {
    /// A query without EDNS.
    pub const NONE: Edns = Edns { present: false, head: 0, limit: PLAIN_SIZE as usize };

    /// Reads the OPT record that begins at `at` and has to end the message at `end`.
    #[inline(always)]
    pub fn read(frame: Frame, at: usize, end: usize) -> Result<Self, Outcome> {
        if at + OPT_LENGTH > end {
            return Outcome::Opt.refuse();
        }
        let opt: Region<OPT_LENGTH> = frame.region(at).or_refuse(Outcome::Opt)?;
        if opt.read(OWNER) != 0 || opt.read(TYPE) != qtype::OPT.to_be() {
            return Outcome::Opt.refuse();
        }
        if opt.read(VERSION) != 0 {
            return Outcome::EdnsVersion.refuse();
        }
        let behind = at + OPT_LENGTH + usize::from(u16::from_be(opt.read(OPTIONS_LENGTH)));
        if behind > end {
            return Outcome::Opt.refuse();
        }
        if behind < end {
            return Outcome::Trailing.refuse();
        }
        read_options(frame, at + OPT_LENGTH, end)?;
        let size = u16::from_be(opt.read(SIZE)).clamp(PLAIN_SIZE, UDP_SIZE);
        // DO is copied (RFC 3225, section 3); its octet is the last of the eight.
        let dnssec_ok = u64::from(opt.read(FLAGS) & DO.to_be()) << 56;
        Ok(Edns { present: true, head: HEAD | dnssec_ok, limit: usize::from(size) })
    }

    /// Octets of the answer's OPT record.
    #[inline(always)]
    pub fn length(&self) -> usize {
        if self.present { OPT_LENGTH } else { 0 }
    }

    /// Sum of the answer's OPT record as if it began at an even offset.
    #[inline(always)]
    pub fn sum(&self) -> Sum {
        Sum::ZERO.add_u64(self.head)
    }

    /// Writes the answer's OPT record.
    #[inline(always)]
    pub fn write(&self, frame: Frame, at: usize) -> Option<()> {
        let opt: Region<OPT_LENGTH> = frame.region(at)?;
        opt.write(OUT_HEAD, self.head);
        opt.write(OUT_TAIL, 0);
        opt.write(OUT_LAST, 0);
        Some(())
    }
}

/// Looks through the options from `at` to `end` for one that the responder has to answer.
#[inline(always)]
fn read_options(frame: Frame, mut at: usize, end: usize) -> Result<(), Outcome> {
    for _ in 0..OPTIONS_MAX {
        if at == end {
            return Ok(());
        }
        if at + OPTION_HEADER_LENGTH > end {
            return Outcome::Opt.refuse();
        }
        let option: Region<OPTION_HEADER_LENGTH> = frame.region(at).or_refuse(Outcome::Opt)?;
        if option.read(OPTION_CODE) == OPTION_NSID.to_be() {
            return Outcome::Nsid.refuse();
        }
        let length = u16::from_be(option.read(OPTION_LENGTH));
        // Before it is bounded, or a length of some KiB too much would come out as one that fits.
        let behind = at + OPTION_HEADER_LENGTH + usize::from(length);
        if behind > end {
            return Outcome::Opt.refuse();
        }
        at = forget(behind, u64::from(length));
    }
    if at == end { Ok(()) } else { Outcome::OptionCount.refuse() }
}
