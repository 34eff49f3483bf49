//! Which methods positive preferences steer.

#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use paretune_optim::{BalanceConfig, Gramian, Method, MethodKind, Preference, Setting, Signals};

/// Three gradients of different length, two of them in conflict.
fn gramian() -> Gramian {
    let rows = [[1.0, 0.2, 0.0], [-0.4, 1.5, 0.3], [0.3, -0.2, 0.8]];
    Gramian::from_dots(3, |k, l| rows[k].iter().zip(&rows[l]).map(|(a, b): (&f64, &f64)| a * b).sum()).unwrap()
}

/// The weights of five steps under these preferences.
fn weights(method: Method, preferences: &[f64; 3]) -> Vec<Vec<f64>> {
    let mut config = BalanceConfig::new(method);
    if method == Method::Constant {
        config = config.with("weights", vec![Setting::from(1.0), Setting::from(2.0), Setting::from(1.0)]);
    }
    let equal = ["a", "b", "c"].map(|name| Preference::new(name, 1.0));
    let mut built = config.build(&equal).unwrap();
    let gramian = gramian();
    (0..5)
        .map(|step| {
            built.prefer(preferences).unwrap();
            let losses = [0.9, 0.5 - 0.05 * f64::from(step), 1.4 - 0.1 * f64::from(step)];
            built.weights(&Signals { losses: &losses, observed: &[8, 8, 8], gramian: Some(&gramian) }).unwrap()
        })
        .collect()
}

#[test]
fn a_method_says_whether_preferences_steer_it() {
    let mut wrong = Vec::new();
    for &method in Method::ALL.iter().filter(|method| method.kind() != MethodKind::Rows) {
        let first = weights(method, &[0.7, 0.2, 0.1]);
        let steered = [[0.1, 0.2, 0.7], [0.2, 0.7, 0.1]].iter().any(|other| weights(method, other) != first);
        if method.reads_preferences() != steered {
            wrong.push(method);
        }
    }
    assert!(wrong.is_empty(), "it is the other way round for {wrong:?}");
}
