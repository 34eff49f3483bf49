use proptest::prelude::*;

use super::*;

#[test]
fn lists_by_hand() {
    let popularity = [7.0, 1.0, 0.0, 0.0];
    let providers = [Some(0), Some(u32::MAX), Some(u32::MAX), None];
    let vectors = [1.0, 0.0, 0.0, 2.0, -3.0, 0.0, 0.0, 0.0];
    let mut lists = ListAccumulator::new(4, 2)
        .with_popularity(&popularity)
        .and_then(|lists| lists.with_providers(&providers))
        .and_then(|lists| lists.with_vectors(&vectors, 2))
        .unwrap();
    lists.add_user(&[0, 1, 3]).unwrap(); // the third is cut off; orthogonal
    lists.add_user(&[0, 2]).unwrap(); // opposite
    lists.add_user(&[3]).unwrap(); // no pair, no provider
    let metrics = lists.finish();
    let expected = [
        ("coverage@2", 1.0),
        ("diversity@2", (1.0 + 2.0) / 2.0),
        ("popularity@2", (2.0 * 8_f64.ln() + 2_f64.ln()) / 5.0),
        ("novelty@2", (2.0 * 1.5_f64.log2() + 6_f64.log2() + 2.0 * 12_f64.log2()) / 5.0),
        ("provider_top_share@2", 2.0 / (2.0 + 2.0 / 3_f64.log2())),
    ];
    for (name, value) in expected {
        assert!((metrics[name] - value).abs() < 1e-12, "{name}: {} is not {value}", metrics[name]);
    }
}

#[test]
fn what_was_not_given_is_left_out() {
    let mut lists = ListAccumulator::new(3, 5);
    assert!(lists.finish().is_empty());
    lists.add_user(&[]).unwrap();
    let names: Vec<String> = lists.finish().into_keys().collect();
    assert_eq!(names, ["coverage@5"]);
    lists.add_user(&[1]).unwrap();
    let names: Vec<String> = lists.finish().into_keys().collect();
    assert_eq!(names, ["coverage@5", "item_entropy@5", "item_gini@5"]);
}

#[test]
fn wrong_input_is_told_apart() {
    let mut lists = ListAccumulator::new(3, 2);
    let error = lists.add_user(&[1, 3]).unwrap_err();
    assert!(matches!(error, EvalError::ItemOutOfRange { item: 3, size: 3 }), "{error}");
    assert!(lists.finish().is_empty(), "a refused list is not counted in part");
    let error = ListAccumulator::new(3, 2).with_vectors(&[0.0; 5], 2).unwrap_err();
    assert_eq!(error.to_string(), "vectors has 5 values where 6 are needed: give one per item and dimension");
    assert!(ListAccumulator::new(3, 2).with_popularity(&[1.0]).is_err());
    assert!(ListAccumulator::new(3, 2).with_providers(&[None; 4]).is_err());
}

#[test]
fn extremes_of_exposure() {
    assert_eq!(gini(&[]), None);
    assert_eq!(gini(&[0.0, 0.0]), None);
    assert_eq!(shannon_entropy(&[0.0, 3.0]), Some(0.0));
    assert!((shannon_entropy(&[2.0; 8]).unwrap() - 8_f64.ln()).abs() < 1e-12);
    assert_eq!(top_share(&[1.0, 6.0, 1.0, 2.0], 0.1), Some(0.6));
    assert_eq!(top_share(&[1.0, 6.0, 1.0, 2.0], 0.5), Some(0.8));
    assert_eq!(top_share(&[1.0, 6.0, 1.0, 2.0], f64::NAN), Some(0.6));
}

proptest! {
    #[test]
    fn gini_and_entropy_ignore_scale_and_order(values in prop::collection::vec(0.0_f64..9.0, 2..30), factor in 0.1_f64..10.0) {
        prop_assume!(values.iter().sum::<f64>() > 0.1);
        let mut other: Vec<f64> = values.iter().map(|x| x * factor).collect();
        other.reverse();
        prop_assert!((gini(&values).unwrap() - gini(&other).unwrap()).abs() < 1e-9);
        prop_assert!((shannon_entropy(&values).unwrap() - shannon_entropy(&other).unwrap()).abs() < 1e-9);
    }

    #[test]
    fn giving_from_the_rich_to_the_poor_lowers_the_gini(mut values in prop::collection::vec(1.0_f64..9.0, 2..20)) {
        values.sort_by(f64::total_cmp);
        let before = gini(&values).unwrap();
        let gap = values[values.len() - 1] - values[0];
        let last = values.len() - 1;
        values[0] += gap / 3.0;
        values[last] -= gap / 3.0;
        prop_assert!(gini(&values).unwrap() <= before + 1e-12);
    }

    #[test]
    fn diversity_is_the_mean_over_pairs(vectors in prop::collection::vec(-2.0_f32..2.0, 15)) {
        let top = [0, 3, 1, 4];
        let cosine = |a: u32, b: u32| {
            let row = |at: u32| vectors[at as usize * 3..][..3].iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
            let (a, b) = (row(a), row(b));
            dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        };
        let mut sum = 0.0;
        for (index, &a) in top.iter().enumerate() {
            sum += top[index + 1..].iter().map(|&b| 1.0 - cosine(a, b)).sum::<f64>();
        }
        prop_assert!((diversity(&top, &vectors, 3).unwrap() - sum / 6.0).abs() < 1e-9);
    }
}

#[test]
fn disparity_is_half_the_distance_between_what_is_shown_and_what_is_due() {
    let groups = [Some(0), Some(0), Some(1), None];
    let of = |due: &[f64], lists: &[&[u32]]| {
        let mut all = ListAccumulator::new(4, 2).with_due("fair", &groups, due).unwrap();
        lists.iter().for_each(|list| all.add_user(list).unwrap());
        all.finish().get("fair.disparity@2").copied()
    };
    // Each group stands first once and second once.
    assert!(of(&[0.5, 0.5], &[&[0, 2], &[2, 1]]).unwrap().abs() < 1e-12);
    assert_eq!(of(&[0.25, 0.75], &[&[0, 1]]), Some(0.75));
    // Second places are worth 1 / log2(3); the item of no group takes nothing.
    let second = 1.0 / 3f64.log2();
    let expected = (1.0 / (1.0 + second) - 0.5).abs();
    assert!((of(&[0.5, 0.5], &[&[0, 2], &[3]]).unwrap() - expected).abs() < 1e-12);
    assert_eq!(of(&[0.5, 0.5], &[&[3]]), None);
    assert!(ListAccumulator::new(3, 2).with_due("fair", &groups, &[1.0]).is_err());
    assert!(!crate::better_is_higher("fair.disparity@10"));
}
