//! The data of SVCB and HTTPS records (RFC 9460).
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64;
use hickory_proto::rr::Name;

use super::octets::{self, Reader, octets_of, quoted};

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
/// Not a key (RFC 9460, section 14.3.2).
const INVALID: u16 = 65_535;

const KEYS: [(&str, u16); 8] = [
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6HINT),
    ("dohpath", 7),
];

/// Returns the data in wire form. The parameters are words such as `alpn="h2,h3"`.
pub(super) fn octets(priority: u16, target: &Name, words: &[&str]) -> Result<Vec<u8>, String> {
    let mut parameters: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    for word in words {
        let (name, value) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
        let key = key(name).ok_or_else(|| {
            format!("has the parameter `{name}`; write one of {}, or `key` and a number", known())
        })?;
        let octets = value_octets(key, value.map(unquoted))
            .map_err(|problem| format!("has `{word}`, which {problem}"))?;
        if parameters.insert(key, octets).is_some() {
            return Err(format!("has the parameter `{name}` twice; remove one"));
        }
    }
    check(priority, &parameters)?;
    let mut octets = priority.to_be_bytes().to_vec();
    octets.extend(octets::wire(target));
    for (key, value) in parameters {
        octets.extend(key.to_be_bytes());
        let length = u16::try_from(value.len()).map_err(|_| "is longer than a record may be".to_owned())?;
        octets.extend(length.to_be_bytes());
        octets.extend(value);
    }
    Ok(octets)
}

/// Checks the parameters of a record against each other (RFC 9460, sections 2.4, 7.1.1 and 8).
fn check(priority: u16, parameters: &BTreeMap<u16, Vec<u8>>) -> Result<(), String> {
    if priority == 0 && !parameters.is_empty() {
        return Err("has parameters with the priority 0, which makes it an alias; remove them".to_owned());
    }
    if parameters.contains_key(&NO_DEFAULT_ALPN) && !parameters.contains_key(&ALPN) {
        return Err("has `no-default-alpn` without `alpn`; add `alpn`".to_owned());
    }
    let mandatory = parameters.get(&MANDATORY).map_or(&[][..], Vec::as_slice).chunks(2);
    for key in mandatory.filter_map(|key| Some(u16::from_be_bytes(*key.first_chunk()?))) {
        if key == MANDATORY || !parameters.contains_key(&key) {
            return Err(format!(
                "has `mandatory` with {}, which it lacks; add it, or remove it there",
                name(key)
            ));
        }
    }
    Ok(())
}

/// Checks data in wire form (RFC 9460, section 2.2). The same data are refused in presentation form.
pub(super) fn check_octets(octets: &[u8]) -> Result<(), String> {
    const CUT: &str = "the octets end within a parameter";
    let mut reader = Reader::new(octets);
    let priority = reader.number().ok_or(CUT)?;
    reader.name().ok_or("the target is compressed or ends too early")?;
    let mut parameters: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    while !reader.is_at_end() {
        let (key, value) = parameter(&mut reader).ok_or(CUT)?;
        if parameters.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(format!("the parameter `{}` is not in the order of the numbers", name(key)));
        }
        if key == INVALID || !has_form(key, value) {
            return Err(format!("the parameter `{}` has a wrong value", name(key)));
        }
        parameters.insert(key, value.to_vec());
    }
    check(priority, &parameters).map_err(|problem| format!("it {problem}"))
}

/// Reads one parameter: its key and its value. `None`: the octets end within it.
fn parameter<'o>(reader: &mut Reader<'o>) -> Option<(u16, &'o [u8])> {
    let (key, length) = (reader.number()?, reader.number()?);
    Some((key, reader.take(length.into())?))
}

/// Returns the addresses of `ipv4hint` and `ipv6hint` of data in wire form.
pub(super) fn hints(octets: &[u8]) -> Vec<IpAddr> {
    let mut reader = Reader::new(octets);
    let mut hints = Vec::new();
    if reader.number().is_none() || reader.name().is_none() {
        return hints;
    }
    while let Some((key, value)) = parameter(&mut reader) {
        match key {
            IPV4HINT => hints.extend(value.as_chunks::<4>().0.iter().map(|hint| IpAddr::from(*hint))),
            IPV6HINT => hints.extend(value.as_chunks::<16>().0.iter().map(|hint| IpAddr::from(*hint))),
            _ => {}
        }
    }
    hints
}

/// Whether the octets have the form of the parameter's values (RFC 9460, sections 7 and 8).
fn has_form(key: u16, value: &[u8]) -> bool {
    let is_list_of = |size: usize| !value.is_empty() && value.len().is_multiple_of(size);
    match key {
        MANDATORY => {
            let keys: Vec<&[u8]> = value.chunks(2).collect();
            // The numbers have their high octet first, so slices have the order of the numbers.
            is_list_of(2) && keys.is_sorted_by(|one, next| one < next)
        }
        ALPN => {
            let mut reader = Reader::new(value);
            while !reader.is_at_end() {
                if reader.string().is_none_or(<[u8]>::is_empty) {
                    return false;
                }
            }
            !value.is_empty()
        }
        NO_DEFAULT_ALPN => value.is_empty(),
        PORT => value.len() == 2,
        IPV4HINT => is_list_of(4),
        ECH => !value.is_empty(),
        IPV6HINT => is_list_of(16),
        _ => true,
    }
}

fn known() -> String {
    KEYS.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn key(name: &str) -> Option<u16> {
    let known = KEYS.iter().find(|(known, _)| *known == name).map(|(_, key)| *key);
    let number = || {
        let digits =
            name.strip_prefix("key").filter(|digits| !digits.starts_with(['0', '+']) || *digits == "0")?;
        digits.parse().ok().filter(|key| *key != INVALID)
    };
    known.or_else(number)
}

fn name(key: u16) -> String {
    let known = KEYS.iter().find(|(_, known)| *known == key);
    known.map_or_else(|| format!("key{key}"), |(name, _)| (*name).to_owned())
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// Returns the value of a parameter in wire form.
fn value_octets(key: u16, value: Option<&str>) -> Result<Vec<u8>, String> {
    let Some(value) = value else {
        return match key {
            MANDATORY | ALPN | PORT | IPV4HINT | ECH | IPV6HINT => {
                Err("has no value; write it after `=`".to_owned())
            }
            _ => Ok(Vec::new()),
        };
    };
    let octets = octets_of(value)?;
    let text = || str::from_utf8(&octets).map_err(|_| "is no ASCII".to_owned());
    let wrong = |what: &str| format!("is wrong; write {what}");
    match key {
        NO_DEFAULT_ALPN => Err("takes no value; remove it".to_owned()),
        MANDATORY => {
            let keys: Option<Vec<u16>> = text()?.split(',').map(self::key).collect();
            let mut keys = keys.ok_or_else(|| wrong("keys such as `alpn,ipv4hint`"))?;
            keys.sort_unstable();
            // Each key may be there once (RFC 9460, section 8).
            if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err("has a key twice; remove one".to_owned());
            }
            Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        ALPN => {
            let mut list = Vec::new();
            for item in items(&octets) {
                let length = u8::try_from(item.len()).ok().filter(|length| *length != 0);
                list.push(length.ok_or_else(|| wrong("protocols such as `h2,h3`, of 1 to 255 octets"))?);
                list.extend(item);
            }
            Ok(list)
        }
        PORT => {
            let port: u16 = text()?.parse().map_err(|_| wrong("a port from 0 to 65535"))?;
            Ok(port.to_be_bytes().to_vec())
        }
        IPV4HINT => {
            let addresses: Result<Vec<Ipv4Addr>, _> = text()?.split(',').map(str::parse).collect();
            let addresses = addresses.map_err(|_| wrong("IPv4 addresses such as `192.0.2.11,192.0.2.12`"))?;
            Ok(addresses.iter().flat_map(Ipv4Addr::octets).collect())
        }
        IPV6HINT => {
            let addresses: Result<Vec<Ipv6Addr>, _> = text()?.split(',').map(str::parse).collect();
            let addresses = addresses.map_err(|_| wrong("IPv6 addresses such as `2001:db8::11`"))?;
            Ok(addresses.iter().flat_map(Ipv6Addr::octets).collect())
        }
        ECH => BASE64.decode(&octets).ok().filter(|list| !list.is_empty()).ok_or_else(|| wrong("base64")),
        _ => Ok(octets),
    }
}

/// Splits a list at its commas. A backslash takes the meaning off a comma (RFC 9460, appendix A.1).
fn items(list: &[u8]) -> Vec<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut octets = list.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b',' => items.push(Vec::new()),
            b'\\' => items.last_mut().into_iter().for_each(|item| item.extend(octets.next())),
            octet => items.last_mut().into_iter().for_each(|item| item.push(*octet)),
        }
    }
    items
}

/// Returns the data in presentation form; `None`: they have no simple form.
pub(super) fn presentation(reader: &mut Reader<'_>) -> Option<String> {
    let mut text = format!("{} {}", reader.number()?, octets::absolute(&reader.name()?));
    while !reader.is_at_end() {
        let (key, value) = parameter(reader)?;
        text += &format!(" {}", name(key));
        match key {
            NO_DEFAULT_ALPN => {}
            _ => text += &format!("={}", value_text(key, value)?),
        }
    }
    Some(text)
}

fn value_text(key: u16, value: &[u8]) -> Option<String> {
    let mut reader = Reader::new(value);
    let mut items = Vec::new();
    match key {
        MANDATORY => {
            while !reader.is_at_end() {
                items.push(name(reader.number()?));
            }
        }
        ALPN => {
            while !reader.is_at_end() {
                let item = str::from_utf8(reader.string()?).ok()?;
                let is_simple = |letter: u8| letter.is_ascii_alphanumeric() || b"/.-_".contains(&letter);
                items.push(Some(item).filter(|item| item.bytes().all(is_simple))?.to_owned());
            }
            return Some(format!("\"{}\"", items.join(",")));
        }
        PORT => items.push(reader.number()?.to_string()),
        IPV4HINT => {
            while !reader.is_at_end() {
                items.push(Ipv4Addr::from(*reader.take(4)?.first_chunk::<4>()?).to_string());
            }
        }
        IPV6HINT => {
            while !reader.is_at_end() {
                items.push(Ipv6Addr::from(*reader.take(16)?.first_chunk::<16>()?).to_string());
            }
        }
        ECH => items.push(BASE64.encode(reader.rest())),
        _ => items.push(quoted(reader.rest())),
    }
    Some(items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let words: Vec<&str> = text.split(' ').collect();
        let target = Name::from_ascii("svc.example.").unwrap();
        let octets = octets(1, &target, &words)?;
        let text = presentation(&mut Reader::new(&octets)).unwrap_or_default();
        Ok(text.trim_start_matches("1 svc.example. ").to_owned())
    }

    #[test]
    fn parameters_are_sorted_by_their_numbers() {
        let text =
            "ipv6hint=2001:db8::1 alpn=h2,h3-19 mandatory=ipv6hint,alpn port=53 ech=AEX+ key667=\"a\\032b\"";
        let sorted =
            "mandatory=alpn,ipv6hint alpn=\"h2,h3-19\" port=53 ech=AEX+ ipv6hint=2001:db8::1 key667=\"a b\"";
        assert_eq!(read(text).as_deref(), Ok(sorted));
        assert_eq!(read("no-default-alpn alpn=h2").as_deref(), Ok("alpn=\"h2\" no-default-alpn"));
    }

    #[test]
    fn the_octets_are_those_of_the_rfc() {
        // RFC 9460, appendix D.2, figure 7.
        let target = Name::from_ascii("foo.example.com.").unwrap();
        let hints = octets(1, &target, &["ipv6hint=\"2001:db8::1,2001:db8::53:1\""]).unwrap();
        let expected = b"\x00\x01\x03foo\x07example\x03com\x00\x00\x06\x00\x20\
            \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\
            \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x53\x00\x01";
        assert_eq!(hints, expected);
        // Figure 10: an escaped comma and an escaped backslash, in both forms.
        let expected = b"\x00\x10\x03foo\x07example\x03org\x00\x00\x01\x00\x0c\x08f\\oo,bar\x02h2";
        let target = Name::from_ascii("foo.example.org.").unwrap();
        for word in [r#"alpn="f\\\\oo\\,bar,h2""#, r"alpn=f\\\092oo\092,bar,h2"] {
            assert_eq!(octets(16, &target, &[word]).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn parameters_that_contradict_each_other_are_refused() {
        let cases = [
            ("alpn=h2 alpn=h3", "twice"),
            ("alpn", "no value"),
            ("alpn=", "1 to 255"),
            ("port=65536", "65535"),
            ("no-default-alpn", "without `alpn`"),
            ("no-default-alpn=x alpn=h2", "no value"),
            ("mandatory=port", "lacks"),
            ("mandatory=mandatory", "lacks"),
            ("mandatory=port,port port=1", "twice"),
            ("ipv4hint=2001:db8::1", "IPv4"),
            ("ech=?", "base64"),
            ("key65535=a", "`key65535`"),
            ("kye1=a", "`kye1`"),
        ];
        for (text, part) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(octets(0, &Name::root(), &["port=1"]).unwrap_err().contains("alias"));
    }

    #[test]
    fn octets_pass_the_same_checks_as_words() {
        let check = |octets: &[u8]| check_octets(octets);
        assert_eq!(check(b"\x00\x01\x00\x00\x03\x00\x02\x00\x35"), Ok(()));
        let cases: [(&[u8], &str); 9] = [
            (b"\x00\x01\x00\x00\x03\x00\x01\x35", "`port`"),
            (b"\x00\x00\x00\x00\x03\x00\x02\x00\x35", "alias"),
            (b"\x00\x01\x00\x00\x00\x00\x02\x00\x03", "lacks"),
            (b"\x00\x01\x00\xff\xff\x00\x00", "`key65535`"),
            (b"\x00\x01\x00\x00\x03\x00\x02\x00\x35\x00\x03\x00\x02\x00\x35", "order"),
            (b"\x00\x01\x00\x00\x02\x00\x00", "without `alpn`"),
            (b"\x00\x01\x00\x00\x01\x00\x01\x00", "`alpn`"),
            (b"\x00\x01\x00\x00\x04\x00\x03\x01\x02\x03", "`ipv4hint`"),
            (b"\x00\x01\x00\x00\x03\x00", "end within"),
        ];
        for (octets, part) in cases {
            let error = check(octets).unwrap_err();
            assert!(error.contains(part), "{octets:?}: {error}");
        }
    }
}
