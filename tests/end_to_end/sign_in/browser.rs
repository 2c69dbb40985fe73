//! As much of a browser as sign-in pages need: cookies, redirects followed one by one, forms sent.

use std::collections::BTreeMap;

use reqwest::redirect::Policy;
use reqwest::{Method, Url};

/// How many redirects are followed.
const MAX_STEPS: usize = 20;

/// A browser.
pub(super) struct Browser {
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
    /// What begins so it is led to and does not open.
    stops_before: Option<String>,
}

/// A page that was shown.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) url: Url,
    pub(super) status: u16,
    pub(super) text: String,
    pub(super) headers: reqwest::header::HeaderMap,
}

impl Default for Browser {
    fn default() -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { http, cookies: BTreeMap::new(), stops_before: None }
    }
}

impl Browser {
    /// One that opens nothing that begins so: its page is then empty.
    pub(super) fn stopping_before(url: String) -> Self {
        Self { stops_before: Some(url), ..Self::default() }
    }

    /// Opens a page and follows where it leads.
    pub(super) async fn open(&mut self, url: &str) -> Page {
        self.go(Method::GET, url.parse().unwrap(), None).await
    }

    /// Asks in another way, or with a header, without following.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        header: Option<(&str, &str)>,
    ) -> reqwest::Response {
        let mut request = self.http.request(method, url);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }

    /// Sends a form with these fields to a URL and follows where it leads.
    pub(super) async fn submit_to(&mut self, url: &Url, fields: &[(&str, &str)]) -> Page {
        let fields = fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        self.go(Method::POST, url.clone(), Some(fields)).await
    }

    /// Sends the form of a page, its own fields and these.
    pub(super) async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let form = tag(&page.text, "<form").unwrap_or_else(|| panic!("no form in {}", page.text));
        let action = attribute(form, "action").map(|action| action.replace("&amp;", "&"));
        let to = action.map_or(page.url.clone(), |action| page.url.join(&action).unwrap());
        let mut all: Vec<(String, String)> = Vec::new();
        for input in page.text.split("<input").skip(1) {
            let input = input.split('>').next().unwrap_or_default();
            let hidden = input.contains("hidden");
            if let Some(name) = attribute(input, "name").filter(|_| hidden) {
                all.push((name, attribute(input, "value").unwrap_or_default()));
            }
        }
        for (name, value) in fields {
            all.retain(|(own, _)| own != name);
            all.push((name.to_string(), value.to_string()));
        }
        self.go(Method::POST, to, Some(all)).await
    }

    async fn go(
        &mut self,
        mut method: Method,
        mut url: Url,
        mut form: Option<Vec<(String, String)>>,
    ) -> Page {
        for _ in 0..MAX_STEPS {
            let cookies: Vec<_> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut request =
                self.http.request(method.clone(), url.clone()).header("cookie", cookies.join("; "));
            if let Some(form) = form.take() {
                request = request.form(&form);
            }
            let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
            for cookie in answer.headers().get_all("set-cookie") {
                let pair = cookie.to_str().unwrap().split(';').next().unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            match headers.get("location") {
                Some(to) => {
                    url = url.join(to.to_str().unwrap()).unwrap();
                    method = Method::GET;
                    if self.stops_before.as_ref().is_some_and(|before| url.as_str().starts_with(before)) {
                        return Page { url, status, text: String::new(), headers };
                    }
                }
                None => return Page { url, status, text: answer.text().await.unwrap(), headers },
            }
        }
        panic!("{url} leads nowhere");
    }
}

fn tag<'a>(text: &'a str, begin: &str) -> Option<&'a str> {
    text[text.find(begin)?..].split('>').next()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let quoted = |quote: char| {
        let at = tag.find(&format!("{name}={quote}"))? + name.len() + 2;
        tag[at..].split(quote).next().map(str::to_owned)
    };
    quoted('"').or_else(|| quoted('\''))
}
