//! Checks the fields of each type's data in wire form, and returns their canonical form.
//!
//! No name in the data may be compressed. The data are sent as they are, so a pointer would lead to a wrong place.
use hickory_proto::rr::{Name, RecordType};

use super::octets::{self, Reader};
use super::service_binding;

/// A field of a record's data.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// Octets of a fixed number.
    Octets(usize),
    /// An uncompressed name.
    Name,
    /// A character string (RFC 1035, section 3.3).
    Text,
    /// One character string or several, up to the end.
    Texts,
    /// A character string, or the end (RFC 1183, section 3.2).
    OptionalText,
    /// At least one octet, up to the end.
    Rest,
    /// All octets up to the end, or none.
    OptionalRest,
}

/// Returns the fields of a type's data; `None`: the type has no table here.
fn fields(rtype: RecordType) -> Option<&'static [Field]> {
    use Field::{Name, Octets, OptionalRest, OptionalText, Rest, Text, Texts};
    Some(match u16::from(rtype) {
        // A; AAAA (RFC 1035, section 3.4.1; RFC 3596, section 2.2).
        1 => &[Octets(4)],
        28 => &[Octets(16)],
        // NS, MD, MF, CNAME, MB, MG, MR, PTR (RFC 1035, section 3.3); DNAME (RFC 6672, section 2.1).
        2..=5 | 7..=9 | 12 | 39 => &[Name],
        // WKS, HINFO, MINFO (RFC 1035, sections 3.4.2, 3.3.2 and 3.3.7).
        11 => &[Octets(5), OptionalRest],
        13 => &[Text, Text],
        14 => &[Name, Name],
        // MX (RFC 1035, section 3.3.9); AFSDB, RT (RFC 1183, sections 1 and 3.3); KX (RFC 2230, section 3); LP (RFC
        // 6742, section 2.4).
        15 | 18 | 21 | 36 | 107 => &[Octets(2), Name],
        // TXT (RFC 1035, section 3.3.14); SPF (RFC 4408, section 3.1.1).
        16 | 99 => &[Texts],
        // RP, X25, ISDN (RFC 1183, sections 2.2, 3.1 and 3.2).
        17 => &[Name, Name],
        19 => &[Text],
        20 => &[Text, OptionalText],
        // PX (RFC 2163, section 4).
        26 => &[Octets(2), Name, Name],
        // SRV (RFC 2782); NAPTR (RFC 3403, section 4.1).
        33 => &[Octets(6), Name],
        35 => &[Octets(4), Text, Text, Text, Name],
        // DHCID (RFC 4701, section 3.1); OPENPGPKEY (RFC 7929, section 2.1).
        49 | 61 => &[Rest],
        // SVCB, HTTPS (RFC 9460, section 2.2).
        64 | 65 => &[Octets(2), Name, OptionalRest],
        // NID, L32, L64 (RFC 6742, section 2).
        104 | 106 => &[Octets(10)],
        105 => &[Octets(6)],
        // EUI48, EUI64 (RFC 7043, sections 3 and 4).
        108 => &[Octets(6)],
        109 => &[Octets(8)],
        // URI (RFC 7553, section 4.5).
        256 => &[Octets(4), Rest],
        _ => return None,
    })
}

/// Returns data in canonical form: with the names in lower case (RFC 4034, section 6.2). Equal canonical data are the
/// same record (RFC 2181, section 5; RFC 4343, section 3).
///
/// # Errors
/// The octets do not have the form of the type. The message says what is wrong.
pub(super) fn canonical(rtype: RecordType, octets: &[u8]) -> Result<Vec<u8>, String> {
    const WRONG: &str =
        "the octets do not have its fields, or a name in them is compressed; correct the octets";
    let Some(fields) = fields(rtype) else {
        let has_form = match u16::from(rtype) {
            29 => is_location(octets),
            42 => is_prefix_list(octets),
            45 => is_gateway(octets, 3),
            257 => is_authorization(octets),
            260 => is_gateway(octets, 2),
            _ => true,
        };
        return if has_form { Ok(octets.to_vec()) } else { Err(WRONG.to_owned()) };
    };
    let mut reader = Reader::new(octets);
    let mut canonical = Vec::with_capacity(octets.len());
    for field in fields {
        canonical.extend(field.read(&mut reader).ok_or(WRONG)?);
    }
    if !reader.is_at_end() {
        return Err("octets follow the last field; remove them".to_owned());
    }
    match rtype {
        RecordType::SVCB | RecordType::HTTPS => {
            service_binding::check_octets(octets)?;
            // Names stay as they are in types that are not in the list of RFC 4034, section 6.2.
            Ok(octets.to_vec())
        }
        _ => Ok(canonical),
    }
}

/// Returns data with other names: `change` takes each name in the fields. `None`: the type has no table here, or the
/// octets do not have its fields.
pub(super) fn with_names(rtype: RecordType, octets: &[u8], change: impl Fn(Name) -> Name) -> Option<Vec<u8>> {
    let mut reader = Reader::new(octets);
    let mut changed = Vec::with_capacity(octets.len());
    for field in fields(rtype)? {
        match field {
            Field::Name => changed.extend(octets::wire(&change(reader.name()?))),
            other => changed.extend(other.read(&mut reader)?),
        }
    }
    reader.is_at_end().then_some(changed)
}

impl Field {
    /// Reads the field, and returns it in canonical form.
    fn read(self, reader: &mut Reader<'_>) -> Option<Vec<u8>> {
        let text = |reader: &mut Reader<'_>| {
            let text = reader.string()?;
            Some([&[text.len() as u8][..], text].concat())
        };
        match self {
            Field::Octets(count) => reader.take(count).map(<[u8]>::to_vec),
            Field::Name => reader.name().map(|name| octets::wire(&name.to_lowercase())),
            Field::Text => text(reader),
            Field::Texts => {
                let mut texts = text(reader)?;
                while !reader.is_at_end() {
                    texts.extend(text(reader)?);
                }
                Some(texts)
            }
            Field::OptionalText if reader.is_at_end() => Some(Vec::new()),
            Field::OptionalText => text(reader),
            Field::Rest if reader.is_at_end() => None,
            Field::Rest | Field::OptionalRest => Some(reader.rest().to_vec()),
        }
    }
}

/// Whether these are the data of a LOC record. Only version 0 has a form (RFC 1876, section 2).
fn is_location(octets: &[u8]) -> bool {
    octets.len() == 16 && octets.first() == Some(&0)
}

/// Whether these are the data of an APL record (RFC 3123, section 4).
fn is_prefix_list(octets: &[u8]) -> bool {
    const LENGTH: u8 = 0x7f;
    let mut reader = Reader::new(octets);
    while !reader.is_at_end() {
        let item = (|| {
            let (family, prefix, length) = (reader.number()?, reader.byte()?, reader.byte()? & LENGTH);
            let (bits, octets) = match family {
                1 => (32, 4),
                2 => (128, 16),
                _ => (u8::MAX, LENGTH),
            };
            let address = reader.take(length.into())?;
            (prefix <= bits && length <= octets && address.last() != Some(&0)).then_some(())
        })();
        if item.is_none() {
            return false;
        }
    }
    true
}

/// Whether these are the data of an IPSECKEY or AMTRELAY record (RFC 4025, section 2.1; RFC 8777, section 4.2). They
/// begin with `head` octets. The second of these octets is the type of the gateway, which follows them. In IPSECKEY, a key
/// follows the gateway.
fn is_gateway(octets: &[u8], head: usize) -> bool {
    const IPSECKEY_HEAD: usize = 3;
    /// The first bit of AMTRELAY's octet is not part of the type.
    const TYPE: u8 = 0x7f;
    let mut reader = Reader::new(octets);
    let Some(octet) = reader.take(head).and_then(|head| head.get(1).copied()) else { return false };
    let gateway_type = if head == IPSECKEY_HEAD { octet } else { octet & TYPE };
    let has_gateway = match gateway_type {
        0 => true,
        1 => reader.take(4).is_some(),
        2 => reader.take(16).is_some(),
        3 => reader.name().is_some(),
        _ => false,
    };
    has_gateway && (head == IPSECKEY_HEAD || reader.is_at_end())
}

/// Whether these are the data of a CAA record (RFC 8659, section 4.1).
fn is_authorization(octets: &[u8]) -> bool {
    let mut reader = Reader::new(octets);
    let tag = reader.byte().and_then(|_| reader.string());
    tag.is_some_and(|tag| !tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXUPPER;

    use super::super::record_type;
    use super::*;

    fn read(rtype: &str, digits: &str) -> Result<String, String> {
        let octets = HEXUPPER.decode(digits.as_bytes()).unwrap();
        canonical(record_type(rtype).unwrap(), &octets).map(|octets| HEXUPPER.encode(&octets))
    }

    #[test]
    fn a_name_in_the_data_is_never_compressed() {
        for (rtype, digits) in [
            ("NS", "C000"),
            ("CNAME", "C000"),
            ("PTR", "0161C000"),
            ("MX", "000AC000"),
            ("SRV", "000000000035C000"),
            ("NAPTR", "00010001000000C000"),
            ("HTTPS", "0001C000"),
            ("SVCB", "0001C000"),
            ("RP", "00C000"),
            ("AFSDB", "0001C000"),
            ("KX", "0001C000"),
            ("TYPE7", "C000"),
            ("TYPE14", "00C000"),
            ("TYPE21", "0001C000"),
            ("TYPE26", "000100C000"),
            ("TYPE45", "0A0302C000"),
        ] {
            assert!(read(rtype, digits).is_err(), "{rtype} {digits}");
        }
    }

    #[test]
    fn data_of_old_types_have_their_form() {
        for (rtype, sound, unsound) in [
            ("RP", "0161000162 00", &["00", "0000FF"][..]),
            ("AFSDB", "000100", &["0001", "00"]),
            ("TYPE14", "0000", &["00"]),
            ("URI", "0001000161", &["00010001", "0001"]),
            ("TYPE108", "010203040506", &["01020304", "01020304050607"]),
            ("TYPE109", "0102030405060708", &["010203040506"]),
            ("LOC", "00121324000000008000000080000000", &["01121324000000008000000080000000", "0012"]),
            ("APL", "000118030A0001", &["000121030A0001", "000118040A000100", "0001"]),
            ("TYPE45", "0A01027F000001FF", &["0A01027F", "0A0402"]),
            ("AMTRELAY", "0A81C0000201", &["0A0101", "0A0000"]),
            ("CAA", "000161", &["0000", "0001"]),
            ("TXT", "00", &["", "0261"]),
            ("SPF", "0161", &[""]),
            ("ISDN", "0131", &["", "01310131FF"]),
            ("X25", "0131", &["01310132"]),
        ] {
            read(rtype, &sound.replace(' ', "")).unwrap_or_else(|error| panic!("{rtype} {sound}: {error}"));
            for digits in unsound {
                assert!(read(rtype, digits).is_err(), "{rtype} {digits}");
            }
        }
    }

    #[test]
    fn names_are_lowered_and_texts_are_not() {
        assert_eq!(read("MX", "000A044D61696C00").as_deref(), Ok("000A046D61696C00"));
        assert_eq!(
            read("NAPTR", "00010001015500000141 00".replace(' ', "").as_str()).unwrap(),
            "00010001015500000161 00".replace(' ', "")
        );
        assert_eq!(read("TXT", "0141").as_deref(), Ok("0141"));
        assert_eq!(read("HTTPS", "0001014100").as_deref(), Ok("0001014100"));
    }
}
