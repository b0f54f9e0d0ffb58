//! Checks samples of returning frames against their queries.
use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, ensure};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;

use super::queries::Kind;
use super::wire::{SERVER, Wire};
use crate::oracle::frames::reply;

/// Checks each octet of an answer that the standards or dns-xdp's program determine: link, IP, UDP, sums, id, question,
/// records.
///
/// # Errors
/// The fault of the answer.
pub fn check_ours(kind: Kind, wire: &Wire, frame: &[u8]) -> Result<()> {
    let query = kind.query(wire, id(kind, frame)?);
    let octets = reply::message(&query, frame).map_err(|error| anyhow!(error))?;
    check_message(kind, &query.message, &octets)
}

/// Checks only the message, for answers of any server.
///
/// # Errors
/// The fault of the message.
pub fn check(kind: Kind, wire: &Wire, frame: &[u8]) -> Result<()> {
    let query = kind.query(wire, id(kind, frame)?);
    let octets = frame.get(message_at(kind)..).context("there is no message")?;
    check_message(kind, &query.message, octets)
}

fn message_at(kind: Kind) -> usize {
    14 + if kind.is_ipv6() { 40 } else { 20 } + 8
}

fn id(kind: Kind, frame: &[u8]) -> Result<u16> {
    let at = message_at(kind);
    let octets = frame.get(at..at + 2).with_context(|| format!("a frame of {} octets", frame.len()))?;
    Ok(u16::from_be_bytes([octets[0], octets[1]]))
}

fn check_message(kind: Kind, query: &[u8], octets: &[u8]) -> Result<()> {
    let query = Message::from_vec(query).context("our own query")?;
    let answer = Message::from_vec(octets).context("it cannot be read")?;
    ensure!(answer.metadata.id == query.metadata.id && answer.metadata.authoritative, "{answer}");
    ensure!(answer.queries == query.queries, "{answer}");
    ensure!(answer.edns.is_some() == query.edns.is_some(), "OPT for OPT: {answer}");
    if kind == Kind::NxDomain {
        ensure!(answer.metadata.response_code == ResponseCode::NXDomain, "{answer}");
        ensure!(answer.answers.is_empty() && answer.authorities.len() == 1, "{answer}");
        return Ok(());
    }
    ensure!(answer.metadata.response_code == ResponseCode::NoError, "{answer}");
    let addresses: Vec<IpAddr> = answer.answers.iter().filter_map(|record| address(&record.data)).collect();
    ensure!(addresses == [SERVER[usize::from(kind.is_ipv6())]], "{answer}");
    ensure!(answer.answers.iter().all(|record| record.name == *query.queries[0].name()), "{answer}");
    Ok(())
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}
