use proptest::prelude::*;

use super::*;

fn points(dimensions: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
    // A coarse grid, so that coordinates tie.
    let point = prop::collection::vec((0_u8..9).prop_map(f64::from), dimensions);
    prop::collection::vec(point, 1..9)
}

fn any_points() -> impl Strategy<Value = Vec<Vec<f64>>> {
    (1_usize..6).prop_flat_map(points)
}

fn measure(points: &[Vec<f64>]) -> f64 {
    let dimensions = points[0].len();
    hypervolume(points, &vec![0.0; dimensions], &vec![true; dimensions]).unwrap()
}

/// Counts the unit cells of the grid that some point covers.
fn cells(points: &[Vec<f64>]) -> f64 {
    let dimensions = points[0].len();
    let all = 8_usize.pow(dimensions as u32);
    let covered = |cell: usize| {
        let corner = |axis: usize| (cell / 8_usize.pow(axis as u32) % 8 + 1) as f64;
        points.iter().any(|point| (0..dimensions).all(|axis| point[axis] >= corner(axis)))
    };
    (0..all).filter(|&cell| covered(cell)).count() as f64
}

proptest! {
    #[test]
    fn hypervolume_counts_cells(points in (1_usize..5).prop_flat_map(points)) {
        prop_assert_eq!(measure(&points), cells(&points));
    }

    #[test]
    fn a_further_point_never_lowers_it(points in any_points(), at in 0_usize..8) {
        let mut fewer = points.clone();
        if points.len() > 1 {
            fewer.remove(at % points.len());
        }
        prop_assert!(measure(&points) >= measure(&fewer) - 1e-9);
    }

    #[test]
    fn a_dominated_point_adds_nothing(mut points in any_points(), loss in 0_u8..3) {
        let before = measure(&points);
        let worse = points[0].iter().map(|x| (x - f64::from(loss)).max(0.0)).collect();
        points.push(worse);
        prop_assert!((measure(&points) - before).abs() < 1e-9);
    }

    #[test]
    fn the_front_alone_has_the_whole_volume(points in any_points()) {
        let on_front = non_dominated(&points, &vec![true; points[0].len()]).unwrap();
        prop_assert!(on_front.iter().any(|&on| on));
        let front: Vec<Vec<f64>> =
            points.iter().zip(&on_front).filter(|(_, on)| **on).map(|(point, _)| point.clone()).collect();
        prop_assert!((measure(&points) - measure(&front)).abs() < 1e-9);
    }
}

/// `Π (1 − x_i)` integrated over a linear front is known: the volume under a staircase of `n` steps is `(n + 1) / 2n`.
#[test]
fn a_staircase_has_its_closed_form() {
    let n = 50;
    let steps: Vec<Vec<f64>> =
        (1..=n).map(|step| vec![f64::from(step) / 50.0, f64::from(n + 1 - step) / 50.0]).collect();
    let expected = 51.0 / 100.0;
    assert!((measure(&steps) - expected).abs() < 1e-12);
}

/// Points on the axes' far ends: inclusion and exclusion of `m` boxes with one long side each.
#[test]
fn boxes_along_each_axis_have_their_closed_form() {
    for dimensions in 2..8_usize {
        let arm =
            |axis: usize| (0..dimensions).map(|other| if other == axis { 4.0 } else { 1.0 }).collect::<Vec<f64>>();
        let arms: Vec<Vec<f64>> = (0..dimensions).map(arm).collect();
        let expected = 1.0 + 3.0 * dimensions as f64;
        assert!((measure(&arms) - expected).abs() < 1e-9, "{dimensions} dimensions");
    }
}

#[test]
fn directions_and_outsiders() {
    let points = [vec![0.8, 0.3], vec![0.9, 2.0], vec![0.4, 0.1], vec![f64::INFINITY, 0.1]];
    // The second exceeds the error of the reference, the third has less than its AUC, the last is not a number to trust.
    let volume = hypervolume(&points, &[0.5, 1.0], &[true, false]).unwrap();
    assert!((volume - 0.3 * 0.7).abs() < 1e-12);
    assert_eq!(hypervolume(&[], &[0.0], &[true]).unwrap(), 0.0);
    assert_eq!(hypervolume(&[vec![]], &[], &[]).unwrap(), 0.0);
}

#[test]
fn copies_share_the_front_and_nan_never_reaches_it() {
    let points = [vec![1.0, 2.0], vec![1.0, 2.0], vec![f64::NAN, 9.0], vec![1.0, 1.0]];
    assert_eq!(non_dominated(&points, &[true, true]).unwrap(), [true, true, false, false]);
    assert_eq!(non_dominated(&points, &[true, false]).unwrap(), [false, false, false, true]);
}

#[test]
fn the_reference_lies_beyond_the_worst() {
    let points = [vec![1.0, 5.0], vec![3.0, 7.0], vec![f64::NAN, 6.0]];
    let reference = reference_point(&points, &[true, false], 0.1).unwrap();
    assert!((reference[0] - 0.8).abs() < 1e-12 && (reference[1] - 7.2).abs() < 1e-12);
    assert_eq!(reference_point(&[], &[true], 0.1).unwrap(), [0.0]);
}

#[test]
fn wrong_shapes_are_errors() {
    let points = [vec![1.0, 2.0], vec![1.0]];
    let error = non_dominated(&points, &[true, true]).unwrap_err();
    assert!(matches!(error, EvalError::Dimension { index: 1, found: 1, expected: 2 }), "{error}");
    assert!(hypervolume(&points, &[0.0, 0.0], &[true, true]).is_err());
    let error = hypervolume(&points[..1], &[0.0], &[true, true]).unwrap_err();
    assert!(error.to_string().contains("give one per objective"), "{error}");
}
