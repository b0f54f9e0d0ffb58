//! DNS cookies (RFC 7873). All servers of a cluster with the same secret make the same cookies (RFC 9018).
//!
//! ```text
//!  client cookie | version 1 | reserved | timestamp | SipHash-2-4(client cookie | version … timestamp | address)
//!  8 octets        1           3          4           8
//! ```
//! Words are as they lie in memory. SipHash reads little-endian words, and so does this machine.
pub use crate::message::OPTION_COOKIE as OPTION;
use crate::table::Local;
pub use crate::table::{SECRETS_MAX, Secret};

/// Octets of a client cookie.
pub const CLIENT_LENGTH: usize = 8;
/// Octets of a client cookie and this program's server cookie together (RFC 9018, section 4).
pub const LENGTH: usize = 24;
/// The server cookie's first octet (RFC 9018, section 4.1).
const VERSION: u8 = 1;
/// Times in seconds (RFC 9018, section 4.3). A cookie is valid for `LIFE`. After `FRESH` the answer carries a new one.
/// The servers' clocks may differ by `AHEAD`.
const LIFE: i32 = 3600;
const FRESH: i32 = 1800;
const AHEAD: i32 = 300;

/// A whole cookie: the client's, and the server's in two words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Cookie {
    /// The client's cookie.
    pub client: u64,
    /// Version, reserved octets and timestamp.
    pub head: u64,
    /// The hash of that word and of the client's cookie and address.
    pub hash: u64,
}

impl Cookie {
    /// No cookie.
    pub const NONE: Cookie = Cookie { client: 0, head: 0, hash: 0 };
}

/// Whether an option of this many octets can be a cookie (RFC 7873, section 5.2.2).
#[inline(always)]
pub const fn well_formed(length: usize) -> bool {
    length == CLIENT_LENGTH || (length >= 16 && length <= 40)
}

/// The secrets and the present time.
#[derive(Debug, Clone, Copy)]
pub struct CookieKeys<'s> {
    /// The first secret makes cookies, all verify them.
    pub secrets: &'s [Secret; SECRETS_MAX],
    /// Number of secrets. 0: cookies are ignored.
    pub count: u64,
    /// Seconds since 1970, modulo 2^32 (RFC 9018, section 4.3).
    pub now: u32,
}

impl CookieKeys<'_> {
    /// Returns whether a server with these secrets gave the client at `address` this cookie within the last hour.
    ///
    /// Afterwards `cookie` is the one for the answer: the same if it is fresh, otherwise a new one. A cookie of the
    /// second secret is renewed with the first secret (RFC 9018, section 5).
    #[inline(always)]
    pub fn verify_or_renew(&self, cookie: &mut Cookie, address: [u64; 2]) -> bool {
        let mut valid = false;
        let age = self.now.wrapping_sub(u32::from_be((cookie.head >> 32) as u32)) as i32;
        if cookie.head as u8 == VERSION && (-AHEAD..=LIFE).contains(&age) {
            let [first, second] = self.secrets;
            if cookie.hash == hash(first, cookie.client, cookie.head, address) {
                if age <= FRESH {
                    return true;
                }
                valid = true;
            } else if self.count > 1 {
                valid = cookie.hash == hash(second, cookie.client, cookie.head, address);
            }
        }
        self.renew(cookie, address);
        valid
    }

    /// Makes a server cookie for the client's.
    #[inline(always)]
    pub fn renew(&self, cookie: &mut Cookie, address: [u64; 2]) {
        cookie.head = u64::from(VERSION) | u64::from(self.now.to_be()) << 32;
        cookie.hash = hash(&self.secrets[0], cookie.client, cookie.head, address);
    }
}

/// Returns the hash of a server cookie. `address` is the client's, in the form of [`Local`].
#[inline(always)]
fn hash(secret: &Secret, client: u64, head: u64, [high, low]: [u64; 2]) -> u64 {
    let mut state = SipHash::new(secret);
    state.block(client);
    state.block(head);
    if high == Local::IPV4 {
        state.block(low | 20 << 56);
    } else {
        state.block(high);
        state.block(low);
        state.block(32 << 56);
    }
    state.finish()
}

/// SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
struct SipHash([u64; 4]);

impl SipHash {
    #[inline(always)]
    fn new(Secret([low, high]): &Secret) -> Self {
        SipHash([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Takes in 8 octets. The last block has the length in its highest octet.
    #[inline(always)]
    fn block(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;
    use crate::table::address_words;

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        core::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    fn words<const N: usize>(hex: &str) -> [u64; N] {
        core::array::from_fn(|at| u64::from_ne_bytes(octets(&hex[16 * at..])))
    }

    fn cookie(client: &str, server: &str) -> Cookie {
        let [client] = words(client);
        let [head, hash] = words(server);
        Cookie { client, head, hash }
    }

    fn of(address: &str) -> [u64; 2] {
        address_words(address.parse::<IpAddr>().unwrap())
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const NONE: &str = "00000000000000000000000000000000";

    #[test]
    fn the_examples_of_rfc_9018_appendix_a_come_out() {
        // The examples, in order: a client without a server cookie, a fresh cookie, another client's cookie with
        // reserved octets, and a new secret over IPv6.
        let examples = [
            (
                SECRET,
                NONE,
                "198.51.100.100",
                1_559_731_985,
                "2464c4abcf10c957",
                NONE,
                false,
                "010000005cf79f111f8130c3eee29480",
            ),
            (
                SECRET,
                NONE,
                "198.51.100.100",
                1_559_734_385,
                "2464c4abcf10c957",
                "010000005cf79f111f8130c3eee29480",
                true,
                "010000005cf7a871d4a564a1442aca77",
            ),
            (
                SECRET,
                NONE,
                "203.0.113.203",
                1_559_727_985,
                "fc93fc62807ddb86",
                "01abcdef5cf78f71a314227b6679ebf5",
                true,
                "01abcdef5cf78f71a314227b6679ebf5",
            ),
            (
                "445536bcd2513298075a5d379663c962",
                "dd3bdf9344b678b185a6f5cb60fca715",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961,
                "22681ab97d52c298",
                "010000005cf7c57926556bd0934c72f8",
                true,
                "010000005cf7c609a6bb79d16625507a",
            ),
        ];
        for (first, second, address, now, client, server, valid, answered) in examples {
            let secrets = [first, second].map(|hex| Secret::new(octets(hex)));
            let keys = CookieKeys { secrets: &secrets, count: 2, now };
            let mut cookie = cookie(client, server);
            assert_eq!(keys.verify_or_renew(&mut cookie, of(address)), valid, "{address}");
            let [head, hash] = words(answered);
            assert_eq!((cookie.head.to_be(), cookie.hash.to_be()), (head.to_be(), hash.to_be()), "{address}");
        }
    }

    #[test]
    fn a_cookie_counts_for_its_owner_its_time_and_its_secret_only() {
        let secrets = [SECRET, NONE].map(|hex| Secret::new(octets(hex)));
        let made = cookie("2464c4abcf10c957", "010000005cf79f111f8130c3eee29480");
        let valid = |cookie: Cookie, address: &str, now: u32| {
            CookieKeys { secrets: &secrets, count: 1, now }.verify_or_renew(&mut { cookie }, of(address))
        };
        let (owner, time) = ("198.51.100.100", 1_559_731_985);
        for (address, now, counts) in [
            (owner, time, true),
            (owner, time + 3600, true),
            (owner, time + 3601, false),
            (owner, time - 300, true),
            (owner, time - 301, false),
            ("198.51.100.101", time, false),
        ] {
            assert_eq!(valid(made, address, now), counts, "{address} at {now}");
        }
        for bit in 0..64 {
            assert!(
                !valid(Cookie { client: made.client ^ 1 << bit, ..made }, owner, time),
                "client, bit {bit}"
            );
            assert!(!valid(Cookie { head: made.head ^ 1 << bit, ..made }, owner, time), "head, bit {bit}");
            assert!(!valid(Cookie { hash: made.hash ^ 1 << bit, ..made }, owner, time), "hash, bit {bit}");
        }
    }

    #[test]
    fn the_lengths_of_rfc_7873_are_cookies() {
        let good: Vec<usize> = (0..64).filter(|length| well_formed(*length)).collect();
        let expected: Vec<usize> = std::iter::once(8).chain(16..=40).collect();
        assert_eq!(good, expected);
    }
}
