//! Aligns rows of words in columns.

/// Returns the rows with two blanks between columns and none at a line's end. An empty word is shown as a dash.
///
/// It does not pad by a format width, which ends at 65,535. It does not pad the last column either, because a long word
/// there would lengthen every row.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let shown = |word: &String| if word.is_empty() { "-".to_owned() } else { word.clone() };
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(shown)).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = word.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut blanks = 0;
        for (word, width) in row.iter().zip(widths) {
            text.extend(std::iter::repeat_n(' ', blanks));
            text.push_str(word);
            blanks = width + 2 - word.chars().count();
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_word() {
        let rows = [["NAME", "WHY"], ["n", ""], ["longer", "so"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "NAME    WHY\nn       -\nlonger  so\n");
    }

    #[test]
    fn a_word_longer_than_a_format_width_is_aligned() {
        let long = "x".repeat(70_000);
        let rows = [[long.clone(), "a".to_owned()], ["y".to_owned(), long.clone()]];
        let blanks = " ".repeat(70_001);
        assert_eq!(columns(&rows), format!("{long}  a\ny{blanks}{long}\n"));
    }
}
