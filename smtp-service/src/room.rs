//! The room for mails: how many bytes of them the process holds at once, over all calls. What has no room is refused or
//! waits; nothing is taken on trust that memory will do.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// What is counted as one: a semaphore counts up to four thousand million at a time.
const UNIT_BYTES: u64 = 1024;

/// The room. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    units: u32,
}

/// A place in the room, given back when dropped.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "held to be dropped")] OwnedSemaphorePermit);

impl Room {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Takes room for a mail that came inline, in a request of so many bytes.
    ///
    /// # Errors
    /// There is none now.
    pub(crate) fn take(&self, request_bytes: usize) -> Result<Held, Error> {
        self.take_encoded(encoded(request_bytes as u64))
    }

    /// Takes room for a mail of so many bytes, encoded.
    ///
    /// # Errors
    /// There is none now; or there never is, where the mail is larger than the whole room.
    pub(crate) fn take_encoded(&self, bytes: u64) -> Result<Held, Error> {
        let units = self.units(bytes);
        if units > self.units {
            let limit = u64::from(self.units) * UNIT_BYTES;
            return Err(Error::TooLarge { size: bytes, limit, whose: "the connector" });
        }
        Arc::clone(&self.free).try_acquire_many_owned(units).map(Held).map_err(|_| Error::NoRoom)
    }

    /// Waits for room for a mail that came inline, in a request of so many bytes.
    pub(crate) async fn wait(&self, request_bytes: usize) -> Result<Held, Error> {
        let units = self.units(encoded(request_bytes as u64)).min(self.units);
        Arc::clone(&self.free).acquire_many_owned(units).await.map(Held).map_err(|_| Error::NoRoom)
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
    }
}

/// The size of so many bytes in base64, in lines of 76 characters: the most that content grows by, but for
/// quoted-printable of what is no text.
pub(crate) fn encoded(bytes: u64) -> u64 {
    let characters = bytes.div_ceil(3).saturating_mul(4);
    characters.saturating_add(characters.div_ceil(76).saturating_sub(1).saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_taken_is_refused_until_it_is_given_back() {
        let room = Room::new(100 * 1024);
        let held = room.take_encoded(60 * 1024).unwrap();
        assert!(matches!(room.take_encoded(60 * 1024), Err(Error::NoRoom)));
        let _other = room.take_encoded(40 * 1024).unwrap();
        drop(held);
        drop(room.take_encoded(60 * 1024).unwrap());
        let never = room.take_encoded(101 * 1024);
        assert!(matches!(never, Err(Error::TooLarge { size: 103_424, limit: 102_400, .. })), "{never:?}");
    }

    #[tokio::test]
    async fn who_waits_gets_room_when_it_is_given_back() {
        let room = Room::new(100 * 1024);
        let held = room.take_encoded(100 * 1024).unwrap();
        let waiting = tokio::spawn({
            let room = room.clone();
            async move { room.wait(200 * 1024).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        assert!(waiting.await.unwrap(), "a request larger than the room waits for all of it");
    }

    #[test]
    fn content_grows_by_a_third_and_its_line_ends() {
        assert_eq!(encoded(0), 0);
        assert_eq!(encoded(57), 76);
        assert_eq!(encoded(58), 76 + 2 + 4);
        assert_eq!(encoded(57 * 1_000), 76_000 + 2 * 999);
    }
}
