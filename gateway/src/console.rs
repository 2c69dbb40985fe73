//! The console: pages for people, served beside what providers push to. It knows the gateway's services only as any
//! caller does, by the contract, and acts with the rights of whoever signed in; beside these only which connectors answer.

mod api;
mod approvals;
mod chart;
mod connections;
mod events;
mod failure;
mod form;
mod kinds;
mod outbox;
mod overview;
mod paging;
mod session;
mod show;
mod triggers;
mod try_out;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Redirect;
use axum::routing::{get, post};

use crate::auth::Callers;
use crate::connectors::Connectors;
use crate::seal::KeyRing;
pub use api::Services;
use session::Sessions;

/// The pages of the side bar: path and name.
pub(crate) const PAGES: [(&str, &str); 7] = [
    ("", "Overview"),
    ("/connections", "Connections"),
    ("/triggers", "Triggers"),
    ("/events", "Live events"),
    ("/approvals", "Approvals"),
    ("/outbox", "Outbox"),
    ("/try-out", "Try out"),
];
/// The largest form taken.
const MAX_FORM_BYTES: usize = 256 * 1024;

/// The console. Cheap to clone.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    /// What comes before every path: that of the public URL.
    root: String,
    opened: OnceLock<(Services, Arc<Connectors>)>,
    sessions: Sessions,
}

impl Console {
    /// A console whose pages are found below `root`. Without callers whoever reaches it may do everything, so it then
    /// answers those on this machine alone. `secure`: browsers come by https.
    #[must_use]
    pub fn new(root: &str, callers: Option<Arc<Callers>>, keys: Arc<KeyRing>, secure: bool) -> Self {
        let sessions = Sessions::new(callers, keys, format!("{root}/console"), secure);
        Self(Arc::new(Inner { root: root.to_owned(), opened: OnceLock::new(), sessions }))
    }

    /// Has it use the gateway's services from now on, and tell which connectors do not answer. Until then it asks for
    /// patience.
    pub fn open(&self, services: Services, connectors: Arc<Connectors>) {
        // Once only: a gateway has one set of services.
        let _ = self.0.opened.set((services, connectors));
    }

    /// Its routes.
    pub fn router(&self) -> Router {
        let console = format!("{}/console", self.0.root);
        let at = |path: &str| format!("{console}{path}");
        let mut router = Router::new();
        // Who types the address alone means the console.
        for short in [format!("{}/", self.0.root), at("/"), self.0.root.clone()] {
            if !short.is_empty() {
                router = router.route(&short, get(go_to_console));
            }
        }
        router
            .route(&at(""), get(overview::show))
            .route(&at("/login"), get(session::form).post(session::sign_in))
            .route(&at("/logout"), post(session::sign_out))
            .route(&at("/connections"), get(connections::list).post(connections::add))
            .route(&at("/connections/new"), get(connections::form))
            .route(&at("/connections/{connection}"), get(connections::show))
            .route(&at("/connections/{connection}/{action}"), post(connections::act))
            .route(&at("/triggers"), get(triggers::list))
            .route(&at("/triggers/{connection}/{trigger}/{action}"), post(triggers::act))
            .route(&at("/events"), get(events::show))
            .route(&at("/events/stream"), get(events::stream))
            .route(&at("/approvals"), get(approvals::list))
            .route(&at("/approvals/{approval}/cancel"), post(approvals::cancel))
            .route(&at("/outbox"), get(outbox::list))
            .route(&at("/outbox/{email}/{action}"), post(outbox::act))
            .route(&at("/try-out"), get(try_out::form).post(try_out::send))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .with_state(self.clone())
    }

    fn root(&self) -> &str {
        &self.0.root
    }

    fn services(&self) -> Option<Services> {
        self.0.opened.get().map(|(services, _)| services.clone())
    }

    /// The connectors that do not answer.
    fn unreached(&self) -> Vec<String> {
        self.0.opened.get().map(|(_, connectors)| connectors.unreached()).unwrap_or_default()
    }
}

async fn go_to_console(State(console): State<Console>) -> Redirect {
    Redirect::to(&format!("{}/console", console.root()))
}
