//! Fitted features as a file.

use serde_json::Value;

use super::*;
use crate::small_log::{NOON, rows};

fn saved() -> (Transforms, Value) {
    let rows: Vec<Row> = (0..35).map(|n| (n / 7, n % 7, i64::from(n) * 4_000, n % 3 > 0, 0)).collect();
    let data = log(&rows);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let transforms = fit(&data, &split, &specs(ALL)).unwrap();
    let value = serde_json::to_value(&transforms).unwrap();
    (transforms, value)
}

proptest! {
    #[test]
    fn read_back_it_writes_the_same_bits(log in rows(), strategy in strategies(), numbers in proptest::collection::vec(any::<f64>(), 5)) {
        let mut data = super::log(&log);
        let ages = numbers.into_iter().map(Some).collect();
        data.users.columns.insert("age".to_owned(), UserColumn::Numeric(ages));
        let Ok(split) = Split::new(&data, &strategy) else { return Ok(()) };
        for normalise in ["standard", "log", "quantile", "none"] {
            let specs = specs(&ALL.replacen("column = \"age\"", &format!("column = \"age\"\nnormalise = \"{normalise}\""), 1));
            let transforms = fit(&data, &split, &specs).unwrap();
            let text = serde_json::to_string(&transforms).unwrap();
            let again: Transforms = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&again).unwrap());
            prop_assert_eq!(again.specs(), &specs[..]);
            prop_assert_eq!(again.categorical(), transforms.categorical());
            for clock in [NOON, NOON + 100_000] {
                let rows = everything(&transforms, clock);
                prop_assert!(rows.iter().flat_map(|row| &row.0).all(|bits| f32::from_bits(*bits).is_finite()));
                prop_assert_eq!(rows, everything(&again, clock));
            }
        }
    }
}

#[test]
fn another_format_is_refused() {
    let (_, mut value) = saved();
    value["format"] = 2.into();
    let error = serde_json::from_value::<Transforms>(value).unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains("only format 1"), "{error}");
}

#[test]
fn damaged_files_are_refused() {
    let (transforms, value) = saved();
    assert_eq!(serde_json::from_value::<Transforms>(value.clone()).unwrap(), transforms);
    let cases = [
        ("/user_rows/rows", Value::from(6)),
        ("/user_rows/rows", Value::from(u32::MAX)),
        ("/item_rows/categories/0", Value::from(4_000)),
        ("/item_rows/numeric", Value::from(Vec::<f32>::new())),
        ("/items/crosses/0/parts/0", Value::from(2)),
        ("/items/categories/1/rows/rows", Value::from(0)),
        ("/items/categories/0/rows/borders", Value::from(vec![2.0, 1.0])),
        ("/items/numeric/1/scale/landmarks", Value::from(vec![2.0, 1.0])),
        ("/users/numeric/0/scale/deviation", Value::from(0.0)),
        ("/users/categories/0/rows/known/north", Value::from(u32::MAX)),
        ("/pairs/0/parts/2", Value::from(8)),
        ("/pairs/0/hash", Value::from(0)),
        ("/recent/0/of_item/3", Value::from(21)),
        ("/recent/0/of_item", Value::from(vec![0])),
        ("/recent/0/last", Value::from(u32::MAX)),
        ("/past/clocks", Value::from(vec![0])),
        ("/past/starts/1", Value::from(u32::MAX)),
    ];
    for (place, with) in cases {
        let mut damaged = value.clone();
        *damaged.pointer_mut(place).unwrap_or_else(|| panic!("{place} in {value}")) = with;
        let error = serde_json::from_value::<Transforms>(damaged).expect_err(place).to_string();
        assert!(error.contains("damaged") && error.contains("fit them again"), "{place}: {error}");
    }
}
