//! Text for people: elapsed times, numbers, and harmless forms of text from outside.
use jiff::Timestamp;

/// Returns how long ago a time was, in the largest unit.
pub(super) fn ago(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second());
    if seconds < 1 {
        return "now".to_owned();
    }
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds >= *length).unwrap_or((1, 's'));
    format!("{}{unit} ago", seconds / length)
}

/// Returns a count or rate as a whole number with commas. A small fraction keeps one digit.
pub(super) fn number(value: f64) -> String {
    if value < 9.95 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number as [`number`] does, in at most 6 characters. Large numbers have 3 digits and a letter.
pub(super) fn compact(value: f64) -> String {
    let letters = [(1e9, "G"), (1e6, "M"), (1e5, "k")];
    let Some((least, letter)) = letters.into_iter().find(|(least, _)| value >= 0.9995 * least) else {
        return number(value);
    };
    let value = value / if letter == "k" { 1e3 } else { least };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$}{letter}")
}

/// Returns a share from 0 to 1 in per cent. 100 and 0 are exact, never rounded.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match share {
        _ if share >= 1.0 => "100 %".to_owned(),
        _ if share <= 0.0 => "0 %".to_owned(),
        _ => format!("{:.1} %", percent.clamp(0.1, 99.9)),
    }
}

/// Returns the text without characters that move a cursor or change the direction of writing.
pub(super) fn harmless(text: &str) -> String {
    let harmless = |char: char| match char {
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '?',
        char if char.is_control() => ' ',
        char => char,
    };
    text.chars().map(harmless).collect()
}

/// Returns the text, cut to a number of characters with an ellipsis.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Returns lines of at most this many characters, broken between words if possible.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let used = line.chars().count();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let cases = [
            (-5, "now"),
            (0, "now"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3_599, "59m ago"),
            (3_600, "1h ago"),
            (86_400, "1d ago"),
            (90_000_000, "1041d ago"),
        ];
        for (seconds, text) in cases {
            let since = Timestamp::from_second(now.as_second() - seconds).unwrap();
            assert_eq!(ago(since, now), text, "{seconds}");
        }
    }

    #[test]
    fn numbers_are_readable() {
        let cases = [
            (0.0, "0"),
            (0.26, "0.3"),
            (7.0, "7"),
            (9.97, "10"),
            (999.6, "1,000"),
            (4_410_000.0, "4,410,000"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn numbers_in_columns_are_short() {
        let cases = [
            (7.0, "7"),
            (99_499.0, "99,499"),
            (123_456.0, "123k"),
            (999_600.0, "1.00M"),
            (2_234_567.0, "2.23M"),
            (22_345_678.0, "22.3M"),
            (9.5e14, "950000G"),
        ];
        for (value, text) in cases {
            assert_eq!(compact(value), text);
        }
    }

    #[test]
    fn a_share_is_whole_only_when_nothing_is_missing() {
        let cases =
            [(0.0, "0 %"), (0.000_01, "0.1 %"), (0.5, "50.0 %"), (0.999_99, "99.9 %"), (1.0, "100 %")];
        for (share, text) in cases {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn text_of_strangers_moves_nothing() {
        assert_eq!(harmless("a\x1b[2J\r\nb\u{202e}c\u{9b}ä"), "a [2J  b?c ä");
    }

    #[test]
    fn text_is_broken_between_words_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefghij b", 4), ["a", "abcd", "efgh", "ij b"]);
        assert_eq!(wrap("", 4), [""; 0]);
        assert_eq!((cut("abcdef", 6), cut("abc defg", 5)), ("abcdef".to_owned(), "abc…".to_owned()));
    }
}
