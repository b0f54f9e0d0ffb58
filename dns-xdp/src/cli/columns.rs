//! Rows of words, aligned for reading.

/// Two blanks between columns, none at a line's end; an empty word is shown as a dash.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let word = |word: &str| if word.is_empty() { "-".to_owned() } else { word.to_owned() };
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|text| word(text))).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let padded = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_word() {
        let rows = [["NAME", "WHY"], ["n", ""], ["longer", "so"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "NAME    WHY\nn       -\nlonger  so\n");
    }
}
