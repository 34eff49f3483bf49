use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::small_log::{self, NOON, Row};
use crate::{Histories, Part};

/// Everything known of an event, by names, so that logs in different orders can be compared; `NaN` as text.
fn story(ids: &[String], users: &Users, events: &Events, split: &Split) -> Vec<String> {
    let mut rows: Vec<String> = (0..events.len())
        .map(|row| {
            let feedback: Vec<String> =
                events.feedback.iter().map(|(name, of)| format!("{name}={}", of[row])).collect();
            format!(
                "{} {} {:?} {:?} {} {:?} {} {:?} {:?}",
                users.ids[events.user[row] as usize],
                ids[events.item[row] as usize],
                events.timestamp.as_ref().map(|of| of[row]),
                events.position.as_ref().map(|of| of[row]),
                feedback.join(" "),
                events.propensity.as_ref().map(|of| of[row].to_bits()),
                split.clock[row],
                split.part[row],
                events.query.as_ref().map(|of| of[row].clone()),
            )
        })
        .collect();
    rows.sort();
    rows
}

fn of_memory(dataset: &Dataset, strategy: &SplitStrategy) -> Vec<String> {
    let split = Split::new(dataset, strategy).unwrap();
    story(&dataset.items.ids, &dataset.users, &dataset.events, &split)
}

fn logs(shards: &Shards, strategy: &SplitStrategy) -> Vec<Log> {
    let split = shards.split(strategy).unwrap();
    (0..shards.count()).map(|shard| shards.log(shard, &split, "click").unwrap()).collect()
}

fn of_shards(shards: &Shards, strategy: &SplitStrategy) -> Vec<String> {
    let ids = &shards.catalogue().unwrap().ids;
    let mut rows: Vec<String> =
        logs(shards, strategy).iter().flat_map(|log| story(ids, &log.users, &log.events, &log.split)).collect();
    rows.sort();
    rows
}

/// Name and content of every file of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

const TIME: SplitStrategy = SplitStrategy::Time { valid: 0.2, test: 0.2 };

/// A log of `users` users with 3 to 12 events each, all columns, requests of up to two rows.
fn full(users: u32) -> Dataset {
    let mut rows: Vec<Row> = Vec::new();
    for user in 0..users {
        for at in 0..3 + (user * 7 + 3) % 10 {
            let place = i64::from(at);
            rows.push((
                user % small_log::USERS,
                (user + at * at) % small_log::ITEMS,
                place * 9_973 + i64::from(user * 31 % 17),
                at % 3 != 0,
                at as u8 % 6,
            ));
        }
    }
    let mut dataset = small_log::dataset(&rows);
    dataset.users.ids = (0..users).map(|user| format!("user {user}")).collect();
    let mut at = 0;
    for user in 0..users {
        let own = 3 + (user * 7 + 3) % 10;
        (at..at + own).for_each(|row| dataset.events.user[row as usize] = user);
        at += own;
    }
    let rows = dataset.events.len();
    dataset.events.request =
        Some((0..rows as u32).map(|row| dataset.events.user[row as usize] * 100 + row / 2).collect());
    dataset.events.position = Some((0..rows).map(|row| (row % 4) as u16).collect());
    dataset.events.propensity = Some((0..rows).map(|row| 1.0 / (1 + row % 3) as f32).collect());
    dataset.events.query = Some((0..rows).map(|row| (row % 5 == 0).then(|| format!("words {row}"))).collect());
    dataset
}

#[test]
fn shards_hold_every_event_once_and_users_whole() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = full(40);
    dataset.write(&folder.path().join("tables")).unwrap();
    for strategy in [TIME, SplitStrategy::LeaveLast] {
        let expected = of_memory(&dataset, &strategy);
        for count in [1, 3, 16, 64] {
            let to = folder.path().join(format!("{count}"));
            let shards = Shards::from_folder(&folder.path().join("tables"), &to, count, None).unwrap();
            assert_eq!(shards.events(), dataset.events.len() as u64);
            assert_eq!((shards.users(), shards.count(), shards.name()), (40, count, "small"));
            assert_eq!(of_shards(&shards, &strategy), expected, "{count} shards");
            let reopened = Shards::open(&to).unwrap();
            assert_eq!((&reopened.manifest, reopened.catalogue().unwrap()), (&shards.manifest, dataset.items.clone()));
            for (shard, log) in logs(&shards, &strategy).iter().enumerate() {
                assert!(log.users.ids.iter().all(|user| shards.shard_of(user) == shard));
                let mut distinct = log.users.ids.clone();
                distinct.sort();
                distinct.dedup();
                assert_eq!(distinct.len(), log.users.len(), "a user is there once");
            }
        }
    }
}

#[test]
fn one_shard_is_the_log_as_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    full(25).write(folder.path()).unwrap();
    let dataset = Dataset::read(folder.path()).unwrap();
    let shards = Shards::from_folder(folder.path(), &folder.path().join("shards"), 1, None).unwrap();
    let split = Split::new(&dataset, &TIME).unwrap();
    let histories = Histories::new(&dataset, &split, "click").unwrap();
    let log = logs(&shards, &TIME).remove(0);
    assert_eq!((&log.users, &log.split), (&dataset.users, &split));
    let same = |of: fn(&Events) -> String| assert_eq!(of(&log.events), of(&dataset.events));
    same(|events| format!("{events:?}"));
    for user in 0..25 {
        assert_eq!(log.histories.before(user, i64::MAX, 99, true), histories.before(user, i64::MAX, 99, true));
    }
}

#[test]
fn many_files_are_one_log_and_memory_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, many) = (folder.path().join("one"), folder.path().join("many"));
    let dataset = full(30);
    dataset.write(&one).unwrap();
    fs::create_dir_all(many.join("events")).unwrap();
    fs::copy(one.join("items.parquet"), many.join("items.parquet")).unwrap();
    // Users of the first files come again in the last one.
    let rows = dataset.events.len();
    let cuts = [0, rows / 3, rows / 2, rows];
    for (file, pair) in cuts.windows(2).enumerate() {
        let mut part = dataset.clone();
        let keep = |row: usize| (pair[0]..pair[1]).contains(&row);
        let events = &mut part.events;
        let rows: Vec<usize> = (0..rows).filter(|row| keep(*row)).collect();
        events.user = rows.iter().map(|row| dataset.events.user[*row]).collect();
        events.item = rows.iter().map(|row| dataset.events.item[*row]).collect();
        let all = &dataset.events;
        events.timestamp = all.timestamp.as_ref().map(|of| rows.iter().map(|row| of[*row]).collect());
        events.request = all.request.as_ref().map(|of| rows.iter().map(|row| of[*row]).collect());
        events.position = all.position.as_ref().map(|of| rows.iter().map(|row| of[*row]).collect());
        events.propensity = all.propensity.as_ref().map(|of| rows.iter().map(|row| of[*row]).collect());
        events.query = all.query.as_ref().map(|of| rows.iter().map(|row| of[*row].clone()).collect());
        for (name, column) in &all.feedback {
            events.feedback.insert(name.clone(), rows.iter().map(|row| column[*row]).collect());
        }
        part.write(&folder.path().join("part")).unwrap();
        fs::rename(folder.path().join("part/events.parquet"), many.join(format!("events/{file}.parquet"))).unwrap();
    }
    let to = |name: &str| folder.path().join(name);
    Shards::from_folder(&one, &to("a"), 5, None).unwrap();
    Shards::from_folder(&many, &to("b"), 5, None).unwrap();
    Shards::from_dataset(&dataset, &to("c"), 5).unwrap();
    assert!(files(&to("a")) == files(&to("b")) && files(&to("a")) == files(&to("c")));
    // Written again over what is there, and over what a killed writer left.
    fs::create_dir(to(".b.partial")).unwrap();
    fs::write(to(".b.partial").join("shard-00000.parquet.unsorted"), "half").unwrap();
    Shards::from_folder(&many, &to("b"), 5, None).unwrap();
    assert!(files(&to("a")) == files(&to("b")));
    assert!(!to(".b.partial").exists());
}

#[test]
fn a_sample_is_a_matter_of_users_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = full(200);
    let of = |count: usize, wanted: usize| {
        let shards = Shards::from_dataset(&dataset, &folder.path().join(format!("{count}")), count).unwrap();
        let mut sample = shards.sample(wanted);
        logs(&shards, &TIME).iter().for_each(|log| sample.add(log));
        let log = sample.finish("click").unwrap();
        let requests = log.events.request.clone().unwrap();
        // Rows of one request still share it, and no others do.
        for pair in (1..log.events.len()).filter(|row| log.events.user[*row] == log.events.user[row - 1]) {
            let times = log.events.timestamp.as_ref().unwrap();
            assert!(requests[pair] != requests[pair - 1] || times[pair] - times[pair - 1] < 20_000);
        }
        (story(&shards.catalogue().unwrap().ids, &log.users, &log.events, &log.split), log)
    };
    let (four, log) = of(4, 60);
    assert_eq!(four, of(13, 60).0);
    assert!((35..90).contains(&log.users.len()), "{}", log.users.len());
    assert!(four.iter().all(|row| of_memory(&dataset, &TIME).contains(row)));
    for user in 0..log.users.len() as u32 {
        let own = (0..log.events.len()).filter(|row| log.events.user[*row] == user);
        let clicked = own.filter(|row| log.events.feedback["click"][*row] > 0.0 && log.split.part[*row] == Part::Train);
        assert_eq!(log.histories.before(user, i64::MAX, 99, true).len(), clicked.count());
    }
    assert_eq!(of(4, 200).0, of_memory(&dataset, &TIME));
}

#[test]
fn parts_of_a_time_split_begin_where_they_do_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    // Times that are far apart, that tie, and that span all of `i64`.
    let cases: [Vec<i64>; 4] = [
        (0..50).map(|at| (at * at * 7_919) % 1_000_003).collect(),
        vec![5, 5, 5, 5, 5, 5, 5, 6, 7, 7],
        vec![1, 2, 2, 2, 2, 2, 2, 2, 2, 3],
        vec![i64::MIN, -3, 0, 4, 1 << 40, i64::MAX - 1, i64::MAX],
    ];
    for (case, times) in cases.into_iter().enumerate() {
        let rows: Vec<Row> = (0..times.len() as u32).map(|at| (at % 5, at % 7, 0, true, 3)).collect();
        let mut dataset = small_log::dataset(&rows);
        dataset.events.timestamp = Some(times);
        dataset.events.sort();
        for (valid, test) in [(0.1, 0.1), (0.3, 0.2), (0.45, 0.45)] {
            let strategy = SplitStrategy::Time { valid, test };
            let shards = Shards::from_dataset(&dataset, &folder.path().join("shards"), 3).unwrap();
            match Split::new(&dataset, &strategy) {
                Ok(_) => assert_eq!(of_shards(&shards, &strategy), of_memory(&dataset, &strategy), "case {case}"),
                Err(DataError::SplitEmpty { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_number_of_shards_changes_no_content(rows in small_log::rows(), count in 1usize..9) {
        let folder = tempfile::tempdir().unwrap();
        let dataset = small_log::dataset(&rows);
        let shards = Shards::from_dataset(&dataset, &folder.path().join("shards"), count).unwrap();
        for strategy in [TIME, SplitStrategy::LeaveLast] {
            if Split::new(&dataset, &strategy).is_ok() {
                prop_assert_eq!(of_shards(&shards, &strategy), of_memory(&dataset, &strategy));
            }
        }
    }

    #[test]
    fn the_number_of_shards_is_in_range(user in ".{0,12}", count in 1usize..600) {
        prop_assert!(scatter::shard_of(&user, count) < count);
        prop_assert_eq!(scatter::shard_of(&user, 1), 0);
    }
}

#[test]
fn users_spread_evenly() {
    let mut counts = [0; 16];
    (0..16_000).for_each(|user| counts[scatter::shard_of(&user.to_string(), 16)] += 1);
    // 1,000 each with a deviation of about 31.
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, DataError>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn what_is_damaged_or_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("shards");
    let again = || Shards::from_dataset(&full(30), &to, 3).unwrap();
    let shards = again();
    let split = shards.split(&TIME).unwrap();
    let second = to.join("shard-00001.parquet");
    let mut bytes = fs::read(&second).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&second, &bytes).unwrap();
    refused(shards.log(1, &split, "click"), &["shard-00001.parquet does not hold what was written"]);
    assert!(shards.log(0, &split, "click").is_ok());
    fs::write(&second, &bytes[..middle]).unwrap();
    refused(shards.log(1, &split, "click"), &["shard-00001.parquet", &middle.to_string(), "Write the shards again"]);
    fs::remove_file(&second).unwrap();
    refused(shards.log(1, &split, "click"), &["cannot read", "shard-00001.parquet"]);
    refused(shards.log(3, &split, "click"), &["shard-00003.parquet is no shard: there are 3"]);
    refused(shards.split(&TIME), &["shard-00001.parquet"]);
    refused(shards.log(0, &split, "purchase"), &["no feedback column \"purchase\"", "click, rating"]);

    again();
    fs::write(to.join("items.parquet"), b"nothing").unwrap();
    refused(Shards::open(&to).unwrap().catalogue(), &["items.parquet does not hold what was written"]);
    again();
    let list = to.join("shards.json");
    let text = fs::read_to_string(&list).unwrap();
    for (from, into, said) in [
        ("shard-00001.parquet", "../../secret", "names shard 1 \"../../secret\" instead of shard-00001.parquet"),
        ("\"format\": 1", "\"format\": 7", "has format 7, this version reads 1"),
        ("\"users\": 30", "\"users\": 31", "counts other users"),
        ("{", "[", "is not a list of shards"),
    ] {
        fs::write(&list, text.replacen(from, into, 1)).unwrap();
        refused(Shards::open(&to), &["shards.json", said]);
    }
    fs::remove_file(&list).unwrap();
    refused(Shards::open(&to), &["cannot read", "shards.json"]);
}

#[test]
fn what_cannot_be_dealt_out_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (tables, to) = (folder.path().join("tables"), folder.path().join("shards"));
    let dataset = full(10);
    let write = |dataset: &Dataset| dataset.write(&tables).unwrap();
    write(&dataset);
    refused(Shards::from_folder(&tables, &to, 0, None), &["0 shards; ask for 1 to 512"]);
    refused(Shards::from_folder(&tables, &to, 513, None), &["513 shards"]);
    // What is no folder of shards is not swept away.
    let before = files(&tables);
    refused(Shards::from_dataset(&dataset, &tables, 2), &["holds other things than shards", "give an empty folder"]);
    assert_eq!(files(&tables), before);

    let mut timeless = dataset.clone();
    timeless.events.timestamp = None;
    write(&timeless);
    refused(Shards::from_folder(&tables, &to, 2, None), &["events.parquet has no column `timestamp`"]);
    refused(Shards::from_dataset(&timeless, &to, 2), &["no column `timestamp`"]);

    write(&dataset);
    fs::create_dir(tables.join("events")).unwrap();
    refused(Shards::from_folder(&tables, &to, 2, None), &["events.parquet stands beside a folder"]);
    fs::rename(tables.join("events.parquet"), tables.join("events/1.parquet")).unwrap();
    let mut narrow = dataset.clone();
    narrow.events.feedback.remove("rating");
    narrow.write(&folder.path().join("narrow")).unwrap();
    fs::rename(folder.path().join("narrow/events.parquet"), tables.join("events/2.parquet")).unwrap();
    refused(Shards::from_folder(&tables, &to, 2, None), &["2.parquet has no column `rating`, but", "1.parquet has"]);
    fs::rename(tables.join("events/2.parquet"), tables.join("events/0.parquet")).unwrap();
    refused(Shards::from_folder(&tables, &to, 2, None), &["0.parquet has no column `rating`, but", "1.parquet has"]);

    // An item that the catalogue lacks, in the third row of the second file.
    fs::rename(tables.join("events/1.parquet"), tables.join("events/0.parquet")).unwrap();
    let mut more = dataset.clone();
    more.items.ids.push("unheard of".into());
    let fields = [&mut more.items.provider];
    fields.into_iter().flatten().for_each(|column| column.push(None));
    more.items.price.iter_mut().for_each(|column| column.push(None));
    more.items.created_at.iter_mut().for_each(|column| column.push(None));
    more.events.item[2] = small_log::ITEMS;
    more.write(&folder.path().join("more")).unwrap();
    fs::rename(folder.path().join("more/events.parquet"), tables.join("events/1.parquet")).unwrap();
    refused(Shards::from_folder(&tables, &to, 2, None), &["1.parquet, row 3", "item_id", "unheard of"]);
    fs::remove_file(tables.join("events/0.parquet")).unwrap();
    fs::remove_file(tables.join("events/1.parquet")).unwrap();
    refused(Shards::from_folder(&tables, &to, 2, None), &["holds no file that ends in .parquet"]);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!to.exists() && !left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn splits_that_shuffle_and_shares_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shards = Shards::from_dataset(&full(10), &folder.path().join("shards"), 2).unwrap();
    let random = SplitStrategy::Random { valid: 0.1, test: 0.1, seed: 0 };
    refused(shards.split(&random), &["\"random\" shuffles the whole log"]);
    refused(shards.split(&SplitStrategy::Time { valid: 0.5, test: 0.5 }), &["cannot be held out"]);
    let split = shards.split(&TIME).unwrap();
    assert_eq!(split.strategy(), &TIME);
    assert!(
        logs(&shards, &TIME).iter().all(|log| log.split.has_real_times() && log.split.clock.iter().all(|c| *c >= NOON))
    );
}
