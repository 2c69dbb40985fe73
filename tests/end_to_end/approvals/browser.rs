//! A small browser: it keeps the cookie that it is given, and sees the forms of a page.

use reqwest::{Client, RequestBuilder, StatusCode, header};

use super::stage::A_LOOK;

/// Somebody's browser.
pub(crate) struct Browser {
    client: Client,
    pub(crate) cookie: Option<String>,
    pub(crate) language: &'static str,
}

/// A page as it came.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) text: String,
}

/// A form of a page: whether people see it, and its fields.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) hidden: bool,
    pub(crate) fields: Vec<(String, String)>,
    /// What its button adds where it is pressed.
    pub(crate) button: Option<(String, String)>,
    /// What its list shows, and the value of each.
    pub(crate) choices: Vec<(String, String)>,
}

impl Form {
    /// As a script sends it: without its button.
    pub(crate) fn by_script(mut self) -> Self {
        self.button = None;
        self
    }

    /// With this chosen from its list.
    #[track_caller]
    pub(crate) fn choosing(mut self, label: &str) -> Self {
        let (_, value) = self.choices.iter().find(|(shown, _)| shown == label).expect("it can be chosen");
        for field in self.fields.iter_mut().filter(|(name, _)| name == "choice") {
            field.1.clone_from(value);
        }
        self
    }
}

impl Browser {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { client, cookie: None, language: "" }
    }

    async fn send(&mut self, mut request: RequestBuilder) -> Seen {
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        if !self.language.is_empty() {
            request = request.header(header::ACCEPT_LANGUAGE, self.language);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        if let Some(cookie) = headers.get(header::SET_COOKIE) {
            self.cookie = cookie.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        Seen { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) async fn open(&mut self, url: &str) -> Seen {
        self.send(self.client.get(url)).await
    }

    /// Asks for a page in another way.
    pub(crate) async fn ask(&mut self, method: reqwest::Method, url: &str) -> Seen {
        self.send(self.client.request(method, url).header("sec-purpose", "prefetch")).await
    }

    pub(crate) async fn press(&mut self, url: &str, form: &Form) -> Seen {
        self.press_from(url, form, &[]).await
    }

    /// The same with headers that tell where from.
    pub(crate) async fn press_from(&mut self, url: &str, form: &Form, from: &[(&str, &str)]) -> Seen {
        let fields: Vec<_> = form.fields.iter().chain(&form.button).collect();
        let mut request = self.client.post(url).form(&fields);
        for (name, value) in from {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// As a person does: opens a link, looks at the page, presses its button.
    pub(crate) async fn answer(&mut self, url: &str) -> Seen {
        let page = self.open(url).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let form = page.form();
        tokio::time::sleep(A_LOOK).await;
        self.press(url, &form).await
    }
}

impl Seen {
    /// The forms, in their order.
    pub(crate) fn forms(&self) -> Vec<Form> {
        let forms = self.text.split("<form ").skip(1).map(|rest| rest.split("</form>").next().unwrap());
        forms
            .map(|form| {
                let inputs = form.split("<input ").skip(1);
                let field = |input: &str| (attribute(input, "name"), attribute(input, "value"));
                let hidden = form.split('>').next().unwrap().contains("hidden");
                // A list is sent as it stands: by the value of what is shown first.
                let lists = form.split("<select ").skip(1).map(|list| {
                    let first = list.split("<option ").nth(1).unwrap();
                    (attribute(list, "name"), attribute(first, "value"))
                });
                let fields = inputs.map(field).chain(lists).collect();
                let choices = form.split("<option ").skip(1).map(|option| {
                    let label = option.split_once('>').unwrap().1.split('<').next().unwrap();
                    (label.to_owned(), attribute(option, "value"))
                });
                let button = form.split("<button ").nth(1).filter(|button| button.contains("name="));
                let button = button.map(field);
                Form { hidden, fields, button, choices: choices.collect() }
            })
            .collect()
    }

    /// The form that people see.
    #[track_caller]
    pub(crate) fn form(&self) -> Form {
        let mut seen: Vec<_> = self.forms().into_iter().filter(|form| !form.hidden).collect();
        assert_eq!(seen.len(), 1, "{}", self.text);
        seen.remove(0)
    }

    #[track_caller]
    pub(crate) fn says(&self, status: u16, parts: &[&str]) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        for part in parts {
            assert!(self.text.contains(part), "{part:?} in {}", self.text);
        }
    }
}

fn attribute(tag: &str, name: &str) -> String {
    let rest = tag.split(&format!("{name}=\"")).nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}
