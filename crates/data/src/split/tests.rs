use proptest::prelude::*;

use super::*;
use crate::small_log::{NOON, dataset, rows};

const STRATEGIES: [SplitStrategy; 5] = [
    SplitStrategy::Time { valid: 0.2, test: 0.2 },
    SplitStrategy::LeaveLast,
    SplitStrategy::Random { valid: 0.2, test: 0.2, seed: 3 },
    SplitStrategy::ColdItems { valid: 0.2, test: 0.2, seed: 3 },
    SplitStrategy::ColdUsers { valid: 0.2, test: 0.2, given: 1, seed: 3 },
];

fn clocks(split: &Split, part: Part) -> Vec<i64> {
    let rows = split.rows(part);
    rows.iter().map(|&row| split.clock[row as usize]).collect()
}

proptest! {
    #[test]
    fn parts_cover_every_row_once(rows in rows(), timed: bool) {
        let mut data = dataset(&rows);
        if !timed {
            data.events.timestamp = None;
        }
        for strategy in &STRATEGIES {
            let Ok(split) = Split::new(&data, strategy) else { continue };
            let mut all: Vec<u32> = [Part::Train, Part::Valid, Part::Test]
                .into_iter()
                .flat_map(|part| split.rows(part))
                .collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..rows.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(&split, &Split::new(&data, strategy).unwrap());
        }
    }

    #[test]
    fn a_time_split_never_trains_on_the_future(rows in rows(), valid in 0.05f64..0.4, test in 0.05f64..0.4) {
        let data = dataset(&rows);
        if let Ok(split) = Split::new(&data, &SplitStrategy::Time { valid, test }) {
            let last = |part| clocks(&split, part).into_iter().max().unwrap();
            let first = |part| clocks(&split, part).into_iter().min().unwrap();
            prop_assert!(last(Part::Train) < first(Part::Valid));
            prop_assert!(last(Part::Valid) < first(Part::Test));
            prop_assert_eq!(split.boundary(), first(Part::Test));
            prop_assert_eq!(&split.clock, data.events.timestamp.as_ref().unwrap());
        }
    }

    #[test]
    fn three_distinct_times_are_enough_for_a_time_split(times in proptest::collection::vec(0i64..4, 3..40)) {
        let rows: Vec<_> = times.iter().map(|&time| (0, 0, time, true, 0)).collect();
        let distinct = times.iter().collect::<std::collections::BTreeSet<_>>().len();
        let split = Split::new(&dataset(&rows), &SplitStrategy::Time { valid: 0.1, test: 0.1 });
        prop_assert_eq!(split.is_ok(), distinct >= 3, "{:?}", split);
    }

    #[test]
    fn requests_stay_whole(rows in rows(), requests in proptest::collection::vec(0u32..15, 60)) {
        let mut data = dataset(&rows);
        data.events.request = Some(requests[..rows.len()].to_vec());
        for timed in [true, false] {
            if !timed {
                data.events.timestamp = None;
            }
            for strategy in [&STRATEGIES[0], &STRATEGIES[2]] {
                let Ok(split) = Split::new(&data, strategy) else { continue };
                for a in 0..rows.len() {
                    for b in (0..a).filter(|&b| requests[a] == requests[b]) {
                        prop_assert_eq!(split.part[a], split.part[b]);
                        prop_assert_eq!(split.clock[a], split.clock[b]);
                    }
                }
            }
        }
    }

    #[test]
    fn leave_last_holds_out_the_two_newest(rows in rows()) {
        let data = dataset(&rows);
        let Ok(split) = Split::new(&data, &SplitStrategy::LeaveLast) else { return Ok(()) };
        for user in 0..crate::small_log::USERS {
            // Rows are sorted by user and time already.
            let of_user: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].0 == user).collect();
            for (from_end, &row) in of_user.iter().rev().enumerate() {
                let expected = match from_end {
                    0 if of_user.len() >= 3 => Part::Test,
                    1 if of_user.len() >= 3 => Part::Valid,
                    _ => Part::Train,
                };
                prop_assert_eq!(split.part[row], expected);
            }
        }
    }

    #[test]
    fn cold_users_are_never_met_in_training(rows in rows()) {
        let data = dataset(&rows);
        if let Ok(split) = Split::new(&data, &SplitStrategy::ColdUsers { valid: 0.3, test: 0.3, given: 0, seed: 5 }) {
            let users = |part| split.rows(part).into_iter().map(|row| data.events.user[row as usize]).collect::<std::collections::BTreeSet<_>>();
            let (train, valid, test) = (users(Part::Train), users(Part::Valid), users(Part::Test));
            prop_assert!(train.is_disjoint(&valid) && train.is_disjoint(&test) && valid.is_disjoint(&test));
        }
    }

    #[test]
    fn cold_items_are_never_met_in_training(rows in rows()) {
        let data = dataset(&rows);
        let Ok(split) = Split::new(&data, &STRATEGIES[3]) else { return Ok(()) };
        for a in 0..rows.len() {
            for b in (0..a).filter(|&b| rows[a].1 == rows[b].1) {
                prop_assert_eq!(split.part[a], split.part[b]);
            }
        }
    }
}

#[test]
fn without_times_the_clock_is_a_shuffle_in_which_test_comes_last() {
    let rows: Vec<_> = (0..40).map(|n| (n % 5, n % 7, 0, true, 0)).collect();
    let mut data = dataset(&rows);
    data.events.timestamp = None;
    let split = |seed| Split::new(&data, &SplitStrategy::Random { valid: 0.1, test: 0.2, seed }).unwrap();
    let mut clock = split(1).clock;
    assert_ne!(clock, split(2).clock);
    clock.sort_unstable();
    assert_eq!(clock, (0..40).collect::<Vec<_>>());
    assert_eq!(split(1).boundary(), 32);
    assert_eq!(split(1).rows(Part::Valid).len(), 4);
    assert!(!split(1).has_real_times());
}

#[test]
fn positions_are_no_times() {
    let rows: Vec<_> = (0..40).map(|n| (n / 8, n % 7, i64::from(n % 8), true, 0)).collect();
    let mut data = dataset(&rows);
    assert!(Split::new(&data, &SplitStrategy::LeaveLast).unwrap().has_real_times());
    for time in data.events.timestamp.as_mut().unwrap() {
        *time -= NOON;
    }
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    assert!(!split.has_real_times());
    assert_eq!(split.rows(Part::Test).len(), 5);
}

#[test]
fn errors_say_how_to_mend_them() {
    let rows: Vec<_> = (0..40).map(|n| (n % 5, n % 7, i64::from(n), true, 0)).collect();
    let check = |rows: &[crate::small_log::Row], timed: bool, strategy: SplitStrategy, parts: &[&str]| {
        let mut data = dataset(rows);
        if !timed {
            data.events.timestamp = None;
        }
        let message = Split::new(&data, &strategy).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    };
    let time = |valid, test| SplitStrategy::Time { valid, test };
    check(&rows, true, time(0.6, 0.5), &["valid = 0.6", "sum below 1"]);
    check(&rows, true, time(0.0, 0.1), &["above 0"]);
    check(&rows, true, time(f64::NAN, 0.1), &["valid = NaN"]);
    check(&rows, false, time(0.1, 0.1), &["\"small\"", "strategy = \"random\""]);
    check(&rows, false, SplitStrategy::LeaveLast, &["\"leave-last\""]);
    check(&rows[..1], true, time(0.1, 0.1), &["part of data set", "1 events"]);
    check(&[], true, time(0.1, 0.1), &["train part", "0 events"]);
    check(&rows[..2], true, SplitStrategy::LeaveLast, &["no user has 3 events"]);
    check(&rows[..2], false, SplitStrategy::Random { valid: 0.1, test: 0.1, seed: 0 }, &["bring more events"]);
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    let mut data = dataset(&[(0, 0, 0, true, 0); 9]);
    data.events.item[3] = 99;
    let error = Split::new(&data, &SplitStrategy::LeaveLast).unwrap_err();
    assert!(error.to_string().contains("99"), "{error}");
}

#[test]
fn strategies_are_read_from_configuration() {
    let read = |text: &str| toml::from_str::<SplitStrategy>(text);
    assert_eq!(read("strategy = \"leave-last\"").unwrap(), SplitStrategy::LeaveLast);
    assert_eq!(
        read("strategy = \"cold-items\"\nvalid = 0.1\ntest = 0.2").unwrap(),
        SplitStrategy::ColdItems { valid: 0.1, test: 0.2, seed: 0 }
    );
    assert!(read("strategy = \"time\"\nvalid = 0.1\ntest = 0.2\nsed = 3").is_err());
    for strategy in STRATEGIES {
        let text = toml::to_string(&strategy).unwrap();
        assert!(text.contains(strategy.name()));
        assert_eq!(read(&text).unwrap(), strategy);
    }
}
