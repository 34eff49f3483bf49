//! Nothing reaches back in time, and nothing held out reaches anywhere.

use super::*;
use crate::small_log::{ITEMS, NOON, Row, USERS, dataset, rating, row, rows};
use crate::{Histories, NegativeSampler, NegativeSampling};

/// Overwrites one event, and when it happened.
fn overwrite(data: &mut Dataset, split: &mut Split, at: usize, with: Row, clock: i64) {
    let events = &mut data.events;
    (events.user[at], events.item[at]) = (with.0, with.1);
    let feedback = &mut events.feedback;
    feedback.get_mut("click").unwrap()[at] = f32::from(u8::from(with.3));
    feedback.get_mut("rating").unwrap()[at] = rating(with.4);
    split.clock[at] = clock;
}

proptest! {
    /// Whatever happens from a train sample's clock on, and whatever the held-out events are, the sample's inputs keep every bit.
    #[test]
    fn no_train_sample_sees_the_future(
        log in rows(),
        strategy in strategies(),
        other in proptest::collection::vec(row(), 60),
        pick: prop::sample::Index,
    ) {
        let data = dataset(&log);
        let Ok(split) = Split::new(&data, &strategy) else { return Ok(()) };
        let train = split.rows(Part::Train);
        let clock = split.clock[train[pick.index(train.len())] as usize];

        let (mut data2, mut split2) = (data.clone(), split.clone());
        for (at, &with) in other[..log.len()].iter().enumerate() {
            let held_out = split.part[at] != Part::Train;
            if held_out {
                overwrite(&mut data2, &mut split2, at, with, NOON + with.2);
            } else if split.clock[at] >= clock {
                overwrite(&mut data2, &mut split2, at, with, clock + with.2);
            }
        }
        let fit = |data, split| (
            Behaviour::fit(data, split, columns()).unwrap(),
            Histories::new(data, split, "click").unwrap(),
        );
        let ((a, past_a), (b, past_b)) = (fit(&data, &split), fit(&data2, &split2));
        for item in 0..ITEMS {
            prop_assert_eq!(
                bits64(|out| a.item_raw(item, clock, out)),
                bits64(|out| b.item_raw(item, clock, out))
            );
        }
        for user in 0..USERS {
            prop_assert_eq!(
                bits64(|out| a.user_raw(Some(user), clock, out)),
                bits64(|out| b.user_raw(Some(user), clock, out))
            );
            prop_assert_eq!(past_a.before(user, clock, 20, true), past_b.before(user, clock, 20, true));
        }
    }

    /// Held-out events change nothing at all of what is fitted: not the normaliser, not the snapshot, not the negatives.
    #[test]
    fn held_out_events_change_nothing(log in rows(), strategy in strategies(), other in proptest::collection::vec(row(), 60)) {
        let data = dataset(&log);
        let Ok(split) = Split::new(&data, &strategy) else { return Ok(()) };
        let (mut data2, mut split2) = (data.clone(), split.clone());
        for at in (0..log.len()).filter(|&at| split.part[at] != Part::Train) {
            overwrite(&mut data2, &mut split2, at, other[at], NOON + other[at].2);
        }
        let fit = |data, split| (
            Behaviour::fit(data, split, columns()).unwrap(),
            NegativeSampler::new(data, split, "click", NegativeSampling::Popularity, 1).unwrap(),
        );
        let ((a, negatives_a), (b, negatives_b)) = (fit(&data, &split), fit(&data2, &split2));
        for clock in [NOON, NOON + 50_000, NOON + 500_000] {
            for item in 0..ITEMS {
                prop_assert_eq!(bits32(|out| a.item(item, clock, out)), bits32(|out| b.item(item, clock, out)));
            }
            for user in 0..USERS {
                prop_assert_eq!(bits32(|out| a.user(user, clock, out)), bits32(|out| b.user(user, clock, out)));
            }
        }
        prop_assert_eq!(a.snapshot(), b.snapshot());
        for user in 0..USERS {
            let (mut x, mut y) = (Vec::new(), Vec::new());
            negatives_a.sample(user, 3, 3, &mut x);
            negatives_b.sample(user, 3, 3, &mut y);
            prop_assert_eq!(x, y);
        }
    }

}
