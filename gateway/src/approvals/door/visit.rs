//! A visit: what binds a form to the browser that was given its page, and to the time it was given. Nothing of it is
//! kept here: the cookie names the visit, and the form proves that it was made for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::approvals::link::{Links, same};
use crate::notifications::PublicUrl;

/// The cookie's name.
const COOKIE: &str = "postern_visit";
/// Random bytes of a visit, and the characters that they are written in.
const VISIT_BYTES: usize = 16;
const VISIT_CHARACTERS: usize = 22;
/// How soon a form counts: sooner than anybody has read its page, only a program presses its button.
const SOONEST: Duration = Duration::from_secs(1);
/// How long a form counts.
const LONGEST: Duration = Duration::from_secs(2 * 3_600);

/// Which button was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The answer's.
    Answer,
    /// The one that confirms the answer, beside the list that it is chosen from.
    Sure,
    /// The one that no person sees.
    Unseen,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Sure => "sure",
            // As a name that a program takes for the answer's.
            Self::Unseen => "respond",
        }
    }
}

/// The hidden fields of a form.
pub(super) struct Proof {
    pub(super) step: &'static str,
    /// When its page was given out, in milliseconds since 1970.
    pub(super) made: u64,
    pub(super) proof: String,
}

/// A browser's visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visit(String);

impl Visit {
    pub(super) fn new() -> Self {
        let mut bytes = [0; VISIT_BYTES];
        // Were there no random numbers, the key file could not have been made either; what is left is the proof's key.
        let _ = SystemRandom::new().fill(&mut bytes);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The visit of a request.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, visit) = pairs.find(|(name, _)| *name == COOKIE)?;
        let is_visit = visit.len() == VISIT_CHARACTERS
            && visit.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        is_visit.then(|| Self(visit.to_owned()))
    }

    /// The cookie that names it.
    pub(super) fn cookie(&self, url: Option<&PublicUrl>) -> Option<HeaderValue> {
        let path = url.map_or("", PublicUrl::path);
        let secure =
            if url.is_some_and(|url| url.to_string().starts_with("https:")) { "; Secure" } else { "" };
        let (visit, lasts) = (&self.0, LONGEST.as_secs());
        let text = format!(
            "{COOKIE}={visit}; Path={path}/approvals; Max-Age={lasts}; HttpOnly; SameSite=Lax{secure}"
        );
        HeaderValue::try_from(text).ok()
    }

    /// A form for it, made now.
    pub(super) fn form(&self, links: &Links, token: &str, step: Step) -> Proof {
        let (step, made) = (step.name(), milliseconds(SystemTime::now()));
        Proof { step, made, proof: links.proof(token, &self.0, made, step) }
    }
}

/// What came with a press.
pub(super) struct Given<'a> {
    pub(super) step: Option<Step>,
    made: u64,
    proof: &'a str,
    /// What was chosen from the list.
    choice: &'a str,
    /// Whether the button sent it: what a script sends names no button.
    pub(super) by_button: bool,
}

/// How long ago a form was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Age {
    Early,
    Right,
    Late,
}

impl<'a> Given<'a> {
    pub(super) fn read(fields: &'a [(String, String)]) -> Self {
        let get = |name: &str| fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
        let step = [Step::Answer, Step::Sure, Step::Unseen].into_iter().find(|it| it.name() == get("step"));
        Self {
            step,
            made: get("made").parse().unwrap_or_default(),
            proof: get("proof"),
            choice: get("choice"),
            by_button: !get("press").is_empty(),
        }
    }

    /// Whether this option was chosen from the list.
    pub(super) fn chose(&self, option: usize) -> bool {
        self.choice == option.to_string()
    }

    /// Whether the form was made for this link and this visit.
    pub(super) fn is_proven(&self, links: &Links, token: &str, visit: &Visit) -> bool {
        let Some(step) = self.step else { return false };
        same(links.proof(token, &visit.0, self.made, step.name()).as_bytes(), self.proof.as_bytes())
    }

    pub(super) fn age(&self) -> Age {
        let made = UNIX_EPOCH + Duration::from_millis(self.made);
        match SystemTime::now().duration_since(made) {
            Ok(age) if age > LONGEST => Age::Late,
            Ok(age) if age >= SOONEST => Age::Right,
            // Of another gateway whose clock is ahead, or just now.
            _ => Age::Early,
        }
    }
}

/// Whether a press comes from a page of ours, as far as the browser says where it comes from.
pub(super) fn is_from_here(headers: &HeaderMap, url: Option<&PublicUrl>) -> bool {
    let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = get("sec-fetch-site") {
        return site == "same-origin";
    }
    match (get("origin"), url) {
        // Pages that name no referrer name no origin either.
        (None | Some("null"), _) => true,
        (Some(origin), Some(url)) => {
            let ours = url.to_string();
            let ours = ours.strip_suffix(url.path()).unwrap_or(&ours);
            origin.eq_ignore_ascii_case(ours)
        }
        (Some(_), None) => false,
    }
}

/// Whether nobody's click or key led to a request, as far as the browser tells: of those that say so (Fetch Metadata,
/// `Sec-Fetch-User`), Chromium's are known by their client hints and Firefox by its name. Others never say it, and none
/// does outside of TLS and this machine.
pub(super) fn is_by_itself(headers: &HeaderMap) -> bool {
    let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let tells = headers.contains_key("sec-ch-ua") || get("user-agent").contains(" Firefox/");
    tells && headers.contains_key("sec-fetch-site") && get("sec-fetch-user") != "?1"
}

fn milliseconds(time: SystemTime) -> u64 {
    let age = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_visit_is_known_by_its_cookie() {
        let visit = Visit::new();
        assert_ne!(visit, Visit::new());
        let cookie = visit.cookie(Some(&"https://p.example/a".parse().unwrap())).unwrap();
        let cookie = cookie.to_str().unwrap().to_owned();
        for part in ["; Path=/a/approvals;", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let brought = format!("other=1; {}", cookie.split(';').next().unwrap());
        assert_eq!(Visit::of(&headers(&[("cookie", &brought)])), Some(visit));
        assert_eq!(Visit::of(&headers(&[("cookie", "postern_visit=short")])), None);
    }

    #[test]
    fn a_press_from_another_site_is_told() {
        let url: PublicUrl = "https://p.example/a".parse().unwrap();
        for (given, ours) in [
            (vec![], true),
            (vec![("origin", "https://p.example")], true),
            (vec![("origin", "https://evil.example")], false),
            (vec![("origin", "null"), ("sec-fetch-site", "same-origin")], true),
            (vec![("origin", "null"), ("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "none")], false),
        ] {
            assert_eq!(is_from_here(&headers(&given), Some(&url)), ours, "{given:?}");
        }
    }

    #[test]
    fn a_press_that_nobody_made_is_told_where_the_browser_tells() {
        let (chromium, site) = (("sec-ch-ua", "\"Chromium\";v=\"140\""), ("sec-fetch-site", "same-origin"));
        let firefox =
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");
        let (safari, person) =
            (("user-agent", "Mozilla/5.0 Version/18 Safari/605.1"), ("sec-fetch-user", "?1"));
        for (given, alone) in [
            (vec![], false),
            (vec![firefox], false),
            (vec![safari, site], false),
            (vec![chromium, site, person], false),
            (vec![firefox, site, person], false),
            (vec![chromium, site], true),
            (vec![firefox, site], true),
            (vec![chromium, site, ("sec-fetch-user", "?0")], true),
        ] {
            assert_eq!(is_by_itself(&headers(&given)), alone, "{given:?}");
        }
    }

    #[test]
    fn a_form_counts_after_a_while_and_for_a_while() {
        let age = |ago: u64| {
            let made = milliseconds(SystemTime::now()) - ago;
            Given { step: Some(Step::Answer), made, proof: "", choice: "", by_button: true }.age()
        };
        assert_eq!((age(0), age(1_500), age(7_300_000)), (Age::Early, Age::Right, Age::Late));
    }
}
