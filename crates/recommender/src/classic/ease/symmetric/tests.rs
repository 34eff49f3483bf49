use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// `VᵀV + ridge · I` for random `V`, row-major, computed the plain way.
fn positive_definite(size: usize, ridge: f64, seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let rank = size / 2 + 1;
    let values: Vec<f64> = (0..rank * size).map(|_| random.random::<f64>() - 0.5).collect();
    let mut matrix = vec![0.0; size * size];
    for i in 0..size {
        for j in 0..size {
            matrix[i * size + j] = (0..rank).map(|r| values[r * size + i] * values[r * size + j]).sum::<f64>();
        }
        matrix[i * size + i] += ridge;
    }
    matrix
}

fn symmetric(matrix: &[f64], size: usize) -> Symmetric {
    Symmetric::of_rows(size, || (), |_, row, set| (0..size).for_each(|column| set(column, matrix[row * size + column])))
}

#[test]
fn a_matrix_times_its_inverse_is_the_identity() {
    for size in [1, 2, 127, 128, 129, 300] {
        let matrix = positive_definite(size, 0.5, size as u64);
        let mut inverse = symmetric(&matrix, size);
        assert!(inverse.invert());
        for i in 0..size {
            for j in 0..size {
                let product: f64 = (0..size).map(|k| matrix[i * size + k] * inverse.at(k, j)).sum();
                let expected = f64::from(u8::from(i == j));
                assert!((product - expected).abs() < 1e-10, "{size} rows, {i}, {j}: {product}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let matrix = positive_definite(300, 0.1, 3);
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let inverse = pool.install(|| {
            let mut inverse = symmetric(&matrix, 300);
            assert!(inverse.invert());
            inverse
        });
        inverse.tiles.concat().into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    let one = bits(1);
    assert_eq!(one, bits(2));
    assert_eq!(one, bits(5));
}

#[test]
fn what_is_not_positive_definite_is_refused() {
    assert!(!symmetric(&[1.0, 2.0, 2.0, 1.0], 2).invert());
    assert!(!symmetric(&[0.0], 1).invert());
    assert!(!symmetric(&[f64::NAN], 1).invert());
    // The last pivot of two hundred is the bad one.
    let mut matrix = positive_definite(200, 0.5, 9);
    matrix[200 * 200 - 1] = -1.0;
    assert!(!symmetric(&matrix, 200).invert());
}

proptest! {
    #[test]
    fn places_and_blocks_are_inverse(row in 0_usize..5_000, column in 0_usize..5_000) {
        let (row, column) = (row.max(column), row.min(column));
        prop_assert_eq!(block_of(place(row, column)), (row, column));
    }

    #[test]
    fn values_are_kept_on_both_sides_of_the_diagonal(row in 0_usize..260, column in 0_usize..260, value in -1.0..1.0) {
        let matrix = Symmetric::of_rows(260, || (), |_, at, set| {
            if at == row.max(column) {
                set(row.min(column), value);
            }
        });
        prop_assert_eq!((matrix.at(row, column), matrix.at(column, row)), (value, value));
    }
}
