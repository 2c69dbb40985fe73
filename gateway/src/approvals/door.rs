//! The pages that links lead to: `{public URL}/approvals/{token}`. Opening one shows it; only its button decides.
//!
//! What opens links for people must answer nothing, even where it submits the forms that it finds. So a form counts only
//! with the cookie that its page set, a while after the page was given out, and from no other site; and whoever presses
//! the button that no person sees is told from a person by it.

mod page;
mod visit;

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Form, Router};
use http::{HeaderMap, StatusCode, header};
use postern_proto::approval::v1::ApprovalState;
use prost_types::Timestamp;

use super::Inner;
use super::answer::{Answered, may_answer};
use super::language::{self, Language};
use super::link::Link;
use super::record::{Record, Stored, time};
use crate::error::Error;
use crate::notifications::PublicUrl;
use page::{Page, Question};
use visit::{Step, Visit};

/// The largest form taken.
const MAX_FORM_BYTES: usize = 4 * 1024;

/// The routes that links lead to.
pub(super) fn router(inner: Arc<Inner>) -> Router {
    let root = inner.public_url.as_ref().map_or("", PublicUrl::path);
    Router::new()
        .route(&format!("{root}/approvals/{{token}}"), get(open).post(press))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(inner)
}

/// A time as people read it.
pub(super) fn shown_time(time: SystemTime) -> String {
    let text = Timestamp::from(time).to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(date), Some(clock)) => format!("{date} {clock} UTC"),
        _ => text,
    }
}

/// Somebody at a link.
struct Visitor<'a> {
    inner: &'a Inner,
    token: &'a str,
    headers: &'a HeaderMap,
    link: Link,
    record: Record,
    language: &'static Language,
}

/// `GET /approvals/{token}`: shows it, and does nothing else.
async fn open(State(inner): State<Arc<Inner>>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    match Visitor::at(&inner, &token, &headers).await {
        Ok(visitor) if visitor.may_answer() => visitor.ask(StatusCode::OK, Step::Answer, None, None),
        Ok(visitor) => visitor.stands(StatusCode::OK),
        Err(response) => response,
    }
}

/// `POST /approvals/{token}`: the button.
async fn press(State(inner): State<Arc<Inner>>, Path(token): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let visitor = match Visitor::at(&inner, &token, &parts.headers).await {
        Ok(visitor) => visitor,
        Err(response) => return response,
    };
    if !visitor.may_answer() {
        return visitor.stands(StatusCode::CONFLICT);
    }
    let request = Request::from_parts(parts.clone(), body);
    let fields =
        <Form<Vec<(String, String)>> as axum::extract::FromRequest<_>>::from_request(request, &()).await;
    let fields = fields.map(|Form(fields)| fields).unwrap_or_default();
    let given = visit::Given::read(&fields);
    let again = |key: &str, visit| {
        visitor.ask(StatusCode::FORBIDDEN, Step::Answer, Some(visitor.language.say(key)), visit)
    };
    let visit = Visit::of(&parts.headers);
    let is_ours = visit::is_from_here(&parts.headers, inner.public_url.as_ref());
    let Some(visit) = visit.filter(|visit| is_ours && given.is_proven(&inner.links, &token, visit)) else {
        return again("page.again.stale", None);
    };
    if given.step == Some(Step::Unseen) {
        // Nobody sees that button: whoever pressed it is given another visit, for which no form counts that it has.
        return again("page.again.stale", Some(Visit::new()));
    }
    match given.age() {
        visit::Age::Early => return again("page.again.soon", Some(visit)),
        visit::Age::Late => return again("page.again.stale", Some(visit)),
        visit::Age::Right => {}
    }
    if visitor.record.asks_twice && given.step != Some(Step::Sure) {
        return visitor.ask(StatusCode::OK, Step::Sure, None, Some(visit));
    }
    match inner.answer(&visitor.link).await {
        Ok(Answered::Taken(record)) => Visitor { record: *record, ..visitor }.thanked(),
        Ok(Answered::Late(record)) => Visitor { record: *record, ..visitor }.stands(StatusCode::CONFLICT),
        Err(error) => failed(&inner, visitor.language, error),
    }
}

impl<'a> Visitor<'a> {
    async fn at(inner: &'a Inner, token: &'a str, headers: &'a HeaderMap) -> Result<Self, Response> {
        let wished = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let wished = language::wished(wished.unwrap_or_default());
        let link = inner.links.read(token).ok_or_else(|| unknown(inner, wished))?;
        let stored = Stored::read(inner.store.as_ref(), &link.name).await;
        let Stored { record, .. } = stored.map_err(|error| failed(inner, wished, error))?;
        let language = match record.language.as_str() {
            "" => wished,
            code => language::of(code),
        };
        Ok(Self { inner, token, headers, link, record, language })
    }

    fn may_answer(&self) -> bool {
        may_answer(&self.record, self.link.recipient, SystemTime::now())
    }

    /// The option of the link.
    fn option(&self) -> String {
        self.language.option(&self.record, self.link.option)
    }

    fn question(&self) -> Question<'_> {
        let from = self.record.from.as_str();
        Question { subject: &self.record.approval().subject, from, choice: None }
    }

    /// The page with the button. `visit`: where it is not the one of the request.
    fn ask(&self, status: StatusCode, step: Step, alert: Option<&str>, visit: Option<Visit>) -> Response {
        let visit = visit.or_else(|| Visit::of(self.headers)).unwrap_or_else(Visit::new);
        let option = self.option();
        let gaps = [("option", option.as_str())];
        let (title, note, button) = match step {
            Step::Sure => ("page.sure.title", "page.sure.note", "page.sure.button"),
            _ => ("page.confirm.title", "page.confirm.note", "page.confirm.button"),
        };
        let form = |step| visit.form(&self.inner.links, self.token, step);
        let page = Page {
            alert,
            notes: vec![self.language.fill(note, &gaps)],
            question: Some(Question { choice: Some(&option), ..self.question() }),
            unseen: Some(form(Step::Unseen)),
            form: Some((form(step), self.language.fill(button, &gaps))),
            ..Page::new(root(self.inner), self.language, self.language.say(title))
        };
        let mut response = crate::pages::page(status, &page);
        if let Some(cookie) = visit.cookie(self.inner.public_url.as_ref()) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    /// The page that says that there is nothing to answer any more, and why.
    fn stands(&self, status: StatusCode) -> Response {
        let (language, approval) = (self.language, self.record.shown(SystemTime::now()));
        let option_of = |text: &String| {
            let place = approval.options.iter().position(|option| option == text);
            place.map_or_else(String::new, |place| language.option(&self.record, place))
        };
        let own = approval.recipients.get(self.link.recipient).filter(|it| !it.selected_option.is_empty());
        let own_note = own.map(|own| {
            let (option, when) = (option_of(&own.selected_option), shown_time(time(own.respond_time)));
            language.fill("page.answered.own", &[("option", &option), ("time", &when)])
        });
        let (title, notes, status) = match approval.state() {
            ApprovalState::Answered => {
                let when = shown_time(time(approval.respond_time));
                let option = option_of(&approval.selected_option);
                let key = match (option.as_str(), &approval.policy) {
                    ("", _) => "page.answered.divided",
                    (_, None) => "page.answered.note",
                    // What was decided need not be what the last one answered.
                    (_, Some(_)) => "page.answered.decided",
                };
                let gaps = [("responder", &*approval.responder), ("option", &option), ("time", &when)];
                let decided = language.fill(key, &gaps);
                let others = own_note.filter(|_| approval.policy.is_some());
                ("page.answered.title", others.into_iter().chain([decided]).collect(), status)
            }
            ApprovalState::Pending => {
                let waiting = language.say("page.thanks.waiting").to_owned();
                ("page.answered.title", own_note.into_iter().chain([waiting]).collect(), status)
            }
            ApprovalState::Cancelled => {
                let note = language.say("page.cancelled.note").to_owned();
                ("page.cancelled.title", vec![note], StatusCode::GONE)
            }
            _ => {
                let until = shown_time(self.record.expires());
                let note = language.fill("page.expired.note", &[("time", &until)]);
                ("page.expired.title", vec![note], StatusCode::GONE)
            }
        };
        let page = Page {
            notes,
            question: Some(self.question()),
            ..Page::new(root(self.inner), language, language.say(title))
        };
        crate::pages::page(status, &page)
    }

    /// The page that says that an answer counts.
    fn thanked(&self) -> Response {
        let language = self.language;
        let mut notes = vec![language.fill("page.thanks.note", &[("option", &self.option())])];
        if self.record.state() == ApprovalState::Pending {
            notes.push(language.say("page.thanks.waiting").to_owned());
        }
        let page = Page {
            notes,
            question: Some(self.question()),
            ..Page::new(root(self.inner), language, language.say("page.thanks.title"))
        };
        crate::pages::page(StatusCode::OK, &page)
    }
}

fn root(inner: &Inner) -> &str {
    inner.public_url.as_ref().map_or("", PublicUrl::path)
}

fn unknown(inner: &Inner, language: &'static Language) -> Response {
    let notes = vec![language.say("page.unknown.note").to_owned()];
    let page = Page { notes, ..Page::new(root(inner), language, language.say("page.unknown.title")) };
    crate::pages::page(StatusCode::NOT_FOUND, &page)
}

fn failed(inner: &Inner, language: &'static Language, error: Error) -> Response {
    if matches!(error, Error::NotFound(..)) {
        return unknown(inner, language);
    }
    tracing::error!(%error, "an approval's page could not be shown");
    let notes = vec![language.say("page.trouble.note").to_owned()];
    let page = Page { notes, ..Page::new(root(inner), language, language.say("page.trouble.title")) };
    crate::pages::page(StatusCode::SERVICE_UNAVAILABLE, &page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_time_is_read_by_people() {
        assert_eq!(shown_time(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)), "2023-11-14 22:13 UTC");
    }
}
