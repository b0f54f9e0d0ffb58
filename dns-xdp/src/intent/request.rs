//! An operator's request for an intent, with the checks that need no knowledge of the node.
use std::time::Duration;

use crate::cluster::Admin;

/// The most characters of a reason or of an operator's name.
pub const LONGEST_TEXT: usize = 200;
/// The longest time of an intent: longer than any maintenance. To take a node out for good, remove it.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A request for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRequest {
    /// How the node has to be treated.
    pub admin: Admin,
    /// The reason.
    pub reason: Option<String>,
    /// The operator that asks for it.
    pub by: Option<String>,
    /// How long it lasts; `None`: until another intent is set.
    pub lasting: Option<Duration>,
}

impl IntentRequest {
    /// Checks whether the request makes sense. The error says which part does not.
    pub fn check(&self) -> Result<(), String> {
        for (what, given) in [("the reason", &self.reason), ("the name of the operator", &self.by)] {
            if let Some(given) = given {
                text(given).map_err(|problem| format!("{what} {problem}"))?;
            }
        }
        match self.lasting {
            Some(_) if self.admin == Admin::Auto => {
                Err("`auto` has no end: give --for with `down`, `up` or `drain`".to_owned())
            }
            Some(lasting) => within(lasting).map_err(|problem| format!("the time for it {problem}")),
            None => Ok(()),
        }
    }
}

/// Checks a line of text for operators. The error continues a sentence.
pub fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty: leave it out, or write a text".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character in it: write one line of plain text".to_owned());
    }
    if text.chars().count() > LONGEST_TEXT {
        return Err(format!("has more than {LONGEST_TEXT} characters: shorten it"));
    }
    Ok(text.to_owned())
}

/// Parses the time of an intent. The error continues a sentence.
pub fn lasting(text: &str) -> Result<Duration, String> {
    let lasting = humantime::parse_duration(text)
        .map_err(|_| format!("is `{text}`: write a duration such as 30m or \"1h 30m\""))?;
    within(lasting)?;
    Ok(lasting)
}

fn within(lasting: Duration) -> Result<(), String> {
    if lasting.is_zero() {
        return Err("is no time at all: write a duration such as 30m".to_owned());
    }
    if lasting > LONGEST {
        return Err(
            "is longer than a year: write a shorter time, or leave it out for an intent without an end"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain() -> IntentRequest {
        IntentRequest { admin: Admin::Drain, reason: None, by: None, lasting: None }
    }

    #[test]
    fn durations_are_read_and_bounded() {
        assert_eq!(lasting("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(lasting("365d"), Ok(LONGEST));
        for (text, problem) in [
            ("", "is ``"),
            ("5", "is `5`"),
            ("-5m", "is `-5m`"),
            ("soon", "is `soon`"),
            ("0s", "is no time at all"),
            ("366d", "is longer than a year"),
            ("999999999999y", "is `999999999999y`"),
        ] {
            let told = lasting(text).unwrap_err();
            assert!(told.starts_with(problem), "{text}: {told}");
        }
    }

    #[test]
    fn a_text_is_one_line_of_bounded_length() {
        let longest = "ä".repeat(LONGEST_TEXT);
        assert_eq!(text(&longest), Ok(longest.clone()));
        let cases: [(&str, &str); 5] = [
            ("", "is empty"),
            ("  ", "is empty"),
            ("two\nlines", "has a control"),
            ("\u{1b}[2J", "has a control"),
            (&format!("{longest}x"), "has more than 200"),
        ];
        for (given, problem) in cases {
            let told = text(given).unwrap_err();
            assert!(told.starts_with(problem), "{given:?}: {told}");
        }
    }

    #[test]
    fn a_request_that_makes_no_sense_is_told_what_is_wrong() {
        assert_eq!(drain().check(), Ok(()));
        let hour = Some(Duration::from_secs(3600));
        let cases = [
            (IntentRequest { admin: Admin::Auto, lasting: hour, ..drain() }, "`auto` has no end"),
            (IntentRequest { lasting: Some(Duration::ZERO), ..drain() }, "the time for it is no time"),
            (IntentRequest { lasting: Some(Duration::MAX), ..drain() }, "the time for it is longer"),
            (IntentRequest { reason: Some("\t".to_owned()), ..drain() }, "the reason is empty"),
            (
                IntentRequest { by: Some("a\u{7}".to_owned()), ..drain() },
                "the name of the operator has a control",
            ),
        ];
        for (request, problem) in cases {
            let told = request.check().unwrap_err();
            assert!(told.starts_with(problem), "{told}");
        }
    }
}
