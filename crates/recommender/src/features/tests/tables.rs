//! Rows of categories.

use candle_core::{Device, Tensor};
use paretune_data::CategoryTable;

use crate::features::tables::Tables;

fn tables() -> Tables {
    let table = |name: &str, rows, slots| CategoryTable { name: name.into(), rows, slots };
    Tables::new(&[table("colour", 4, 1), table("lately", 5, 3), table("shape", 3, 1)], 2, 7, &Device::Cpu).unwrap()
}

fn row(tables: &Tables, table: usize, row: usize) -> Vec<f32> {
    tables.parameters()[table].1.as_tensor().to_vec2::<f32>().unwrap().swap_remove(row)
}

#[test]
fn indices_that_share_a_table_are_averaged_without_those_of_missing_values() {
    let tables = tables();
    assert_eq!((tables.slots(), tables.width()), (5, 6));
    let names: Vec<String> = tables.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["features.table.colour", "features.table.lately", "features.table.shape"]);
    // colour, three of lately, shape; nothing lately, and one thing.
    let indices = [3, 2, 4, 0, 1, 0, 0, 0, 0, 2, 1, 1, 0, 0, 0];
    let found = tables.forward(&indices, 3, &Device::Cpu).unwrap().unwrap().to_vec2::<f32>().unwrap();
    let mean = |a: Vec<f32>, b: Vec<f32>| -> Vec<f32> { a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect() };
    let lately = [mean(row(&tables, 1, 2), row(&tables, 1, 4)), vec![0.0; 2], row(&tables, 1, 1)];
    for (at, lately) in lately.into_iter().enumerate() {
        let expected =
            [row(&tables, 0, indices[5 * at] as usize), lately, row(&tables, 2, indices[5 * at + 4] as usize)].concat();
        assert!(found[at].iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?} and {expected:?}");
    }
}

#[test]
fn rows_that_nobody_asks_for_get_no_gradient() {
    let tables = tables();
    let sum = tables.forward(&[3, 0, 4, 0, 1], 1, &Device::Cpu).unwrap().unwrap().sum_all().unwrap();
    let store = sum.backward().unwrap();
    let gradients: Vec<Vec<Vec<f32>>> =
        tables.parameters().iter().map(|(_, var)| store.get(var).unwrap().to_vec2().unwrap()).collect();
    let touched = |table: usize| -> Vec<usize> {
        (0..gradients[table].len()).filter(|row| gradients[table][*row].iter().any(|g| *g != 0.0)).collect()
    };
    assert_eq!((touched(0), touched(1), touched(2)), (vec![3], vec![4], vec![1]));
}

#[test]
fn indices_of_other_features_are_refused() {
    let tables = tables();
    let refused = |indices: &[u32], n| tables.forward(indices, n, &Device::Cpu).unwrap_err().to_string();
    assert!(refused(&[1, 0, 0, 0], 1).contains("has 4 categories, expected 5"));
    assert!(refused(&[4, 0, 0, 0, 0], 1).contains("row 4 of a table of 4 rows"));
    let none = Tables::new(&[], 2, 7, &Device::Cpu).unwrap();
    assert!(none.forward(&[], 3, &Device::Cpu).unwrap().is_none());
    let seeded = |seed| {
        let table = CategoryTable { name: "a".into(), rows: 3, slots: 1 };
        let tables = Tables::new(&[table], 2, seed, &Device::Cpu).unwrap();
        tables.parameters()[0].1.flatten_all().and_then(|rows: Tensor| rows.to_vec1::<f32>()).unwrap()
    };
    assert!(seeded(1) == seeded(1) && seeded(1) != seeded(2));
}
