//! Small charts, drawn as SVG by the gateway: bars of the last hour, a minute each, with words for those who do not see
//! them. What is written stands beside the drawing, in the size of the page's text.

use std::fmt::Write as _;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 100.0;
/// What a minute without anything is drawn as, so that the hour is seen.
const STUB: f64 = 1.5;

/// A chart: the gateway's own words and drawing.
pub(crate) struct Chart {
    /// What it is of.
    pub(crate) title: &'static str,
    /// Its figures in words.
    pub(crate) words: String,
    /// The drawing.
    pub(crate) svg: String,
}

/// Bars, oldest first; `alarms` are drawn on top in another colour. `words` tells the figures.
pub(crate) fn bars(title: &'static str, words: String, values: &[u64], alarms: &[u64]) -> Chart {
    let most = values.iter().zip(alarms.iter().chain(std::iter::repeat(&0))).map(|(a, b)| a + b).max();
    let most = most.unwrap_or_default().max(1);
    let step = WIDTH / values.len().max(1) as f64;
    let scale = HEIGHT / most as f64;
    let (mut good, mut bad, mut none) = (String::new(), String::new(), String::new());
    for (place, value) in values.iter().enumerate() {
        let (left, width) = (place as f64 * step + step * 0.15, step * 0.7);
        let tall = *value as f64 * scale;
        let alarm = alarms.get(place).copied().unwrap_or_default();
        if *value == 0 && alarm == 0 {
            let _ = write!(none, "M{left:.1} {HEIGHT}h{width:.1}v-{STUB}h-{width:.1}z");
        }
        if *value > 0 {
            let _ = write!(good, "M{left:.1} {HEIGHT}h{width:.1}v-{tall:.1}h-{width:.1}z");
        }
        if alarm > 0 {
            let (from, tall) = (HEIGHT - tall, alarm as f64 * scale);
            let _ = write!(bad, "M{left:.1} {from:.1}h{width:.1}v-{tall:.1}h-{width:.1}z");
        }
    }
    let drawn = format!(
        r#"<path class="none" d="{none}"/><path class="bars" d="{good}"/><path class="bars bad" d="{bad}"/>"#
    );
    framed(title, words, &drawn)
}

/// The chart of a drawing.
fn framed(title: &'static str, words: String, drawn: &str) -> Chart {
    let svg = format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{title}: {words}">{drawn}</svg>"#
    );
    Chart { title, words, svg }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_on_the_floor_and_the_greatest_reaches_the_top() {
        let chart = bars("Events", "5 in the last hour".into(), &[0, 1, 4], &[0, 0, 0]);
        assert!(chart.svg.contains(r#"aria-label="Events: 5 in the last hour""#), "{}", chart.svg);
        assert!(chart.svg.contains("v-100.0") && chart.svg.contains("v-25.0"), "{}", chart.svg);
    }

    #[test]
    fn what_failed_stands_on_what_did_not() {
        let chart = bars("Mails", String::new(), &[1], &[1]);
        assert!(chart.svg.contains(r#"class="bars bad" d="M90.0 50.0h420.0v-50.0"#), "{}", chart.svg);
    }

    #[test]
    fn an_hour_in_which_nothing_was_is_drawn_as_its_minutes() {
        let chart = bars("Mails", String::new(), &[0; 60], &[]);
        assert!(chart.svg.contains(r#"<path class="bars" d=""/>"#));
        assert_eq!(chart.svg.matches("v-1.5").count(), 60);
    }
}
