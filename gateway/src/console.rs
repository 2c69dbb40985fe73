//! The console: pages for people, served beside what providers push to. It knows the gateway's services only as any
//! caller does, by the contract, and acts with the rights of whoever signed in.

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
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::auth::Callers;
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
    services: OnceLock<Services>,
    sessions: Sessions,
}

impl Console {
    /// A console whose pages are found below `root`. Without callers whoever reaches it may do everything, so it then
    /// answers those on this machine alone. `secure`: browsers come by https.
    #[must_use]
    pub fn new(root: &str, callers: Option<Arc<Callers>>, keys: Arc<KeyRing>, secure: bool) -> Self {
        let sessions = Sessions::new(callers, keys, format!("{root}/console"), secure);
        Self(Arc::new(Inner { root: root.to_owned(), services: OnceLock::new(), sessions }))
    }

    /// Has it use the gateway's services from now on. Until then it asks for patience.
    pub fn open(&self, services: Services) {
        // Once only: a gateway has one set of services.
        let _ = self.0.services.set(services);
    }

    /// Its routes.
    pub fn router(&self) -> Router {
        let console = format!("{}/console", self.0.root);
        let at = |path: &str| format!("{console}{path}");
        Router::new()
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
}
