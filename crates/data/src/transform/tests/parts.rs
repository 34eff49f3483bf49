//! The parts of a row, and whoever is not in the tables.

use super::*;
use crate::NewItem;
use crate::small_log::NOON;

fn fitted() -> (Dataset, Split, Transforms) {
    let rows: Vec<Row> = (0..35).map(|n| (n / 7, n % 7, i64::from(n) * 4_000, n % 3 > 0, 0)).collect();
    let data = log(&rows);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let transforms = fit(&data, &split, &specs(ALL)).unwrap();
    (data, split, transforms)
}

#[test]
fn names_and_tables_describe_what_is_written() {
    let (_, _, transforms) = fitted();
    let names = transforms.numeric_names();
    let pairs = ["age", "price", "rank", "hour"].map(|name| [name.to_owned(), format!("{name}.missing")]);
    assert_eq!(names, pairs.concat());
    let tables = transforms.categorical();
    let of: Vec<(&str, u32, u32)> = tables.iter().map(|t| (t.name.as_str(), t.rows, t.slots)).collect();
    let expected = [
        ("region", 4, 1),
        ("last providers", 21, 3),
        ("price bucket", 4, 1),
        ("provider", 51, 1),
        ("provider and price", 41, 1),
        // The training rows lie on three days of the week.
        ("weekday", 5, 1),
        ("region and provider", 1001, 1),
    ];
    assert_eq!(of, expected);
    for (numeric, categories) in everything(&transforms, NOON + 100_000) {
        assert_eq!(numeric.len(), names.len());
        let rows = tables.iter().flat_map(|table| std::iter::repeat_n(table.rows, table.slots as usize));
        assert!(categories.iter().zip(rows.clone()).all(|(index, rows)| *index < rows));
        assert_eq!(categories.len(), rows.count());
    }
}

#[test]
fn a_row_is_its_parts() {
    let (_, _, transforms) = fitted();
    let clock = NOON + 60_000;
    for (user, item) in [(0, 1), (4, 6), (2, 0), (99, 3), (1, u32::MAX), (u32::MAX, u32::MAX)] {
        let whole = written(|n, c| transforms.apply(user, item, clock, n, c));
        let parts = [
            written(|n, c| transforms.user(user, clock, n, c)),
            written(|n, c| transforms.item(item, n, c)),
            written(|n, c| transforms.context(clock, n, c)),
        ];
        let crossed = written(|_, c| transforms.pair(&parts[0].1, &parts[1].1, &parts[2].1, c));
        let all = parts.iter().chain([&crossed]);
        let joined = all.fold((Vec::new(), Vec::new()), |mut joined, part| {
            joined.0.extend_from_slice(&part.0);
            joined.1.extend_from_slice(&part.1);
            joined
        });
        assert_eq!(whole, joined, "user {user}, item {item}");
    }
}

#[test]
fn crosses_are_hashes_of_their_parts_rows() {
    let (_, _, transforms) = fitted();
    let row = |user, item| written(|n, c| transforms.apply(user, item, NOON, n, c)).1;
    // region, three providers, price bucket, provider, their cross, weekday, cross of three.
    let bytes = |parts: &[u32]| parts.iter().flat_map(|part| part.to_le_bytes()).collect::<Vec<u8>>();
    let of = row(1, 5);
    assert_eq!(of[6], hash::row(0, 40, bytes(&[of[5], of[4]])));
    assert_eq!(of[8], hash::row(9, 1000, bytes(&[of[5], of[7], of[0]])));
    // Item 0 has no provider, item 3 no price, user 4 an empty region.
    assert_eq!((row(1, 0)[5], row(1, 0)[6], row(1, 0)[8]), (0, 0, 0));
    assert_eq!((row(1, 3)[4], row(1, 3)[6]), (0, 0));
    assert_ne!(row(1, 3)[8], 0);
    assert_eq!((row(4, 5)[0], row(4, 5)[8]), (0, 0));
}

#[test]
fn whoever_is_new_is_written_as_if_in_the_tables() {
    let (data, split, transforms) = fitted();
    let user = NewRow::default().text("region", "south").number("age", 21.0);
    let histories = Histories::new(&data, &split, "click").unwrap();
    let rows = histories.before(1, NOON + 90_000, 9, true);
    let items: Vec<u32> = rows.iter().map(|row| data.events.item[*row as usize]).collect();
    assert_eq!(
        written(|n, c| transforms.new_user(&user, &items, n, c)),
        written(|n, c| transforms.user(1, NOON + 90_000, n, c))
    );
    let item = NewItem { provider: Some("p1"), category: None, price: Some(5.0) };
    let [item, bare] = [item, NewItem::default()].map(NewRow::from);
    assert_eq!(written(|n, c| transforms.new_item(&item, n, c)), written(|n, c| transforms.item(5, n, c)));
    // Nothing known, an unknown index and values that are none are the same.
    let nobody = written(|n, c| transforms.new_user(&NewRow::default(), &[], n, c));
    assert_eq!(nobody, written(|n, c| transforms.user(77, NOON, n, c)));
    let empty = NewRow::default().text("region", " ").number("age", f64::NAN);
    assert_eq!(nobody, written(|n, c| transforms.new_user(&empty, &[], n, c)));
    assert_eq!(nobody, (vec![0, 1f32.to_bits()], vec![0; 4]));
    assert_eq!(written(|n, c| transforms.new_item(&bare, n, c)), written(|n, c| transforms.item(77, n, c)));
}

#[test]
fn rare_unseen_and_missing_names() {
    let (_, _, transforms) = fitted();
    let row = |region: &str| {
        let user = NewRow::default().text("region", region);
        written(|n, c| transforms.new_user(&user, &[], n, c)).1[0]
    };
    // Two names have a row: the most frequent one, and of two equally frequent ones the first by name.
    assert_eq!(["north", "east", "south", "west", "North", ""].map(row), [2, 3, 1, 1, 1, 0]);
}

#[test]
fn histories_are_padded_and_pass_over_what_is_not_in_the_catalogue() {
    let (_, _, transforms) = fitted();
    let row = |history: &[u32]| written(|n, c| transforms.user_with(0, history, n, c)).1[1..].to_vec();
    let [p0, p1] = ["p0", "p1"].map(|name| hash::row(0, 20, name.bytes()));
    assert_eq!(row(&[]), [0, 0, 0]);
    assert_eq!(row(&[2, 99, 3]), [p0, p1, 0]);
    // Item 0 has no provider; nothing but the newest three is read.
    assert_eq!(row(&[0, 3, 2, 5]), [0, p1, p0]);
}

#[test]
fn queries_are_features_of_the_moment() {
    let rows: Vec<Row> = (0..8).map(|n| (n / 4, n % 4, i64::from(n), true, 0)).collect();
    let mut data = log(&rows);
    let query = "[[features]]\nname = \"query\"\nkind = \"category\"\nof = \"event-context\"\ncolumn = \"query\"\nvocabulary = 1";
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let error = fit(&data, &split, &specs(query)).unwrap_err().to_string();
    assert!(error.contains("feature \"query\"") && error.contains("not among the columns of the events"), "{error}");

    let texts = ["tea", "tea", "pot", "pot", "pot", "tea", "pot", "pot"];
    data.events.query = Some(texts.map(|text| Some(text.to_owned())).to_vec());
    let transforms = fit(&data, &split, &specs(query)).unwrap();
    let row = |query| written(|n, c| transforms.context(Moment { clock: 0, query }, n, c)).1;
    // Of the training rows, three say tea and one pot.
    assert_eq!((row(Some("tea")), row(Some("pot")), row(None)), (vec![2], vec![1], vec![0]));
}
