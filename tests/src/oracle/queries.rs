//! Queries of every kind: names in, near and outside a zone, in any case, over any transport, well formed or nearly so.
use crate::oracle::frames::message::{A, AAAA, CD, DO, IN, Message, OPT, Opt, RD, name, option};
use crate::oracle::frames::{Checksum, Datagram, SERVICE_TAG, TAG};
use crate::oracle::table::zone::{over_ipv4, over_ipv6};
use crate::oracle::zones::wire;
use dns_xdp::zone::Zone;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The server cookie of [`COOKIES`](crate::oracle::table::zone::COOKIES) for the IPv4 client, computed by the reference
/// implementation of SipHash-2-4.
const OWN_COOKIE: [u8; 24] = [
    0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57, 1, 0, 0, 0, 0x5c, 0xf7, 0x9f, 0x11, 0xdf, 0x6d, 0x44,
    0xfa, 0x5e, 0xc6, 0xf1, 0xa8,
];

/// The most octets that a short name of the zone has beyond the apex, and the fewest octets of a long name.
const SHORT: usize = 22;
const LONG: usize = 250;
/// From this many octets of name and addresses on, an answer may exceed 512 octets. An address record has
/// [`ADDRESS_OCTETS`].
const LARGE: usize = 450;
const ADDRESS_OCTETS: usize = 16;
/// Types that some server treats specially, and some ordinary ones.
const TYPES: &[u16] =
    &[0, 2, 5, 6, 12, 13, 15, 16, 33, 35, 37, 39, 41, 43, 46, 64, 65, 127, 128, 249, 250, 252, 255, 256, 257];

/// Positions of octets in a message, and their new values.
type Disturbance = Vec<(Index, u8)>;

/// Messages in their frames, which are themselves well formed.
pub fn datagrams(zone: &Zone) -> impl Strategy<Value = Datagram> + use<> {
    let tags = select(vec![
        vec![],
        vec![(TAG, 5)],
        vec![(SERVICE_TAG, 6), (TAG, 7)],
        vec![(TAG, 0xe000)],
        vec![(TAG, 0), (TAG, 5)],
    ]);
    let checksum = select(vec![Checksum::Whole, Checksum::Whole, Checksum::Zero, Checksum::Partial]);
    (messages(zone), any::<bool>(), tags, checksum, 0..64_usize, disturbance()).prop_map(
        |(message, ipv6, tags, checksum, padding, disturbance)| {
            let datagram = if ipv6 { over_ipv6(&message) } else { over_ipv4(&message) };
            let message = disturbed(datagram.message, &disturbance);
            Datagram { tags, checksum, padding: vec![0x5a; padding], message, ..datagram }
        },
    )
}

/// Messages in wire form, some of them damaged.
pub fn octets(zone: &Zone) -> impl Strategy<Value = Vec<u8>> + use<> {
    (messages(zone), disturbance())
        .prop_map(|(message, disturbance)| disturbed(message.bytes(), &disturbance))
}

/// The same messages, each with another id than its neighbours. In sequence they turn a rotating RRset to each of its
/// positions.
pub fn identified(messages: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    // An odd step reaches all ids.
    let ids = (0..=u16::MAX).cycle().map(|nth| nth.wrapping_mul(0x9e37));
    let identify = |(mut message, id): (Vec<u8>, u16)| {
        if let [high, low, ..] = &mut *message {
            [*high, *low] = id.to_be_bytes();
        }
        message
    };
    messages.into_iter().zip(ids).map(identify).collect()
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    prop_oneof![19 => Just(Vec::new()), 1 => vec((any::<Index>(), any::<u8>()), 1..4)]
}

fn disturbed(mut message: Vec<u8>, disturbance: &Disturbance) -> Vec<u8> {
    for (at, octet) in disturbance {
        *at.get_mut(&mut message) = *octet;
    }
    message
}

/// Messages with valid parts, or with one invalid part.
pub fn messages(zone: &Zone) -> impl Strategy<Value = Message> + use<> {
    let qtypes = prop_oneof![
        12 => select(vec![A, AAAA]),
        2 => select(TYPES),
        1 => any::<u16>(),
    ];
    let qclasses = prop_oneof![38 => Just(IN), 1 => select(vec![0, 3, 4, 254, 255]), 1 => any::<u16>()];
    let flags = prop_oneof![
        20 => select(vec![0, RD, CD, RD | CD]),
        3 => any::<u16>().prop_map(|flags| flags & 0x05f0),
        1 => any::<u16>(),
    ];
    let counts = weighted(0.02, [0..3_u16, 0..2_u16, 0..2_u16, 0..3_u16]);
    let trailing = prop_oneof![30 => Just(Vec::new()), 1 => vec(any::<u8>(), 1..20)];
    let question = (qnames(zone), qtypes, qclasses);
    (any::<u16>(), flags, counts, question, weighted(0.6, opts()), trailing).prop_map(
        |(id, flags, counts, (qname, qtype, qclass), opt, trailing)| {
            let plain = Message::query(&qname, qtype, qclass);
            Message { id, flags, counts, opt, trailing, ..plain }
        },
    )
}

/// Names in wire form: names of the zone, their neighbours, others, and invalid names, in upper and lower case.
fn qnames(zone: &Zone) -> impl Strategy<Value = Vec<u8>> + use<> {
    let label = || vec(any::<u8>(), 1..20);
    let spelt = prop_oneof![
        20 => names_of(zone),
        3 => (label(), names_of(zone)).prop_map(|(label, above)| prefixed(&above, &label)),
        1 => (Just(wire(zone.apex())), vec(label(), 1..14)).prop_map(|(apex, labels)| {
            labels.iter().fold(apex, |above, label| prefixed(&above, label))
        }),
        3 => (names_of(zone), any::<Index>(), any::<u8>()).prop_map(|(mut qname, at, octet)| {
            *at.get_mut(&mut qname) = octet;
            qname
        }),
        2 => select(foreign(zone)),
        1 => vec(any::<u8>(), 0..40),
    ];
    (spelt, any::<u64>()).prop_map(|(mut qname, upper)| {
        for (at, octet) in qname.iter_mut().enumerate() {
            // The lengths of labels have no case.
            if upper >> (at % 64) & 1 == 1 {
                octet.make_ascii_uppercase();
            }
        }
        qname
    })
}

/// Names that exist. Short names, long names and names with many addresses come more often than others.
fn names_of(zone: &Zone) -> impl Strategy<Value = Vec<u8>> + use<> {
    let all: Vec<(Vec<u8>, usize)> =
        zone.names().map(|(name, addresses)| (wire(name), addresses.iter().count())).collect();
    let apex_octets = wire(zone.apex()).len();
    let those = |which: &dyn Fn(usize, usize) -> bool| {
        let those = all.iter().filter(|(name, addresses)| which(name.len(), *addresses));
        let those: Vec<Vec<u8>> = those.map(|(name, _)| name.clone()).collect();
        if those.is_empty() { vec![wire(zone.apex())] } else { those }
    };
    prop_oneof![
        4 => select(those(&|octets, _| octets <= apex_octets + SHORT)),
        1 => select(those(&|_, _| true)),
        1 => select(those(&|octets, _| octets >= LONG)),
        2 => select(those(&|octets, addresses| octets + addresses * ADDRESS_OCTETS > LARGE)),
    ]
}

/// Names outside the zone that are near its apex: above it, beside it, and names that contain it, but not at the end.
fn foreign(zone: &Zone) -> Vec<Vec<u8>> {
    let apex = wire(zone.apex());
    let labels = zone.apex().num_labels().into();
    let mut names: Vec<Vec<u8>> = (0..labels).map(|count| wire(&zone.apex().trim_to(count))).collect();
    let (mut beside, mut longer, last) = (apex.clone(), apex.clone(), apex.len() - 1);
    if last > 0 {
        beside[last - 1] ^= 1;
        longer.insert(1, b'x');
        longer[0] += 1;
    }
    names.extend([beside, longer, [&apex[..last], b"\x01x\0"].concat()]);
    // Within a label the octets of the apex are no labels.
    names.extend(
        u8::try_from(last)
            .ok()
            .filter(|last| (1..64).contains(last))
            .map(|length| [&[length], &apex[..last], b"\0"].concat()),
    );
    names
}

fn prefixed(above: &[u8], label: &[u8]) -> Vec<u8> {
    let length = u8::try_from(label.len()).expect("labels of the tests are short");
    [&[length], label, above].concat()
}

fn opts() -> impl Strategy<Value = Opt> {
    let options = vec(
        prop_oneof![
            12 => vec(any::<u8>(), 8..=8).prop_map(|cookie| option(10, &cookie)),
            4 => vec(any::<u8>(), 24..=24).prop_map(|cookie| option(10, &cookie)),
            3 => Just(option(10, &OWN_COOKIE)),
            1 => vec(any::<u8>(), 0..45).prop_map(|cookie| option(10, &cookie)),
            8 => (any::<u16>(), vec(any::<u8>(), 0..30)).prop_map(|(code, value)| option(code, &value)),
            1 => Just(option(3, &[])),
            // Its length is too large by a multiple of 2048.
            1 => (1..32_u8).prop_map(|times| [&[0, 10, 8 * times, 8], &[0; 8][..]].concat()),
        ],
        0..3,
    );
    let size =
        prop_oneof![3 => select(vec![0, 512, 513, 1232, 4096, 65_535]), 3 => 500..800_u16, 1 => any::<u16>()];
    let version = prop_oneof![40 => Just(0), 1 => any::<u8>()];
    let flags = prop_oneof![4 => select(vec![0, DO]), 1 => any::<u16>()];
    let length = weighted(0.03, 0..60_u16);
    let rtype = prop_oneof![30 => Just(OPT), 1 => any::<u16>()];
    let owner = prop_oneof![30 => Just(vec![0]), 1 => Just(vec![0xc0, 12]), 1 => Just(name("x"))];
    (owner, rtype, size, any::<u8>(), version, flags, length, options).prop_map(
        |(owner, rtype, size, extended_rcode, version, flags, length, options)| Opt {
            owner,
            rtype,
            size,
            extended_rcode,
            version,
            flags,
            length,
            options: options.concat(),
        },
    )
}
