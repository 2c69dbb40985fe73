//! Small charts, drawn as SVG by the gateway: bars of the last hour, a minute each, with a word for those who do not see
//! them.

use std::fmt::Write as _;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;
/// Room below for the times, and above for the greatest value.
const FOOT: f64 = 18.0;
const HEAD: f64 = 16.0;

/// Bars, oldest first. `what` is what is counted, such as "events a minute"; `alarms` are drawn on top in another colour.
pub(crate) fn bars(what: &str, values: &[u64], alarms: &[u64]) -> String {
    let most = values.iter().zip(alarms.iter().chain(std::iter::repeat(&0))).map(|(a, b)| a + b).max();
    let most = most.unwrap_or_default().max(1);
    let total: u64 = values.iter().chain(alarms).sum();
    let step = WIDTH / values.len().max(1) as f64;
    let scale = (HEIGHT - FOOT - HEAD) / most as f64;
    let floor = HEIGHT - FOOT;
    let (mut good, mut bad) = (String::new(), String::new());
    for (place, value) in values.iter().enumerate() {
        let (left, width) = (place as f64 * step + step * 0.15, step * 0.7);
        let tall = *value as f64 * scale;
        if *value > 0 {
            let _ = write!(good, "M{left:.1} {floor}h{width:.1}v-{tall:.1}h-{width:.1}z");
        }
        if let Some(alarm) = alarms.get(place).filter(|alarm| **alarm > 0) {
            let (from, tall) = (floor - tall, *alarm as f64 * scale);
            let _ = write!(bad, "M{left:.1} {from:.1}h{width:.1}v-{tall:.1}h-{width:.1}z");
        }
    }
    frame(&format!("{what}: {total} in the last hour, at most {most} a minute"), &format!("{most}"), |svg| {
        let _ = write!(svg, r#"<path class="bars" d="{good}"/><path class="bars bad" d="{bad}"/>"#);
    })
}

/// A line, oldest first; a minute without a value leaves a hole. `unit` follows the greatest value.
pub(crate) fn line(what: &str, values: &[Option<f64>], unit: &str) -> String {
    let most = values.iter().flatten().fold(0.0_f64, |most, value| most.max(*value));
    let scale = (HEIGHT - FOOT - HEAD) / if most > 0.0 { most } else { 1.0 };
    let step = WIDTH / values.len().max(1) as f64;
    let mut path = String::new();
    let mut goes_on = false;
    for (place, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let (x, y) = ((place as f64 + 0.5) * step, HEIGHT - FOOT - value * scale);
            let _ = write!(path, "{}{x:.1} {y:.1}", if goes_on { "L" } else { "M" });
            // A point of its own is a short stroke.
            let is_alone = !goes_on && values.get(place + 1).is_none_or(Option::is_none);
            if is_alone {
                path.push_str("h2");
            }
        }
        goes_on = value.is_some();
    }
    frame(
        &format!("{what}: at most {most:.1} {unit} in the last hour"),
        &format!("{most:.1} {unit}"),
        |svg| {
            let _ = write!(svg, r#"<path class="trend" d="{path}"/>"#);
        },
    )
}

/// The frame of a chart: `word` says it, `top` is the value at its top. Both are the gateway's own text.
fn frame(word: &str, top: &str, draw: impl Fn(&mut String)) -> String {
    let floor = HEIGHT - FOOT;
    let mut svg = format!(
        r#"<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{word}"><path class="axis" d="M0 {floor}H{WIDTH}"/>"#
    );
    draw(&mut svg);
    let (right, low) = (WIDTH, HEIGHT - 4.0);
    let _ = write!(
        svg,
        r#"<text x="0" y="11">{top}</text><text x="0" y="{low}">an hour ago</text><text x="{right}" y="{low}" text-anchor="end">now</text></svg>"#
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_on_the_floor_and_the_greatest_reaches_the_top() {
        let svg = bars("events a minute", &[0, 1, 4], &[0, 0, 0]);
        assert!(svg.contains("events a minute: 5 in the last hour, at most 4 a minute"));
        assert!(svg.contains("v-86.0") && svg.contains("v-21.5"), "{svg}");
    }

    #[test]
    fn an_hour_in_which_nothing_was_is_drawn_empty() {
        assert!(bars("sends", &[0; 60], &[]).contains(r#"<path class="bars" d=""/>"#));
        assert!(line("latency", &[None; 60], "ms").contains(r#"d="""#));
    }

    #[test]
    fn a_line_has_holes_where_nothing_was_measured() {
        let svg = line("latency", &[Some(1.0), Some(2.0), None, Some(1.0)], "ms");
        assert_eq!(svg.matches('L').count(), 1);
        assert!(svg.contains("h2"));
    }
}
