//! Terms by hand, gradients by central differences, and nothing where nothing is asked for.

use candle_core::{Device, Var};

use super::{Again, Semi};
use crate::{Kind, Labels, Objective, ObjectiveError, Objectives, Outputs, Scaler, TaskLoss, TaskTowers, TowerConfig};

const NO: f32 = f32::NAN;

fn objectives(semi: Option<Semi>) -> Objectives {
    let with = |objective: Objective| Objective { semi, ..objective };
    Objectives::new(vec![
        with(Objective::new("click", Kind::Binary, "click")),
        with(Objective::new("buy", Kind::Conditional, "buy").given("click")),
        with(Objective::new("stars", Kind::Regression, "stars")),
    ])
    .unwrap()
}

/// Labels in the first two of six rows; of "buy" in a third row too, whose click did not happen.
fn columns() -> Vec<Vec<f32>> {
    vec![vec![1.0, 0.0, NO, NO, NO, 0.0], vec![1.0, NO, NO, NO, NO, NO], vec![0.5, -1.0, NO, NO, NO, NO]]
}

fn outputs(objectives: &Objectives, logits: [&Var; 3]) -> Outputs {
    let scalers = vec![Scaler::default(); 3];
    let logits = logits.map(|logits| logits.as_tensor().clone()).to_vec();
    Outputs::new(objectives.clone().into(), scalers, logits, vec![None; 3], vec![None; 3], vec![None; 3])
}

fn vars(values: [[f32; 6]; 3]) -> [Var; 3] {
    values.map(|values| Var::from_slice(&values, 6, &Device::Cpu).unwrap())
}

const STUDENT: [[f32; 6]; 3] =
    [[0.3, -0.7, 1.4, -2.0, 0.2, -3.1], [-0.4, 0.9, 2.2, 0.1, -1.2, 0.6], [0.1, -0.8, 0.7, 1.9, -0.3, 0.4]];
const OTHER: [[f32; 6]; 3] =
    [[0.1, -0.5, 3.4, -2.9, 0.4, -2.6], [-0.2, 1.1, 4.0, 0.3, -1.0, 0.2], [0.2, -0.6, 1.0, 1.1, -0.9, 0.5]];

/// The losses with what is added, of these logits.
fn losses(semi: Option<Semi>, epoch: usize, student: &[Var; 3], other: &[Var; 3]) -> (Vec<TaskLoss>, Vec<Again>) {
    let set = objectives(semi);
    let labels = Labels::new(&set, &[Scaler::default(); 3], &columns(), &Device::Cpu).unwrap();
    let own = outputs(&set, student.each_ref());
    let mut losses = own.losses(&labels).unwrap();
    let mut asked = Vec::new();
    let again = |which| {
        asked.push(which);
        Ok::<_, ObjectiveError>(outputs(&set, other.each_ref()))
    };
    own.add_unlabelled(&labels, epoch, again, &mut losses).unwrap();
    (losses, asked)
}

fn values(losses: &[TaskLoss]) -> Vec<f64> {
    losses.iter().map(|loss| f64::from(loss.loss.to_scalar::<f32>().unwrap())).collect()
}

fn sigmoid(z: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(z)).exp())
}

/// What was added, objective by objective.
fn added(semi: Semi, epoch: usize) -> Vec<f64> {
    let (student, other) = (vars(STUDENT), vars(OTHER));
    let with = values(&losses(Some(semi), epoch, &student, &other).0);
    let without = values(&losses(None, epoch, &student, &other).0);
    with.iter().zip(&without).map(|(with, without)| with - without).collect()
}

#[track_caller]
fn near(found: &[f64], expected: [f64; 3]) {
    for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-6, "objective {k}: {found}, not {expected}");
    }
}

#[test]
fn pseudo_labels_are_the_sure_answers_of_the_plain_pass() {
    let (threshold, weight) = (0.9, 0.5);
    let found = added(Semi::PseudoLabel { threshold, weight, from_epoch: 1 }, 1);
    let cross = |p: f64, yes: bool| if yes { -p.ln() } else { -(1.0 - p).ln() };
    // Clicks are unlabelled in rows 2, 3, 4: the plain pass is sure of 2 (.968, yes) and 3 (.052, no).
    let click = (cross(sigmoid(STUDENT[0][2]), true) + cross(sigmoid(STUDENT[0][3]), false)) / 3.0;
    // Rows 1 and 5 did not click: they did not buy. Of 2, 3, 4 the plain pass is sure of 2 (.950) and 3 (.030).
    let both = |row: usize| sigmoid(STUDENT[0][row]) * sigmoid(STUDENT[1][row]);
    let buy = (cross(both(2), true) + cross(both(3), false)) / 3.0;
    let stars = (2..6).map(|row| f64::from(STUDENT[2][row] - OTHER[2][row]).powi(2)).sum::<f64>() / 4.0;
    near(&found, [click, buy, stars].map(|term| weight * term));
    // Of nothing as sure as that.
    let none = added(Semi::PseudoLabel { threshold: 0.99, weight, from_epoch: 0 }, 0);
    near(&none, [0.0, 0.0, weight * stars]);
}

#[test]
fn passes_must_agree_where_there_is_no_label() {
    let found = added(Semi::Consistency { weight: 3.0, from_epoch: 0 }, 0);
    let mean = |rows: std::ops::Range<usize>, answer: &dyn Fn(&[[f32; 6]; 3], usize) -> f64| {
        let count = rows.len() as f64;
        rows.map(|row| (answer(&STUDENT, row) - answer(&OTHER, row)).powi(2)).sum::<f64>() / count
    };
    let click = mean(2..5, &|logits, row| sigmoid(logits[0][row]));
    let buy = mean(2..5, &|logits, row| sigmoid(logits[0][row]) * sigmoid(logits[1][row]));
    let stars = mean(2..6, &|logits, row| f64::from(logits[2][row]));
    near(&found, [click, buy, stars].map(|term| 3.0 * term));
}

#[test]
fn gradients_are_those_of_central_differences() {
    let methods = [
        Semi::PseudoLabel { threshold: 0.9, weight: 0.7, from_epoch: 0 },
        Semi::Consistency { weight: 2.0, from_epoch: 0 },
    ];
    for semi in methods {
        let total = |student: &[Var; 3], other: &[Var; 3]| {
            let (losses, _) = losses(Some(semi), 0, student, other);
            let sum = losses.iter().map(|loss| loss.loss.clone()).reduce(|a, b| (a + b).unwrap()).unwrap();
            (f64::from(sum.to_scalar::<f32>().unwrap()), sum)
        };
        let (student, other) = (vars(STUDENT), vars(OTHER));
        let gradients = total(&student, &other).1.backward().unwrap();
        for (of, base) in [(0, STUDENT), (1, OTHER)] {
            for k in 0..3 {
                let found = gradients.get(if of == 0 { &student[k] } else { &other[k] });
                if of == 1 && matches!(semi, Semi::PseudoLabel { .. }) {
                    assert!(found.is_none(), "what is held constant has no gradient");
                    continue;
                }
                let found = found.unwrap().to_vec1::<f32>().unwrap();
                for row in 0..6 {
                    let at = |step: f32| {
                        let mut moved = base;
                        moved[k][row] += step;
                        let moved = vars(moved);
                        if of == 0 { total(&moved, &other).0 } else { total(&student, &moved).0 }
                    };
                    let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                    assert!(
                        (f64::from(found[row]) - slope).abs() < 2e-4,
                        "{semi:?} {of} {k} {row}: {} {slope}",
                        found[row]
                    );
                }
            }
        }
    }
}

#[test]
fn nothing_is_added_at_weight_zero_too_early_or_where_all_is_known() {
    let (student, other) = (vars(STUDENT), vars(OTHER));
    let (plain, asked) = losses(None, 0, &student, &other);
    assert!(asked.is_empty());
    let bits =
        |losses: &[TaskLoss]| losses.iter().map(|l| l.loss.to_scalar::<f32>().unwrap().to_bits()).collect::<Vec<_>>();
    for (semi, epoch) in [
        (Semi::PseudoLabel { threshold: 0.9, weight: 0.0, from_epoch: 0 }, 3),
        (Semi::PseudoLabel { threshold: 0.9, weight: 1.0, from_epoch: 2 }, 1),
        (Semi::Consistency { weight: 0.0, from_epoch: 0 }, 0),
        (Semi::Consistency { weight: 1.0, from_epoch: 1 }, 0),
    ] {
        let (found, asked) = losses(Some(semi), epoch, &student, &other);
        assert!(asked.is_empty() && bits(&found) == bits(&plain), "{semi:?} in epoch {epoch}");
    }
    // One pass for all objectives.
    let (_, asked) = losses(Some(Semi::Consistency { weight: 1.0, from_epoch: 0 }), 0, &student, &other);
    assert_eq!(asked, [Again::Other]);

    // All labels known, or none.
    let set = objectives(Some(Semi::Consistency { weight: 1.0, from_epoch: 0 }));
    let full = vec![vec![1.0, 0.0, 1.0, 0.0, 1.0, 1.0], vec![1.0; 6], vec![NO; 6]];
    let labels = Labels::new(&set, &[Scaler::default(); 3], &full, &Device::Cpu).unwrap();
    let own = outputs(&set, student.each_ref());
    let (mut found, before) = (own.losses(&labels).unwrap(), own.losses(&labels).unwrap());
    let again = |_| -> Result<Outputs, ObjectiveError> { panic!("no other pass is needed") };
    own.add_unlabelled(&labels, 0, again, &mut found).unwrap();
    assert_eq!(bits(&found), bits(&before));
    assert_eq!(found[2].observed, 0, "without a label the objective rests");
}

#[test]
fn settings_out_of_range_are_named() {
    let refused = |semi: Semi, kind: Kind| {
        Objectives::new(vec![Objective::new("x", kind, "x").semi(semi)]).unwrap_err().to_string()
    };
    let pseudo = |threshold, weight| Semi::PseudoLabel { threshold, weight, from_epoch: 0 };
    for (semi, kind, said) in [
        (pseudo(0.4, 1.0), Kind::Binary, "threshold = 0.4"),
        (pseudo(1.0, 1.0), Kind::Binary, "threshold = 1"),
        (pseudo(0.9, -1.0), Kind::Regression, "weight = -1"),
        (Semi::Consistency { weight: f64::NAN, from_epoch: 0 }, Kind::Binary, "weight = NaN"),
        (pseudo(0.9, 1.0), Kind::Ranking, "ranking"),
    ] {
        let message = refused(semi, kind);
        assert!(message.contains(said) && message.contains("`x`") | message.contains("\"x\""), "{message}");
    }
    let unknown =
        serde_json::from_str::<Semi>(r#"{"method": "consistency", "threshold": 0.9}"#).unwrap_err().to_string();
    assert!(unknown.contains("unknown field `threshold`"), "{unknown}");
    // Passes that drop nothing always agree.
    let set = objectives(Some(Semi::Consistency { weight: 1.0, from_epoch: 0 }));
    for config in
        [TowerConfig { dropout: 0.0, ..TowerConfig::default() }, TowerConfig { hidden: 0, ..TowerConfig::default() }]
    {
        let message = TaskTowers::new(&set, &config, &Device::Cpu).unwrap_err().to_string();
        assert!(message.contains("dropout") && message.contains("consistency"), "{message}");
    }
}
