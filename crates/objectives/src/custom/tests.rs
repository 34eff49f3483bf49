use candle_core::{DType, Device, Var};

use super::*;
use crate::{Labels, Objective, Scaler, TaskTowers, TowerConfig};

/// Counts, with `e^z` as their mean.
#[derive(Debug)]
struct Poisson;

impl CustomObjective for Poisson {
    fn name(&self) -> &str {
        "poisson"
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
        logits.exp()? - (labels * logits)?
    }

    fn predict(&self, logit: f32) -> f32 {
        logit.exp()
    }

    fn logit(&self, mean: f32) -> f32 {
        mean.max(1e-4).ln()
    }

    fn refuses(&self, label: f32) -> Option<&'static str> {
        (label < 0.0 || label.fract() != 0.0).then_some("is no count")
    }

    fn utility(&self, prediction: f32) -> f64 {
        f64::from(prediction).max(1e-9).ln()
    }
}

/// The loss of a flag, by way of a trait.
#[derive(Debug)]
struct Flag;

impl CustomObjective for Flag {
    fn name(&self) -> &str {
        "flag"
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
        crate::losses::binary(logits, labels)
    }

    fn predict(&self, logit: f32) -> f32 {
        (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
    }

    fn logit(&self, mean: f32) -> f32 {
        (mean / (1.0 - mean)).ln()
    }

    fn negative(&self) -> f32 {
        0.0
    }
}

/// Answers with one number for all rows.
#[derive(Debug)]
struct Whole;

impl CustomObjective for Whole {
    fn name(&self) -> &str {
        "whole"
    }

    fn losses(&self, logits: &Tensor, _labels: &Tensor) -> candle_core::Result<Tensor> {
        logits.sum_all()
    }

    fn predict(&self, _logit: f32) -> f32 {
        f32::INFINITY
    }

    fn logit(&self, mean: f32) -> f32 {
        mean
    }
}

fn set(custom: Option<Arc<dyn CustomObjective>>) -> Objectives {
    let set = Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click"),
        Objective::new("pages", Kind::Custom, "pages"),
    ]);
    match custom {
        Some(custom) => set.unwrap().with_custom("pages", custom).unwrap(),
        None => set.unwrap(),
    }
}

fn config() -> TowerConfig {
    TowerConfig { input: 3, hidden: 4, dropout: 0.0, seed: 4, ..TowerConfig::default() }
}

fn shared() -> Var {
    let values: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
    Var::from_vec(values, (4, 3), &Device::Cpu).unwrap()
}

const NO: f32 = f32::NAN;

#[test]
fn a_count_has_its_closed_form() {
    let objectives = set(Some(Arc::new(Poisson)));
    let columns = vec![vec![1.0, 0.0, NO, 1.0], vec![3.0, NO, 0.0, 2.0]];
    let mut towers = TaskTowers::new(&objectives, &config(), &Device::Cpu).unwrap();
    towers.fit(&columns).unwrap();
    assert_eq!(towers.scalers()[1], Scaler::default());
    assert_eq!(objectives.base_rates(towers.scalers(), &columns).unwrap()[1], 5.0 / 3.0);
    let zero = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
    let average = towers.forward(&zero, None).unwrap().predictions().unwrap()[1][0];
    assert!((average - 5.0 / 3.0).abs() < 1e-5, "{average}");

    let z = shared();
    let outputs = towers.forward(&z, None).unwrap();
    let labels = Labels::new(&objectives, towers.scalers(), &columns, &Device::Cpu).unwrap();
    let found = outputs.losses(&labels).unwrap()[1].clone();
    let logits = outputs.logits()[1].to_vec1::<f32>().unwrap();
    let each = [(0, 3.0f32), (2, 0.0), (3, 2.0)].map(|(row, y)| logits[row].exp() - y * logits[row]);
    assert_eq!(found.observed, 3);
    assert!((found.loss.to_scalar::<f32>().unwrap() - each.iter().sum::<f32>() / 3.0).abs() < 1e-6);
    // ∂/∂z = e^z - y, at the bias of the output: their mean.
    let store = found.loss.backward().unwrap();
    let bias = towers.parameters().into_iter().find(|(name, _)| name == "towers.pages.1.bias").unwrap().1;
    let slope = store.get(&bias).unwrap().to_vec1::<f32>().unwrap()[0];
    let expected = [(0, 3.0f32), (2, 0.0), (3, 2.0)].map(|(row, y)| logits[row].exp() - y).iter().sum::<f32>() / 3.0;
    assert!((slope - expected).abs() < 1e-6, "{slope}, not {expected}");
    // What was not observed has no share in it.
    let rows = store.get(&z).unwrap().to_vec2::<f32>().unwrap();
    assert!(rows[1].iter().all(|slope| *slope == 0.0) && rows[0].iter().any(|slope| *slope != 0.0));
    assert_eq!(objectives.utility(1, 1.0), 0.0);
    assert!(objectives.negative_label(1).is_nan() && objectives.negative_label(0) == 0.0);
}

#[test]
fn a_loss_of_ones_own_is_as_good_as_a_built_in_one() {
    let own = set(Some(Arc::new(Flag)));
    let built_in = Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click"),
        Objective::new("pages", Kind::Binary, "pages"),
    ]);
    let columns = vec![vec![1.0, 0.0, NO, 1.0], vec![1.0, NO, 0.0, 1.0]];
    let measured = |objectives: &Objectives| {
        let mut towers = TaskTowers::new(objectives, &config(), &Device::Cpu).unwrap();
        towers.fit(&columns).unwrap();
        let labels = Labels::new(objectives, towers.scalers(), &columns, &Device::Cpu).unwrap();
        let z = shared();
        let outputs = towers.forward(&z, None).unwrap();
        let loss = outputs.losses(&labels).unwrap()[1].loss.clone();
        let store = loss.backward().unwrap();
        let bits = |tensor: &Tensor| -> Vec<u32> {
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        let gradients: Vec<_> = towers.parameters().iter().map(|(_, var)| store.get(var).map(bits)).collect();
        (bits(&loss), gradients, outputs.predictions().unwrap())
    };
    let (own, built_in) = (measured(&own), measured(&built_in.unwrap()));
    assert_eq!(own.0, built_in.0);
    assert_eq!(own.1, built_in.1);
    assert_eq!(own.2, built_in.2);
}

#[test]
fn what_nobody_explained_is_said() {
    let columns = vec![vec![1.0, 0.0], vec![3.0, 1.0]];
    let silent = set(None);
    let said = |error: ObjectiveError| {
        let error = error.to_string();
        assert!(error.contains("\"pages\" is of kind \"custom\"") && error.contains("with_custom"), "{error}");
    };
    said(silent.check_customs().unwrap_err());
    said(silent.fit_scalers(&columns).unwrap_err());
    let towers = TaskTowers::new(&silent, &config(), &Device::Cpu).unwrap();
    said(towers.forward(&shared(), None).unwrap().predictions().unwrap_err());
    said(towers.set_prior(&[0.5, 1.0]).unwrap_err());
    // Told afterwards, as a model from a file is.
    let towers = towers.with_custom("pages", Arc::new(Poisson)).unwrap();
    assert!(towers.forward(&shared(), None).unwrap().predictions().is_ok());
    assert!(towers.set_prior(&[0.5, 1.0]).is_ok());

    let flag = silent.clone().with_custom("click", Arc::new(Poisson)).unwrap_err().to_string();
    assert!(flag.contains("\"click\" is of another kind"), "{flag}");
    assert!(
        silent.with_custom("clicks", Arc::new(Poisson)).unwrap_err().to_string().contains("there are click, pages")
    );
    let objectives = set(Some(Arc::new(Poisson)));
    assert!(objectives.select(&["pages"]).unwrap().check_customs().is_ok());
    let refused = |label: f32| objectives.fit_scalers(&[vec![1.0], vec![label]]).unwrap_err().to_string();
    assert!(refused(0.5).contains("label 0.5 in row 0 of column \"pages\" is no count"));
    assert!(refused(f32::INFINITY).contains("not finite") && refused(NO).contains("no observed label"));
    let scalers = [Scaler::default(); 2];
    assert!(Labels::new(&objectives, &scalers, &[vec![1.0], vec![-1.0]], &Device::Cpu).is_err());

    let whole = set(Some(Arc::new(Whole)));
    let towers = TaskTowers::new(&whole, &config(), &Device::Cpu).unwrap();
    let outputs = towers.forward(&shared(), None).unwrap();
    let labels = Labels::new(&whole, &scalers, &[vec![NO; 4], vec![1.0; 4]], &Device::Cpu).unwrap();
    let error = outputs.losses(&labels).unwrap_err().to_string();
    assert!(error.contains("\"whole\"") && error.contains("[]") && error.contains("[4]"), "{error}");
    assert_eq!(outputs.predictions().unwrap()[1], [f32::MAX; 4]);
}
