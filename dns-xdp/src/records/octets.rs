//! Names and character strings between presentation form (RFC 1035, section 5.1) and octets.
use std::fmt::Write as _;

use hickory_proto::rr::Name;

/// The most octets of a label (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;
/// The most octets of a name, and of a character string.
const NAME_MAX: usize = 255;

/// Returns a name with its final dot. Octets that may have a meaning in zone files are written as `\DDD`.
pub fn absolute(name: &Name) -> String {
    if name.is_root() {
        return ".".to_owned();
    }
    labels(name, name.iter().len()) + "."
}

/// Returns a name relative to the apex: `@` for the apex itself. A name outside the zone has its final dot.
pub fn relative(name: &Name, apex: &Name) -> String {
    if name == apex {
        return "@".to_owned();
    }
    if !apex.zone_of(name) {
        return absolute(name);
    }
    labels(name, name.iter().len() - apex.iter().len())
}

fn labels(name: &Name, count: usize) -> String {
    let mut text = String::new();
    for (index, label) in name.iter().take(count).enumerate() {
        if index != 0 {
            text.push('.');
        }
        for octet in label {
            if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'*') {
                text.push(char::from(*octet));
            } else {
                write!(text, "\\{octet:03}").expect("a String takes all");
            }
        }
    }
    text
}

/// Reads a name: relative to the origin, or fully qualified with a final dot. `@` is the origin.
///
/// # Errors
/// The text is no name. The message is the reason, without its subject.
pub fn full_name(text: &str, origin: &Name) -> Result<Name, String> {
    if text == "@" {
        return Ok(origin.clone());
    }
    if text == "." {
        return Ok(Name::root());
    }
    let mut labels: Vec<Vec<u8>> = vec![Vec::new()];
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'.' => labels.push(Vec::new()),
            b'\\' => {
                let octet = escaped(&mut octets)?;
                labels.last_mut().expect("there is a label").push(octet);
            }
            b'!'..=b'~' => labels.last_mut().expect("there is a label").push(octet),
            _ => {
                return Err(
                    "has an octet that is no printable ASCII; write it as `\\DDD`, or the name as `xn--…`"
                        .to_owned(),
                );
            }
        }
    }
    let is_full = labels.len() > 1 && labels.last().is_some_and(Vec::is_empty);
    if is_full {
        labels.pop();
    }
    if labels.iter().any(Vec::is_empty) {
        return Err("has an empty label".to_owned());
    }
    if labels.iter().any(|label| label.len() > LABEL_MAX) {
        return Err(format!("has a label of more than {LABEL_MAX} octets; shorten it"));
    }
    let too_long = |_| format!("is longer than {NAME_MAX} octets in full; shorten it");
    let name = Name::from_labels(labels.iter().map(Vec::as_slice)).map_err(too_long)?;
    if is_full {
        return Ok(name);
    }
    let mut relative = name;
    relative.set_fqdn(false);
    relative.append_domain(origin).map_err(too_long)
}

/// Returns the octets of a character string with its escapes: `\DDD` in decimal, and `\X`.
///
/// # Errors
/// An escape is wrong: why.
pub(super) fn octets_of(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = text.bytes();
    let mut found = Vec::with_capacity(text.len());
    while let Some(octet) = octets.next() {
        found.push(if octet == b'\\' { escaped(&mut octets)? } else { octet });
    }
    Ok(found)
}

/// Returns the octet that follows a backslash.
fn escaped(octets: &mut std::str::Bytes<'_>) -> Result<u8, String> {
    const WANTED: &str = "has a wrong escape; write an octet as `\\` and three decimal digits, up to `\\255`";
    let first = octets.next().ok_or(WANTED)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = octets.next().filter(u8::is_ascii_digit).ok_or(WANTED)?;
        value = 10 * value + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| WANTED.to_owned())
}

/// Returns a character string in quotes.
pub(super) fn quoted(octets: &[u8]) -> String {
    let mut text = String::from("\"");
    for octet in octets {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(*octet)]),
            b' '..=b'~' => text.push(char::from(*octet)),
            _ => write!(text, "\\{octet:03}").expect("a String takes all"),
        }
    }
    text.push('"');
    text
}

/// Returns a name in uncompressed wire form (RFC 1035, section 3.1).
pub fn wire(name: &Name) -> Vec<u8> {
    let mut octets = Vec::with_capacity(name.len());
    for label in name {
        octets.push(u8::try_from(label.len()).expect("a label has at most 63 octets"));
        octets.extend(label);
    }
    octets.push(0);
    octets
}

/// Reads the data of a record in wire form, without compression. Each part is `None` if the octets end before it.
#[derive(Debug)]
pub(super) struct Reader<'o> {
    rest: &'o [u8],
}

impl<'o> Reader<'o> {
    pub(super) fn new(rest: &'o [u8]) -> Self {
        Reader { rest }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'o [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn rest(&mut self) -> &'o [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn number(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
    }

    /// Reads a character string.
    pub(super) fn string(&mut self) -> Option<&'o [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    pub(super) fn name(&mut self) -> Option<Name> {
        let mut labels = Vec::new();
        loop {
            match self.byte()? {
                0 => return Name::from_labels(labels).ok(),
                length if usize::from(length) <= LABEL_MAX => labels.push(self.take(length.into())?),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Name {
        Name::from_ascii("demo.example.com.").unwrap()
    }

    #[test]
    fn a_name_is_relative_to_the_origin_or_ends_in_a_dot() {
        let full = |text: &str| full_name(text, &origin()).map(|name| absolute(&name));
        assert_eq!(full("@").unwrap(), "demo.example.com.");
        assert_eq!(full("_redis._tcp").unwrap(), "_redis._tcp.demo.example.com.");
        assert_eq!(full("*").unwrap(), "*.demo.example.com.");
        assert_eq!(full("www.example.org.").unwrap(), "www.example.org.");
        assert_eq!(full(".").unwrap(), ".");
        // The escape is decimal, and an escaped dot does not separate labels.
        assert_eq!(full(r"a\.b\059").unwrap(), r"a\046b\059.demo.example.com.");
        for wrong in ["", "a..b", ".a", "ä", "a b", r"a\25", r"a\256", &"x".repeat(64)] {
            assert!(full(wrong).is_err(), "{wrong}");
        }
        assert!(full(&vec!["x".repeat(60); 4].join(".")).unwrap_err().contains("255"));
    }

    #[test]
    fn a_name_is_shown_relative_to_the_apex() {
        let shown = |text: &str| relative(&full_name(text, &origin()).unwrap(), &origin());
        for text in ["@", "a.b", "*", "_x._tcp", "www.example.org."] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(absolute(&Name::root()), ".");
        let odd = Name::from_labels([b"a;\xff".as_slice(), b"com"]).unwrap();
        assert_eq!(absolute(&odd), "a\\059\\255.com.");
    }

    #[test]
    fn a_string_keeps_all_its_octets() {
        let octets: Vec<u8> = (0..=255).collect();
        let text = quoted(&octets);
        assert!(text.is_ascii());
        assert_eq!(octets_of(&text[1..text.len() - 1]).unwrap(), octets);
        assert_eq!(octets_of("ä").unwrap(), "ä".as_bytes());
    }

    #[test]
    fn a_name_in_wire_form_is_read_back() {
        let octets = wire(&origin());
        let mut reader = Reader::new(&octets);
        assert_eq!((reader.name(), reader.is_at_end()), (Some(origin()), true));
        assert_eq!(Reader::new(&octets[..5]).name(), None);
        assert_eq!(Reader::new(&[0xc0, 0]).name(), None);
    }
}
