//! The plot of answered against offered queries, as an SVG whose greys are legible on light and dark pages.
use std::fmt::Write as _;

/// The curve of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The title beside the curve.
    pub title: String,
    /// Offered and answered queries per second.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// The distance between the titles of two curves.
const LINE: f64 = 16.0;
/// The colours of the curves. The colour-blind can distinguish them (Okabe and Ito). Each is dark enough on white, and
/// light enough on black.
const COLOURS: [&str; 7] = ["#999999", "#cc79a7", "#e69f00", "#56b4e9", "#d55e00", "#009e73", "#b8860b"];
/// The possible marks of the axes.
const MARKS: [f64; 3] = [1.0, 2.0, 5.0];

/// Draws the curves over logarithmic axes of the same scale.
pub fn plot(title: &str, curves: &[Curve]) -> String {
    let figures =
        curves.iter().flat_map(|curve| &curve.points).flat_map(|(offered, answered)| [offered, answered]);
    let (low, high) =
        figures.fold((f64::INFINITY, 1.0_f64), |(low, high), it| (low.min(it.max(1.0)), high.max(*it)));
    let scale = Scale { low: low.min(high) * 0.9, high: high * 1.1 };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text {{ fill: #777 }} .axis {{ stroke: #888 }} .grid {{ stroke-opacity: 0.35 }}</style>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escape(title)
    );
    axes(&mut svg, &scale);
    let ends = places(curves, &scale);
    for (curve, (colour, end)) in curves.iter().zip(COLOURS.iter().cycle().zip(ends)) {
        draw(&mut svg, curve, colour, end, &scale);
    }
    svg + "</svg>\n"
}

struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// The position on an axis, from 0 to 1.
    fn share(&self, figure: f64) -> f64 {
        ((figure.max(self.low) / self.low).ln() / (self.high / self.low).ln()).clamp(0.0, 1.0)
    }

    fn x(&self, figure: f64) -> f64 {
        LEFT + self.share(figure) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, figure: f64) -> f64 {
        HEIGHT - BOTTOM - self.share(figure) * (HEIGHT - TOP - BOTTOM)
    }
}

fn axes(svg: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let marks = (0..8).flat_map(|power| MARKS.map(|mark| mark * 10_f64.powi(power)));
    for mark in marks.filter(|mark| (scale.low..=scale.high).contains(mark)) {
        let (x, y, text) = (scale.x(mark), scale.y(mark), short(mark));
        add(svg, &format!("<path class=\"axis grid\" d=\"M{x:.1} {TOP}V{bottom}M{LEFT} {y:.1}H{right}\"/>"));
        add(svg, &format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", bottom + 18.0));
        add(
            svg,
            &format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 8.0, y + 4.0),
        );
    }
    add(
        svg,
        &format!(
            "<path class=\"axis\" stroke-dasharray=\"4 4\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            scale.x(scale.low),
            scale.y(scale.low),
            scale.x(scale.high),
            scale.y(scale.high)
        ),
    );
    let middle = f64::midpoint(LEFT, right);
    add(
        svg,
        &format!(
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">queries offered per second</text>",
            HEIGHT - 12.0
        ),
    );
    let middle = f64::midpoint(TOP, bottom);
    add(
        svg,
        &format!(
            "<text transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\">answers per second</text>"
        ),
    );
}

fn draw(svg: &mut String, curve: &Curve, colour: &str, end: f64, scale: &Scale) {
    let points: Vec<String> = curve
        .points
        .iter()
        .map(|(offered, answered)| format!("{:.1},{:.1}", scale.x(*offered), scale.y(*answered)))
        .collect();
    add(
        svg,
        &format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        ),
    );
    for point in &points {
        let (x, y) = point.split_once(',').unwrap_or_default();
        add(svg, &format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>"));
    }
    let Some((offered, answered)) = curve.points.last() else { return };
    let (x, y, title) = (scale.x(*offered), scale.y(*answered), WIDTH - RIGHT + 14.0);
    add(
        svg,
        &format!(
            "<path fill=\"none\" stroke=\"{colour}\" stroke-opacity=\"0.4\" d=\"M{x:.1} {y:.1}L{title} {end:.1}\"/>"
        ),
    );
    add(svg, &format!("<text x=\"{}\" y=\"{:.1}\">{}</text>", title + 4.0, end + 4.0, escape(&curve.title)));
}

/// The positions of the curves' titles: at the curves' ends, but moved apart so that they do not overlap.
fn places(curves: &[Curve], scale: &Scale) -> Vec<f64> {
    let end = |curve: &Curve| curve.points.last().map_or(HEIGHT - BOTTOM, |(_, answered)| scale.y(*answered));
    let mut places: Vec<(usize, f64)> = curves.iter().map(end).enumerate().collect();
    places.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let mut least = TOP;
    for (_, place) in &mut places {
        *place = place.max(least);
        least = *place + LINE;
    }
    places.sort_by_key(|(index, _)| *index);
    places.into_iter().map(|(_, place)| place).collect()
}

fn add(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a String takes all");
}

/// 25k, 2M.
fn short(figure: f64) -> String {
    match figure {
        million if million >= 1e6 => format!("{}M", million / 1e6),
        thousand if thousand >= 1e3 => format!("{}k", thousand / 1e3),
        less => less.to_string(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_in_the_plot_with_its_title_and_points() {
        let curve =
            |title: &str, points: &[(f64, f64)]| Curve { title: title.into(), points: points.to_vec() };
        let curves =
            [curve("a & b", &[(1e4, 1e4), (1e5, 5e4)]), curve("none", &[]), curve("c", &[(1e6, 0.0)])];
        let svg = plot("x < y", &curves);
        assert!(svg.contains("a &amp; b</text>") && svg.contains("x &lt; y</text>"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn titles_of_curves_that_end_together_do_not_overlap() {
        let curves = [1e5, 1e5, 9.9e4].map(|y| Curve { title: String::new(), points: vec![(1e5, y)] });
        let mut places = places(&curves, &Scale { low: 1e4, high: 1e6 });
        places.sort_by(f64::total_cmp);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= LINE), "{places:?}");
    }
}
