//! Several gaps told as one.

use bytes::Bytes;
use postern_proto::event::v1::{Gap, GapReason};

use crate::events::cursor::Cursor;

/// A gap, and another before it where there is one, as one from where the first begins to where the last ends: what is lost
/// of what was handed out comes in the order in which it is due. Where something between them is kept, `missed` is less
/// than what lies between.
pub(super) fn merged(before: Option<Gap>, after: Gap) -> Gap {
    let Some(before) = before else { return after };
    let missed = before.missed + after.missed;
    let place = |cursor: &Bytes| Cursor::decode(cursor).map_or(0, |cursor| cursor.sequence);
    // Places of another log are neither before nor after those of this one.
    let reset = [&before, &after].into_iter().find(|gap| gap.reason() == GapReason::LogReset);
    let (is_one_log, reason) = (reset.is_none(), reset.unwrap_or(&before).reason);
    let (begin, end) = (place(&before.from_cursor), place(&before.to_cursor));
    let starts_later = is_one_log && place(&after.from_cursor) < begin;
    let ends_later = is_one_log && place(&after.to_cursor) < end;
    Gap {
        from_cursor: if starts_later { after.from_cursor } else { before.from_cursor },
        to_cursor: if ends_later { before.to_cursor } else { after.to_cursor },
        missed,
        reason,
        ack_id: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_in_any_order_are_one_from_the_first_place_to_the_last() {
        let at = |sequence| Cursor { epoch: 1, sequence, fingerprint: 0 }.encode();
        let gone = |sequence| Gap {
            from_cursor: at(sequence - 1),
            to_cursor: at(sequence),
            missed: 1,
            reason: GapReason::Retention.into(),
            ..Gap::default()
        };
        let place = |cursor: &Bytes| Cursor::decode(cursor).unwrap().sequence;
        for order in [[8, 3, 6], [3, 6, 8], [6, 8, 3]] {
            let gap =
                order.map(gone).into_iter().fold(None, |before, gap| Some(merged(before, gap))).unwrap();
            assert_eq!((place(&gap.from_cursor), place(&gap.to_cursor), gap.missed), (2, 8, 3), "{order:?}");
        }
        let old = Cursor { epoch: 7, sequence: 900, fingerprint: 0 }.encode();
        let reset = Gap { from_cursor: old, reason: GapReason::LogReset.into(), ..gone(1) };
        let gap = merged(Some(reset), gone(2));
        assert_eq!((place(&gap.from_cursor), place(&gap.to_cursor)), (900, 2));
        assert_eq!(gap.reason(), GapReason::LogReset);
        let reset =
            Gap { from_cursor: at(9), to_cursor: at(0), reason: GapReason::LogReset.into(), ..gone(1) };
        let gap = merged(Some(gone(7)), reset);
        assert_eq!((place(&gap.from_cursor), place(&gap.to_cursor)), (6, 0));
        assert_eq!(gap.reason(), GapReason::LogReset);
    }
}
