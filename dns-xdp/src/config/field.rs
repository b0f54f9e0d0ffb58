//! Reads single values of the configuration file. Each function returns the value in its type, or an error that says
//! what to write instead.
//!
//! The errors continue a sentence that begins with the key.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dns_xdp_ebpf::cookie::Secret;
use hickory_proto::rr::Name;
use toml::de::DeValue;

use super::{AllDown, Capacity, Failback, Mode, NsAddresses, Observers, Quorum, nearest};
use crate::cluster::{APEX, FamilyRule, Order, Require, SpecialAddress};
use crate::flood_limits::Network;
use crate::pin_directory;

pub(super) type Read<T> = Result<T, String>;
/// HTTP status codes, both ends included.
pub(super) type Codes = RangeInclusive<u16>;

/// The shortest period. More frequent probes would take all the machine's time.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);
/// The longest duration. A sum of a few hundred of these cannot overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest lease. It must outlast a short delay of the daemon.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// The longest TTL. RFC 8767, section 4, has caches reduce longer TTLs to a week.
const LONGEST_TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The longest negative TTL: RFC 2308, section 5, calls more than a day problematic.
const LONGEST_NEGATIVE_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// An example of an address, for messages.
const ADDRESS: &str = "an address such as \"192.0.2.11\" or \"2001:db8::11\"";
/// The longest label (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;
/// ALTIFNAMSIZ without the terminator, because the file may use an alternative name of an interface.
const LONGEST_INTERFACE: usize = 127;
/// The size of `sun_path` without the terminator (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

pub(super) fn zone_name(value: &DeValue<'_>) -> Read<Name> {
    let text = text(value, "the delegated zone, such as \"mycluster.example.com\"")?;
    let relative = text.strip_suffix('.').unwrap_or(text);
    let name = hostname(relative)?;
    let mut name = Name::from_ascii(&name).map_err(|_| too_long(text))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Reads a host name relative to the zone, in lower case.
pub(super) fn relative_name(value: &DeValue<'_>) -> Read<String> {
    let text = text(value, "a name such as \"node1\"")?;
    if text.ends_with('.') {
        return Err(format!("is `{text}`, which ends in a dot; write it relative to the zone"));
    }
    hostname(text)
}

/// Reads the name of a suffix, in lower case. A final dot stays.
pub(super) fn suffix_name(value: &DeValue<'_>) -> Read<String> {
    let text = text(value, "a name such as \"internal\"")?;
    let name = hostname(text.strip_suffix('.').unwrap_or(text))?;
    Ok(if text.ends_with('.') { name + "." } else { name })
}

/// Reads the name of an address set.
pub(super) fn set(value: &DeValue<'_>) -> Read<String> {
    set_name(text(value, "the name of an address set such as \"internal\"")?)
}

/// Returns the name of an address set in lower case.
pub(super) fn set_name(text: &str) -> Read<String> {
    match hostname(text) {
        Ok(name) if !name.contains('.') => Ok(name),
        _ => Err(format!(
            "is `{text}`; use letters, digits and inner hyphens, at most {LONGEST_LABEL} of them"
        )),
    }
}

/// Reads the name of a name server, or `false` for none.
pub(super) fn name_server(value: &DeValue<'_>) -> Read<Option<String>> {
    match value.as_bool() {
        Some(false) => Ok(None),
        Some(true) => {
            Err("is true; leave it out for the usual name, or write a name such as \"ns1\"".to_owned())
        }
        None => relative_name(value).map(Some),
    }
}

/// Reads the name of a service: a host name, `@`, or a name that begins with the label `*`.
pub(super) fn service_name(value: &DeValue<'_>) -> Read<String> {
    match value.as_str() {
        Some(own @ (APEX | "*")) => Ok(own.to_owned()),
        Some(text) if text.starts_with("*.") && !text.ends_with('.') => {
            Ok(format!("*.{}", hostname(&text[2..])?))
        }
        _ => relative_name(value),
    }
}

/// Reads a mailbox, as a domain name (RFC 1035, section 8) or with `@`.
pub(super) fn contact(value: &DeValue<'_>) -> Read<Name> {
    let text = text(value, "a mailbox such as \"hostmaster@example.com\"")?;
    let name = match text.split_once('@') {
        Some((local, domain)) => {
            let domain = Name::from_ascii(hostname(domain.strip_suffix('.').unwrap_or(domain))?);
            domain.and_then(|domain| domain.prepend_label(local.as_bytes()))
        }
        None => Name::from_ascii(text),
    };
    match name {
        Ok(mut name) if !name.is_root() => {
            name.set_fqdn(true);
            Ok(name.to_lowercase())
        }
        _ => Err(format!("is `{text}`, which is no mailbox; write it like \"hostmaster@example.com\"")),
    }
}

/// Returns a name of letters, digits and hyphens in lower case (RFC 1123, section 2.1).
fn hostname(text: &str) -> Read<String> {
    let well_formed = |label: &str| {
        let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let hyphens = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.len() <= LONGEST_LABEL && letters && !hyphens
    };
    if !text.split('.').all(well_formed) {
        return Err(format!(
            "is `{text}`, which is no host name; use letters, digits and inner hyphens, at most {LONGEST_LABEL} to a label"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

pub(super) fn too_long(name: &str) -> String {
    format!("is `{name}`, which is longer than 255 octets in full; shorten it")
}

/// Reads a duration from 10 ms to a day.
pub(super) fn period(value: &DeValue<'_>) -> Read<Duration> {
    let period = duration(value)?;
    if period.is_zero() {
        return Err("is zero; write a duration such as \"250ms\"".to_owned());
    }
    if period < SHORTEST_PERIOD {
        return Err("is shorter than 10 ms; write at least \"10ms\"".to_owned());
    }
    Ok(period)
}

/// Reads a duration of at most a day.
pub(super) fn duration(value: &DeValue<'_>) -> Read<Duration> {
    const WANTED: &str = "a duration such as \"250ms\" or \"5s\"";
    let text = text(value, WANTED)?;
    let duration = humantime::parse_duration(text).map_err(|_| format!("is `{text}`; write {WANTED}"))?;
    if duration > LONGEST {
        return Err(format!("is {text}; write at most \"24h\""));
    }
    Ok(duration)
}

/// Reads a lease, or `"off"`.
pub(super) fn lease(value: &DeValue<'_>) -> Read<Option<Duration>> {
    if value.as_str() == Some("off") {
        return Ok(None);
    }
    let lease = duration(value)?;
    if lease < SHORTEST_LEASE {
        return Err("is shorter than a second; write at least \"1s\", or \"off\"".to_owned());
    }
    Ok(Some(lease))
}

/// Reads a TTL of addresses. With 0, caches keep nothing.
pub(super) fn ttl_seconds(value: &DeValue<'_>) -> Read<u32> {
    ttl(value, Duration::ZERO, LONGEST_TTL)
}

/// Reads a TTL of the NS set. With 0, resolvers would ask the parent zone before every query.
pub(super) fn ns_ttl_seconds(value: &DeValue<'_>) -> Read<u32> {
    ttl(value, Duration::from_secs(1), LONGEST_TTL)
}

/// Reads a TTL of negative answers. A resolver that asked for a name before it existed does not see the name for that
/// time.
pub(super) fn negative_ttl_seconds(value: &DeValue<'_>) -> Read<u32> {
    ttl(value, Duration::ZERO, LONGEST_NEGATIVE_TTL)
}

fn ttl(value: &DeValue<'_>, least: Duration, most: Duration) -> Read<u32> {
    const WANTED: &str = "whole seconds such as \"5s\"";
    let text = text(value, WANTED)?;
    let ttl = humantime::parse_duration(text).map_err(|_| format!("is `{text}`; write {WANTED}"))?;
    if ttl.subsec_nanos() != 0 {
        return Err(format!("is {text}; a TTL is {WANTED}"));
    }
    if ttl < least {
        return Err(format!("is {text}; write at least \"{}\"", humantime::format_duration(least)));
    }
    let in_range = u32::try_from(ttl.as_secs()).ok().filter(|_| ttl <= most);
    in_range.ok_or_else(|| format!("is {text}; write at most \"{}\"", humantime::format_duration(most)))
}

/// Reads a number per second. 0 means no limit.
pub(super) fn per_second(value: &DeValue<'_>) -> Read<u32> {
    integer(value, 0, 10_000_000)
}

pub(super) fn slip(value: &DeValue<'_>) -> Read<u32> {
    integer(value, 0, 100)
}

/// Reads a prefix length of IPv4.
pub(super) fn ipv4_prefix(value: &DeValue<'_>) -> Read<u8> {
    integer(value, 0, 32)
}

/// Reads a prefix length of IPv6. The host part of an address is not compared.
pub(super) fn ipv6_prefix(value: &DeValue<'_>) -> Read<u8> {
    integer(value, 0, 64)
}

/// Reads a network, or a single address.
pub(super) fn network(value: &DeValue<'_>) -> Read<Network> {
    const WANTED: &str = "a network such as \"10.0.0.0/8\", or an address";
    let text = text(value, WANTED)?;
    let wrong = || format!("is `{text}`; write {WANTED}");
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(most), str::parse::<u8>).map_err(|_| wrong())?;
    if length > most {
        return Err(format!("is `{text}`; such an address has {most} bits"));
    }
    Ok(Network { address, length })
}

/// Reads a key of 128 bits. No error shows the key.
pub(super) fn secret(value: &DeValue<'_>) -> Read<Secret> {
    let wrong = || "has no 32 hexadecimal digits; write what `openssl rand -hex 16` prints".to_owned();
    let text = value.as_str().filter(|text| text.len() == 32 && text.is_ascii()).ok_or_else(wrong)?;
    let mut octets = [0; 16];
    for (octet, at) in octets.iter_mut().zip((0..).step_by(2)) {
        let digits =
            text.get(at..at + 2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        *octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(wrong)?;
    }
    Ok(Secret::new(octets))
}

pub(super) fn port(value: &DeValue<'_>) -> Read<u16> {
    integer(value, 1, u16::MAX)
}

/// Reads how many of a node's probes have to succeed.
pub(super) fn require(value: &DeValue<'_>) -> Read<Require> {
    match value.as_str() {
        Some("all") => Ok(Require::All),
        Some("any") => Ok(Require::Any),
        _ => {
            // The upper limit depends on the probes, which are not known here.
            let count = integer(value, 1, u32::MAX).map(|count| Require::Count(count as usize));
            count.map_err(|_| "is neither \"all\" nor \"any\" nor a number of at least 1".to_owned())
        }
    }
}

pub(super) fn families(value: &DeValue<'_>) -> Read<FamilyRule> {
    one_of(value, &[("each", FamilyRule::Each), ("any", FamilyRule::Any)])
}

/// Reads the weight of a node. The time to choose a substitute grows with the weight, so the weight is bounded.
pub(super) fn weight(value: &DeValue<'_>) -> Read<u32> {
    integer(value, 1, 100)
}

/// Reads a number of members of a service.
pub(super) fn members(value: &DeValue<'_>) -> Read<u32> {
    integer(value, 1, u32::MAX)
}

/// Reads `fall` or `rise`.
pub(super) fn results_in_a_row(value: &DeValue<'_>) -> Read<u32> {
    integer(value, 1, 1000)
}

/// Reads the most records that a key may write by one grant.
pub(super) fn granted_records(value: &DeValue<'_>) -> Read<usize> {
    integer(value, 1, 10_000_u32).map(|count| count as usize)
}

/// Reads the most addresses of an answer. Only the responder gives answers with more than 16.
pub(super) fn answers_max(value: &DeValue<'_>) -> Read<usize> {
    integer(value, 1, 255_u8).map(usize::from)
}

pub(super) fn capacity(value: &DeValue<'_>) -> Read<Capacity> {
    match value.as_str() {
        Some("auto") => Ok(Capacity::Auto),
        Some(_) => Err(format!("is neither \"auto\" nor a number from 16 to {}", Capacity::MAX)),
        None => integer(value, 16, Capacity::MAX).map(Capacity::Names),
    }
}

pub(super) fn quorum(value: &DeValue<'_>) -> Read<Quorum> {
    if value.as_str() == Some("majority") {
        return Ok(Quorum::Majority);
    }
    // The upper limit depends on the nodes, which are not known here.
    let count = integer(value, 1, u32::MAX);
    count.map(Quorum::Count).map_err(|_| "is neither \"majority\" nor a number of at least 1".to_owned())
}

pub(super) fn observers(value: &DeValue<'_>) -> Read<Observers> {
    if value.as_str() == Some("majority") {
        return Ok(Observers::Majority);
    }
    let count = integer(value, 1, u32::MAX).map(|count| Observers::Count(count as usize));
    count.map_err(|_| "is neither \"majority\" nor a number of at least 1".to_owned())
}

pub(super) fn probers(value: &DeValue<'_>) -> Read<usize> {
    integer(value, 1, u32::MAX).map(|count| count as usize)
}

pub(super) fn boolean(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| mistyped(value, "true or false"))
}

/// Reads an address that this machine listens on or probes.
pub(super) fn address(value: &DeValue<'_>) -> Read<IpAddr> {
    ordinary(value, ADDRESS, SpecialAddress::of_local)
}

/// Reads an address of a node.
pub(super) fn ipv4(value: &DeValue<'_>) -> Read<Ipv4Addr> {
    const WANTED: &str = "an IPv4 address such as \"192.0.2.11\"";
    match reachable(value, WANTED)? {
        IpAddr::V4(ipv4) => Ok(ipv4),
        IpAddr::V6(ipv6) => Err(format!("is {ipv6}; write {WANTED}, or use `ipv6`")),
    }
}

/// Reads an address of a node.
pub(super) fn ipv6(value: &DeValue<'_>) -> Read<Ipv6Addr> {
    const WANTED: &str = "an IPv6 address such as \"2001:db8::11\"";
    match reachable(value, WANTED)? {
        IpAddr::V6(ipv6) => Ok(ipv6),
        IpAddr::V4(ipv4) => Err(format!("is {ipv4}; write {WANTED}, or use `ipv4`")),
    }
}

/// Reads an address of another machine that counts as a visible node.
pub(super) fn witness(value: &DeValue<'_>) -> Read<IpAddr> {
    reachable(value, ADDRESS)
}

/// Reads an address that means the same machine on every host.
fn reachable(value: &DeValue<'_>, wanted: &str) -> Read<IpAddr> {
    ordinary(value, wanted, SpecialAddress::of)
}

fn ordinary(
    value: &DeValue<'_>,
    wanted: &str,
    special: fn(IpAddr) -> Option<SpecialAddress>,
) -> Read<IpAddr> {
    let address = parsed(value, wanted)?;
    match special(address) {
        Some(kind) => Err(format!("is {address}, {kind}; write {wanted}")),
        None => Ok(address),
    }
}

fn parsed(value: &DeValue<'_>, wanted: &str) -> Read<IpAddr> {
    let text = text(value, wanted)?;
    text.parse().map_err(|_| format!("is `{text}`; write {wanted}"))
}

/// Reads an address to listen at, or `"off"`.
pub(super) fn listener(value: &DeValue<'_>) -> Read<Option<SocketAddr>> {
    const WANTED: &str = "an address and port such as \"127.0.0.1:9153\", or \"off\"";
    match text(value, WANTED)? {
        "off" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("is `{text}`; write {WANTED}")),
    }
}

pub(super) fn interface(value: &DeValue<'_>) -> Read<String> {
    let text = text(value, "the name of an interface such as \"eth0\"")?;
    let foreign = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let reserved = matches!(text, "" | "." | "..");
    if reserved || text.len() > LONGEST_INTERFACE || text.contains(foreign) {
        return Err(format!("is `{text}`, which is no name of an interface; see `ip link`"));
    }
    Ok(text.to_owned())
}

pub(super) fn path(value: &DeValue<'_>) -> Read<PathBuf> {
    let text = text(value, "a path")?;
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(format!("is `{text}`; write the whole path, from /"));
    }
    Ok(path)
}

/// Reads the path of a directory that only the daemon uses. The daemon checks later whether this machine's directory
/// fits.
pub(super) fn pin(value: &DeValue<'_>) -> Read<PathBuf> {
    let path = path(value)?;
    pin_directory::check_path(&path).map_err(|unfit| unfit.to_string())?;
    Ok(path)
}

/// Reads one word of a command line.
pub(super) fn word(value: &DeValue<'_>) -> Read<String> {
    let text = text(value, "a word in quotation marks")?;
    if text.contains('\0') {
        return Err("has a NUL in it, which no program takes; remove it".to_owned());
    }
    Ok(text.to_owned())
}

/// Checks that this machine can run the first word of a command line.
pub(super) fn program(text: &str) -> Read<()> {
    /// Executable for any user, because the user that checks may not be the user that runs it.
    const EXECUTABLE: u32 = 0o111;
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("begins with `{text}`; write the whole path of the program, from /"));
    }
    match path.metadata() {
        Err(error) => Err(format!("begins with {text}, which cannot be run: {error}")),
        Ok(file) if !file.is_file() => Err(format!("begins with {text}, which is no file")),
        Ok(file) if file.permissions().mode() & EXECUTABLE == 0 => {
            Err(format!("begins with {text}, which is not executable; `chmod +x` it"))
        }
        Ok(_) => Ok(()),
    }
}

pub(super) fn socket_path(value: &DeValue<'_>) -> Read<PathBuf> {
    let path = path(value)?;
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "is longer than {LONGEST_SOCKET_PATH} octets, the most for a socket; shorten it"
        ));
    }
    Ok(path)
}

pub(super) fn mode(value: &DeValue<'_>) -> Read<Mode> {
    let modes =
        [("auto", Mode::Auto), ("native", Mode::Native), ("generic", Mode::Generic), ("off", Mode::Off)];
    one_of(value, &modes)
}

pub(super) fn ns_addresses(value: &DeValue<'_>) -> Read<NsAddresses> {
    one_of(value, &[("live", NsAddresses::Live), ("fixed", NsAddresses::Fixed)])
}

pub(super) fn all_down(value: &DeValue<'_>) -> Read<AllDown> {
    let choices = [
        ("configured", AllDown::Configured),
        ("last-good", AllDown::LastGood),
        ("nodata", AllDown::Nodata),
        ("refused", AllDown::Refused),
    ];
    one_of(value, &choices)
}

pub(super) fn order(value: &DeValue<'_>) -> Read<Order> {
    one_of(value, &[("rotate", Order::Rotate), ("first", Order::First)])
}

pub(super) fn failback(value: &DeValue<'_>) -> Read<Failback> {
    one_of(value, &[("auto", Failback::Auto), ("manual", Failback::Manual)])
}

/// Reads a status code, or a range of them.
pub(super) fn codes(value: &DeValue<'_>) -> Read<Codes> {
    /// All status codes (RFC 9110, section 15).
    const ALL: Codes = 100..=599;
    const WANTED: &str = "codes such as 200 or \"200-299\", from 100 to 599";
    if value.as_integer().is_some() {
        let code = integer(value, *ALL.start(), *ALL.end())?;
        return Ok(code..=code);
    }
    let text = text(value, WANTED)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.parse().ok().filter(|code| ALL.contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("is `{text}`; write {WANTED}")),
    }
}

/// Reads an address, or a name that the resolver has to know.
pub(super) fn target(value: &DeValue<'_>) -> Read<String> {
    let text = text(value, "an address or a host name")?;
    if text.parse::<IpAddr>().is_ok() {
        return Ok(address(value)?.to_string());
    }
    hostname(text.strip_suffix('.').unwrap_or(text))
}

pub(super) fn one_of<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Read<T> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let wanted = format!("\"{}\"", names.join("\", \""));
    let text = text(value, &wanted)?;
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, choice)| *choice).ok_or_else(|| match nearest(text, names.iter().copied()) {
        Some(known) => format!("is `{text}`; did you mean \"{known}\"? There is {wanted}"),
        None => format!("is `{text}`; there is {wanted}"),
    })
}

fn integer<T>(value: &DeValue<'_>, least: T, most: T) -> Read<T>
where
    T: Copy + TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let wanted = format!("a number from {least} to {most}");
    let written = value.as_integer().ok_or_else(|| mistyped(value, &wanted))?;
    let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
    let in_range = number.and_then(|number| T::try_from(number).ok()).filter(|n| least <= *n && *n <= most);
    in_range.ok_or_else(|| format!("is {}; write {wanted}", written.as_str()))
}

pub(super) fn text<'a>(value: &'a DeValue<'_>, wanted: &str) -> Read<&'a str> {
    value.as_str().ok_or_else(|| mistyped(value, wanted))
}

fn mistyped(value: &DeValue<'_>, wanted: &str) -> String {
    format!("has the type {}; write {wanted}", value.type_str())
}
