//! A sliding window: how much was used of an allowance, so that what would pass it is known before it is asked for.
//! It errs on the side of too little: what was used counts until the whole slice of time that it fell into is out.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Into how many slices a window is cut: what was used counts at most a sixtieth longer than it must.
const SLICES: u32 = 60;

/// What was used of an allowance.
#[derive(Debug)]
pub(super) struct Window {
    allowed: u64,
    slice: Duration,
    began: Instant,
    /// The slices in which something was used, by number, and how much.
    used: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Window {
    /// A window that begins now.
    pub(super) fn new(allowed: u64, length: Duration) -> Self {
        Self { allowed, slice: length / SLICES, began: Instant::now(), used: VecDeque::new(), sum: 0 }
    }

    /// How long until `amount` fits. None: it fits now. What is more than the whole allowance fits where nothing else
    /// is counted: whether it is too much is Graph's to say.
    pub(super) fn wait(&mut self, amount: u64, now: Instant) -> Option<Duration> {
        self.slide(now);
        if self.sum == 0 || self.sum.saturating_add(amount) <= self.allowed {
            return None;
        }
        let elapsed = now.saturating_duration_since(self.began);
        let mut left = self.sum;
        for (slice, used) in &self.used {
            left = left.saturating_sub(*used);
            if left == 0 || left.saturating_add(amount) <= self.allowed {
                return Some(self.end_of(*slice).saturating_sub(elapsed));
            }
        }
        None
    }

    /// Counts what is used now.
    pub(super) fn take(&mut self, amount: u64, now: Instant) {
        let now = self.slice_at(now);
        self.sum = self.sum.saturating_add(amount);
        match self.used.back_mut() {
            Some((slice, used)) if *slice == now => *used = used.saturating_add(amount),
            _ => self.used.push_back((now, amount)),
        }
    }

    /// Whether nothing is counted.
    pub(super) fn is_empty(&mut self, now: Instant) -> bool {
        self.slide(now);
        self.sum == 0
    }

    fn slide(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.began);
        while let Some((slice, used)) = self.used.front().copied()
            && self.end_of(slice) <= elapsed
        {
            self.used.pop_front();
            self.sum = self.sum.saturating_sub(used);
        }
    }

    fn slice_at(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.began);
        u64::try_from(elapsed.as_nanos() / self.slice.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// When what was used in a slice counts no more, from the window's beginning on.
    fn end_of(&self, slice: u64) -> Duration {
        let slices = u32::try_from(slice).unwrap_or(u32::MAX).saturating_add(SLICES + 1);
        self.slice.saturating_mul(slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(600);

    #[test]
    fn what_would_pass_the_allowance_waits_until_enough_is_out() {
        let mut window = Window::new(10, LENGTH);
        let mut now = Instant::now();
        assert!(window.is_empty(now));
        for _ in 0..10 {
            assert_eq!(window.wait(1, now), None);
            window.take(1, now);
        }
        let wait = window.wait(1, now).unwrap();
        assert!(wait >= LENGTH && wait <= LENGTH + LENGTH / SLICES, "{wait:?}");
        now += wait - Duration::from_millis(1);
        assert_eq!(window.wait(1, now), Some(Duration::from_millis(1)));
        now += Duration::from_millis(1);
        assert_eq!(window.wait(10, now), None);
        assert!(window.is_empty(now));
    }

    #[test]
    fn no_stretch_of_its_length_holds_more_than_the_allowance() {
        let mut window = Window::new(50, LENGTH);
        let mut now = Instant::now();
        let mut taken: Vec<Instant> = Vec::new();
        for step in 0..2_000_u64 {
            if window.wait(1, now).is_none() {
                window.take(1, now);
                taken.push(now);
            }
            now += Duration::from_millis(500 + step * 7 % 3_000);
        }
        for (position, at) in taken.iter().enumerate() {
            let within = taken[position..].iter().take_while(|later| **later - *at < LENGTH).count();
            assert!(within <= 50, "{within} within one length");
        }
        assert!(taken.len() > 200, "the allowance is used: {}", taken.len());
    }

    #[test]
    fn what_is_more_than_the_whole_allowance_goes_alone() {
        let mut window = Window::new(10, LENGTH);
        let now = Instant::now();
        assert_eq!(window.wait(11, now), None);
        window.take(11, now);
        assert!(window.wait(1, now).is_some());
        let later = now + LENGTH * 2;
        window.take(1, later);
        assert!(window.wait(11, later).is_some());
        assert_eq!(window.wait(u64::MAX, later + LENGTH * 2), None);
    }
}
