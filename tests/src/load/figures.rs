//! Figures of several rounds, and tables of them in Markdown.
use std::fmt::Write as _;

/// The same figure in several rounds.
#[derive(Debug, Clone, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// The median; 0 if there are no values.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.len(), sorted.len() / 2) {
            (0, _) => 0.0,
            (count, half) if count % 2 == 0 => f64::midpoint(sorted[half - 1], sorted[half]),
            (_, half) => sorted[half],
        }
    }

    /// The least and the greatest.
    pub fn range(&self) -> (f64, f64) {
        self.0
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(*it), high.max(*it)))
    }
}

impl FromIterator<f64> for Rounds {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Rounds(figures.into_iter().collect())
    }
}

/// A rate with separated thousands, rounded to 3 digits.
pub fn rate(per_second: f64) -> String {
    let step = 10_f64.powf((per_second.max(1.0).log10().floor() - 2.0).max(0.0));
    let digits = format!("{:.0}", (per_second / step).round() * step);
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A share in percent; small ones with a decimal.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// A table in Markdown, its columns aligned for the terminal too: the first to the left, the others to the right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].chars().count(), 2]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::from("|");
        for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let written =
                if index == 0 { write!(line, " {cell:width$} |") } else { write!(line, " {cell:>width$} |") };
            written.expect("a String takes all");
        }
        line + "\n"
    };
    let rule = widths.iter().enumerate().map(|(index, width)| match index {
        0 => "-".repeat(*width),
        _ => format!("{}:", "-".repeat(width - 1)),
    });
    let headings: Vec<String> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let mut table = line(&headings) + &line(&rule.collect::<Vec<_>>());
    table.extend(rows.iter().map(|row| line(row)));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_range_around_it() {
        let rounds = Rounds(vec![3.0, 1.0, 2.0, 9.0]);
        assert_eq!((rounds.median(), rounds.range()), (2.5, (1.0, 9.0)));
        assert_eq!((Rounds(vec![3.0, 1.0, 2.0]).median(), Rounds::default().median()), (2.0, 0.0));
    }

    #[test]
    fn figures_are_told_to_the_digits_that_mean_something() {
        assert_eq!(rate(3_456_789.0), "3,460,000");
        assert_eq!(rate(25_049.0), "25,000");
        assert_eq!((rate(999.0).as_str(), rate(0.0).as_str()), ("999", "0"));
        assert_eq!((percent(0.0123).as_str(), percent(0.5).as_str()), ("1.2 %", "50 %"));
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = [vec!["A".into(), "1,000".into()], vec!["NXDOMAIN".into(), "5".into()]];
        let expected =
            "|          |     q |\n| -------- | ----: |\n| A        | 1,000 |\n| NXDOMAIN |     5 |\n";
        assert_eq!(table(&["", "q"], &rows), expected);
    }
}
