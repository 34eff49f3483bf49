use super::*;

/// By hand: `p = (.5, .25, .25, .1)`, rows 0, 1 and 3 observed, weights 2, 4, 10.
#[test]
fn diagnostics_have_their_closed_forms() {
    let (p, observed) = ([0.5, 0.25, 0.25, 0.1], [true, true, false, true]);
    let values = [1.0, 2.0, 3.0, 6.0];
    let of =
        |largest| PropensityReport::new(&p, &observed, largest, [("x", &values[..]), ("same", &[5.0; 4])]).unwrap();
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-7, "{found}, not {expected}");
    let report = of(f64::INFINITY);
    assert_eq!((report.rows, report.observed, report.lowest, report.highest), (4, 3, 0.1, 0.5));
    near(report.effective, 256.0 / 120.0);
    near(report.clipped, 0.0);
    // Mean 3, deviation √(14/4).
    let spread = 3.5f64.sqrt();
    near(report.balance[0].before, 0.0);
    near(report.balance[0].after, ((2.0 + 8.0 + 60.0) / 16.0 - 3.0) / spread);
    assert_eq!((report.balance[1].before, report.balance[1].after), (0.0, 0.0));
    // Of three pairs one is in order, one a tie, one not.
    near(report.auc.unwrap(), 0.5);
    // Bins at .1, .25 (twice) and .5: gaps .9, .25 and .5.
    near(report.calibration_error.unwrap(), (0.9 + 2.0 * 0.25 + 0.5) / 4.0);
    let cut = of(4.0);
    near(cut.clipped, 1.0 / 3.0);
    near(cut.effective, 100.0 / 36.0);
    near(cut.balance[0].after, ((2.0 + 8.0 + 24.0) / 10.0 - 3.0) / spread);
}

#[test]
fn what_is_no_propensity_is_refused() {
    let none: [(&str, &[f64]); 0] = [];
    assert!(PropensityReport::new(&[0.5], &[true, false], 9.0, none).is_err());
    assert!(PropensityReport::new(&[0.5, 0.0], &[true, false], 9.0, none).is_err());
    assert!(PropensityReport::new(&[0.5, f64::NAN], &[true, false], 9.0, none).is_err());
    assert!(PropensityReport::new(&[0.5], &[false], 9.0, none).is_err());
    assert!(PropensityReport::new(&[0.5], &[true], 9.0, [("x", &[1.0, 2.0][..])]).is_err());
}
