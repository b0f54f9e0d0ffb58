//! Rows about the additional record and octets after the message.
use dns_xdp_ebpf::outcome::Outcome;

use super::Row;
use super::answer::{a, positive};
use super::zone::{ask, ipv4, over_ipv4, over_ipv6};
use crate::oracle::frames::message::{A, DO, Message, Opt, option};

const NSID: u16 = 3;
const CLIENT_SUBNET: u16 = 8;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;

pub(super) fn rows() -> Vec<Row> {
    [ignored_options(), passed(), trailing()].concat()
}

fn query(opt: Opt) -> Message {
    ask("node3", A).with(opt)
}

/// Unknown options are ignored.
fn ignored_options() -> Vec<Row> {
    let cookie = || option(COOKIE, b"client c");
    let options = [
        ("no option", Vec::new()),
        ("a cookie", cookie()),
        ("a cookie of client and server", option(COOKIE, b"client cserver cookie..")),
        ("a cookie of no valid length", option(COOKIE, b"c")),
        ("a client subnet", option(CLIENT_SUBNET, &[0, 1, 24, 0, 192, 0, 2])),
        ("keepalive, empty", option(KEEPALIVE, &[])),
        ("padding to an even length", option(PADDING, &[0; 40])),
        ("padding to an odd length", option(PADDING, &[0; 41])),
        ("an unknown option", option(65_001, &[0xff; 9])),
        ("NSID as a value", option(65_001, &option(NSID, &[]))),
        ("two options", [cookie(), option(PADDING, &[0; 3])].concat()),
        ("eight options", cookie().repeat(8)),
    ];
    let mut rows = Vec::new();
    for (what, options) in options {
        for flags in [0, DO] {
            let query = query(Opt { flags, options: options.clone(), ..Opt::of_size(1232) });
            let answer = positive(&query, &[a(ipv4(1))]);
            for datagram in [over_ipv4(&query), over_ipv6(&query)] {
                rows.push(Row::answered(what, Outcome::Answered, datagram, answer.clone()));
            }
        }
    }
    rows
}

/// OPT records that only the responder answers, and invalid ones.
fn passed() -> Vec<Row> {
    let opt = || Opt::of_size(1232);
    let cookie = || option(COOKIE, b"client c");
    let options = |options: Vec<u8>| Opt { options, ..opt() };
    let records = [
        ("version 1", Outcome::EdnsVersion, Opt { version: 1, ..opt() }),
        ("version 255", Outcome::EdnsVersion, Opt { version: 255, ..opt() }),
        ("NSID", Outcome::Nsid, options(option(NSID, &[]))),
        ("NSID behind a cookie", Outcome::Nsid, options([cookie(), option(NSID, &[])].concat())),
        (
            "NSID as the eighth option",
            Outcome::Nsid,
            options([cookie().repeat(7), option(NSID, &[])].concat()),
        ),
        ("nine options", Outcome::OptionCount, options(cookie().repeat(9))),
        ("as many options as there is room for", Outcome::OptionCount, options(option(1, &[]).repeat(290))),
        ("half an option's head", Outcome::Opt, options(vec![0, 10])),
        ("an option's head but for an octet", Outcome::Opt, options(vec![0, 10, 0])),
        ("an option that is longer than its record", Outcome::Opt, options(vec![0, 10, 0, 9, 1, 2])),
        ("an option of 64 KiB", Outcome::Opt, options(vec![0, 10, 0xff, 0xff, 1, 2])),
        (
            "an option that is 2048 octets longer than its record",
            Outcome::Opt,
            options([&[0, 10, 8, 8], &[0; 8][..]].concat()),
        ),
        ("a second option that is cut off", Outcome::Opt, options([cookie(), vec![0, 12, 0, 1]].concat())),
        ("options that are not there", Outcome::Opt, Opt { length: Some(1), ..opt() }),
        ("64 KiB of options that are not there", Outcome::Opt, Opt { length: Some(0xffff), ..opt() }),
        ("options behind the record", Outcome::Trailing, Opt { length: Some(0), ..options(cookie()) }),
        ("an OPT record of an owner", Outcome::Opt, Opt { owner: vec![1, b'x', 0], ..opt() }),
        ("an OPT record of the owner's length alone", Outcome::Opt, Opt { owner: vec![1], ..opt() }),
        ("an OPT record of a pointer", Outcome::Opt, Opt { owner: vec![0xc0, 12], ..opt() }),
        ("a TSIG record", Outcome::Opt, Opt { rtype: 250, ..opt() }),
        ("an A record", Outcome::Opt, Opt { rtype: A, ..opt() }),
    ];
    records.into_iter().map(|(what, outcome, opt)| Row::passed(what, outcome, &query(opt))).collect()
}

fn trailing() -> Vec<Row> {
    let opt = || Some(Opt::of_size(1232));
    let node3 = ask("node3", A);
    let mut rows = Vec::new();
    for octets in [1, 4, 11, 300] {
        for opt in [None, opt()] {
            let query = Message { opt, trailing: vec![0; octets], ..node3.clone() };
            rows.push(Row::passed(format!("{octets} octets behind the message"), Outcome::Trailing, &query));
        }
    }
    let uncounted = Message { counts: Some([1, 0, 0, 0]), opt: opt(), ..node3.clone() };
    rows.push(Row::passed("an OPT record that is not counted", Outcome::Trailing, &uncounted));
    let absent = Message { counts: Some([1, 0, 0, 1]), ..node3 };
    rows.push(Row::passed("an OPT record that is not there", Outcome::Opt, &absent));
    rows
}
