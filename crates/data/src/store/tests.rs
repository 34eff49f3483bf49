use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, LargeStringArray, ListArray,
    RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::*;
use crate::{Events, Items, UserColumn, Users};

/// A table with one of everything.
fn everything() -> Dataset {
    let text = |texts: [&str; 2]| texts.map(|text| (!text.is_empty()).then(|| text.to_owned())).to_vec();
    Dataset {
        name: "all".into(),
        items: Items {
            ids: vec!["a".into(), "b".into()],
            text: BTreeMap::from([("title".into(), text(["Tea", ""])), ("author".into(), text(["", "Ann"]))]),
            provider: Some(text(["p", ""])),
            category: Some(text(["", "c"])),
            price: Some(vec![Some(1.5), None]),
            created_at: Some(vec![None, Some(-7)]),
        },
        users: Users {
            ids: vec!["u".into(), "v".into()],
            columns: BTreeMap::from([
                ("age".into(), UserColumn::Numeric(vec![None, Some(30.0)])),
                ("country".into(), UserColumn::Categorical(text(["de", ""]))),
            ]),
        },
        events: Events {
            user: vec![0, 0, 1],
            item: vec![1, 0, 1],
            timestamp: Some(vec![5, 6, 1]),
            request: Some(vec![3, 3, 1]),
            position: Some(vec![1, 2, 0]),
            propensity: Some(vec![0.5, 0.25, 1.0]),
            query: Some(vec![None, Some("tea".into()), None]),
            feedback: BTreeMap::from([("click".into(), vec![1.0, 0.0, 1.0]), ("rating".into(), vec![4.5, 3.0, 0.5])]),
        },
    }
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn strings(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

/// The message that tables of these columns give.
#[track_caller]
fn check(items: Vec<(&str, ArrayRef)>, events: Vec<(&str, ArrayRef)>, expected: &str) {
    let error = Dataset::from_parquet("shop", &parquet_of(items), &[], &parquet_of(events)).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = everything();
    dataset.write(folder.path()).unwrap();
    assert_eq!(Dataset::read(folder.path()).unwrap(), dataset);
}

#[test]
fn a_missing_value_stays_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = everything();
    dataset.events.feedback.insert("dwell".into(), vec![f32::NAN, 2.0, f32::NAN]);
    dataset.write(folder.path()).unwrap();
    let read = Dataset::read(folder.path()).unwrap();
    let dwell = &read.events.feedback["dwell"];
    assert!(dwell[0].is_nan() && dwell[1] == 2.0 && dwell[2].is_nan());
}

#[test]
fn tables_of_other_tools_are_understood() {
    let items = parquet_of(vec![
        ("item_id", Arc::new(UInt64Array::from(vec![u64::MAX, 7]))),
        ("title", Arc::new(LargeStringArray::from(vec!["x", "y"]))),
        ("year", Arc::new(Int32Array::from(vec![Some(1999), None]))),
    ]);
    let country: DictionaryArray<Int32Type> = ["de", "fr"].into_iter().collect();
    let users = parquet_of(vec![("user_id", strings(&["1", "2"])), ("country", Arc::new(country))]);
    let events = parquet_of(vec![
        ("user_id", Arc::new(Int64Array::from(vec![2, 9, 2]))),
        ("item_id", strings(&["7", "7", "18446744073709551615"])),
        ("timestamp", Arc::new(TimestampMillisecondArray::from(vec![9_000, 1_500, 2_999]))),
        ("request_id", strings(&["r1", "r2", "r1"])),
        ("click", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
    ]);
    let dataset = Dataset::from_parquet("shop", &items, &users, &events).unwrap();
    assert_eq!(dataset.items.ids, ["18446744073709551615", "7"]);
    assert_eq!(dataset.items.field(0, "year"), Some("1999"));
    assert_eq!(dataset.users.ids, ["1", "2", "9"]);
    let country = |name: &str| Some(name.to_owned());
    assert_eq!(dataset.users.columns["country"], UserColumn::Categorical(vec![country("de"), country("fr"), None]));
    // Sorted by user, then time.
    assert_eq!(dataset.events.user, [1, 1, 2]);
    assert_eq!(dataset.events.item, [0, 1, 1]);
    assert_eq!(dataset.events.timestamp, Some(vec![2, 9, 1]));
    assert_eq!(dataset.events.request, Some(vec![0, 0, 1]));
    let click = &dataset.events.feedback["click"];
    assert!(click[0] == 0.0 && click[1] == 1.0 && click[2].is_nan());
}

#[test]
fn wrong_tables_are_answered_with_what_is_wrong() {
    let items = || vec![("item_id", strings(&["a", "b"]))];
    let events = || vec![("user_id", strings(&["u"])), ("item_id", strings(&["a"]))];
    check(
        vec![("id", strings(&["a"])), ("title", strings(&["x"]))],
        events(),
        "shop/items has no column `item_id`; its columns are `id`, `title`",
    );
    check(
        vec![("item_id", strings(&["a", "a"]))],
        events(),
        "row 2, column `item_id`: the id \"a\" is there already, in row 1",
    );
    check(items(), vec![("user_id", strings(&["u"])), ("item_id", strings(&["z"]))], "no item has the id \"z\"");
    let with = |name, column: ArrayRef| [events(), vec![(name, column)]].concat();
    check(items(), with("rating", strings(&["five"])), "column `rating` holds Utf8, but numbers");
    check(items(), with("rating", Arc::new(Float64Array::from(vec![f64::INFINITY]))), "infinite");
    let large = Arc::new(Float64Array::from(vec![1e39]));
    check(items(), with("rating", large), "is too large");
    check(items(), with("position", Arc::new(Int64Array::from(vec![-1]))), "-1 is not within");
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
    check(items(), with("vector", Arc::new(list)), "column `vector` holds List");
    let null = Arc::new(StringArray::from(vec![None::<&str>]));
    check(vec![("item_id", null)], events(), "the id is null");
    let times = [
        vec![("user_id", strings(&["u", "u"])), ("item_id", strings(&["a", "a"]))],
        vec![("timestamp", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef)],
    ];
    check(items(), times.concat(), "row 2, column `timestamp`: the time is null");
}

#[test]
fn a_cut_or_changed_file_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    everything().write(folder.path()).unwrap();
    let path = folder.path().join("events.parquet");
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Dataset::read(folder.path()).unwrap_err();
        assert!(matches!(error, DataError::Parquet { .. }), "{length}: {error}");
        assert!(error.to_string().contains("events.parquet is not a whole Parquet file"), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = Dataset::read(folder.path()).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
}

#[test]
fn the_users_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    everything().write(folder.path()).unwrap();
    std::fs::remove_file(folder.path().join("users.parquet")).unwrap();
    let read = Dataset::read(folder.path()).unwrap();
    assert_eq!(read.users.ids, ["u", "v"]);
    assert!(read.users.columns.is_empty());
}

#[test]
fn a_table_that_does_not_fit_together_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut ragged = everything();
    ragged.events.feedback.insert("dwell".into(), vec![1.0]);
    let error = ragged.write(folder.path()).unwrap_err();
    assert!(error.to_string().contains("`dwell` has 1 entries, the table has 3"), "{error}");
    let mut astray = everything();
    astray.events.item[2] = 2;
    let error = astray.write(folder.path()).unwrap_err();
    assert!(error.to_string().contains("row 3, column `item_id`: index 2 points past"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A disk with room for some bytes.
struct Disk(usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = bytes.len().min(self.0);
        self.0 -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_as_such() {
    for room in [0, 3, 100, 300] {
        let columns = |rows: std::ops::Range<usize>| {
            let numbers = Int64Array::from_iter_values(rows.map(|row| row as i64 * 7_919 % 1_000));
            vec![("n".to_owned(), Arc::new(numbers) as ArrayRef)]
        };
        let error = write::encode(&mut Disk(room), None, 100_000, &columns).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn reading_and_writing_again_gives_the_same_bytes(
        titles in proptest::collection::vec(proptest::option::of("\\PC{0,8}"), 1..6),
        log in proptest::collection::vec((0_u32..4, 0_u32..6, 0_i64..9, proptest::option::of(-1e6_f32..1e6)), 0..30),
    ) {
        let items = titles.len() as u32;
        let dataset = Dataset {
            name: "p".into(),
            items: Items {
                ids: (0..items).map(|n| format!("i{n}")).collect(),
                text: BTreeMap::from([("title".into(), titles)]),
                ..Items::default()
            },
            users: Users { ids: (0..4).map(|n| format!("u{n}")).collect(), ..Users::default() },
            events: Events {
                user: log.iter().map(|row| row.0).collect(),
                item: log.iter().map(|row| row.1 % items).collect(),
                timestamp: Some(log.iter().map(|row| row.2).collect()),
                feedback: BTreeMap::from([("rating".into(), log.iter().map(|row| row.3.unwrap_or(f32::NAN)).collect())]),
                ..Events::default()
            },
        };
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["1", "2"].map(|name| folder.path().join(name));
        dataset.write(&first).unwrap();
        let read = Dataset::read(&first).unwrap();
        let sorted = |events: &Events| (1..events.len()).all(|row| {
            let key = |row: usize| (events.user[row], events.timestamp.as_ref().unwrap()[row]);
            key(row - 1) <= key(row)
        });
        prop_assert!(sorted(&read.events));
        // What is read is sorted; from then on, nothing changes any more.
        read.write(&second).unwrap();
        let again = Dataset::read(&second).unwrap();
        again.write(&first).unwrap();
        for file in ["items.parquet", "users.parquet", "events.parquet"] {
            prop_assert_eq!(std::fs::read(first.join(file)).unwrap(), std::fs::read(second.join(file)).unwrap());
        }
        prop_assert_eq!(read.items, dataset.items);
        prop_assert_eq!(read.events.len(), dataset.events.len());
    }
}

#[test]
fn a_changed_byte_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    everything().write(folder.path()).unwrap();
    let [items, mut events] =
        ["items", "events"].map(|table| std::fs::read(folder.path().join(format!("{table}.parquet"))).unwrap());
    let mut refused = 0;
    for place in 0..events.len() {
        for flip in [1, 16, 128] {
            events[place] ^= flip;
            refused += usize::from(Dataset::from_parquet("x", &items, &[], &events).is_err());
            events[place] ^= flip;
        }
    }
    assert!(refused > events.len() / 2, "{refused}");
}
