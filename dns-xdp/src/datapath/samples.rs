//! The queried names: switches the program's samples on while an operator looks, and reads the name in each sample.
use std::fmt::Write as _;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, MapData, RingBuf};
use dns_xdp_ebpf::sample::{SAMPLES, SAMPLING, Sample, Sampling};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use nix::time::{ClockId, clock_gettime};

use super::Error;
use super::maps::take;

/// How long the program samples after the last request.
pub const SAMPLING_LIFE: Duration = Duration::from_secs(4);
/// The most samples of one call, more than the ring holds. The call therefore ends even if the ring fills as fast as it
/// is read.
const MOST: usize = 1024;

/// The program's ring of samples and its switch.
pub(super) struct Samples {
    ring: RingBuf<MapData>,
    sampling: Array<MapData, [u8; size_of::<Sampling>()]>,
}

impl Samples {
    /// Takes the maps of a loaded object.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, Error> {
        Ok(Samples { ring: take(object, SAMPLES)?, sampling: take(object, SAMPLING)? })
    }

    /// Returns the names in the samples since the last call, in the form of [`presented`]. Leaves out frames without a
    /// name.
    pub(super) fn names(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..MOST {
            let Some(sample) = self.ring.next() else { break };
            names.extend(frame(&sample).and_then(qname).as_ref().map(presented));
        }
        names
    }

    /// Makes the program sample one frame of `one_of`, a power of two, for [`SAMPLING_LIFE`] from now.
    pub(super) fn go_on(&mut self, one_of: u64) -> Result<(), Error> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|errno| {
            Error::new("cannot read the clock until which names are sampled").because(errno.into())
        })?;
        let until = Duration::from(now) + SAMPLING_LIFE;
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        let sampling = Sampling { until, mask: one_of.saturating_sub(1) };
        self.sampling.set(0, sampling.to_bytes(), 0).map_err(|error| Error::map(SAMPLING, error))
    }
}

/// Returns the octets of the frame in a sample.
fn frame(sample: &[u8]) -> Option<&[u8]> {
    let at = std::mem::offset_of!(Sample, frame);
    let words = u32::from_ne_bytes(*sample.first_chunk()?);
    sample.get(at..at + 4 * words as usize)
}

/// Returns the question's name of a query or an answer. The program's own parser reads only queries.
fn qname(frame: &[u8]) -> Option<Name> {
    const VLAN: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
    const ETHERNET: usize = 12;
    const UDP_AND_DNS: usize = 8 + 12;
    let ethertype = |at: usize| frame.get(at..at + 2)?.first_chunk::<2>().copied();
    let mut at = ETHERNET;
    for _ in 0..2 {
        at += if VLAN.contains(&ethertype(at)?) { 4 } else { 0 };
    }
    let ip = at + 2;
    let message = match ethertype(at)? {
        [0x08, 0x00] => ip + 4 * usize::from(frame.get(ip)? & 0x0f),
        [0x86, 0xdd] => ip + 40,
        _ => return None,
    };
    // The slice begins with the name, so a compression pointer has nothing to point to, and is refused.
    Name::read(&mut BinDecoder::new(frame.get(message + UDP_AND_DNS..)?)).ok()
}

/// Returns a name in lower case. Escapes everything but letters, digits, `-` and `_` (RFC 1035, section 5.1), because
/// names come from outside and go to terminals.
fn presented(name: &Name) -> String {
    let mut text = String::new();
    for label in name {
        for octet in label {
            match octet.to_ascii_lowercase() {
                plain @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') => text.push(plain.into()),
                other => write!(text, "\\{other:03}").expect("a string takes every octet"),
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x05NoDe1\x07example\0";

    fn ipv4(link: &[u8]) -> Vec<u8> {
        [&[0; 12], link, &[8, 0, 0x45], &[0; 19], &[0; 8 + 12], NAME, &[0, 1, 0, 1]].concat()
    }

    #[test]
    fn the_name_is_found_behind_every_link_and_family_that_the_program_knows() {
        let ipv6 = [&[0; 12][..], &[0x86, 0xdd, 0x60], &[0; 39], &[0; 8 + 12], NAME].concat();
        let tag = [0x81, 0, 0, 5];
        let frames = [ipv4(&[]), ipv4(&tag), ipv4(&[&[0x88, 0xa8, 0, 5], &tag[..]].concat()), ipv6];
        for frame in frames {
            assert_eq!(qname(&frame).as_ref().map(presented).as_deref(), Some("node1.example."));
        }
    }

    #[test]
    fn no_octets_at_all_make_the_reading_of_a_name_fail_otherwise_than_by_none() {
        let whole = ipv4(&[]);
        for length in 0..whole.len() - 4 {
            assert_eq!(qname(&whole[..length]), None, "{length}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let mut frame = whole.clone();
            for _ in 0..4 {
                let at = random.usize(..frame.len());
                frame[at] = random.u8(..);
            }
            if let Some(name) = qname(&frame) {
                assert!(presented(&name).bytes().all(|octet| octet.is_ascii_graphic()));
            }
        }
    }

    #[test]
    fn compressed_and_overlong_names_are_no_names() {
        let behind = |name: &[u8]| [&ipv4(&[])[..12 + 2 + 20 + 20], name].concat();
        assert_eq!(qname(&behind(b"\xc0\x0c\0")), None);
        let long = [&[63; 64][..]; 4].concat();
        assert_eq!(qname(&behind(&[&long[..], &[0]].concat())), None);
        assert_eq!(qname(&behind(b"\0")).as_ref().map(presented).as_deref(), Some("."));
    }

    #[test]
    fn what_could_move_a_terminal_is_escaped() {
        let name = Name::read(&mut BinDecoder::new(b"\x08\x1b[2J\n.\"\x80\x01a\0")).unwrap();
        assert_eq!(presented(&name), "\\027\\0912j\\010\\046\\034\\128.a.");
    }

    #[test]
    fn a_sample_that_claims_more_than_it_has_is_none() {
        let mut sample = vec![0; size_of::<Sample>()];
        sample[..4].copy_from_slice(&2_u32.to_ne_bytes());
        assert_eq!(frame(&sample).map(<[u8]>::len), Some(8));
        sample[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(frame(&sample), None);
    }
}
