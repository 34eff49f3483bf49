//! Grouped heads, causal masks, windows and relative biases.

use proptest::prelude::*;

use super::{Case, Found};
use crate::kernels::tests::{assert_gradient, by_threads, values, wide};

fn variants() -> impl Strategy<Value = Case> {
    let lengths = prop::collection::vec(prop::sample::select(vec![0usize, 1, 2, 17, 31, 33, 70, 101]), 1..4);
    let heads = prop::sample::select(vec![(4usize, 4usize), (4, 2), (4, 1), (1, 1), (6, 3)]);
    let width = prop::sample::select(vec![1usize, 4, 8, 16, 24, 33]);
    let window = prop::option::of(prop::sample::select(vec![0usize, 1, 5, 16, 40, 100, usize::MAX]));
    (lengths, heads, width, window, any::<[bool; 3]>(), 0usize..1000).prop_map(
        |(lengths, (heads, key_heads), width, window, [causal, relative, dropped], first_token)| Case {
            lengths,
            heads,
            key_heads,
            width,
            causal,
            window,
            relative,
            p: if dropped { 0.3 } else { 0.0 },
            first_token,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_variant_is_its_definition(case in variants()) {
        case.check();
    }
}

#[test]
fn long_sequences_are_cut_into_blocks() {
    // Beyond 512 tokens blocks are cut without a band too.
    let plain = Case { lengths: vec![600, 3], heads: 2, key_heads: 1, width: 4, ..Case::default() };
    plain.check();
    Case { relative: true, p: 0.2, ..plain.clone() }.check();
    Case { window: Some(64), ..plain.clone() }.check();
    Case { causal: true, relative: true, window: Some(200), p: 0.2, ..plain }.check();
}

#[test]
fn gradients_are_those_of_central_differences() {
    let plain = Case { lengths: vec![5, 1, 3], heads: 2, width: 3, first_token: 5, ..Case::default() };
    for case in [
        Case { key_heads: 1, ..plain.clone() },
        Case { causal: true, p: 0.3, ..plain.clone() },
        Case { window: Some(1), ..plain.clone() },
        Case { relative: true, p: 0.3, ..plain.clone() },
        Case { relative: true, causal: true, window: Some(2), key_heads: 1, ..plain },
    ] {
        let (qkv, direction) = (values(case.tokens() * case.columns(), 1), values(case.tokens() * case.hidden(), 2));
        let found = case.run(&qkv, &direction);
        let table = case.table();
        let (wide_qkv, wide_table) = (wide(&qkv), wide(&table));
        let what = format!("{case:?}");
        assert_gradient(&what, &found.grad, &qkv, &direction, 1e-5, |qkv| case.by_loops(qkv, &wide_table).0);
        let by_table = |table: &[f64]| case.by_loops(&wide_qkv, table).0;
        assert_gradient(&format!("{what}: table"), &found.table_grad, &table, &direction, 1e-5, by_table);
    }
}

#[test]
fn the_future_and_what_is_outside_of_the_window_change_no_bit() {
    let (length, columns) = (130, 4 * 8);
    let hidden = 2 * 8;
    for (causal, window) in [(true, None), (false, Some(9)), (true, Some(9))] {
        let case = Case { lengths: vec![length], heads: 2, key_heads: 1, width: 8, causal, window, ..Case::default() };
        let (mut qkv, mut direction) = (values(length * columns, 1), values(length * hidden, 2));
        // Of the last 30 tokens nothing reaches the first 60, nor do gradients come back from them.
        direction[100 * hidden..].fill(0.0);
        let before = case.run(&qkv, &direction);
        qkv[100 * columns..].copy_from_slice(&values(30 * columns, 3));
        let after = case.run(&qkv, &direction);
        assert_eq!(before.out[..60 * hidden], after.out[..60 * hidden], "causal {causal}, window {window:?}");
        assert_eq!(before.grad[..60 * columns], after.grad[..60 * columns], "causal {causal}, window {window:?}");
        assert_ne!(before.out[100 * hidden..], after.out[100 * hidden..]);
        if causal {
            assert_eq!(before.out[..100 * hidden], after.out[..100 * hidden]);
            assert!(after.grad[100 * columns..].iter().all(|&grad| grad == 0.0));
        }
    }
}

#[test]
fn a_window_as_wide_as_the_sequence_hides_nothing() {
    let plain = Case { lengths: vec![40, 7], heads: 2, width: 8, ..Case::default() };
    let (qkv, direction) = (values(47 * plain.columns(), 1), values(47 * plain.hidden(), 2));
    let whole = plain.run(&qkv, &direction);
    let windowed = Case { window: Some(39), ..plain }.run(&qkv, &direction);
    assert_eq!((whole.out, whole.log_sums, whole.grad), (windowed.out, windowed.log_sums, windowed.grad));
}

#[test]
fn results_do_not_depend_on_the_threads() {
    for (causal, window, relative) in [(false, None, true), (true, None, true), (false, Some(20), false)] {
        let lengths = vec![17, 70, 1, 33, 33, 5, 70, 2];
        let case = Case { lengths, heads: 4, key_heads: 2, width: 8, causal, window, relative, p: 0.1, first_token: 3 };
        let (qkv, direction) = (values(case.tokens() * case.columns(), 1), values(case.tokens() * case.hidden(), 2));
        by_threads(|| {
            let Found { out, log_sums, grad, table_grad } = case.run(&qkv, &direction);
            [out, log_sums, grad, table_grad]
        });
    }
}
