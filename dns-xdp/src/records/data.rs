//! The data of one record between presentation form and octets.
//!
//! Addresses, and data with names that may be compressed (RFC 3597, section 4), have hickory's types. The data of every
//! other type are octets, so that a record is sent exactly as it was checked.
use std::collections::BTreeMap;

use data_encoding::HEXUPPER_PERMISSIVE;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, NULL, PTR};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, BinEncodable as _, BinEncoder, Restrict};

use super::octets::{self, Reader, full_name, octets_of, quoted};
use super::words::{Word, words};
use super::{layout, record_type, service_binding, type_text};

/// The most octets of a record's data.
const DATA_MAX: usize = u16::MAX as usize;
/// The most octets of a character string (RFC 1035, section 3.3).
const STRING_MAX: usize = 255;
/// The word that begins data in octets (RFC 3597, section 5).
const GENERIC: &str = "\\#";
/// The type of old SPF records. Their data have the form of TXT data (RFC 4408, section 3.1.1).
const SPF: u16 = 99;

/// Reads the data of a record in presentation form. Names are relative to the origin unless they end in a dot. A TXT
/// record without quotes is one text, whatever its blanks. Texts of more than 255 octets are split.
///
/// # Errors
/// The text is not the data of such a record. The message is the reason, without its subject.
pub fn data(rtype: RecordType, text: &str, origin: &Name) -> Result<RData, String> {
    let is_text = is_text(rtype);
    if is_text && !text.trim_start().starts_with('"') && !text.trim_start().starts_with(GENERIC) {
        return strings(rtype, &[text.trim().as_bytes().to_vec()]);
    }
    let words = words(text)?;
    if words.is_empty() {
        return Err("is empty; write the data of the record".to_owned());
    }
    of_words(rtype, &words, origin)
}

/// Like [`data`], for words of a zone file.
pub(super) fn of_words(rtype: RecordType, words: &[Word], origin: &Name) -> Result<RData, String> {
    if let [first, rest @ ..] = words
        && first.raw == GENERIC
        && !first.is_quoted
    {
        return generic(rtype, rest);
    }
    if is_text(rtype) {
        let strings: Result<Vec<Vec<u8>>, String> = words.iter().map(|word| octets_of(&word.raw)).collect();
        return self::strings(rtype, &strings?);
    }
    let raw: Vec<&str> = words.iter().map(|word| word.raw.as_str()).collect();
    let name = |text: &str| {
        full_name(text, origin).map_err(|problem| format!("has the name `{text}`, which {problem}"))
    };
    match (rtype, raw.as_slice()) {
        (RecordType::A, [address]) => {
            let address = address.parse().map_err(|_| wanted("an IPv4 address such as \"192.0.2.11\""))?;
            Ok(RData::A(A(address)))
        }
        (RecordType::AAAA, [address]) => {
            let address = address.parse().map_err(|_| wanted("an IPv6 address such as \"2001:db8::11\""))?;
            Ok(RData::AAAA(AAAA(address)))
        }
        (RecordType::CNAME, [target]) => Ok(RData::CNAME(CNAME(name(target)?))),
        (RecordType::NS, [target]) => Ok(RData::NS(NS(name(target)?))),
        (RecordType::PTR, [target]) => Ok(RData::PTR(PTR(name(target)?))),
        (RecordType::MX, [preference, exchange]) => {
            Ok(RData::MX(MX::new(number(preference)?, name(exchange)?)))
        }
        (RecordType::SRV, [priority, weight, port, target]) => {
            let numbers = [number(priority)?, number(weight)?, number(port)?];
            let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
            octets_data(rtype, [numbers, octets::wire(&name(target)?)].concat())
        }
        (RecordType::CAA, [flags, tag, value]) => {
            let flags: u8 = flags.parse().map_err(|_| wanted("flags from 0 to 255"))?;
            let is_tag = !tag.is_empty()
                && tag.len() <= 15
                && tag.bytes().all(|letter| letter.is_ascii_alphanumeric());
            if !is_tag {
                return Err(format!("has the tag `{tag}`; a tag has letters and digits, such as `issue`"));
            }
            let octets = [&[flags, tag.len() as u8][..], tag.as_bytes(), &octets_of(value)?].concat();
            octets_data(rtype, octets)
        }
        (RecordType::HINFO, [cpu, os]) => octets_data(rtype, [string(cpu)?, string(os)?].concat()),
        (RecordType::NAPTR, [order, preference, flags, services, regexp, replacement]) => {
            let numbers = [number(order)?.to_be_bytes(), number(preference)?.to_be_bytes()].concat();
            let strings = [string(flags)?, string(services)?, string(regexp)?].concat();
            octets_data(rtype, [numbers, strings, octets::wire(&name(replacement)?)].concat())
        }
        (RecordType::SVCB | RecordType::HTTPS, [priority, target, parameters @ ..]) => {
            octets_data(rtype, service_binding::octets(number(priority)?, &name(target)?, parameters)?)
        }
        (RecordType::CSYNC, [serial, flags, types @ ..]) => {
            let serial: u32 = serial.parse().map_err(|_| wanted("a serial number, flags and types"))?;
            let numbers = [&serial.to_be_bytes()[..], &number(flags)?.to_be_bytes()].concat();
            from_octets(rtype, [numbers, type_bitmap(types)?].concat())
        }
        (
            RecordType::TLSA
            | RecordType::SMIMEA
            | RecordType::SSHFP
            | RecordType::CERT
            | RecordType::OPENPGPKEY,
            fields,
        ) => by_hickory(rtype, fields),
        _ => Err(form(rtype)),
    }
}

/// Returns the message about data of the wrong form.
fn form(rtype: RecordType) -> String {
    let example = match rtype {
        RecordType::A => "192.0.2.11",
        RecordType::AAAA => "2001:db8::11",
        RecordType::CNAME | RecordType::PTR => "node1",
        RecordType::MX => "10 mail",
        RecordType::SRV => "0 0 6379 node1",
        RecordType::CAA => "0 issue letsencrypt.org",
        RecordType::SVCB | RecordType::HTTPS => "1 . alpn=h2",
        RecordType::NAPTR => "100 10 u E2U+sip !^.*$!sip:info@example.com! .",
        RecordType::HINFO => "RFC8482 \\\"\\\"",
        _ => {
            return format!(
                "is in no form that dns-xdp knows for {}; write the octets, such as \"\\\\# 4 0A000001\" (RFC 3597, section 5)",
                type_text(rtype)
            );
        }
    };
    format!("is not the data of {} record; write it like \"{example}\"", with_article(rtype))
}

fn with_article(rtype: RecordType) -> String {
    let text = type_text(rtype);
    // The names of these letters begin with a vowel.
    let article = if text.starts_with(['A', 'E', 'F', 'H', 'I', 'L', 'M', 'N', 'O', 'R', 'S', 'X']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {text}")
}

fn wanted(what: &str) -> String {
    format!("is wrong; write {what}")
}

fn is_text(rtype: RecordType) -> bool {
    rtype == RecordType::TXT || u16::from(rtype) == SPF
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("has `{text}` for a number; write a number from 0 to 65535"))
}

/// Returns the bit map of types, one window for each 256 numbers (RFC 4034, section 4.1.2).
fn type_bitmap(types: &[&str]) -> Result<Vec<u8>, String> {
    let mut windows: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for text in types {
        let rtype = record_type(text).ok_or_else(|| format!("has `{text}`, which is no type"))?;
        let [window, low] = u16::from(rtype).to_be_bytes();
        let bits = windows.entry(window).or_default();
        let place = usize::from(low / 8);
        bits.resize(bits.len().max(place + 1), 0);
        if let Some(octet) = bits.get_mut(place) {
            *octet |= 0x80 >> (low % 8);
        }
    }
    let octets = |(window, bits): (u8, Vec<u8>)| [&[window, bits.len() as u8][..], &bits].concat();
    Ok(windows.into_iter().flat_map(octets).collect())
}

/// Returns a character string in wire form.
fn string(text: &str) -> Result<Vec<u8>, String> {
    let octets = octets_of(text)?;
    let length = u8::try_from(octets.len())
        .map_err(|_| format!("has a string of more than {STRING_MAX} octets; shorten it"))?;
    Ok([&[length][..], &octets].concat())
}

/// Returns the data of a TXT record with these texts. A longer text becomes several strings, which readers join.
fn strings(rtype: RecordType, texts: &[Vec<u8>]) -> Result<RData, String> {
    let mut octets = Vec::new();
    for text in texts {
        let chunks: Vec<&[u8]> = if text.is_empty() { vec![&[]] } else { text.chunks(STRING_MAX).collect() };
        for chunk in chunks {
            octets.push(chunk.len() as u8);
            octets.extend(chunk);
        }
    }
    octets_data(rtype, octets)
}

fn octets_data(code: RecordType, octets: Vec<u8>) -> Result<RData, String> {
    if octets.len() > DATA_MAX {
        return Err(format!("has {} octets, more than the {DATA_MAX} of a record; shorten it", octets.len()));
    }
    // hickory's constructor panics without octets.
    let rdata = if octets.is_empty() { NULL::new() } else { NULL::with(octets) };
    Ok(RData::Unknown { code, rdata })
}

/// Reads data in octets: their number, and hexadecimal digits.
fn generic(rtype: RecordType, words: &[Word]) -> Result<RData, String> {
    const WANTED: &str = "is wrong after `\\#`; write the number of octets and their hexadecimal digits";
    let [length, digits @ ..] = words else { return Err(WANTED.to_owned()) };
    let length: usize = length.raw.parse().map_err(|_| WANTED.to_owned())?;
    let digits: String = digits.iter().map(|word| word.raw.as_str()).collect();
    let octets = HEXUPPER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| WANTED.to_owned())?;
    if octets.len() != length {
        return Err(format!(
            "has {} octets after `\\#`, and says {length}; correct one of them",
            octets.len()
        ));
    }
    from_octets(rtype, octets)
}

/// Checks octets as data of the type. The fields are checked first, because hickory follows pointers in the data. Names
/// are not compressed.
///
/// # Errors
/// The octets are not such data. The message is the reason, without its subject.
pub fn from_octets(rtype: RecordType, octets: Vec<u8>) -> Result<RData, String> {
    let length =
        u16::try_from(octets.len()).map_err(|_| format!("has more than {DATA_MAX} octets; shorten it"))?;
    let wrong = |problem| format!("is no data of {} record: {problem}", with_article(rtype));
    // The fields are checked first, because hickory follows pointers in the data.
    layout::canonical(rtype, &octets).map_err(wrong)?;
    let read = RData::read(&mut BinDecoder::new(&octets), rtype, Restrict::new(length));
    match read.map_err(|error| wrong(error.to_string()))? {
        read @ (RData::A(_)
        | RData::AAAA(_)
        | RData::CNAME(_)
        | RData::NS(_)
        | RData::PTR(_)
        | RData::MX(_)) => Ok(read),
        _ => octets_data(rtype, octets),
    }
}

/// Returns the data of a record in canonical form. Equal canonical data are the same record, because names have no case
/// (RFC 4343, section 3).
pub fn canonical(rdata: &RData) -> Vec<u8> {
    let octets = octets_of_data(rdata);
    layout::canonical(rdata.record_type(), &octets).unwrap_or(octets)
}

/// Reads data of types without names, blanks and quotes with hickory's parser.
fn by_hickory(rtype: RecordType, fields: &[&str]) -> Result<RData, String> {
    let is_plain =
        |field: &&str| field.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+/=-".contains(&octet));
    let most = match rtype {
        // The encoded data may be in several words, and hickory reads only the first.
        RecordType::CERT | RecordType::TLSA | RecordType::SMIMEA => 4,
        RecordType::SSHFP => 3,
        RecordType::OPENPGPKEY => 1,
        _ => usize::MAX,
    };
    let numbers = certificate_numbers(fields);
    let mut fields = fields.to_vec();
    if rtype == RecordType::CERT {
        fields = numbers.iter().map(String::as_str).collect();
    }
    let joined = fields.get(most - 1..).map(<[&str]>::concat).unwrap_or_default();
    if fields.len() > most {
        fields.truncate(most - 1);
        fields.push(&joined);
    }
    if !fields.iter().all(is_plain) {
        return Err(form(rtype));
    }
    let parsed = RData::try_from_str(rtype, &fields.join(" "));
    let parsed = parsed.map_err(|error| format!("is no data of {} record: {error}", with_article(rtype)))?;
    from_octets(rtype, octets_of_data(&parsed))
}

/// Returns the fields of a CERT record with numbers instead of mnemonics (RFC 4398, sections 2.1 and 2.2).
fn certificate_numbers(fields: &[&str]) -> Vec<String> {
    const TYPES: [(&str, u8); 10] = [
        ("PKIX", 1),
        ("SPKI", 2),
        ("PGP", 3),
        ("IPKIX", 4),
        ("ISPKI", 5),
        ("IPGP", 6),
        ("ACPKIX", 7),
        ("IACPKIX", 8),
        ("URI", 253),
        ("OID", 254),
    ];
    const ALGORITHMS: [(&str, u8); 13] = [
        ("RSAMD5", 1),
        ("DH", 2),
        ("DSA", 3),
        ("RSASHA1", 5),
        ("DSA-NSEC3-SHA1", 6),
        ("RSASHA1-NSEC3-SHA1", 7),
        ("RSASHA256", 8),
        ("RSASHA512", 10),
        ("ECDSAP256SHA256", 13),
        ("ECDSAP384SHA384", 14),
        ("ED25519", 15),
        ("ED448", 16),
        ("INDIRECT", 252),
    ];
    let number = |(place, field): (usize, &&str)| {
        let mnemonics = match place {
            0 => &TYPES[..],
            2 => &ALGORITHMS[..],
            _ => &[],
        };
        let known = mnemonics.iter().find(|(mnemonic, _)| mnemonic.eq_ignore_ascii_case(field));
        known.map_or_else(|| (*field).to_owned(), |(_, number)| number.to_string())
    };
    fields.iter().enumerate().map(number).collect()
}

/// Returns the data of a record in wire form, without compression.
pub fn octets_of_data(rdata: &RData) -> Vec<u8> {
    let mut octets = Vec::new();
    // Data that were parsed can be encoded.
    rdata.emit(&mut BinEncoder::new(&mut octets)).unwrap_or_default();
    octets
}

/// Returns the data of a record in presentation form. Names end in a dot. [`data`] reads the text back.
pub fn presentation(rdata: &RData) -> String {
    match rdata {
        RData::CNAME(target) => octets::absolute(&target.0),
        RData::NS(target) => octets::absolute(&target.0),
        RData::PTR(target) => octets::absolute(&target.0),
        RData::MX(mx) => format!("{} {}", mx.preference, octets::absolute(&mx.exchange)),
        RData::SOA(soa) => format!(
            "{} {} {} {} {} {} {}",
            octets::absolute(&soa.mname),
            octets::absolute(&soa.rname),
            soa.serial,
            soa.refresh,
            soa.retry,
            soa.expire,
            soa.minimum
        ),
        RData::Unknown { code, rdata } => {
            let octets = &rdata.anything;
            let text = known(*code, octets).filter(|text| {
                // A text that would be read differently is of no use.
                matches!(data(*code, text, &Name::root()), Ok(RData::Unknown { rdata: again, .. }) if again == *rdata)
            });
            text.unwrap_or_else(|| {
                let digits = HEXUPPER_PERMISSIVE.encode(octets);
                format!("{GENERIC} {} {digits}", octets.len()).trim_end().to_owned()
            })
        }
        other => other.to_string(),
    }
}

/// Returns the data of a type with a presentation form of its own.
fn known(code: RecordType, octets: &[u8]) -> Option<String> {
    let mut reader = Reader::new(octets);
    let text = match code {
        _ if is_text(code) => {
            let mut strings = Vec::new();
            while !reader.is_at_end() {
                strings.push(quoted(reader.string()?));
            }
            strings.join(" ")
        }
        RecordType::SRV => {
            let numbers = [reader.number()?, reader.number()?, reader.number()?];
            let [priority, weight, port] = numbers;
            format!("{priority} {weight} {port} {}", octets::absolute(&reader.name()?))
        }
        RecordType::CAA => {
            let flags = reader.byte()?;
            let tag = str::from_utf8(reader.string()?).ok()?;
            format!("{flags} {tag} {}", quoted(reader.rest()))
        }
        RecordType::HINFO => format!("{} {}", quoted(reader.string()?), quoted(reader.string()?)),
        RecordType::NAPTR => {
            let (order, preference) = (reader.number()?, reader.number()?);
            let strings = [reader.string()?, reader.string()?, reader.string()?].map(quoted).join(" ");
            format!("{order} {preference} {strings} {}", octets::absolute(&reader.name()?))
        }
        RecordType::SVCB | RecordType::HTTPS => service_binding::presentation(&mut reader)?,
        _ => {
            let length = u16::try_from(octets.len()).ok()?;
            match RData::read(&mut BinDecoder::new(octets), code, Restrict::new(length)).ok()? {
                RData::Unknown { .. } | RData::NULL(_) | RData::OPT(_) => return None,
                known => known.to_string(),
            }
        }
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rtype: &str, text: &str) -> Result<String, String> {
        let origin = Name::from_ascii("demo.example.com.").unwrap();
        data(record_type(rtype).unwrap(), text, &origin).map(|data| presentation(&data))
    }

    #[test]
    fn the_data_of_every_common_type_are_read_and_written() {
        let cases = [
            ("A", "192.0.2.1", "192.0.2.1"),
            ("AAAA", "2001:DB8::1", "2001:db8::1"),
            ("CNAME", "node1", "node1.demo.example.com."),
            ("CNAME", "@", "demo.example.com."),
            ("PTR", "www.example.org.", "www.example.org."),
            ("MX", "10 mail", "10 mail.demo.example.com."),
            ("SRV", "0 5 6379 node1", "0 5 6379 node1.demo.example.com."),
            ("CAA", "128 issue letsencrypt.org", "128 issue \"letsencrypt.org\""),
            ("CAA", "0 issue \"ca.example; a=b\"", "0 issue \"ca.example; a=b\""),
            ("HINFO", "x86 \"\"", "\"x86\" \"\""),
            ("NAPTR", "100 10 u E2U+sip !^.*$!sip:a@b! .", "100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:a@b!\" ."),
            ("HTTPS", "1 . alpn=h2,h3 port=8443", "1 . alpn=\"h2,h3\" port=8443"),
            ("SVCB", "0 node1", "0 node1.demo.example.com."),
            ("TLSA", "3 1 1 0B9F", "3 1 1 0b9f"),
            ("TLSA", "3 1 1 0B 9F", "3 1 1 0b9f"),
            ("CERT", "1 1 8 AA AA", "PKIX 1 RSASHA256 AAAA"),
            ("TYPE65280", "\\# 3 ABcd 01", "\\# 3 ABCD01"),
            ("TYPE65280", "\\# 0", "\\# 0"),
            ("A", "\\# 4 C0000201", "192.0.2.1"),
            ("SRV", "\\# 7 00000000003500", "0 0 53 ."),
        ];
        for (rtype, text, expected) in cases {
            assert_eq!(read(rtype, text).as_deref(), Ok(expected), "{rtype} {text}");
            assert_eq!(read(rtype, expected).as_deref(), Ok(expected), "again {rtype} {expected}");
        }
    }

    #[test]
    fn the_types_of_csync_have_names_or_numbers() {
        let octets = |text: &str| {
            let data = data(RecordType::CSYNC, text, &Name::root()).unwrap();
            HEXUPPER_PERMISSIVE.encode(&octets_of_data(&data))
        };
        // RFC 7477, section 2.1.1: A, NS and AAAA.
        assert_eq!(octets("66 3 A NS AAAA"), "000000420003000460000008");
        assert_eq!(octets("66 3 A TYPE65280"), "00000042000300014 0FF0180".replace(' ', ""));
        let again = read("CSYNC", "66 3 A TYPE65280").unwrap();
        assert_eq!(read("CSYNC", &again), Ok(again.clone()));
    }

    #[test]
    fn a_text_without_quotes_is_one_string_and_a_long_one_is_split() {
        let txt = |text: &str| read("TXT", text).unwrap();
        assert_eq!(txt("v=spf1 mx -all; ok"), "\"v=spf1 mx -all; ok\"");
        assert_eq!(txt(r"a\b"), r#""a\\b""#, "a backslash without quotes is itself");
        assert_eq!(txt(r#""a" "b\"c\255""#), r#""a" "b\"c\255""#);
        assert_eq!(txt("\"\""), "\"\"");
        assert_eq!(txt("ä"), "\"\\195\\164\"");
        let long = "x".repeat(300);
        let split = format!("\"{}\" \"{}\"", &long[..255], &long[255..]);
        assert_eq!([txt(&long), txt(&format!("\"{long}\""))], [split.clone(), split]);
        assert!(read("TXT", &"x".repeat(70_000)).unwrap_err().contains("65535"));
    }

    #[test]
    fn data_of_another_form_are_refused_with_an_example() {
        let cases = [
            ("A", "192.0.2.256", "IPv4"),
            ("A", "192.0.2.1 192.0.2.2", "such as"),
            ("AAAA", "192.0.2.1", "IPv6"),
            ("MX", "mail", "an MX record; write it like \"10 mail\""),
            ("MX", "ten mail", "`ten`"),
            ("SRV", "0 0 65536 node1", "`65536`"),
            ("CNAME", "a..b", "`a..b`, which has an empty label"),
            ("CNAME", "a b", "CNAME"),
            ("CAA", "0 is-sue x", "`is-sue`"),
            ("HTTPS", "1", "HTTPS"),
            ("TLSA", "3 1 1 xyz", "TLSA"),
            ("LOC", "52 N 4 E", "\\\\# 4"),
            ("TYPE65280", "x", "\\\\# 4"),
            ("TYPE65280", "\\# 2 00", "says 2"),
            ("TYPE65280", "\\# 1 0", "hexadecimal"),
            ("HTTPS", "\\# 1 00", "HTTPS"),
            ("SRV", "\\# 8 000000000035C000", "an SRV record"),
            ("MX", "\\# 4 000AC000", "compressed"),
            ("RP", "\\# 1 00", "fields"),
            ("TXT", "\\# 0", "fields"),
            ("SPF", "\\# 0", "fields"),
            ("HTTPS", "\\# 8 0001000003000135", "`port`"),
            ("TXT", "\"a", "quote"),
            ("CNAME", "", "empty"),
        ];
        for (rtype, text, part) in cases {
            let error = read(rtype, text).unwrap_err();
            // Two of the messages name the record without an article.
            let is_there = error.contains(part) || part == "such as" && error.contains("192.0.2.11");
            assert!(is_there, "{rtype} {text}: {error}");
        }
    }
}
