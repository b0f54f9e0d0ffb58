//! Changes the suffixes in the text of a configuration, and leaves everything else in it as it is.
use hickory_proto::rr::Name;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

use super::{EditError, Edited, name_of, parse, unchanged};
use crate::config::{nearest, suffix};

/// The key with the address set of a suffix.
const ADDRESSES: &str = "addresses";

/// Appends a suffix. Adding the same suffix again changes nothing.
pub fn add_suffix(text: &str, name: &str, addresses: Option<&str>) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let apex = apex(&document);
    let suffixes = suffixes(&mut document)?;
    if let Some(index) = position(suffixes, name, apex.as_ref()) {
        let written = suffixes.get(index).and_then(|table| table.get(ADDRESSES)).and_then(Item::as_str);
        let is_same = written.map(str::to_ascii_lowercase) == addresses.map(str::to_ascii_lowercase);
        return match is_same {
            true => Ok(unchanged(text, format!("suffix `{name}` is there already"))),
            false => Err(EditError::Conflict(format!(
                "suffix `{name}` is there with other addresses; `dns-xdp suffix remove {name}` first"
            ))),
        };
    }
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table.insert("name", toml_edit::value(name));
    if let Some(addresses) = addresses {
        table.insert(ADDRESSES, toml_edit::value(addresses));
    }
    suffixes.push(table);
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// Removes a suffix. Removing a suffix that is not there changes nothing.
pub fn remove_suffix(text: &str, name: &str) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let apex = apex(&document);
    let suffixes = suffixes(&mut document)?;
    let Some(index) = position(suffixes, name, apex.as_ref()) else {
        let note = match nearest(name, suffixes.iter().map(name_of)) {
            Some(nearest) => format!("there is no suffix `{name}`; did you mean `{nearest}`?"),
            None => format!("there is no suffix `{name}`; `dns-xdp suffix list` shows them"),
        };
        return Ok(unchanged(text, note));
    };
    suffixes.remove(index);
    if suffixes.is_empty() {
        document.remove("suffix");
    }
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// Returns the zone's name; `None`: the text does not have it.
fn apex(document: &DocumentMut) -> Option<Name> {
    let text = document.get("zone")?.get("name")?.as_str()?;
    let mut apex = Name::from_ascii(text).ok()?.to_lowercase();
    apex.set_fqdn(true);
    Some(apex)
}

/// Returns the position of a suffix. Its name may be written relative to the zone or in full.
fn position(suffixes: &ArrayOfTables, name: &str, apex: Option<&Name>) -> Option<usize> {
    let full = |text: &str| suffix::full_name(&text.to_ascii_lowercase(), apex?).ok();
    let wanted = full(name);
    suffixes.iter().position(|table| {
        let written = name_of(table);
        written.eq_ignore_ascii_case(name) || wanted.is_some() && full(written) == wanted
    })
}

fn suffixes(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, EditError> {
    let suffixes = document.entry("suffix").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    suffixes.as_array_of_tables_mut().ok_or_else(|| {
        EditError::Conflict("the suffixes are not written as [[suffix]]; rewrite them so".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[zone]\nname = \"demo.example.com\" # ours\n\n[[suffix]]\nname = \"internal\"\n\
                        addresses = \"internal\"\n\n[metrics]\nlisten = \"off\"\n";

    #[test]
    fn a_suffix_is_appended_and_the_same_again_changes_nothing() {
        let edited = add_suffix(TEXT, "also", None).unwrap();
        assert!(
            edited.text.contains("[[suffix]]\nname = \"also\"\n") && edited.text.contains("# ours"),
            "{}",
            edited.text
        );
        for name in ["INTERNAL", "internal.demo.example.com", "internal.demo.example.com."] {
            let again = add_suffix(TEXT, name, Some("Internal")).unwrap();
            assert_eq!((again.text.as_str(), again.notes.len()), (TEXT, 1), "{name}");
            let error = add_suffix(TEXT, name, None).unwrap_err();
            assert!(error.to_string().contains("with other addresses"), "{error}");
        }
    }

    #[test]
    fn a_removed_suffix_is_gone_and_one_that_is_not_there_is_told() {
        let edited = remove_suffix(TEXT, "internal.demo.example.com.").unwrap();
        assert!(!edited.text.contains("suffix") && edited.text.contains("[metrics]"), "{}", edited.text);
        let idle = remove_suffix(TEXT, "intrenal").unwrap();
        assert_eq!(idle.text, TEXT);
        assert!(idle.notes[0].contains("did you mean `internal`"), "{:?}", idle.notes);
    }

    #[test]
    fn suffixes_of_another_form_are_refused() {
        let error = remove_suffix("suffix = [{ name = \"internal\" }]\n", "internal").unwrap_err();
        assert!(error.to_string().contains("[[suffix]]"), "{error}");
    }
}
