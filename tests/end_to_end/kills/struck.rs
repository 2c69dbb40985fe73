//! What deaths have hit: only so does it mean something that nothing was lost.

/// How many mails of one connection the outbox hands over at once.
const MAILS_AT_ONCE: usize = 4;

/// What deaths have hit so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Struck {
    /// Sends that had been handed on when the gateway died, so that nobody knows what became of them.
    pub(super) sent: usize,
    /// Sends whose call broke, and that were confirmed when the call was made again.
    pub(super) repeated: usize,
    /// Queued mails that were being handed on when the gateway died.
    pub(super) queued: usize,
    /// Lives in which mail that came was told.
    pub(super) lives_that_told: usize,
    /// Streams of the subscriber in order that were broken after they gave something.
    pub(super) streams: usize,
    /// Acknowledgements by many that were confirmed.
    pub(super) acknowledged: usize,
}

impl Struck {
    /// Whether so many kills can be said to have hit something. Of the first kinds there are about one to three in ten
    /// kills.
    pub(super) fn is_enough(&self, kills: usize) -> bool {
        self.sent >= kills / 20
            && self.queued >= kills / 20
            && self.repeated >= kills / 10
            && self.lives_that_told >= kills / 4
            && self.streams >= kills / 4
            && self.acknowledged >= kills
    }

    /// No more than so many kills can have hit: else what was not hit was told to be of unknown outcome. One caller sends,
    /// one mail after the other, and of the queued mails of a connection a few are handed over at once.
    pub(super) fn assert_bounded(&self, kills: usize) {
        assert!(self.sent <= kills, "{kills} kills, and {} sends of unknown outcome", self.sent);
        let most = MAILS_AT_ONCE * kills;
        assert!(self.queued <= most, "{kills} kills, and {} queued mails of unknown outcome", self.queued);
    }
}
