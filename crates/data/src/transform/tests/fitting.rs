//! Fitted on training rows, and on nothing else.

use super::*;
use crate::Part;
use crate::small_log::{NOON, rating, row, rows};

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
    /// Whatever the held-out events are, every byte of the fitted features stays.
    #[test]
    fn held_out_events_change_nothing(log in rows(), strategy in strategies(), other in proptest::collection::vec(row(), 60)) {
        let data = super::log(&log);
        let Ok(split) = Split::new(&data, &strategy) else { return Ok(()) };
        let (mut data2, mut split2) = (data.clone(), split.clone());
        for at in (0..log.len()).filter(|&at| split.part[at] != Part::Train) {
            overwrite(&mut data2, &mut split2, at, other[at], NOON + other[at].2);
        }
        let [a, b] = [(&data, &split), (&data2, &split2)].map(|(data, split)| fit(data, split, &specs(ALL)).unwrap());
        prop_assert_eq!(serde_json::to_string(&a).unwrap(), serde_json::to_string(&b).unwrap());
        for clock in [NOON, NOON + 50_000, NOON + 500_000] {
            prop_assert_eq!(everything(&a, clock), everything(&b, clock));
        }
    }

    /// What is written of users and items without training rows is theirs alone: nothing is fitted on them.
    #[test]
    fn who_does_not_train_changes_nothing(log in rows(), seed in 0u64..9, price in -9.0f64..9.0, name in "[a-z]{1,4}") {
        let data = super::log(&log);
        let Ok(split) = Split::new(&data, &SplitStrategy::ColdItems { valid: 0.3, test: 0.3, seed }) else { return Ok(()) };
        let mut data2 = data.clone();
        let trains = |of: &[u32], entity: usize| {
            split.rows(Part::Train).iter().any(|row| of[*row as usize] as usize == entity)
        };
        for item in (0..ITEMS as usize).filter(|item| !trains(&data.events.item, *item)) {
            data2.items.price.as_mut().unwrap()[item] = Some(price);
            data2.items.provider.as_mut().unwrap()[item] = Some(name.clone());
        }
        for user in (0..USERS as usize).filter(|user| !trains(&data.events.user, *user)) {
            let Some(UserColumn::Numeric(ages)) = data2.users.columns.get_mut("age") else { panic!() };
            ages[user] = Some(price);
        }
        let [a, b] = [&data, &data2].map(|data| fit(data, &split, &specs(ALL)).unwrap());
        prop_assert_eq!(&a.state.users, &b.state.users);
        prop_assert_eq!(&a.state.items, &b.state.items);
        prop_assert_eq!(&a.state.context, &b.state.context);
    }

    /// The last items are those of the history with a cut-off: no event from the moment on moves an index, training rows included.
    #[test]
    fn recent_items_lie_before_the_moment(
        log in rows(),
        strategy in strategies(),
        other in proptest::collection::vec(row(), 60),
        at in 0i64..220_000,
    ) {
        let recent = "[[features]]\nname = \"last\"\nkind = \"recent\"\ncolumn = \"item_id\"\nlast = 4\nhash = 9000";
        let data = super::log(&log);
        let Ok(split) = Split::new(&data, &strategy) else { return Ok(()) };
        let clock = NOON + at;
        let (mut data2, mut split2) = (data.clone(), split.clone());
        for row in (0..log.len()).filter(|&row| split.clock[row] >= clock || split.part[row] != Part::Train) {
            overwrite(&mut data2, &mut split2, row, other[row], clock + other[row].2);
        }
        let [a, b] = [(&data, &split), (&data2, &split2)].map(|(data, split)| fit(data, split, &specs(recent)).unwrap());
        let histories = Histories::new(&data, &split, "click").unwrap();
        for user in 0..USERS {
            let of_a = written(|n, c| a.user(user, clock, n, c));
            prop_assert_eq!(&of_a, &written(|n, c| b.user(user, clock, n, c)));
            let rows = histories.before(user, clock, 4, true);
            let items: Vec<u32> = rows.iter().map(|row| data.events.item[*row as usize]).collect();
            prop_assert_eq!(&of_a, &written(|n, c| a.user_with(user, &items, n, c)));
            let mut expected: Vec<u32> = items.iter().map(|item| hash::row(0, 9000, format!("i{item}").bytes())).collect();
            expected.resize(4, 0);
            prop_assert_eq!(of_a.1, expected);
        }
    }
}

#[test]
fn users_and_items_weigh_as_much_as_they_have_training_rows() {
    // User 0 (20 years) has three training rows, user 1 (21 years) one; each has two held-out rows more.
    let mut log: Vec<Row> = (0..5).map(|n| (0, n % 7, i64::from(n), true, 0)).collect();
    log.extend((0..3).map(|n| (1, n, i64::from(n), true, 0)));
    let data = super::log(&log);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let transforms = fit(&data, &split, &specs(ALL)).unwrap();
    let (mean, deviation) = (20.25, (3.0 * 0.0625 + 0.5625f64).sqrt() / 2.0);
    let of = |user| {
        let mut numeric = Vec::new();
        transforms.user(user, 0, &mut numeric, &mut Vec::new());
        numeric
    };
    for (user, age) in [(0, 20.0), (1, 21.0), (3, 29.0)] {
        let expected = f64::clamp((age - mean) / deviation, -5.0, 5.0);
        assert!((f64::from(of(user)[0]) - expected).abs() < 1e-6, "user {user}");
    }
    assert_eq!(of(2), [0.0, 1.0]);
}

#[test]
fn constants_and_columns_without_a_value_are_no_trouble() {
    let mut data = log(&[(0, 1, 0, true, 0), (0, 1, 1, true, 0), (0, 2, 2, true, 0), (0, 4, 3, true, 0)]);
    data.users.columns.insert("age".to_owned(), UserColumn::Numeric(vec![Some(0.1); 5]));
    data.users.columns.insert("region".to_owned(), UserColumn::Categorical(vec![None; 5]));
    data.items.price = Some(vec![None; 7]);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let transforms = fit(&data, &split, &specs(ALL)).unwrap();
    for clock in [i64::MIN, -1, 0, NOON, i64::MAX] {
        for (numeric, categories) in everything(&transforms, clock) {
            assert!(numeric.iter().all(|bits| f32::from_bits(*bits).is_finite()));
            assert_eq!(categories.len(), (1 + 3) + 3 + 1 + 1);
        }
    }
    let mut numeric = Vec::new();
    transforms.user(0, 0, &mut numeric, &mut Vec::new());
    assert!(numeric[0].abs() < 1e-6);
}
