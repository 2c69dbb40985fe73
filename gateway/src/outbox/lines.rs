//! Who is next: mails that are due stand in a line for their connection, and the lines take turns, so that no connection
//! keeps the others waiting. A line may be held for a while, as its provider asks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

/// Mails that are handed over at once through one connection: few providers take more for one account.
const MAX_AT_ONCE: usize = 4;

/// The lines.
#[derive(Default)]
pub(super) struct Lines {
    lines: HashMap<Arc<str>, Line>,
    /// The connections whose turn comes, in that order.
    turns: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Line {
    ready: VecDeque<Arc<str>>,
    sending: usize,
    held_until: Option<Instant>,
    has_turn: bool,
}

impl Lines {
    /// Puts a mail that is due at the end of its connection's line.
    pub(super) fn join(&mut self, connection: &Arc<str>, mail: Arc<str>) {
        self.lines.entry(connection.clone()).or_default().ready.push_back(mail);
        self.offer(connection);
    }

    /// The next mail to be handed over, if any may be. It counts as being sent from now on.
    pub(super) fn next(&mut self) -> Option<Arc<str>> {
        while let Some(connection) = self.turns.pop_front() {
            let Some(line) = self.lines.get_mut(&connection) else { continue };
            line.has_turn = false;
            if !line.may_send() {
                continue;
            }
            let mail = line.ready.pop_front();
            line.sending += usize::from(mail.is_some());
            self.offer(&connection);
            if mail.is_some() {
                return mail;
            }
        }
        None
    }

    /// Notes that a mail of a connection is not being sent any more.
    pub(super) fn ended(&mut self, connection: &Arc<str>) {
        if let Some(line) = self.lines.get_mut(connection) {
            line.sending = line.sending.saturating_sub(1);
        }
        self.offer(connection);
        self.clear(connection);
    }

    /// Holds a connection's line until a time, or longer where that was said before.
    pub(super) fn hold(&mut self, connection: &Arc<str>, until: Instant) {
        let line = self.lines.entry(connection.clone()).or_default();
        line.held_until = Some(line.held_until.map_or(until, |held| held.max(until)));
    }

    /// Lets a line go on whose time is over, or, with `now` absent, whatever its time. Gives until when it is held yet.
    pub(super) fn release(&mut self, connection: &Arc<str>, now: Option<Instant>) -> Option<Instant> {
        let line = self.lines.get_mut(connection)?;
        if let (Some(until), Some(now)) = (line.held_until, now)
            && until > now
        {
            return Some(until);
        }
        line.held_until = None;
        self.offer(connection);
        self.clear(connection);
        None
    }

    fn offer(&mut self, connection: &Arc<str>) {
        if let Some(line) = self.lines.get_mut(connection)
            && line.may_send()
            && !line.has_turn
        {
            line.has_turn = true;
            self.turns.push_back(connection.clone());
        }
    }

    /// Forgets a line that there is nothing to know of.
    fn clear(&mut self, connection: &Arc<str>) {
        let is_idle = |line: &Line| line.ready.is_empty() && line.sending == 0 && line.held_until.is_none();
        if self.lines.get(connection).is_some_and(is_idle) {
            self.lines.remove(connection);
        }
    }
}

impl Line {
    fn may_send(&self) -> bool {
        !self.ready.is_empty() && self.sending < MAX_AT_ONCE && self.held_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lines(mails: &[(&Arc<str>, &str)]) -> Lines {
        let mut lines = Lines::default();
        for (connection, mail) in mails {
            lines.join(connection, (*mail).into());
        }
        lines
    }

    #[test]
    fn connections_take_turns_and_none_has_more_than_its_share() {
        let (a, b): (Arc<str>, Arc<str>) = ("connections/a".into(), "connections/b".into());
        let mut lines =
            lines(&[(&a, "1"), (&a, "2"), (&a, "3"), (&a, "4"), (&a, "5"), (&a, "6"), (&b, "7"), (&b, "8")]);
        let order: Vec<_> = std::iter::from_fn(|| lines.next()).collect();
        assert_eq!(order.iter().map(|mail| &**mail).collect::<Vec<_>>(), ["1", "7", "2", "8", "3", "4"]);
        lines.ended(&b);
        assert!(lines.next().is_none());
        lines.ended(&a);
        assert_eq!(lines.next().as_deref(), Some("5"));
        for _ in 0..4 {
            lines.ended(&a);
        }
        assert_eq!(lines.next().as_deref(), Some("6"));
        lines.ended(&a);
        lines.ended(&b);
        assert!(lines.lines.is_empty(), "idle lines are forgotten");
    }

    #[test]
    fn a_line_that_is_held_holds_no_other() {
        let (a, b): (Arc<str>, Arc<str>) = ("connections/a".into(), "connections/b".into());
        let now = Instant::now();
        let mut lines = lines(&[(&a, "1"), (&b, "2")]);
        lines.hold(&a, now + Duration::from_secs(5));
        lines.hold(&a, now + Duration::from_secs(1));
        assert_eq!(lines.next().as_deref(), Some("2"));
        assert!(lines.next().is_none());
        assert_eq!(lines.release(&a, Some(now + Duration::from_secs(2))), Some(now + Duration::from_secs(5)));
        assert!(lines.next().is_none());
        assert_eq!(lines.release(&a, Some(now + Duration::from_secs(5))), None);
        assert_eq!(lines.next().as_deref(), Some("1"));
    }
}
