//! Products in every arithmetic against sums in `f64`, and the register tiles against the portable path.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Arithmetic, COLUMNS, Panels, Slabs, Stack, View, ViewMut, blocks, features, plain, portable, product};

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| generator.random_range(-1.5..1.5)).collect()
}

/// Element `(i, j)` of a row-major matrix or of its transpose.
fn at(values: &[f32], stride: usize, transposed: bool, i: usize, j: usize) -> f64 {
    f64::from(if transposed { values[j * stride + i] } else { values[i * stride + j] })
}

/// The sums, and the sums of absolute values, which bound what rounding can do.
fn reference(
    (left, left_transposed): (&[f32], bool),
    (right, right_transposed): (&[f32], bool),
    (m, k, n): (usize, usize, usize),
) -> Vec<(f64, f64)> {
    let mut sums = Vec::new();
    for i in 0..m {
        for j in 0..n {
            let term = |p| {
                at(left, if left_transposed { m } else { k }, left_transposed, i, p)
                    * at(right, if right_transposed { k } else { n }, right_transposed, p, j)
            };
            sums.push(((0..k).map(term).sum(), (0..k).map(|p| term(p).abs()).sum()));
        }
    }
    sums
}

/// The sums of rows and columns rounded to 127 units each, in exact integers.
fn quantized(left: &[f32], right: &[f32], (m, k, n): (usize, usize, usize), sums: &mut [(f64, f64)]) {
    let units = |row: &[f32]| -> (Vec<i64>, f64) {
        let top = row.iter().fold(0f32, |top, value| top.max(value.abs()));
        let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
        (row.iter().map(|value| (value * inverse).round_ties_even() as i64).collect(), f64::from(top) / 127.0)
    };
    for i in 0..m {
        let (x, x_unit) = units(&left[i * k..][..k]);
        for j in 0..n {
            let (w, w_unit) = units(&right[j * k..][..k]);
            let sum: i64 = x.iter().zip(&w).map(|(x, w)| x * w).sum();
            sums[i * n + j].0 = sum as f64 * x_unit * w_unit;
        }
    }
}

fn run(
    (left, left_transposed): (&[f32], bool),
    (right, right_transposed): (&[f32], bool),
    (m, k, n): (usize, usize, usize),
    arithmetic: Arithmetic,
    packed: bool,
) -> Vec<f32> {
    let left = if left_transposed { View::new(left, k, m).t() } else { View::new(left, m, k) };
    let parts = [right];
    let width = if right_transposed { k } else { n };
    let panels = Panels::pack(Stack::new(&parts, width), right_transposed, arithmetic, packed);
    let mut out = vec![f32::NAN; m * n];
    product(left, &panels, &mut out, &mut [], plain);
    out
}

fn check(sizes: (usize, usize, usize), left_transposed: bool, right_transposed: bool, arithmetic: Arithmetic) {
    let (m, k, n) = sizes;
    let (left, right) = (random(m * k, 1), random(k * n, 2));
    let (left, right) = ((&left[..], left_transposed), (&right[..], right_transposed));
    let mut expected = reference(left, right, sizes);
    let whole = arithmetic == Arithmetic::Int8 && arithmetic.is_available();
    if whole {
        quantized(left.0, right.0, sizes, &mut expected);
    }
    let mut paths = vec![false];
    if whole {
        paths.clear();
    }
    if features().f32 {
        paths.push(true);
    }
    for packed in paths {
        let found = run(left, right, sizes, arithmetic, packed);
        let relative = match (packed, arithmetic.available()) {
            (true, Arithmetic::Bf16) => 2.0 / 256.0,
            _ => 1e-6,
        };
        for (place, (found, (expected, size))) in found.iter().zip(&expected).enumerate() {
            let off = (f64::from(*found) - expected).abs();
            assert!(off <= relative * size + 1e-9, "{arithmetic} {sizes:?} [{place}]: {found}, expected {expected}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_of_all_shapes(m in 0usize..40, k in 1usize..80, n in 1usize..80, left: bool, right: bool) {
        check((m, k, n), left, right, Arithmetic::F32);
        check((m, k, n), left, right, Arithmetic::Bf16);
        check((m, k, n), false, true, Arithmetic::Int8);
    }
}

#[test]
fn products_that_are_cut_into_blocks() {
    for (left, right) in [(false, true), (false, false), (true, false)] {
        check((131, 1100, 37), left, right, Arithmetic::F32);
        check((29, 1601, 70), left, right, Arithmetic::Bf16);
    }
    check((131, 1100, 37), false, true, Arithmetic::Int8);
    check((97, 13, 2100), false, true, Arithmetic::F32);
}

#[test]
fn stacked_parts_are_one_matrix() {
    let (a, b, c, x) = (random(5 * 7, 1), random(5 * 7, 2), random(5 * 7, 3), random(4 * 7, 4));
    let joined = [&a[..], &b, &c].concat();
    for arithmetic in Arithmetic::ALL {
        let run = |parts: &[&[f32]]| {
            let panels = Panels::transposed(Stack::new(parts, 7), arithmetic);
            let mut out = vec![0f32; 4 * 15];
            product(View::new(&x, 4, 7), &panels, &mut out, &mut [], plain);
            out
        };
        assert_eq!(run(&[&a, &b, &c]), run(&[&joined]));
    }
}

#[test]
fn each_piece_of_a_row_is_finished_once() {
    let (m, k, n) = (101, 33, 1500);
    let (x, w, bias) = (random(m * k, 1), random(k * n, 2), random(n, 3));
    let expected = run((&x, false), (&w, true), (m, k, n), Arithmetic::F32, features().f32);
    let parts = [&w[..]];
    let panels = Panels::transposed(Stack::new(&parts, k), Arithmetic::F32);
    let (mut out, mut second) = (vec![0f32; m * n], vec![0f32; m * n]);
    product(View::new(&x, m, k), &panels, &mut out, &mut second, |row, column, out, second| {
        for (at, (out, second)) in out.iter_mut().zip(second).enumerate() {
            *out += bias[column + at];
            *second += row as f32;
        }
    });
    for row in 0..m {
        for column in 0..n {
            assert_eq!(out[row * n + column], expected[row * n + column] + bias[column]);
            assert_eq!(second[row * n + column], row as f32);
        }
    }
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let (m, k, n) = (211, 500, 130);
    let (x, w) = (random(m * k, 1), random(k * n, 2));
    for arithmetic in Arithmetic::ALL {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run((&x, false), (&w, true), (m, k, n), arithmetic, features().f32))
        };
        assert_eq!(with(1), with(3));
    }
}

#[test]
fn what_is_not_finite_stays_visible() {
    let w = random(6 * 4, 1);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = random(2 * 4, 2);
        x[1] = bad;
        for arithmetic in Arithmetic::ALL {
            let out = run((&x, false), (&w, true), (2, 4, 6), arithmetic, features().f32);
            assert!(out[..6].iter().all(|value| !value.is_finite()), "{arithmetic}: {out:?}");
            assert!(out[6..].iter().all(|value| value.is_finite()), "{arithmetic}: {out:?}");
        }
    }
}

#[test]
fn the_name_of_an_arithmetic_is_read_again() {
    for arithmetic in Arithmetic::ALL {
        assert_eq!(arithmetic.to_string().parse(), Ok(arithmetic));
    }
    assert!("fp8".parse::<Arithmetic>().unwrap_err().contains("f32, bf16, int8"));
}

proptest! {
    #[test]
    fn small_products_of_parts_of_panels(
        (m, k, n) in (1usize..40, 1usize..40, 1usize..80),
        (first_row, after, first_panel) in (0usize..40, 0usize..20, 0usize..3),
        by_row: bool,
        transposed: bool,
        add: bool,
    ) {
        // Panels of more rows, or of more columns, than the product reads.
        let (rows, row, column) = match by_row {
            true => (first_row + k + after, first_row, 0),
            false => (k, 0, first_panel * COLUMNS),
        };
        let panels = random((column + n).div_ceil(COLUMNS) * rows * COLUMNS, 1);
        let slabs = match by_row {
            true => Slabs::rows(&panels, rows, row),
            false => Slabs::columns(&panels, rows, column),
        };
        let right = |row: usize, column: usize| {
            f64::from(panels[column / COLUMNS * rows * COLUMNS + row * COLUMNS + column % COLUMNS])
        };
        let left = random(m * k, 2);
        let view = if transposed { View::new(&left, k, m).t() } else { View::new(&left, m, k) };
        let (stride, start) = (n + 3, random(m * (n + 3), 3));
        let mut all = vec![start.clone()];
        portable::small_product(&mut ViewMut::strided(&mut all[0], m, n, stride), view, slabs, add);
        if features().f32 {
            let mut out = start.clone();
            blocks::small_product(&mut ViewMut::strided(&mut out, m, n, stride), view, slabs, add);
            all.push(out);
        }
        let left_stride = if transposed { m } else { k };
        for out in all {
            for i in 0..m {
                for j in 0..n {
                    let term = |p| at(&left, left_stride, transposed, i, p) * right(row + p, column + j);
                    let before = if add { f64::from(start[i * stride + j]) } else { 0.0 };
                    let expected = before + (0..k).map(term).sum::<f64>();
                    prop_assert!((f64::from(out[i * stride + j]) - expected).abs() < 1e-4);
                }
                prop_assert_eq!(&out[i * stride + n..][..3], &start[i * stride + n..][..3]);
            }
        }
    }
}
