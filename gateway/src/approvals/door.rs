//! The pages that links lead to: `{public URL}/approvals/{token}`. Opening one shows it; only its button decides.
//!
//! What opens links for people must answer nothing, even where it submits the forms that it finds. So a form counts only
//! with the cookie that its page set, a while after the page was given out, and from no other site; and whoever presses
//! the button that no person sees, sends a form without its button, or presses it where the browser tells of nobody's
//! click, is in doubt from then on: a list asks in place of the button.

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

use super::Inner;
use super::answer::{Answered, may_answer};
use super::language::{self, Language};
use super::link::Link;
use super::record::{Record, Stored, time};
use crate::error::Error;
use crate::notifications::PublicUrl;
use page::{Form as Shown, Page, Question};
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
        Ok(visitor) if visitor.may_answer() => visitor.ask(StatusCode::OK, visitor.first_step(), None, None),
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
    if given.step == Some(Step::Unseen) {
        // Nobody sees that button: whoever pressed it gets another visit too, for which no form counts that it has.
        return visitor.doubted(StatusCode::FORBIDDEN, Visit::new()).await;
    }
    let again = |step, key: &str, visit| {
        visitor.ask(StatusCode::FORBIDDEN, step, Some(visitor.language.say(key)), visit)
    };
    let visit = Visit::of(&parts.headers);
    let is_ours = visit::is_from_here(&parts.headers, inner.public_url.as_ref());
    let Some(visit) = visit.filter(|visit| is_ours && given.is_proven(&inner.links, &token, visit)) else {
        return again(visitor.first_step(), "page.again.stale", None);
    };
    let step = if given.step == Some(Step::Sure) { Step::Sure } else { visitor.first_step() };
    match given.age() {
        visit::Age::Early => return again(step, "page.again.soon", Some(visit)),
        visit::Age::Late => return again(step, "page.again.stale", Some(visit)),
        visit::Age::Right => {}
    }
    match given.step {
        Some(Step::Sure) if !given.chose(visitor.link.option) => {
            let alert = visitor.language.fill("page.again.list", &[("option", &visitor.option())]);
            return visitor.ask(StatusCode::FORBIDDEN, Step::Sure, Some(&alert), Some(visit));
        }
        // What was chosen from the list was chosen by somebody, whatever a proxy made of the browser's words.
        Some(Step::Sure) => {}
        _ if !given.by_button || visit::is_by_itself(&parts.headers) => {
            return visitor.doubted(StatusCode::OK, visit).await;
        }
        _ if visitor.record.asks_twice || visitor.is_in_doubt() => {
            return visitor.ask(StatusCode::OK, Step::Sure, None, Some(visit));
        }
        _ => {}
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

    fn is_in_doubt(&self) -> bool {
        self.record.is_in_doubt(self.link.recipient, SystemTime::now())
    }

    /// What the first page asks.
    fn first_step(&self) -> Step {
        if self.is_in_doubt() { Step::Sure } else { Step::Answer }
    }

    /// The page that asks in a way that no program answers, from now on.
    async fn doubted(self, status: StatusCode, visit: Visit) -> Response {
        if let Err(error) = self.inner.doubt(&self.link).await {
            return failed(self.inner, self.language, error);
        }
        match Stored::read(self.inner.store.as_ref(), &self.link.name).await {
            Ok(Stored { record, .. }) => Self { record, ..self }.ask(status, Step::Sure, None, Some(visit)),
            Err(error) => failed(self.inner, self.language, error),
        }
    }

    /// The option of the link.
    fn option(&self) -> String {
        self.language.option(&self.record, self.link.option)
    }

    fn question(&self) -> Question<'_> {
        let from = self.record.from.as_str();
        Question { subject: &self.record.approval().subject, from, choice: None, until: String::new() }
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
        let options = 0..self.record.approval().options.len();
        let list = match step {
            Step::Sure => options.map(|option| self.language.option(&self.record, option)).collect(),
            _ => Vec::new(),
        };
        let doubt = self.is_in_doubt().then(|| self.language.say("page.list.doubt").to_owned());
        let until = self.language.time(self.record.expires());
        let page = Page {
            alert,
            notes: doubt.into_iter().chain([self.language.fill(note, &gaps)]).collect(),
            question: Some(Question { choice: Some(&option), until, ..self.question() }),
            unseen: Some(form(Step::Unseen)),
            form: Some(Shown { proof: form(step), button: self.language.fill(button, &gaps), list }),
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
            let (option, when) = (option_of(&own.selected_option), language.time(time(own.respond_time)));
            language.fill("page.answered.own", &[("option", &option), ("time", &when)])
        });
        let (title, notes, status) = match approval.state() {
            ApprovalState::Answered => {
                let when = language.time(time(approval.respond_time));
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
                let until = language.time(self.record.expires());
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
