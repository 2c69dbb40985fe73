//! The languages that the gateway writes to people in: one file each in `gateway/locales`, gathered when it is built.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::SystemTime;

use prost_types::Timestamp;

use super::record::Record;

/// Each language's code and file.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/locales.rs"));
/// The language where none is wished that is known.
const ENGLISH: &str = "en";
/// The most languages of a browser's list that are looked at.
const MOST_WISHES: usize = 20;

static LANGUAGES: LazyLock<Vec<Language>> = LazyLock::new(|| {
    FILES.iter().map(|(code, file)| Language { code, texts: texts(file).collect() }).collect()
});
static NONE: LazyLock<Language> = LazyLock::new(|| Language { code: ENGLISH, texts: HashMap::new() });

/// A language and all that is said in it.
pub(super) struct Language {
    /// Its code, such as `en`.
    pub(super) code: &'static str,
    texts: HashMap<&'static str, &'static str>,
}

fn texts(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(key, text)| (key.trim(), text.trim()))
}

/// The codes of all languages.
pub(super) fn codes() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(code, _)| *code)
}

/// The language of a code: English where there is none such.
pub(super) fn of(code: &str) -> &'static Language {
    known(code).or_else(|| known(ENGLISH)).unwrap_or(&NONE)
}

fn known(code: &str) -> Option<&'static Language> {
    LANGUAGES.iter().find(|language| language.code.eq_ignore_ascii_case(code))
}

/// The language that a browser wishes for most (RFC 9110, section 12.5.4), of those there are.
pub(super) fn wished(accept_language: &str) -> &'static Language {
    let wishes = accept_language.split(',').take(MOST_WISHES).filter_map(|wish| {
        let (range, weight) = wish.split_once(';').unwrap_or((wish, "q=1"));
        let weight: f32 = weight.trim().strip_prefix("q=")?.parse().ok()?;
        let language = known(range.trim().split('-').next()?)?;
        (weight > 0.0).then_some((language, weight))
    });
    // The first of those wished for alike.
    let best = wishes.reduce(|best, wish| if wish.1 > best.1 { wish } else { best });
    best.map_or_else(|| of(ENGLISH), |(language, _)| language)
}

impl Language {
    /// A text. Where a language lacks it, in English.
    pub(super) fn say(&self, key: &str) -> &'static str {
        self.texts.get(key).or_else(|| of(ENGLISH).texts.get(key)).copied().unwrap_or_default()
    }

    /// A text with its gaps filled in.
    pub(super) fn fill(&self, key: &str, gaps: &[(&str, &str)]) -> String {
        let (mut filled, mut rest) = (String::new(), self.say(key));
        // From left to right and once: what is filled in may look like a gap.
        while let Some((before, (gap, after))) =
            rest.split_once('{').and_then(|(before, after)| Some((before, after.split_once('}')?)))
        {
            filled.push_str(before);
            filled.push_str(gaps.iter().find(|(name, _)| *name == gap).map_or("", |(_, text)| text));
            rest = after;
        }
        filled + rest
    }

    /// A time as people read it, in UTC: whoever reads it may be anywhere.
    pub(super) fn time(&self, time: SystemTime) -> String {
        let text = Timestamp::from(time).to_string();
        let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
        let number = |range| part(range).trim_start_matches('0');
        let month = part(5..7).parse::<usize>().ok().and_then(|month| month.checked_sub(1));
        let month = month.and_then(|month| self.say("time.months").split(", ").nth(month));
        let (day, year, clock) = (number(8..10), part(0..4), part(11..16));
        let gaps = [("day", day), ("month", month.unwrap_or_default()), ("year", year), ("clock", clock)];
        self.fill("time.text", &gaps)
    }

    /// An option of an approval as it is shown: the gateway's own ones in this language.
    pub(super) fn option(&self, record: &Record, place: usize) -> String {
        let option = record.approval().options.get(place).map(String::as_str).unwrap_or_default();
        match (record.own_options, place) {
            (true, 0) => self.say("option.approve").to_owned(),
            (true, 1) => self.say("option.reject").to_owned(),
            _ => option.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(text: &str) -> Vec<&str> {
        let mut gaps: Vec<_> = text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        gaps.sort_unstable();
        gaps
    }

    #[test]
    fn every_language_says_everything_with_the_same_gaps() {
        let english = of(ENGLISH);
        assert!(english.texts.len() > 30 && codes().count() >= 4);
        for (code, file) in FILES {
            let language = of(code);
            assert_eq!(language.code, *code);
            assert_eq!(texts(file).count(), language.texts.len(), "{code} says something twice");
            for (key, text) in &english.texts {
                let said = language.texts.get(key).unwrap_or_else(|| panic!("{code} lacks {key}"));
                assert_eq!(gaps(said), gaps(text), "{code}: {key}");
                assert!(!said.is_empty(), "{code}: {key}");
            }
            assert_eq!(language.texts.len(), english.texts.len(), "{code} says more than English");
        }
    }

    #[test]
    fn a_browser_gets_the_language_that_it_wishes_for_most() {
        for (wished_for, code) in [
            ("de-CH, fr;q=0.9", "de"),
            ("it, fr;q=0.5, es;q=0.8", "es"),
            ("ja", "en"),
            ("", "en"),
            ("de;q=0, fr;q=0.1", "fr"),
            ("de;q=x, *", "en"),
        ] {
            assert_eq!(wished(wished_for).code, code, "{wished_for}");
        }
    }

    #[test]
    fn a_time_is_read_as_its_language_writes_it() {
        let day = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        for (code, text) in [
            ("en", "3 November 2026, 09:05 UTC"),
            ("de", "3. November 2026, 09:05 Uhr UTC"),
            ("fr", "3 novembre 2026 à 09:05 UTC"),
            ("es", "3 de noviembre de 2026, 09:05 UTC"),
        ] {
            assert_eq!(of(code).time(day(1_793_696_700)), text);
        }
        for code in codes() {
            let language = of(code);
            assert_eq!(language.say("time.months").split(", ").count(), 12, "{code}");
            for month in 0..12 {
                let text = language.time(day(month * 2_678_400));
                assert!(!text.contains("  ") && text.ends_with("UTC"), "{code}: {text}");
            }
        }
    }

    #[test]
    fn what_is_filled_in_is_no_gap_itself() {
        let said = of("en").fill("page.answered.note", &[("option", "{time}"), ("responder", "{option}")]);
        assert_eq!(said, "{option} answered “{time}” on .");
    }
}
