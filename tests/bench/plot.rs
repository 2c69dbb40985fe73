//! Small plots, drawn by hand as SVG: points over a count, both axes by powers of ten, readable on light and on dark.

use std::fmt::Write as _;

/// One plot.
pub(crate) struct Panel<'a> {
    /// What is counted on the horizontal axis.
    pub(crate) over: &'a str,
    /// What is drawn, with its unit.
    pub(crate) what: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The size of a panel, and its margins.
const WIDTH: f64 = 450.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 44.0;
const RIGHT: f64 = 40.0;
const BOTTOM: f64 = 44.0;
/// Room for the title and what is said of all panels.
const HEAD: f64 = 50.0;

const STYLE: &str = "<style>
  text { font: 12px system-ui, sans-serif; fill: #333 }
  .title { font-size: 16px; font-weight: 600 }
  .what { font-weight: 600 }
  .small { font-size: 11px; opacity: 0.8 }
  .rule { stroke: #8884; stroke-width: 1 }
  .line { stroke: #2a6fb5; stroke-width: 2; fill: none }
  .dot { fill: #2a6fb5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd }
    .line { stroke: #6db3f2 }
    .dot { fill: #6db3f2 }
  }
</style>
";

/// All panels, two in a row, with what is to be said of all of them.
#[must_use]
pub(crate) fn svg(title: &str, note: &str, panels: &[Panel<'_>]) -> String {
    let rows = panels.len().div_ceil(2);
    let (width, height) = (2.0 * WIDTH, HEAD + HEIGHT * f64::from(u32::try_from(rows).unwrap_or(0)));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{title}</title>\n\
         {STYLE}<text class=\"title\" x=\"{LEFT}\" y=\"20\">{title}</text>\n\
         <text class=\"small\" x=\"{LEFT}\" y=\"38\">{note}</text>\n"
    );
    for (place, panel) in (0_u32..).zip(panels) {
        let (x, y) = (f64::from(place % 2) * WIDTH, HEAD + f64::from(place / 2) * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x:.0} {y:.0})\">\n{}</g>", draw(panel));
    }
    svg + "</svg>\n"
}

fn draw(panel: &Panel<'_>) -> String {
    let across = Axis::around(panel.points.iter().map(|point| point.0), LEFT, WIDTH - RIGHT);
    let up = Axis::around(panel.points.iter().map(|point| point.1), HEIGHT - BOTTOM, TOP);
    let mut drawn =
        format!("<text class=\"what\" x=\"{LEFT}\" y=\"{:.0}\">{}</text>\n", TOP - 12.0, panel.what);
    let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (value, y) in up.rules() {
        let _ = writeln!(
            drawn,
            "<path class=\"rule\" d=\"M{left:.0} {y:.1}H{right:.0}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            left - 6.0,
            y + 4.0
        );
    }
    for (value, x) in across.rules() {
        let _ = writeln!(
            drawn,
            "<path class=\"rule\" d=\"M{x:.1} {TOP:.0}V{bottom:.0}\"/><text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{value}</text>",
            bottom + 16.0
        );
    }
    let _ = writeln!(
        drawn,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(left, right),
        bottom + 34.0,
        panel.over
    );
    let places = panel.points.iter().map(|(x, y)| (across.place(*x), up.place(*y)));
    let line: Vec<_> = places.clone().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    let _ = writeln!(drawn, "<path class=\"line\" d=\"M{}\"/>", line.join("L"));
    for ((x, y), (_, value)) in places.zip(&panel.points) {
        // One at the edge must not run into the figures of the axis.
        let anchor = if x < left + 10.0 { "start" } else { "middle" };
        let _ = writeln!(
            drawn,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\
             <text class=\"small\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y - 8.0,
            figure(*value)
        );
    }
    drawn
}

/// An axis by powers of ten.
struct Axis {
    /// The powers that it begins and ends with.
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    /// The axis that all values fit on.
    fn around(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let power = |value: f64| value.max(0.01).log10();
        #[allow(clippy::cast_possible_truncation, reason = "a power of ten")]
        let low = values.clone().map(power).fold(f64::INFINITY, f64::min).floor().clamp(-2.0, 12.0) as i32;
        #[allow(clippy::cast_possible_truncation, reason = "a power of ten")]
        let high = values.map(power).fold(f64::NEG_INFINITY, f64::max).ceil().clamp(-2.0, 12.0) as i32;
        Self { low, high: high.max(low + 1), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(0.01).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }

    /// Where rules are drawn, and what they say: the powers of ten, and between few of them 2 and 5 times each.
    fn rules(&self) -> impl Iterator<Item = (String, f64)> {
        let steps: &[f64] = if self.high - self.low <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let values =
            (self.low..=self.high).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        let most = 10_f64.powi(self.high) * 1.001;
        values.filter(move |value| *value <= most).map(|value| (figure(value), self.place(value)))
    }
}

/// A number as people write it: with a comma before each three digits, and as many behind the point as it needs.
fn figure(value: f64) -> String {
    let digits = if value < 1.0 { 2 } else { usize::from(value < 10.0) };
    let written = format!("{value:.digits$}");
    let (whole, part) = written.split_once('.').unwrap_or((&written, ""));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let part = part.trim_end_matches('0');
    if part.is_empty() { grouped } else { format!("{grouped}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_lies_within_its_panel() {
        let points = vec![(1.0, 0.4), (100.0, 3.0), (1_000_000.0, 950.0)];
        let across = Axis::around(points.iter().map(|point| point.0), 0.0, 100.0);
        assert_eq!((across.low, across.high), (0, 6));
        assert!((across.place(1_000.0) - 50.0).abs() < 1e-9);
        let up = Axis::around(points.iter().map(|point| point.1), 100.0, 0.0);
        assert_eq!((up.low, up.high), (-1, 3));
        assert_eq!(up.rules().next().unwrap().0, "0.1");
        let near = Axis::around([36.4, 68.0].into_iter(), 100.0, 0.0);
        assert_eq!(near.rules().map(|rule| rule.0).collect::<Vec<_>>(), ["10", "20", "50", "100"]);
        let panel = Panel { over: "things", what: "time, ms".into(), points };
        let drawn = svg("Title", "Note.", &[panel]);
        assert_eq!(drawn.matches("<circle").count(), 3);
        assert!(drawn.contains("<title>Title</title>") && drawn.contains(">Note.</text>"), "{drawn}");
        assert!(!drawn.contains("NaN"));
    }

    #[test]
    fn figures_are_written_as_people_write_them() {
        let written = [0.01, 0.5, 1.0, 3.86, 36.4, 999.6, 1_000.0, 1_000_000.0].map(figure);
        assert_eq!(written, ["0.01", "0.5", "1", "3.9", "36", "1,000", "1,000", "1,000,000"]);
    }
}
