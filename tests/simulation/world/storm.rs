//! What goes wrong in a run, and how it is mended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::World;
use crate::provider::COPIES;
use crate::weather::{Counted, lock};

impl World {
    /// What goes wrong now, and what is mended again.
    pub(super) fn strike(&mut self) {
        let (weather, now) = (self.weather.clone(), self.now);
        for (number, place) in self.places.iter_mut().enumerate() {
            if weather.strikes(18) {
                weather.count(Counted::Crashes, usize::from(place.machine.is_some()));
                weather.trace(format_args!("{now:?} gateway-{number} crashes"));
                (place.machine, place.kept) = (None, None);
                *lock(&place.ready) = None;
                self.cables.break_off(|gateway, _| gateway == number);
                place.back = now + weather.within(8_000);
            }
            if weather.strikes(8) {
                weather.fault(format_args!("{now:?} gateway-{number} is stopped"));
                place.stop.cancel();
            }
            let way = place.way.as_ref();
            if weather.strikes(14) {
                weather.fault(format_args!("{now:?} gateway-{number} is cut off"));
                way.inspect(|way| way.is_cut.store(true, Ordering::Relaxed));
                place.mended = now + weather.within(10_000);
            } else if now >= place.mended {
                way.inspect(|way| way.is_cut.store(false, Ordering::Relaxed));
            }
            if weather.strikes(13) {
                weather.fault(format_args!("{now:?} the clock of gateway-{number} steps"));
                place.ahead = i64::try_from(weather.below(60_000)).unwrap_or(0) - 30_000;
                let ahead = place.ahead;
                place.machine.iter_mut().for_each(|machine| machine.ahead = ahead);
            }
        }
        for copy in 0..COPIES {
            let is_down = &self.provider.is_down[copy];
            if weather.strikes(21) {
                weather.fault(format_args!("{now:?} copy {copy} dies"));
                is_down.store(true, Ordering::Relaxed);
                self.cables.break_off(|_, of| of == copy);
                self.copies_back[copy] = now + weather.within(8_000);
            } else if now >= self.copies_back[copy] {
                is_down.store(false, Ordering::Relaxed);
            }
        }
        if weather.strikes(18) {
            weather.fault(format_args!("{now:?} a connection stalls"));
            let chosen = (weather.below(self.places.len()), weather.below(COPIES));
            self.cables.stall(true, |gateway, copy| (gateway, copy) == chosen);
            self.flowing = now + weather.within(12_000);
        } else if now >= self.flowing {
            self.cables.stall(false, |_, _| true);
        }
        if weather.climate.forgets && weather.strikes(10) {
            weather.fault(format_args!("{now:?} the provider forgets all cursors"));
            self.provider.forgotten.fetch_add(1, Ordering::Relaxed);
            let told = self.journal.read().came.keys().cloned().collect::<Vec<_>>();
            self.gaps_due.extend(told);
        }
        if weather.climate.signs_in && weather.strikes(15) {
            weather.fault(format_args!("{now:?} the provider takes no grant as it is"));
            self.provider.account.spend();
        }
        if weather.climate.signs_in && weather.strikes(6) {
            weather.fault(format_args!("{now:?} the provider ends the sign-in"));
            self.provider.account.revoke();
        }
        if weather.strikes(170) {
            self.provider.put(["a", "b"][weather.below(2)]);
        }
    }

    /// Ends all faults.
    pub(super) fn mend(&mut self) {
        for place in &mut self.places {
            place.way.iter().for_each(|way| way.is_cut.store(false, Ordering::Relaxed));
            place.back = place.back.min(self.now + Duration::from_secs(5));
        }
        self.provider.is_down.iter().for_each(|down| down.store(false, Ordering::Relaxed));
        self.cables.stall(false, |_, _| true);
    }
}
