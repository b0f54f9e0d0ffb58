//! Reads the records of a zone file (RFC 1035, section 5).
//!
//! hickory's reader of zone files takes no quoted string within parentheses and says no line numbers, so the lines are
//! read here.
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::txt::parse_ttl;

use super::octets::{absolute, full_name};
use super::words::{Line, Word, lines};
use super::{data, record_type, refusal, type_text};

/// A record of a zone file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Its line, counted from 1.
    pub line: usize,
    /// The owner name, fully qualified and in lower case.
    pub owner: Name,
    /// The type.
    pub rtype: RecordType,
    /// Its TTL; `None`: the file has none for it.
    pub ttl_seconds: Option<u32>,
    /// The data.
    pub data: RData,
}

/// A record that is left out, because the zone makes it itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its line, counted from 1.
    pub line: usize,
    /// Its type.
    pub rtype: RecordType,
}

/// Returns the records of a zone file about the zone at `apex`. The SOA and NS records of the apex are skipped.
///
/// # Errors
/// Every line that cannot be read, with its number and the reason.
pub fn records_of_zone_file(text: &str, apex: &Name) -> Result<(Vec<ZoneRecord>, Vec<Skipped>), Vec<String>> {
    let lines = lines(text).map_err(|(line, problem)| vec![format!("line {line}: it {problem}")])?;
    let mut reader = Reader { apex, origin: apex.clone(), owner: None, ttl: None, last_ttl: None };
    let (mut records, mut skipped, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for line in &lines {
        match reader.line(line) {
            Ok(Some(record)) if record.owner == *apex && is_own(record.rtype) => {
                skipped.push(Skipped { line: line.number, rtype: record.rtype });
            }
            Ok(record) => records.extend(record),
            Err(problem) => problems.push(format!("line {}: {problem}", line.number)),
        }
    }
    if problems.is_empty() { Ok((records, skipped)) } else { Err(problems) }
}

/// Whether the text is a class in the form of RFC 3597, section 5.
fn is_class(text: &str) -> bool {
    text.strip_prefix("CLASS").is_some_and(|number| number.parse::<u16>().is_ok())
}

/// Whether the zone makes such records of its apex itself.
fn is_own(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::SOA | RecordType::NS)
}

/// The values that a line can leave to the lines below it.
struct Reader<'a> {
    apex: &'a Name,
    origin: Name,
    owner: Option<Name>,
    /// `$TTL` (RFC 2308, section 4).
    ttl: Option<u32>,
    /// The TTL of the record before.
    last_ttl: Option<u32>,
}

impl Reader<'_> {
    /// Returns the record of a line; `None`: the line has a directive.
    fn line(&mut self, line: &Line) -> Result<Option<ZoneRecord>, String> {
        let [first, rest @ ..] = line.words.as_slice() else { return Ok(None) };
        if !line.begins_blank && first.raw.starts_with('$') && !first.is_quoted {
            self.directive(&first.raw, rest)?;
            return Ok(None);
        }
        let rest = if line.begins_blank {
            &line.words
        } else {
            let owner = full_name(&first.raw, &self.origin)
                .map_err(|problem| format!("the name `{}` {problem}", first.raw))?;
            self.owner = Some(owner.to_lowercase());
            rest
        };
        let owner = self.owner.clone().ok_or("the record has no name; begin the line with one")?;
        if !self.apex.zone_of(&owner) {
            let (owner, apex) = (absolute(&owner), absolute(self.apex));
            return Err(format!("{owner} is outside the zone {apex}; remove the line"));
        }
        let (ttl, rtype, words) = self.fields(rest)?;
        let ttl_seconds = ttl.or(self.ttl).or(self.last_ttl);
        self.last_ttl = ttl.or(self.last_ttl);
        if owner == *self.apex && is_own(rtype) {
            let nothing = RData::Update0(rtype);
            return Ok(Some(ZoneRecord { line: line.number, owner, rtype, ttl_seconds, data: nothing }));
        }
        if let Some(reason) = refusal(rtype) {
            let (rtype, owner) = (type_text(rtype), absolute(&owner));
            return Err(format!(
                "the type of the {rtype} record of {owner} is refused: {reason}; remove the line"
            ));
        }
        let data = data::of_words(rtype, words, &self.origin).map_err(|problem| {
            format!("the {} record of {} {problem}", type_text(rtype), absolute(&owner))
        })?;
        Ok(Some(ZoneRecord { line: line.number, owner, rtype, ttl_seconds, data }))
    }

    fn directive(&mut self, name: &str, words: &[Word]) -> Result<(), String> {
        match (name.to_ascii_uppercase().as_str(), words) {
            ("$ORIGIN", [origin]) => {
                let origin = full_name(&origin.raw, &self.origin);
                self.origin = origin.map_err(|problem| format!("the name of $ORIGIN {problem}"))?;
            }
            ("$TTL", [ttl]) => {
                let ttl = parse_ttl(&ttl.raw).map_err(|_| format!("$TTL is `{}`; write seconds", ttl.raw))?;
                self.ttl = Some(ttl);
            }
            ("$INCLUDE", _) => return Err("$INCLUDE is not read; put the lines of that file here".to_owned()),
            _ => return Err(format!("{name} cannot be read; there is `$ORIGIN NAME` and `$TTL SECONDS`")),
        }
        Ok(())
    }

    /// Reads TTL, class and type, which are in front of the data. Either of the first two may be first or missing.
    fn fields<'w>(&self, mut words: &'w [Word]) -> Result<(Option<u32>, RecordType, &'w [Word]), String> {
        let mut ttl = None;
        loop {
            let [word, rest @ ..] = words else {
                return Err("the line has no type; write a name, a type and data".to_owned());
            };
            words = rest;
            if let Some(seconds) = parse_ttl(&word.raw).ok().filter(|_| ttl.is_none()) {
                ttl = Some(seconds);
                continue;
            }
            match word.raw.to_ascii_uppercase().as_str() {
                // CLASS1 is IN (RFC 3597, section 5).
                "IN" | "CLASS1" => {}
                text if matches!(text, "CH" | "HS" | "CS") || is_class(text) => {
                    return Err(format!("the class is {}; the zone has only IN", word.raw));
                }
                text => {
                    let rtype = record_type(text);
                    let rtype = rtype
                        .ok_or_else(|| format!("there is no type `{}`; write it as TYPE1234", word.raw))?;
                    return Ok((ttl, rtype, words));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::presentation;
    use super::*;

    fn read(text: &str) -> Result<(Vec<String>, Vec<usize>), Vec<String>> {
        let apex = Name::from_ascii("demo.example.com.").unwrap();
        let (records, skipped) = records_of_zone_file(text, &apex)?;
        let text = |record: &ZoneRecord| {
            let ttl = record.ttl_seconds.map_or("-".to_owned(), |ttl| ttl.to_string());
            format!("{} {ttl} {} {}", absolute(&record.owner), record.rtype, presentation(&record.data))
        };
        Ok((records.iter().map(text).collect(), skipped.iter().map(|skipped| skipped.line).collect()))
    }

    #[test]
    fn a_zone_file_gives_its_records_without_those_of_the_zone_itself() {
        let text = "\
$TTL 1h
@ IN SOA ns1 hostmaster ( 1 14400 3600
        604800 300 )
        IN NS ns1
        300 MX 10 Mail
_dmarc TXT \"v=DMARC1; p=none\"
key IN 60 TXT ( \"v=DKIM1; \"
                \"p=AAAA\" ) ; the key
$ORIGIN sub.demo.example.com.
www CNAME web
web.demo.example.com. 5 IN A 192.0.2.80
";
        let expected = [
            "demo.example.com. 300 MX 10 Mail.demo.example.com.",
            "_dmarc.demo.example.com. 3600 TXT \"v=DMARC1; p=none\"",
            "key.demo.example.com. 60 TXT \"v=DKIM1; \" \"p=AAAA\"",
            "www.sub.demo.example.com. 3600 CNAME web.sub.demo.example.com.",
            "web.demo.example.com. 5 A 192.0.2.80",
        ];
        assert_eq!(read(text), Ok((expected.map(str::to_owned).to_vec(), vec![2, 4])));
    }

    #[test]
    fn without_a_ttl_of_its_own_a_record_has_that_of_the_record_before() {
        let (records, _) = read("a 60 TXT x\nb TXT y\n").unwrap();
        assert_eq!(records[1], "b.demo.example.com. 60 TXT \"y\"");
        let (records, _) = read("b TXT y").unwrap();
        assert_eq!(records[0], "b.demo.example.com. - TXT \"y\"");
    }

    #[test]
    fn every_line_that_cannot_be_read_is_told() {
        let text = "a A 192.0.2.256\n\nb NONSENSE x\nwww.example.org. TXT x\n$INCLUDE other\nc CH TXT x\nd\nsub NS ns1\ne RRSIG x\n\
                    f CLASS3 TXT x\n";
        let problems = read(text).unwrap_err();
        let expected = [
            ("line 1: ", "IPv4"),
            ("line 3: ", "`NONSENSE`"),
            ("line 4: ", "outside the zone"),
            ("line 5: ", "$INCLUDE"),
            ("line 6: ", "only IN"),
            ("line 7: ", "no type"),
            ("line 8: ", "delegates no names"),
            ("line 9: ", "not signed"),
            ("line 10: ", "only IN"),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, (line, part)) in problems.iter().zip(expected) {
            assert!(problem.starts_with(line) && problem.contains(part), "{problem}");
        }
        assert_eq!(read("  TXT x").unwrap_err().len(), 1);
        assert_eq!(read("a CLASS1 5 TXT x").unwrap().0, ["a.demo.example.com. 5 TXT \"x\""]);
    }
}
