use proptest::prelude::*;

use super::*;
use crate::SplitStrategy;
use crate::small_log::{NOON, USERS, dataset, rows};

proptest! {
    #[test]
    fn history_is_the_newest_engaged_past(rows in rows(), max in 0usize..6, at in 0i64..220_000, train_only: bool) {
        let data = dataset(&rows);
        let split = Split::new(&data, &SplitStrategy::Random { valid: 0.2, test: 0.2, seed: 1 }).unwrap();
        let histories = Histories::new(&data, &split, "click").unwrap();
        for user in 0..USERS {
            let mut expected: Vec<u32> = (0..rows.len() as u32)
                .filter(|&row| {
                    let (who, _, _, click, _) = rows[row as usize];
                    let train = split.part[row as usize] == Part::Train;
                    who == user && click && split.clock[row as usize] < NOON + at && (train || !train_only)
                })
                .collect();
            expected.sort_by_key(|&row| std::cmp::Reverse((split.clock[row as usize], row)));
            expected.truncate(max);
            prop_assert_eq!(histories.before(user, NOON + at, max, train_only), expected);
        }
    }
}

#[test]
fn engaged_items_are_distinct_and_ascending() {
    let rows = [
        (0, 4, 0, true, 0),
        (0, 1, 1, true, 0),
        (0, 4, 2, true, 0),
        (0, 2, 3, false, 0),
        (0, 5, 4, true, 0),
        (0, 6, 5, true, 0),
    ];
    let data = dataset(&rows);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let histories = Histories::new(&data, &split, "click").unwrap();
    assert_eq!(histories.engaged_items(0, true), [1, 4]);
    assert_eq!(histories.engaged_items(0, false), [1, 4, 5, 6]);
    assert_eq!(histories.users(), 5);
}

#[test]
fn strangers_have_no_history_and_wrong_columns_are_named() {
    let data = dataset(&[(0, 4, 0, true, 0), (0, 1, 1, true, 0), (0, 4, 2, true, 0)]);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let histories = Histories::new(&data, &split, "click").unwrap();
    for stranger in [1, 5, u32::MAX] {
        assert!(histories.before(stranger, i64::MAX, 9, false).is_empty());
        assert!(histories.engaged_items(stranger, false).is_empty());
    }
    let error = Histories::new(&data, &split, "clicks").unwrap_err().to_string();
    assert!(error.contains("\"clicks\"") && error.contains("click, rating"), "{error}");
    let other = dataset(&[(0, 4, 0, true, 0)]);
    let error = Histories::new(&other, &split, "click").unwrap_err();
    assert!(matches!(error, DataError::SplitMismatch { split: 3, events: 1, .. }));
}
