//! How long approvals last, and where their answers may be posted.

use std::time::Duration;

use clap::Args;
use postern_chassis::settings::{SettingsError, duration};
use secrecy::{ExposeSecret as _, SecretString};

/// The shortest and the longest life of an approval, as the contract has it.
pub(super) const EXPIRY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(365 * 86_400);
/// The shortest notification secret: as long as what cannot be guessed.
const MIN_SECRET: usize = 16;
/// The longest back-off: with less than a few tries in a day there is no point in trying.
const MAX_BACK_OFF: Duration = Duration::from_secs(3_600);

/// How long approvals last, and where their answers may be posted.
#[derive(Args, Debug, Clone)]
#[group(skip)]
pub struct ApprovalSettings {
    /// How long an approval's links work, where its sender does not say: 1m to 365d
    #[arg(long = "approval-expiry", env = "POSTERN_APPROVAL_EXPIRY", default_value = "30d", value_parser = duration, value_name = "DURATION")]
    pub expiry: Duration,

    /// How many approvals may be pending
    #[arg(
        long = "approval-max-pending",
        env = "POSTERN_APPROVAL_MAX_PENDING",
        default_value_t = 100_000,
        value_name = "NUMBER"
    )]
    pub max_pending: usize,

    /// The secret that signs what is posted to notification URLs. Absent: one made of the key ring, which `gateway
    /// notification-secret` prints
    #[arg(long = "notification-secret", env = "POSTERN_NOTIFICATION_SECRET", value_name = "SECRET")]
    pub notification_secret: Option<SecretString>,

    /// How long an answer waits that could not be posted to its notification URL; twice as long after each further try,
    /// an hour at most
    #[arg(long = "notification-back-off", env = "POSTERN_NOTIFICATION_BACK_OFF", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub notification_back_off: Duration,

    /// How long posting an answer is tried
    #[arg(long = "notification-give-up", env = "POSTERN_NOTIFICATION_GIVE_UP", default_value = "1d", value_parser = duration, value_name = "DURATION")]
    pub notification_give_up: Duration,

    /// Let notification URLs lead to private, loopback and link-local addresses
    #[arg(long = "allow-private-notifications", env = "POSTERN_ALLOW_PRIVATE_NOTIFICATIONS")]
    pub allow_private: bool,

    /// Let notification URLs be http://
    #[arg(long = "allow-http-notifications", env = "POSTERN_ALLOW_HTTP_NOTIFICATIONS")]
    pub allow_http: bool,
}

impl ApprovalSettings {
    /// Checks what can be told of them.
    ///
    /// # Errors
    /// The first setting found wrong, by name.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !EXPIRY.contains(&self.expiry) {
            return Err(SettingsError::value("--approval-expiry", "expected 1m to 365d"));
        }
        if self.max_pending == 0 {
            return Err(SettingsError::value("--approval-max-pending", "expected 1 or more"));
        }
        let short = |secret: &SecretString| secret.expose_secret().len() < MIN_SECRET;
        if self.notification_secret.as_ref().is_some_and(short) {
            let problem = format!("is too short: expected {MIN_SECRET} characters or more");
            return Err(SettingsError::value("--notification-secret", problem));
        }
        if self.notification_back_off.is_zero() || self.notification_back_off > MAX_BACK_OFF {
            return Err(SettingsError::value("--notification-back-off", "expected 1ms to 1h"));
        }
        if self.notification_give_up < self.notification_back_off || self.notification_give_up > *EXPIRY.end()
        {
            let problem = "expected at least --notification-back-off and at most 365d";
            return Err(SettingsError::value("--notification-give-up", problem));
        }
        Ok(())
    }

    /// How long to wait after so many tries to post that failed, less up to a tenth.
    pub(super) fn pause(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(20);
        let pause = self.notification_back_off.saturating_mul(1 << doublings).min(MAX_BACK_OFF);
        pause.mul_f64(1.0 - fastrand::f64() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: ApprovalSettings,
    }

    fn read(flags: &[&str]) -> ApprovalSettings {
        Line::parse_from([&["gateway"], flags].concat()).settings
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        read(&[]).check().unwrap();
        for (flag, value) in [
            ("--approval-expiry", "1s"),
            ("--approval-expiry", "366d"),
            ("--approval-max-pending", "0"),
            ("--notification-secret", "short"),
            ("--notification-back-off", "2h"),
            ("--notification-give-up", "1s"),
        ] {
            let error = read(&[flag, value]).check().unwrap_err().to_string();
            assert!(error.contains(flag) && !error.contains("short-"), "{error}");
        }
    }

    #[test]
    fn pauses_grow_up_to_an_hour() {
        let settings = read(&[]);
        for (tries, most) in [(1, 10), (2, 20), (5, 160), (30, 3_600)] {
            let (pause, most) = (settings.pause(tries), Duration::from_secs(most));
            assert!(pause <= most && pause >= most.mul_f64(0.9), "{tries}: {pause:?}");
        }
    }
}
