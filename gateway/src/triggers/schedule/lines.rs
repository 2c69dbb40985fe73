//! Who is looked after next, of those that are due: a line for each connection, and the connections take turns, so that
//! neither one with many watches nor a slow one keeps the others waiting. What waits in a line costs a name, not a task.

use std::collections::{HashMap, VecDeque};

use tokio::task::Id;

use crate::triggers::watch::WatchName;

/// Looks at once, of all watches: enough for 1,700 a second where providers answer within 150 ms. Each holds an answer of
/// up to 4 MiB, but seldom more than 1 KiB.
pub(super) const MAX_LOOKS: usize = 256;
/// Looks at once for one connection: few providers take more for one account.
pub(super) const MAX_LOOKS_A_CONNECTION: usize = 4;

/// The lines of all connections.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Of the connections that have somebody in line or looked after, by id.
    lines: HashMap<Box<str>, Line>,
    /// The connections with somebody in line and room for a look, in the order of their turns.
    turns: VecDeque<Box<str>>,
    /// The looks under way, and for which connection.
    looks: HashMap<Id, Box<str>>,
}

/// The line of a connection.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<WatchName>,
    looks: usize,
    /// Whether it is among those whose turn comes.
    has_turn: bool,
}

impl Lines {
    /// Puts a watch at the end of its connection's line.
    pub(super) fn join(&mut self, watch: WatchName) {
        let connection = watch.connection_id();
        if !self.lines.contains_key(connection) {
            self.lines.insert(connection.into(), Line::default());
        }
        let connection: Box<str> = connection.into();
        if let Some(line) = self.lines.get_mut(&connection) {
            line.waiting.push_back(watch);
        }
        self.settle(connection);
    }

    /// The watch whose look begins now, which is then to be told by [`Lines::begun`]. Those are passed over that are not
    /// `in_line` any more. `None`: nobody is, or there is no room.
    pub(super) fn next(&mut self, in_line: impl Fn(&WatchName) -> bool) -> Option<WatchName> {
        while self.looks.len() < MAX_LOOKS {
            let connection = self.turns.pop_front()?;
            let Some(line) = self.lines.get_mut(&connection) else { continue };
            line.has_turn = false;
            while let Some(watch) = line.waiting.pop_front() {
                if in_line(&watch) {
                    return Some(watch);
                }
            }
            self.settle(connection);
        }
        None
    }

    /// A look of a watch has begun.
    pub(super) fn begun(&mut self, look: Id, watch: &WatchName) {
        let connection: Box<str> = watch.connection_id().into();
        self.lines.entry(connection.clone()).or_default().looks += 1;
        self.looks.insert(look, connection.clone());
        self.settle(connection);
    }

    /// A look has ended.
    pub(super) fn ended(&mut self, look: Id) {
        let Some(connection) = self.looks.remove(&look) else { return };
        if let Some(line) = self.lines.get_mut(&connection) {
            line.looks -= 1;
        }
        self.settle(connection);
    }

    /// Gives a connection its turn if it has somebody in line and room, and forgets one that has nobody.
    fn settle(&mut self, connection: Box<str>) {
        let Some(line) = self.lines.get_mut(&connection) else { return };
        if line.waiting.is_empty() {
            if line.looks == 0 && !line.has_turn {
                self.lines.remove(&connection);
            }
        } else if line.looks < MAX_LOOKS_A_CONNECTION && !line.has_turn {
            line.has_turn = true;
            self.turns.push_back(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(connection: &str, number: usize) -> WatchName {
        WatchName::new(&format!("connections/{connection}"), &number.to_string())
    }

    /// Begins the look that comes next. Gives whose it is.
    async fn begin(lines: &mut Lines) -> Option<(WatchName, Id)> {
        let watch = lines.next(|_| true)?;
        let look = tokio::spawn(async {}).id();
        lines.begun(look, &watch);
        Some((watch, look))
    }

    #[tokio::test]
    async fn connections_take_turns_however_many_watches_one_has() {
        let mut lines = Lines::default();
        (0..100).for_each(|number| lines.join(watch("many", number)));
        lines.join(watch("one", 0));
        let mut begun = Vec::new();
        while let Some((watch, _)) = begin(&mut lines).await {
            begun.push(watch);
        }
        assert_eq!(begun[..2], [watch("many", 0), watch("one", 0)]);
        // Those of the one with many come in order, and no more than it has room for.
        assert_eq!(begun[2..], [watch("many", 1), watch("many", 2), watch("many", 3)]);
    }

    #[tokio::test]
    async fn each_end_of_a_look_makes_room_for_the_next_and_nothing_is_left_behind() {
        let mut lines = Lines::default();
        (0..10).for_each(|number| lines.join(watch("office", number)));
        let mut looks = VecDeque::new();
        let mut most = 0;
        for number in 0..10 {
            while let Some((_, look)) = begin(&mut lines).await {
                looks.push_back(look);
            }
            most = most.max(looks.len());
            assert_eq!(looks.len(), MAX_LOOKS_A_CONNECTION.min(10 - number));
            lines.ended(looks.pop_front().unwrap());
        }
        assert_eq!(most, MAX_LOOKS_A_CONNECTION);
        assert!(lines.lines.is_empty() && lines.turns.is_empty() && lines.looks.is_empty(), "{lines:?}");
    }

    #[tokio::test]
    async fn all_connections_together_have_no_more_looks_than_there_is_room_for() {
        let mut lines = Lines::default();
        for number in 0..2 * MAX_LOOKS {
            lines.join(watch(&format!("office-{number}"), 0));
        }
        let mut looks = Vec::new();
        while let Some((_, look)) = begin(&mut lines).await {
            looks.push(look);
        }
        assert_eq!(looks.len(), MAX_LOOKS);
        looks.into_iter().for_each(|look| lines.ended(look));
        assert_eq!(begin(&mut lines).await.unwrap().0, watch(&format!("office-{MAX_LOOKS}"), 0));
    }

    #[tokio::test]
    async fn those_that_have_left_a_line_are_passed_over() {
        let mut lines = Lines::default();
        ["left", "left", "office"].into_iter().for_each(|connection| lines.join(watch(connection, 0)));
        let found = lines.next(|watch| watch.connection_id() == "office");
        assert_eq!(found, Some(watch("office", 0)));
        assert_eq!(lines.next(|_| true), None);
        assert!(!lines.lines.contains_key("left"));
    }
}
