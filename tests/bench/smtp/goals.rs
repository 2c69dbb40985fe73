//! What was set out to be reached, and whether it is.

use std::collections::HashMap;

use super::Sender;
use super::large::Grown;
use super::others::Other;
use super::ours::Way;
use super::relay::Relayed;
use crate::figures::{Table, ends, median, millis, ratios};

/// A sender to be faster than another, by how much, over how many connections.
const SPEEDS: [(Sender, f64, Sender, u32); 4] = [
    (Sender::Ours(Way::Alone), 1.2, Sender::Other(Other::SmtpSource), 10),
    (Sender::Ours(Way::GatewaySendEmails), 2.0, Sender::Other(Other::Nodemailer), 10),
    (Sender::Ours(Way::GatewaySendEmails), 2.0, Sender::Other(Other::Nodemailer), 50),
    (Sender::Ours(Way::GatewaySendEmail), 1.5, Sender::Other(Other::Nodemailer), 50),
];
/// The most round trips for a mail over a warm connection.
const ROUND_TRIPS: f64 = 2.2;
/// The most memory for a large mail, of its size as it travels.
const OF_ENCODED: f64 = 2.0;

/// Mails per second of each sender over so many connections, round by round.
#[derive(Default)]
pub(crate) struct Measured(HashMap<(&'static str, u32), Vec<f64>>);

impl Measured {
    pub(super) fn add(&mut self, sender: Sender, connections: u32, per_second: f64) {
        self.0.entry((sender.name(), connections)).or_default().push(per_second);
    }

    pub(super) fn of(&self, sender: Sender, connections: u32) -> &[f64] {
        self.0.get(&(sender.name(), connections)).map_or(&[], Vec::as_slice)
    }
}

/// Each goal, what was measured, and whether that meets it.
#[allow(clippy::cast_precision_loss, reason = "ratios of bytes")]
pub(super) fn table(measured: &Measured, relayed: &Relayed, grown: &Grown) -> Table {
    let mut table = Table::new("Sending: goals", &["", "goal", "measured", ""]);
    for (one, goal, other, connections) in SPEEDS {
        let speeds = ratios(measured.of(one, connections), measured.of(other, connections));
        let (ratio, (low, high)) = (median(&speeds), ends(&speeds));
        table.row(&[
            format!("{} to {}, {connections} connections", one.name(), other.name()),
            format!("at least {goal} times"),
            format!("{ratio:.2} times ({low:.2} to {high:.2})"),
            met(ratio >= goal),
        ]);
    }
    let trips = relayed.median.as_secs_f64() / relayed.round_trip.as_secs_f64();
    table.row(&[
        "one mail over a warm connection, the server far away".to_owned(),
        format!("at most {ROUND_TRIPS} round trips"),
        format!("{trips:.2} ({} at {} each)", millis(relayed.median), millis(relayed.round_trip)),
        met(trips <= ROUND_TRIPS),
    ]);
    let share = grown.growth as f64 / grown.encoded as f64;
    table.row(&[
        format!("memory for an attachment of {} MiB (`SendLargeEmail`)", grown.attachment_mib),
        format!("at most {OF_ENCODED} times its encoded size"),
        format!("{share:.2} times ({:.1} MiB)", grown.growth as f64 / (1024.0 * 1024.0)),
        met(share <= OF_ENCODED),
    ]);
    table.note(
        "Speeds are compared round by round. Far away: a relay on the same machine holds each byte for 10 ms both ways; a \
         round trip is what a NOOP takes over it. Memory: how far `VmHWM` of a connector of its own grew.",
    );
    table
}

fn met(met: bool) -> String {
    if met { "met" } else { "**missed**" }.to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_goal_is_met_or_missed_by_what_was_measured() {
        let mut measured = Measured::default();
        for (one, goal, other, connections) in SPEEDS {
            measured.add(other, connections, 100.0);
            if measured.of(one, connections).is_empty() {
                measured.add(one, connections, 100.0 * goal);
            }
        }
        let relayed = Relayed { median: Duration::from_millis(45), round_trip: Duration::from_millis(20) };
        let grown = Grown { attachment_mib: 1, encoded: 1_000, growth: 1_999 };
        let table = table(&measured, &relayed, &grown).markdown();
        assert_eq!(table.matches("| met |").count(), 5, "{table}");
        assert_eq!(table.matches("| **missed** |").count(), 1, "{table}");
        assert!(table.contains("2.25 (45.0 ms at 20.0 ms each)"), "{table}");
    }
}
