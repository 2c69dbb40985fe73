//! What is to happen in a day, and when: all of it from the seed.

use std::time::Duration;

use fastrand::Rng;

use crate::Settings;
use crate::processes::Restart;

/// Something that happens in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A mail is received.
    Receive,
    /// A mail that is old already is moved into the Inbox.
    MoveIn,
    /// A mail leaves the Inbox; `Back` with the same number brings it back.
    Away(usize),
    /// It is restored.
    Back(usize),
    /// A mail is read.
    Read,
    /// A mail is deleted.
    Delete,
    /// An entry is made in the calendar: on a later day, or to start soon, or a series.
    Make(When),
    /// Somebody changes an entry.
    Change,
    /// Exchange touches an entry: nothing that anybody sees.
    Touch,
    /// An entry is deleted.
    Remove,
    /// The provider forgets how far the rounds of the mailbox's mails are.
    Forget,
}

/// When an entry starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Later,
    Soon,
    Often,
}

/// A day's plan.
pub(crate) struct Plan {
    /// When, in which mailbox, what: in order.
    pub(crate) deeds: Vec<(Duration, usize, Deed)>,
    /// The restarts, in order.
    pub(crate) restarts: Vec<(Duration, Restart)>,
}

/// Makes a plan.
pub(crate) fn make(settings: &Settings, seed: u64) -> Plan {
    let mut dice = Rng::with_seed(seed);
    let mut deeds = Vec::new();
    let lasts = settings.lasts;
    let any = |dice: &mut Rng| lasts.mul_f64(dice.f64());
    let mut left = settings.mails;
    while left > 0 {
        let (at, mailbox) = (any(&mut dice), dice.usize(..settings.mailboxes));
        // Now and then many come in one moment.
        let count = if dice.u32(..200) == 0 { dice.usize(20..60) } else { 1 };
        for _ in 0..count.min(left) {
            let deed = if dice.u32(..25) == 0 { Deed::MoveIn } else { Deed::Receive };
            deeds.push((at, mailbox, deed));
            left -= 1;
        }
        match dice.u32(..100) {
            0..=1 => {
                let number = deeds.len();
                let away = at + Duration::from_millis(dice.u64(..3_000));
                deeds.push((away, mailbox, Deed::Away(number)));
                deeds.push((away + Duration::from_millis(dice.u64(1..2_000)), mailbox, Deed::Back(number)));
            }
            2..=11 => deeds.push((any(&mut dice), mailbox, Deed::Read)),
            12 => deeds.push((any(&mut dice), mailbox, Deed::Delete)),
            _ => {}
        }
    }
    for _ in 0..settings.changes {
        let deed = match dice.u32(..100) {
            0..=19 => Deed::Make(When::Later),
            20..=34 => Deed::Make(When::Soon),
            35..=39 => Deed::Make(When::Often),
            40..=79 => Deed::Change,
            80..=94 => Deed::Touch,
            _ => Deed::Remove,
        };
        deeds.push((any(&mut dice), dice.usize(..settings.mailboxes), deed));
    }
    for _ in 0..settings.forgotten {
        deeds.push((any(&mut dice), dice.usize(..settings.mailboxes), Deed::Forget));
    }
    deeds.sort_by_key(|(at, ..)| *at);
    let kinds = [Restart::KillConnector, Restart::KillGateway, Restart::StopGateway];
    let mut restarts: Vec<_> =
        (0..settings.restarts).map(|number| (any(&mut dice), kinds[number % 3])).collect();
    restarts.sort_by_key(|(at, _)| *at);
    Plan { deeds, restarts }
}
