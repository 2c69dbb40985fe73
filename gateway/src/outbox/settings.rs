//! How queued mails are tried, and how many are kept.

use std::time::Duration;

use clap::Args;
use postern_chassis::settings::{SettingsError, duration};

/// The longest of each of these times: what lies further ahead is a mistake.
const MAX_TIME: Duration = Duration::from_secs(90 * 86_400);

/// How queued mails are tried, and how many are kept.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
#[group(skip)]
pub struct OutboxSettings {
    /// How long a queued mail waits after its first attempt that failed; twice as long after each further one
    #[arg(long = "outbox-back-off", env = "POSTERN_OUTBOX_BACK_OFF", default_value = "20m", value_parser = duration, value_name = "DURATION")]
    pub back_off: Duration,

    /// How long a queued mail is tried before it is given up
    #[arg(long = "outbox-give-up", env = "POSTERN_OUTBOX_GIVE_UP", default_value = "2d", value_parser = duration, value_name = "DURATION")]
    pub give_up: Duration,

    /// How long queued mails are kept that are delivered, failed or cancelled
    #[arg(long = "outbox-keep", env = "POSTERN_OUTBOX_KEEP", default_value = "7d", value_parser = duration, value_name = "DURATION")]
    pub keep: Duration,

    /// How many queued mails may wait; no more settled ones than this are kept
    #[arg(
        long = "outbox-max-emails",
        env = "POSTERN_OUTBOX_MAX_EMAILS",
        default_value_t = 100_000,
        value_name = "NUMBER"
    )]
    pub max_emails: usize,

    /// How many bytes of queued mails may wait; no more of failed and cancelled ones than this are kept
    #[arg(long = "outbox-max-bytes", env = "POSTERN_OUTBOX_MAX_BYTES", default_value_t = 1024 * 1024 * 1024, value_name = "BYTES")]
    pub max_bytes: u64,
}

impl OutboxSettings {
    /// Checks what can be told of them.
    ///
    /// # Errors
    /// The first setting found wrong, by name.
    pub fn check(&self) -> Result<(), SettingsError> {
        let times = [
            ("--outbox-back-off", self.back_off),
            ("--outbox-give-up", self.give_up),
            ("--outbox-keep", self.keep),
        ];
        for (name, time) in times {
            if time.is_zero() || time > MAX_TIME {
                return Err(SettingsError::value(name, "expected 1ms to 90d"));
            }
        }
        if self.max_emails == 0 {
            return Err(SettingsError::value("--outbox-max-emails", "expected 1 or more"));
        }
        Ok(())
    }

    /// How long to wait after so many attempts that failed.
    pub(super) fn pause(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.back_off.saturating_mul(1 << doublings).min(self.give_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_time_of_giving_up() {
        let hour = Duration::from_secs(3_600);
        let settings = OutboxSettings {
            back_off: hour / 3,
            give_up: 48 * hour,
            keep: hour,
            max_emails: 1,
            max_bytes: 1,
        };
        assert_eq!(settings.pause(1), hour / 3);
        assert_eq!(settings.pause(2), 2 * hour / 3);
        assert_eq!(settings.pause(4), 8 * hour / 3);
        assert_eq!(settings.pause(60), 48 * hour);
        assert!(settings.check().is_ok());
        let wrong = OutboxSettings { give_up: Duration::ZERO, ..settings };
        assert!(wrong.check().unwrap_err().to_string().contains("--outbox-give-up"));
    }
}
