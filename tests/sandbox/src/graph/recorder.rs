//! What was said, in the shape that traffic is judged in: one JSON object a line.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use super::exchange::{Exchange, SEGMENTS};
use super::refusal::Answered;

/// How many exchanges are kept: the sandbox may run for days.
const KEPT: usize = 20_000;

/// A request and its answer. The access token is left out.
#[derive(Debug, Clone, Serialize)]
pub struct Exchanged {
    /// The method.
    pub method: String,
    /// Path and query.
    pub url: String,
    /// The request's header fields.
    pub request_headers: Vec<(String, String)>,
    /// The request's body: JSON, text, or null where there was none.
    pub request_body: Value,
    /// The status.
    pub status: u16,
    /// The answer's header fields.
    pub response_headers: Vec<(String, String)>,
    /// The answer's body where it is JSON, else null.
    pub response_body: Value,
    /// Whether the answer was a fault on demand, and not what Graph would say.
    pub on_demand: bool,
}

impl Exchanged {
    /// The value of a header field of the request.
    #[must_use]
    pub fn request_header(&self, name: &str) -> Option<&str> {
        let found = self.request_headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Keeps the last exchanges with Graph; those with the identity platform hold secrets and are not kept.
#[derive(Debug)]
pub struct Recorder {
    kept: Mutex<Kept>,
    counts: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug)]
struct Kept {
    exchanges: VecDeque<Exchanged>,
    /// How many are kept.
    most: usize,
    /// Where all of them are written as they come.
    file: Option<std::fs::File>,
}

impl Default for Recorder {
    fn default() -> Self {
        let kept = Kept { exchanges: VecDeque::new(), most: KEPT, file: None };
        Self { kept: Mutex::new(kept), counts: Mutex::default() }
    }
}

impl Recorder {
    pub(super) fn record(&self, asked: &Exchange, answered: &Answered, on_demand: bool) {
        let mut kept = self.lock();
        if kept.most == 0 && kept.file.is_none() {
            return;
        }
        let exchange = Exchanged::new(asked, answered, on_demand);
        if let Some(file) = &mut kept.file {
            let mut line = serde_json::to_vec(&exchange).unwrap_or_default();
            line.push(b'\n');
            if let Err(error) = file.write_all(&line) {
                tracing::warn!(%error, "an exchange could not be written");
            }
        }
        kept.exchanges.push_back(exchange);
        let excess = kept.exchanges.len().saturating_sub(kept.most);
        kept.exchanges.drain(..excess);
    }

    /// Writes the exchanges from now on to the end of a file as well, one JSON object a line, whatever is forgotten.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn write_on(&self, path: &Path) -> io::Result<()> {
        let file = std::fs::File::options().create(true).append(true).open(path)?;
        self.lock().file = Some(file);
        Ok(())
    }

    /// Keeps no more exchanges than this from now on; 0: none, where there are very many.
    pub fn keep(&self, most: usize) {
        let mut kept = self.lock();
        kept.most = most;
        kept.exchanges.truncate(most);
    }

    /// Counts a request before anything is done with it.
    pub(super) fn count(&self, asked: &Exchange, signs_in: bool) {
        let mut kind = asked.method.to_string();
        if signs_in {
            kind.push_str(" /token");
        }
        let known = |segment: &&String| {
            SEGMENTS.contains(&segment.as_str()) || ["subscriptions", "$batch"].contains(&segment.as_str())
        };
        for segment in asked.segments.iter().filter(|_| !signs_in) {
            kind.push('/');
            kind.push_str(if known(&segment) { segment } else { "*" });
        }
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// How many requests came, by method and path, with a star for each id: `GET/users/*/messages/*`. All are counted, also
    /// those that a fault kept from an answer, and what is no longer kept.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The exchanges so far.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchanged> {
        self.lock().exchanges.iter().cloned().collect()
    }

    /// Forgets the exchanges so far.
    pub fn clear(&self) {
        self.lock().exchanges.clear();
    }

    /// Writes the exchanges so far to a file, one JSON object a line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for exchange in self.exchanges() {
            serde_json::to_writer(&mut file, &exchange)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
