//! Splits presentation form (RFC 1035, section 5.1) into words: a single record's data, or the lines of a zone file.

/// A word: a run of characters without blanks, or a quoted string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// The text, with its escapes and without the quotes around it.
    pub(super) raw: String,
    /// Whether it was in quotes.
    pub(super) is_quoted: bool,
}

/// A line of a zone file. Parentheses join several lines to one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The number of its first line, counted from 1.
    pub(super) number: usize,
    /// Whether it begins with a blank: it then has no owner name.
    pub(super) begins_blank: bool,
    pub(super) words: Vec<Word>,
}

/// Returns the words of one record's data.
///
/// # Errors
/// The text cannot be split. The message is the reason.
pub(super) fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.chars();
    while let Some(first) = rest.clone().next() {
        match first {
            ';' | '(' | ')' => {
                return Err(format!("has `{first}` outside quotes; write it in double quotes"));
            }
            '\n' | '\r' => return Err("has a line break; write one record on one line".to_owned()),
            blank if blank.is_ascii_whitespace() => drop(rest.next()),
            _ => words.push(word(&mut rest)?),
        }
    }
    Ok(words)
}

/// Returns the text of a zone file. Leaves out a byte order mark. Replaces octets that are not UTF-8 in comments.
///
/// # Errors
/// An octet outside of comments is not UTF-8. The message has its line.
pub fn zone_file_text(octets: &[u8]) -> Result<String, String> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let octets = octets.strip_prefix(BYTE_ORDER_MARK).unwrap_or(octets);
    let mut text = String::with_capacity(octets.len());
    for (number, line) in (1..).zip(octets.split_inclusive(|octet| *octet == b'\n')) {
        let (data, comment) = line.split_at(comment_start(line));
        let data = str::from_utf8(data).map_err(|_| {
            format!("line {number}: it has an octet that is not UTF-8; write the octet as `\\` and three decimal digits")
        })?;
        text += data;
        text += &String::from_utf8_lossy(comment);
    }
    Ok(text)
}

/// Returns where the comment of a line begins: at a semicolon outside quotes.
fn comment_start(line: &[u8]) -> usize {
    let (mut in_quotes, mut is_escaped) = (false, false);
    for (place, octet) in line.iter().enumerate() {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_quotes = !in_quotes,
            b';' if !in_quotes => return place,
            _ => {}
        }
    }
    line.len()
}

/// Returns the lines of a zone file that have words. Comments are left out.
///
/// # Errors
/// A line cannot be split: its number, and the reason.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let mut lines = Vec::new();
    let (mut number, mut depth) = (1, 0_usize);
    let mut line = Line { number, ..Line::default() };
    let mut is_first = true;
    let mut rest = text.chars();
    while let Some(first) = rest.clone().next() {
        match first {
            '\n' => {
                rest.next();
                number += 1;
                if depth == 0 {
                    let next = Line { number, ..Line::default() };
                    lines.push(std::mem::replace(&mut line, next));
                    is_first = true;
                    continue;
                }
            }
            ';' => {
                while rest.clone().next().is_some_and(|letter| letter != '\n') {
                    rest.next();
                }
            }
            '(' => {
                rest.next();
                depth += 1;
            }
            ')' => {
                rest.next();
                depth = depth.checked_sub(1).ok_or((number, "has `)` without `(`".to_owned()))?;
            }
            blank if blank.is_ascii_whitespace() => {
                rest.next();
                line.begins_blank |= is_first;
            }
            _ => line.words.push(word(&mut rest).map_err(|problem| (number, problem))?),
        }
        is_first = false;
    }
    if depth != 0 {
        return Err((line.number, "has `(` without `)`".to_owned()));
    }
    lines.push(line);
    lines.retain(|line| !line.words.is_empty());
    Ok(lines)
}

/// Takes a word off the text, which begins with it.
fn word(rest: &mut std::str::Chars<'_>) -> Result<Word, String> {
    let is_quoted = rest.clone().next() == Some('"');
    if is_quoted {
        rest.next();
    }
    let (mut raw, mut in_quotes) = (String::new(), is_quoted);
    while let Some(letter) = rest.clone().next() {
        match letter {
            '"' if is_quoted => {
                rest.next();
                return Ok(Word { raw, is_quoted });
            }
            '"' => in_quotes = !in_quotes,
            '\n' if in_quotes => break,
            ';' | '(' | ')' if !in_quotes => break,
            blank if blank.is_ascii_whitespace() && !in_quotes => break,
            '\\' => {
                raw.push(letter);
                rest.next();
                match rest.clone().next() {
                    Some(escaped) if escaped != '\n' => {
                        raw.push(escaped);
                        rest.next();
                    }
                    _ => return Err("ends with `\\`; write a backslash as `\\\\`".to_owned()),
                }
                continue;
            }
            _ => {}
        }
        raw.push(letter);
        rest.next();
    }
    if in_quotes {
        Err("has an opening quote without a closing quote".to_owned())
    } else {
        Ok(Word { raw, is_quoted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(words: &[Word]) -> Vec<&str> {
        words.iter().map(|word| word.raw.as_str()).collect()
    }

    #[test]
    fn data_are_split_at_blanks_outside_quotes() {
        let of = |text: &str| words(text).map(|words| raw(&words).join("|"));
        assert_eq!(of("10  mail").unwrap(), "10|mail");
        assert_eq!(of(r#""a b" "" c\ d"#).unwrap(), r"a b||c\ d");
        assert_eq!(of(r#"1 . alpn="h2,h3" key9="a b""#).unwrap(), r#"1|.|alpn="h2,h3"|key9="a b""#);
        assert_eq!(of(r#""a\"b""#).unwrap(), r#"a\"b"#);
        for wrong in ["\"a", "a ; b", "( a )", "a\nb", "a\\", "a=\"b"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_of_a_zone_file_are_joined_by_parentheses() {
        let text =
            "; comment\n@ IN SOA a b (\n 1 ; serial\n 2 )\n\n  TXT ( \"a;b\"\n\"c\" ) ; end\nx A 192.0.2.1";
        let lines = lines(text).unwrap();
        let found: Vec<_> =
            lines.iter().map(|line| (line.number, line.begins_blank, raw(&line.words).join(" "))).collect();
        let expected = [
            (2, false, "@ IN SOA a b 1 2".to_owned()),
            (6, true, "TXT a;b c".to_owned()),
            (8, false, "x A 192.0.2.1".to_owned()),
        ];
        assert_eq!(found, expected);
        assert_eq!(super::lines("x A 1\ny ( \n").unwrap_err().0, 2);
        assert_eq!(super::lines("x A 1\n\ny ) \n").unwrap_err().0, 3);
    }

    #[test]
    fn an_octet_that_is_not_utf_8_is_only_in_a_comment() {
        let text = zone_file_text(b"\xef\xbb\xbfa TXT \"x;\" ; \xfcber\nb TXT y\n").unwrap();
        assert_eq!(text, "a TXT \"x;\" ; \u{fffd}ber\nb TXT y\n");
        for wrong in [&b"a TXT x\nb TXT \xfc ; c"[..], b"a TXT x\nb TXT \"; \xfc\""] {
            assert!(zone_file_text(wrong).unwrap_err().starts_with("line 2: "), "{wrong:?}");
        }
    }
}
