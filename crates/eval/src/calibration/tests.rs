//! Against scikit-learn (`fixtures/make_calibration.py`), and what must hold for any rows.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    p: Vec<f32>,
    y: Vec<f32>,
    asked: Vec<f32>,
    platt: Vec<f32>,
    slope: f64,
    offset: f64,
    isotonic: Vec<f32>,
    ece: f64,
}

#[test]
fn calibrators_are_those_of_scikit_learn() {
    let fixture: Fixture = serde_json::from_str(include_str!("../../fixtures/calibration.json")).unwrap();
    let Calibrator::Platt { slope, offset } = Calibrator::platt(&fixture.p, &fixture.y).unwrap() else {
        panic!("platt")
    };
    assert!((slope - fixture.slope).abs() < 1e-4 && (offset - fixture.offset).abs() < 1e-4, "{slope} {offset}");
    for (calibrator, expected) in [
        (Calibrator::platt(&fixture.p, &fixture.y).unwrap(), &fixture.platt),
        (Calibrator::isotonic(&fixture.p, &fixture.y).unwrap(), &fixture.isotonic),
    ] {
        for (asked, expected) in fixture.asked.iter().zip(expected) {
            let found = calibrator.apply(*asked);
            assert!((found - expected).abs() < 1e-5, "{}: {asked} becomes {found}, not {expected}", calibrator.name());
        }
        let text = serde_json::to_string(&calibrator).unwrap();
        assert_eq!(serde_json::from_str::<Calibrator>(&text).unwrap(), calibrator);
    }
    let ece = expected_calibration_error(&fixture.p, &fixture.y, 10).unwrap();
    assert!((ece - fixture.ece).abs() < 1e-6, "{ece}");
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    assert!(Calibrator::platt(&[0.5], &[]).unwrap_err().to_string().contains("labels has 0 values where 1"));
    assert!(Calibrator::isotonic(&[f32::NAN], &[1.0]).is_err());
    assert_eq!(expected_calibration_error(&[], &[], 10), None);
    assert_eq!(expected_calibration_error(&[0.5], &[1.0], 0), None);
    // One class, one probability: finite all the same.
    for labels in [[1.0; 20], [0.0; 20]] {
        let calibrator = Calibrator::platt(&[0.4; 20], &labels).unwrap();
        let found = calibrator.apply(0.4);
        assert!((found - (labels[0] * 20.0 + 1.0) / 22.0).abs() < 0.06, "{found}");
    }
}

#[test]
fn slices_with_few_rows_are_calibrated_with_all() {
    let p: Vec<f32> = (0..300).map(|i| 0.1 + 0.8 * (i % 10) as f32 / 9.0).collect();
    let y: Vec<f32> = (0..300).map(|i| f32::from(u8::from(if i < 150 { i % 10 > 7 } else { i % 10 > 2 }))).collect();
    let name = |i: usize| {
        if i < 150 {
            "north"
        } else if i < 298 {
            "south"
        } else {
            "east"
        }
    };
    let slices: Vec<&str> = (0..300).map(name).collect();
    let sliced = SlicedCalibrator::fit(&p, &y, &slices, 30, Calibrator::isotonic).unwrap();
    assert_eq!(sliced.slices.keys().collect::<Vec<_>>(), ["north", "south"]);
    assert!(sliced.apply(0.5, "south") > 0.9 && sliced.apply(0.5, "north") < 0.1);
    assert_eq!(sliced.apply(0.5, "east"), sliced.all.apply(0.5));
    assert!(SlicedCalibrator::fit(&p, &y, &slices[1..], 30, Calibrator::platt).is_err());
}

proptest! {
    /// Rows that were fitted are calibrated bin by bin, and the order of predictions stays.
    #[test]
    fn isotonic_regression_keeps_order_and_mean(rows in proptest::collection::vec((0u8..=20, any::<bool>()), 1..200)) {
        let p: Vec<f32> = rows.iter().map(|row| f32::from(row.0) / 20.0).collect();
        let y: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(row.1))).collect();
        let calibrator = Calibrator::isotonic(&p, &y).unwrap();
        let fitted: Vec<f32> = p.iter().map(|p| calibrator.apply(*p)).collect();
        let mean = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
        prop_assert!((mean(&fitted) - mean(&y)).abs() < 1e-5);
        let mut asked = 0.0;
        for step in 1..=100 {
            let next = calibrator.apply(step as f32 / 100.0);
            prop_assert!(next >= asked && next <= 1.0);
            asked = next;
        }
    }

    #[test]
    fn platt_scaling_keeps_the_mean_nearly_and_is_finite(rows in proptest::collection::vec((0.0f32..=1.0, any::<bool>()), 30..200)) {
        let (p, y): (Vec<f32>, Vec<f32>) = rows.iter().map(|row| (row.0, f32::from(u8::from(row.1)))).unzip();
        let calibrator = Calibrator::platt(&p, &y).unwrap();
        let fitted: Vec<f32> = p.iter().map(|p| calibrator.apply(*p)).collect();
        prop_assert!(fitted.iter().all(|p| (0.0..=1.0).contains(p)));
        let positives = y.iter().filter(|y| **y > 0.5).count() as f64;
        let n = y.len() as f64;
        // The optimum's mean is that of the smoothed targets.
        let targets = (positives * (positives + 1.0) / (positives + 2.0) + (n - positives) / (n - positives + 2.0)) / n;
        let mean = fitted.iter().map(|p| f64::from(*p)).sum::<f64>() / n;
        prop_assert!((mean - targets).abs() < 1e-4, "{} and {}", mean, targets);
    }
}
