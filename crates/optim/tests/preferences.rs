//! Which methods positive preferences steer.

#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use paretune_optim::{BalanceConfig, Gramian, Method, MethodKind, Preference, Setting, Signals};

/// Three gradients of different length, two of them in conflict.
fn gramian() -> Gramian {
    let rows = [[1.0, 0.2, 0.0], [-0.4, 1.5, 0.3], [0.3, -0.2, 0.8]];
    Gramian::from_dots(3, |k, l| rows[k].iter().zip(&rows[l]).map(|(a, b): (&f64, &f64)| a * b).sum()).unwrap()
}

/// The weights of the fourth step under these preferences, after three under equal ones.
fn weights(method: Method, preferences: &[f64; 3]) -> Vec<f64> {
    let mut config = BalanceConfig::new(method);
    if method == Method::Constant {
        config = config.with("weights", vec![Setting::from(1.0), Setting::from(2.0), Setting::from(1.0)]);
    }
    let equal = ["a", "b", "c"].map(|name| Preference::new(name, 1.0));
    let mut built = config.build(&equal).unwrap();
    let gramian = gramian();
    let mut step = |number: u8| {
        let losses = [0.9, 0.5 - 0.05 * f64::from(number), 1.4 - 0.1 * f64::from(number)];
        let signals = Signals { losses: &losses, observed: &[8, 8, 8], gramian: Some(&gramian) };
        if number == 3 {
            built.prefer(preferences).unwrap();
        }
        built.weights(&signals).unwrap()
    };
    (0..3).for_each(|number| drop(step(number)));
    step(3)
}

/// A model that is given a preference at each step learns what it means only if the step itself follows it.
#[test]
fn a_method_says_whether_preferences_steer_its_next_step() {
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
