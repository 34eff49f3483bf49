//! Distillation against PyTorch (`fixtures/make_distilled.py`), and its masks.

use candle_core::{Device, Tensor, Var};
use serde::Deserialize;

use super::*;
use crate::{TaskTowers, TowerConfig};

#[derive(Deserialize)]
struct Fixture {
    logits: Vec<f32>,
    given: Vec<f32>,
    mean: f32,
    std: f32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: Kind,
    distill: Distill,
    labels: Vec<Option<f32>>,
    teacher: Vec<Option<f32>>,
    loss: f64,
    gradient: Vec<f64>,
    given_gradient: Option<Vec<f64>>,
}

fn column(values: &[Option<f32>]) -> Vec<f32> {
    values.iter().map(|value| value.unwrap_or(f32::NAN)).collect()
}

/// Towers that hand on what they read: the first column to what is given, the second to what is taught.
fn wires(objectives: &Objectives, scaler: Scaler) -> TaskTowers {
    let config = TowerConfig { input: 2, hidden: 0, dropout: 0.0, ..TowerConfig::default() };
    let mut towers = TaskTowers::new(objectives, &config, &Device::Cpu).unwrap();
    for (name, var) in towers.parameters() {
        let value = match (name.ends_with("bias"), name.contains("click")) {
            (true, _) => var.zeros_like().unwrap(),
            (false, true) => Tensor::new(&[[1.0f32, 0.0]], &Device::Cpu).unwrap(),
            (false, false) => Tensor::new(&[[0.0f32, 1.0]], &Device::Cpu).unwrap(),
        };
        var.set(&value).unwrap();
    }
    towers.set_scalers(vec![Scaler::default(), scaler]).unwrap();
    towers
}

fn set(kind: Kind, distill: Distill) -> Objectives {
    let taught = Objective::new("taught", kind, "y").distill(distill);
    let taught = if kind == Kind::Conditional { taught.given("click") } else { taught };
    Objectives::new(vec![Objective::new("click", Kind::Binary, "click"), taught]).unwrap()
}

#[test]
fn losses_with_a_teacher_are_those_of_pytorch() {
    let fixture: Fixture = serde_json::from_str(include_str!("../../fixtures/distilled.json")).unwrap();
    assert_eq!(fixture.cases.len(), 6);
    let rows = fixture.logits.len();
    for case in &fixture.cases {
        let objectives = set(case.kind, case.distill.clone());
        let flags = matches!(case.kind, Kind::Binary | Kind::Conditional);
        let log = case.kind == Kind::LogRegression;
        let scaler = if flags { Scaler::default() } else { Scaler { mean: fixture.mean, std: fixture.std, log } };
        let towers = wires(&objectives, scaler);
        let both: Vec<f32> = fixture.given.iter().zip(&fixture.logits).flat_map(|(a, z)| [*a, *z]).collect();
        let x = Var::from_vec(both, (rows, 2), &Device::Cpu).unwrap();
        let columns = [vec![f32::NAN; rows], column(&case.labels)];
        let labels = Labels::new(&objectives, towers.scalers(), &columns, &Device::Cpu).unwrap();
        let teachers = [column(&case.teacher)];
        let labels = labels.taught(&objectives, towers.scalers(), &teachers, &Device::Cpu).unwrap();
        let found = towers.forward(&x, None).unwrap().losses(&labels).unwrap()[1].clone();
        let what = format!("{:?} {:?}", case.kind, case.distill);
        let loss = f64::from(found.loss.to_scalar::<f32>().unwrap());
        assert!((loss - case.loss).abs() < 3e-6 * case.loss.max(1.0), "{what}: {loss}, not {}", case.loss);
        // Row 4 has neither, row 1 no teacher, rows 2 and 7 no label.
        assert_eq!(found.observed, 7, "{what}");
        let store = found.loss.backward().unwrap();
        let gradient = store.get(&x).unwrap().to_vec2::<f32>().unwrap();
        let zeros = vec![0.0; rows];
        for (row, found) in gradient.iter().enumerate() {
            let expected = [case.given_gradient.as_ref().unwrap_or(&zeros)[row], case.gradient[row]];
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 2e-6, "{what}, row {row}: {found}, not {expected}");
            }
        }
        assert_eq!(gradient[4], [0.0, 0.0], "{what}");
    }
}

#[test]
fn a_student_of_its_teacher_pays_nothing() {
    for (temperature, p) in [(1.0, 0.3f32), (2.0, 0.9), (5.0, 0.0), (3.0, 1.0)] {
        let (q, entropy) = soften(f64::from(p), temperature);
        let z = Tensor::new(&[((p / (1.0 - p)).ln()).clamp(-1e4, 1e4)], &Device::Cpu).unwrap();
        let one = |value: f32| Tensor::new(&[value], &Device::Cpu).unwrap();
        let loss = crate::losses::softened(&z, &one(q), &one(entropy), temperature).unwrap();
        let loss = loss.to_vec1::<f32>().unwrap()[0];
        assert!(loss.abs() < 1e-5, "{temperature} {p}: {loss}");
    }
}

#[test]
fn labels_and_teachers_are_masked_each_by_itself() {
    let objectives = set(Kind::Binary, Distill { share: 0.25, ..Distill::new("teacher") });
    let towers = wires(&objectives, Scaler::default());
    let x = Var::from_vec(vec![0.0f32, 1.0, 0.0, -2.0, 0.0, 0.5], (3, 2), &Device::Cpu).unwrap();
    let no = f32::NAN;
    let measured = |own: [f32; 3], said: [f32; 3]| {
        let columns = [vec![no; 3], own.to_vec()];
        let labels = Labels::new(&objectives, towers.scalers(), &columns, &Device::Cpu).unwrap();
        let labels = labels.taught(&objectives, towers.scalers(), &[said.to_vec()], &Device::Cpu).unwrap();
        let found = towers.forward(&x, None).unwrap().losses(&labels).unwrap()[1].clone();
        let store = found.loss.backward().unwrap();
        let gradient = store.get(&x).map(|g| g.to_vec2::<f32>().unwrap().iter().map(|row| row[1]).collect::<Vec<_>>());
        (found.loss.to_scalar::<f32>().unwrap(), found.observed, gradient)
    };
    let (alone, taught) = (measured([1.0, no, no], [no; 3]), measured([no; 3], [no, 0.5, no]));
    // Without a teacher in the batch the labels count for their share, and the other way round.
    let bce = (-1.0f32).exp().ln_1p();
    assert!((alone.0 - 0.75 * bce).abs() < 1e-6 && alone.1 == 1);
    let slopes = alone.2.unwrap();
    assert!(slopes[0] != 0.0 && slopes[1..] == [0.0, 0.0]);
    let slopes = taught.2.unwrap();
    assert!(taught.1 == 1 && slopes[1] != 0.0 && (slopes[0], slopes[2]) == (0.0, 0.0));
    let both = measured([1.0, no, no], [no, 0.5, no]);
    assert!((both.0 - alone.0 - taught.0).abs() < 1e-6 && both.1 == 2);
    let nothing = measured([no; 3], [no; 3]);
    assert_eq!((nothing.0.to_bits(), nothing.1, nothing.2), (0, 0, None));
    // Nobody asked the teachers: that is a mistake, not silence.
    let labels = Labels::new(&objectives, towers.scalers(), &[vec![no; 3], vec![1.0; 3]], &Device::Cpu).unwrap();
    let error = towers.forward(&x, None).unwrap().losses(&labels).unwrap_err().to_string();
    assert!(error.contains("\"taught\" needs what its teacher says"), "{error}");
}

#[test]
fn what_no_teacher_can_say_is_named() {
    let refused = |kind, distill: Distill| {
        let objective = Objective::new("it", kind, "y").distill(distill);
        Objectives::new(vec![objective]).unwrap_err().to_string()
    };
    let hot = |temperature| Distill { temperature: Some(temperature), ..Distill::new("teacher") };
    assert!(refused(Kind::Binary, hot(0.0)).contains("distill.temperature = 0 must be above 0"));
    assert!(refused(Kind::Regression, hot(2.0)).contains("for flags"));
    assert!(refused(Kind::Ranking, Distill::new("teacher")).contains("ranking"));
    assert!(refused(Kind::Binary, Distill { share: 1.5, ..Distill::new("t") }).contains("distill.share = 1.5"));
    let ordinal = Objective::new("it", Kind::Regression, "y").loss(Loss::Ordinal { levels: vec![1.0, 2.0] });
    let ordinal = Objectives::new(vec![ordinal.distill(Distill::new("t"))]).unwrap_err().to_string();
    assert!(ordinal.contains("ordinal"), "{ordinal}");

    let objectives = set(Kind::Binary, Distill::new("teacher"));
    let missing = objectives.check_columns(&["click", "y"]).unwrap_err().to_string();
    assert!(missing.contains("\"teacher\"") && missing.contains("click, y"), "{missing}");
    let said = |columns: &[Vec<f32>]| {
        let scalers = [Scaler::default(); 2];
        let labels = Labels::new(&objectives, &scalers, &[vec![1.0; 2], vec![1.0; 2]], &Device::Cpu).unwrap();
        labels.taught(&objectives, &scalers, columns, &Device::Cpu).unwrap_err().to_string()
    };
    assert!(said(&[vec![0.5, 1.2]]).contains("label 1.2 in row 1 of column \"teacher\" is no probability"));
    assert!(said(&[vec![0.5]]).contains("got 1 values in column \"teacher\", expected 2"));
    assert!(said(&[]).contains("got 0 columns of teachers, expected 1"));
    let text =
        r#"{"name": "a", "kind": "binary", "column": "a", "distill": {"column": "t", "temperature": 3, "share": 0.2}}"#;
    let objective: Objective = serde_json::from_str(text).unwrap();
    assert_eq!(objective.distill, Some(Distill { column: "t".into(), share: 0.2, ..hot(3.0) }));
}
