//! Estimators against their closed forms, and their expectations by going through every way a log could have come out.

use candle_core::{DType, Device, Tensor, Var};
use rand::RngExt;

use super::*;
use crate::layers::named_rng;
use crate::{Labels, ObjectiveError, Objectives, Outputs, TaskTowers, TowerConfig};

const D: usize = 4;
const N: usize = 5;
const P: [f32; N] = [0.2, 0.9, 0.5, 0.35, 0.7];

fn set(kind: Kind, debias: Option<Debias>) -> Objectives {
    let own = Objective { debias, ..Objective::new("it", kind, "it") };
    let own = if kind == Kind::Conditional { own.given("first") } else { own };
    Objectives::new(vec![Objective::new("first", Kind::Binary, "first"), own]).unwrap()
}

fn selection(method: DebiasMethod) -> Debias {
    Debias::new(method, Propensity::Model)
}

fn towers(set: &Objectives) -> TaskTowers {
    let config = TowerConfig { input: D, hidden: 3, dropout: 0.0, seed: 7, ..TowerConfig::default() };
    let towers = TaskTowers::new(set, &config, &Device::Cpu).unwrap();
    // Off zero, so that what is imputed and what is predicted differ for every sample.
    for (at, (_, var)) in towers.parameters().iter().enumerate() {
        var.set(&var.affine(1.0, 0.05 + 0.03 * at as f64).unwrap()).unwrap();
    }
    towers
}

fn input() -> Tensor {
    let mut random = named_rng(3, "debias");
    let values: Vec<f32> = (0..N * D).map(|_| random.random_range(-1.5..1.5)).collect();
    Tensor::from_vec(values, (N, D), &Device::Cpu).unwrap()
}

fn weights(inverse: &[f32]) -> SampleWeights {
    SampleWeights { inverse: inverse.to_vec(), base: N, population: (0..N as u32).collect() }
}

fn inverse() -> Vec<f32> {
    P.iter().map(|p| 1.0 / p).collect()
}

/// The second objective's loss for labels of both.
fn loss(towers: &TaskTowers, outputs: &Outputs, columns: &[Vec<f32>], weights: Option<SampleWeights>) -> Tensor {
    let weights = if weights.is_some() { vec![None, weights] } else { Vec::new() };
    let labels = Labels::weighted(towers.objectives(), towers.scalers(), columns, &weights, &Device::Cpu).unwrap();
    outputs.losses(&labels).unwrap()[1].loss.clone()
}

fn scalar(tensor: &Tensor) -> f64 {
    f64::from(tensor.to_scalar::<f32>().unwrap())
}

fn host(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// What each sample pays for a label, alone.
fn each(kind: Kind, towers: &TaskTowers, labels: &[f32]) -> Vec<f64> {
    let plain = Objectives::new(
        towers.objectives().iter().map(|objective| Objective { debias: None, ..objective.clone() }).collect(),
    )
    .unwrap();
    assert_eq!(plain.as_slice()[1].kind, kind);
    let outputs = towers.forward(&input(), None).unwrap();
    let pay = |row: usize| {
        let only = |value: f32, at: usize| if at == row { value } else { f32::NAN };
        let columns = [vec![1.0; N], (0..N).map(|at| only(labels[row], at)).collect()];
        let labels = Labels::new(&plain, towers.scalers(), &columns, &Device::Cpu).unwrap();
        let outputs = Outputs::new(
            plain.clone().into(),
            towers.scalers().to_vec(),
            outputs.logits().to_vec(),
            vec![None; 2],
            vec![None; 2],
            vec![None; 2],
        );
        scalar(&outputs.losses(&labels).unwrap()[1].loss)
    };
    (0..N).map(pay).collect()
}

#[track_caller]
fn near(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() < 2e-5 * expected.abs().max(1.0), "{what}: {found}, not {expected}");
}

const STARS: [f32; N] = [1.5, -0.5, 0.3, -1.2, 2.0];
const FLAGS: [f32; N] = [1.0, 0.0, 0.0, 1.0, 1.0];

fn truth(kind: Kind) -> [f32; N] {
    if kind.is_binary() { FLAGS } else { STARS }
}

#[test]
fn weighted_losses_have_their_closed_forms() {
    for kind in [Kind::Binary, Kind::Conditional, Kind::Regression] {
        let labels = truth(kind);
        let seen = [0, 1, 3];
        let mut own = vec![f32::NAN; N];
        seen.iter().for_each(|&row| own[row] = labels[row]);
        let columns = [vec![1.0; N], own];
        let of = |debias: Debias| {
            let towers = towers(&set(kind, Some(debias)));
            let paid = each(kind, &towers, &labels);
            let outputs = towers.forward(&input(), None).unwrap();
            (scalar(&loss(&towers, &outputs, &columns, Some(weights(&inverse())))), paid)
        };
        let sum = |paid: &[f64], most: f64| -> f64 {
            seen.iter().map(|&row| (1.0 / f64::from(P[row])).min(most) * paid[row]).sum()
        };
        let total: f64 = seen.iter().map(|&row| 1.0 / f64::from(P[row])).sum();
        let (found, paid) = of(selection(DebiasMethod::Ips));
        near("ips", found, sum(&paid, f64::INFINITY) / N as f64);
        let (found, paid) = of(Debias { clip: Some(2.5), ..selection(DebiasMethod::Clipped) });
        near("clipped", found, sum(&paid, 2.5) / N as f64);
        let (found, paid) = of(selection(DebiasMethod::Snips));
        near("snips", found, sum(&paid, f64::INFINITY) / total);
    }
    assert_eq!(selection(DebiasMethod::Clipped).largest(), 20.0);
    assert_eq!(selection(DebiasMethod::Ips).largest(), f64::INFINITY);
}

/// Every one of the `2^N` patterns of what is observed, with its probability.
fn patterns() -> impl Iterator<Item = ([bool; N], f64)> {
    (0..1u32 << N).map(|bits| {
        let seen: [bool; N] = std::array::from_fn(|row| bits >> row & 1 == 1);
        let share = |row: usize| f64::from(if seen[row] { P[row] } else { 1.0 - P[row] });
        (seen, (0..N).map(share).product())
    })
}

/// Loss and gradients of all parameters but what imputes, in expectation over patterns, are those of full information, whatever is imputed.
#[test]
fn expectations_over_all_patterns_are_those_of_full_information() {
    for kind in [Kind::Binary, Kind::Conditional, Kind::Regression] {
        for method in [DebiasMethod::Ips, DebiasMethod::DoublyRobust] {
            let towers = towers(&set(kind, Some(selection(method))));
            let labels = truth(kind);
            let outputs = towers.forward(&input(), None).unwrap();
            let own: Vec<Var> = towers
                .parameters()
                .into_iter()
                .filter(|(name, _)| !name.contains("imputation"))
                .map(|(_, var)| var)
                .collect();
            let found = |loss: &Tensor| -> Vec<f64> {
                let store = loss.backward().unwrap();
                let gradient = |var: &Var| store.get(var).map_or(vec![0.0; var.elem_count()], host);
                std::iter::once(scalar(loss)).chain(own.iter().flat_map(gradient)).collect()
            };
            let mut expected: Vec<f64> = Vec::new();
            let mut naive = 0.0;
            for (seen, share) in patterns() {
                let column: Vec<f32> = (0..N).map(|row| if seen[row] { labels[row] } else { f32::NAN }).collect();
                let columns = [vec![1.0; N], column];
                let values = found(&loss(&towers, &outputs, &columns, Some(weights(&inverse()))));
                expected.resize(values.len(), 0.0);
                expected.iter_mut().zip(values).for_each(|(sum, value)| *sum += share * value);
                let paid = each(kind, &towers, &labels);
                let count = seen.iter().filter(|seen| **seen).count().max(1) as f64;
                naive += share * (0..N).filter(|row| seen[*row]).map(|row| paid[row]).sum::<f64>() / count;
            }
            let all = weights(&[1.0; N]);
            let full = found(&loss(&towers, &outputs, &[vec![1.0; N], labels.to_vec()], Some(all)));
            for (at, (found, full)) in expected.iter().zip(&full).enumerate() {
                near(&format!("{kind:?} {method:?} [{at}]"), *found, *full);
            }
            // And what is not weighted is not.
            assert!((naive - full[0]).abs() > 1e-3, "{kind:?}: {naive} {}", full[0]);
        }
    }
}

/// With imputations that are right, a doubly robust loss is right for any propensities.
#[test]
fn a_right_imputation_makes_propensities_matter_no_more() {
    let towers = towers(&set(Kind::Regression, Some(selection(DebiasMethod::DoublyRobust))));
    let outputs = towers.forward(&input(), None).unwrap();
    let labels: Vec<f32> = outputs.imputed()[1].as_ref().unwrap().to_vec1().unwrap();
    let full = each(Kind::Regression, &towers, &labels).iter().sum::<f64>() / N as f64;
    for wrong in [[1.0; N], [7.0, 2.0, 40.0, 1.0, 3.0]] {
        let columns = [vec![1.0; N], vec![labels[0], f32::NAN, labels[2], f32::NAN, f32::NAN]];
        near("right imputation", scalar(&loss(&towers, &outputs, &columns, Some(weights(&wrong)))), full);
    }
    // Also where nothing at all was observed.
    let nothing = [vec![1.0; N], vec![f32::NAN; N]];
    near("nothing observed", scalar(&loss(&towers, &outputs, &nothing, Some(weights(&inverse())))), full);
}

/// The imputation follows `Σ w (y - ŷ)² / n`, by finite differences; the loss's value has no part in it.
#[test]
fn imputations_learn_labels_by_their_weights() {
    for kind in [Kind::Binary, Kind::Regression] {
        let towers = towers(&set(kind, Some(selection(DebiasMethod::DoublyRobust))));
        let labels = truth(kind);
        let seen = [0, 2, 3];
        let mut own = vec![f32::NAN; N];
        seen.iter().for_each(|&row| own[row] = labels[row]);
        let columns = [vec![1.0; N], own];
        let outputs = towers.forward(&input(), None).unwrap();
        let store = loss(&towers, &outputs, &columns, Some(weights(&inverse()))).backward().unwrap();
        let objective = || -> f64 {
            let imputed = host(towers.forward(&input(), None).unwrap().imputed()[1].as_ref().unwrap());
            let term = |&row: &usize| {
                let m = imputed[row];
                let hat = if kind.is_binary() { 1.0 / (1.0 + (-m).exp()) } else { m };
                (f64::from(labels[row]) - hat).powi(2) / f64::from(P[row])
            };
            seen.iter().map(term).sum::<f64>() / N as f64
        };
        let mut checked = 0;
        for (name, var) in towers.parameters().into_iter().filter(|(name, _)| name.contains("imputation")) {
            let found = host(store.get(&var).unwrap_or_else(|| panic!("{name} has no gradient")));
            let start = host(&var);
            for at in 0..start.len() {
                let shifted = |step: f64| {
                    let mut moved = start.clone();
                    moved[at] += step;
                    let moved: Vec<f32> = moved.into_iter().map(|value| value as f32).collect();
                    var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                    objective()
                };
                let difference = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
                shifted(0.0);
                let tolerance = 5e-3 * difference.abs().max(0.2);
                assert!(
                    (found[at] - difference).abs() < tolerance,
                    "{kind:?} {name}[{at}]: {} {difference}",
                    found[at]
                );
                checked += 1;
            }
            assert!(found.iter().any(|gradient| gradient.abs() > 1e-6), "{name}");
        }
        assert_eq!(checked, D * 3 + 3 + 3 + 1);
    }
}

/// Clicks on what is looked at with probability `p`: their expectation is the loss of relevance itself.
#[test]
fn exposure_is_undone_in_expectation() {
    const RHO: [f64; N] = [0.9, 0.1, 0.5, 0.7, 0.3];
    let debias = Debias { eta: Some(1.0), ..Debias::new(DebiasMethod::Ips, Propensity::Position) };
    assert_eq!((debias.bias_of(Kind::Binary), debias.bias_of(Kind::Regression)), (Bias::Exposure, Bias::Selection));
    let towers = towers(&set(Kind::Binary, Some(debias)));
    let outputs = towers.forward(&input(), None).unwrap();
    let mut expected = 0.0;
    for bits in 0..1u32 << N {
        let clicks: Vec<f32> = (0..N).map(|row| (bits >> row & 1) as f32).collect();
        let share = |row: usize| {
            let click = f64::from(P[row]) * RHO[row];
            if clicks[row] == 1.0 { click } else { 1.0 - click }
        };
        let probability: f64 = (0..N).map(share).product();
        expected += probability * scalar(&loss(&towers, &outputs, &[vec![1.0; N], clicks], Some(weights(&inverse()))));
    }
    let logits = host(&outputs.logits()[1]);
    let relevant = logits.iter().zip(RHO).map(|(z, rho)| z.exp().ln_1p() - rho * z).sum::<f64>() / N as f64;
    near("exposure", expected, relevant);
}

#[test]
fn a_sample_without_a_propensity_has_no_label() {
    let towers = towers(&set(Kind::Regression, Some(selection(DebiasMethod::Snips))));
    let outputs = towers.forward(&input(), None).unwrap();
    let mut unknown = inverse();
    unknown[1] = f32::NAN;
    let mut masked = STARS.to_vec();
    masked[1] = f32::NAN;
    let a = loss(&towers, &outputs, &[vec![1.0; N], STARS.to_vec()], Some(weights(&unknown)));
    let b = loss(&towers, &outputs, &[vec![1.0; N], masked], Some(weights(&inverse())));
    assert_eq!(scalar(&a).to_bits(), scalar(&b).to_bits());
    // Self-normalised, a factor of all propensities is nothing.
    let doubled: Vec<f32> = inverse().iter().map(|weight| 2.0 * weight).collect();
    let c = loss(&towers, &outputs, &[vec![1.0; N], STARS.to_vec()], Some(weights(&doubled)));
    let d = loss(&towers, &outputs, &[vec![1.0; N], STARS.to_vec()], Some(weights(&inverse())));
    near("a factor", scalar(&c), scalar(&d));
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |debias: Debias, objective: Objective, part: &str| {
        let found = Objectives::new(vec![objective.debias(debias)]).unwrap_err().to_string();
        assert!(found.contains(part) && found.contains("\"it\""), "{found}");
    };
    let flag = || Objective::new("it", Kind::Binary, "it");
    let number = || Objective::new("it", Kind::Regression, "it");
    let of = Debias::new;
    use DebiasMethod::{Clipped, DoublyRobust, Ips, Snips};
    let position = |method| Debias { eta: Some(0.5), ..of(method, Propensity::Position) };
    refused(of(Ips, Propensity::Column), Objective::new("it", Kind::Ranking, "it"), "negative_power");
    refused(Debias { clip: Some(0.05), ..of(Clipped, Propensity::Column) }, flag(), "clip = 0.05");
    refused(of(Ips, Propensity::Position), flag(), "either eta");
    refused(Debias { curve: vec![1.0], ..position(Ips) }, flag(), "either eta");
    refused(Debias { eta: Some(-1.0), ..of(Ips, Propensity::Position) }, flag(), "eta = -1");
    refused(Debias { curve: vec![1.0, 0.0], ..of(Ips, Propensity::Position) }, flag(), "above 0");
    refused(Debias { power: Some(3.0), ..of(Ips, Propensity::Popularity) }, flag(), "power = 3");
    refused(Debias { eta: Some(0.5), ..of(Ips, Propensity::Column) }, flag(), "eta and curve belong");
    refused(Debias { power: Some(0.5), ..of(Ips, Propensity::Column) }, flag(), "power belongs");
    refused(Debias { column: Some("p".into()), ..of(Ips, Propensity::Model) }, flag(), "column belongs");
    refused(position(Ips), flag().examined(10), "take one of them");
    refused(of(Ips, Propensity::Popularity), flag().examined(10), "take one of them");
    refused(of(DoublyRobust, Propensity::Column), flag().examined(10), "leave examination out");
    refused(Debias { bias: Some(Bias::Exposure), ..position(Ips) }, number(), "for flags");
    refused(Debias { bias: Some(Bias::Exposure), ..of(Ips, Propensity::Model) }, flag(), "looked at");
    refused(position(Snips), flag(), "ips");
    refused(position(DoublyRobust), flag(), "ips");
    refused(position(Ips), Objective { smoothing: 0.1, ..flag() }, "smoothing");
    refused(of(DoublyRobust, Propensity::Model), number().loss(Loss::Ordinal { levels: vec![1.0, 2.0] }), "imputes");
    // And in the labels.
    let set = set(Kind::Regression, Some(selection(Ips)));
    let towers = towers(&set);
    let columns = [vec![1.0; N], STARS.to_vec()];
    let outputs = towers.forward(&input(), None).unwrap();
    let labels = Labels::new(&set, towers.scalers(), &columns, &Device::Cpu).unwrap();
    let error = outputs.losses(&labels).unwrap_err();
    assert!(matches!(error, ObjectiveError::NoInput { .. }), "{error}");
    for wrong in
        [weights(&[1.0; N - 1]), weights(&[0.0; N]), SampleWeights { population: vec![N as u32], ..weights(&[1.0; N]) }]
    {
        assert!(Labels::weighted(&set, towers.scalers(), &columns, &[None, Some(wrong)], &Device::Cpu).is_err());
    }
}

#[test]
fn configurations_read_and_write_themselves() {
    let text = r#"{"name":"it","kind":"binary","column":"it","weight":1.0,"debias":{"method":"doubly-robust","propensity":"model","clip":20.0}}"#;
    let objective: Objective = serde_json::from_str(text).unwrap();
    assert_eq!(objective.debias, Some(Debias { clip: Some(20.0), ..selection(DebiasMethod::DoublyRobust) }));
    assert_eq!(serde_json::to_string(&objective).unwrap(), text);
    let set = |objective: &Objective| Objectives::new(vec![objective.clone()]).unwrap();
    assert!(set(&objective).sampled_label(0).is_nan());
    let position = Debias { curve: vec![1.0, 0.5], ..Debias::new(DebiasMethod::Ips, Propensity::Position) };
    assert_eq!([0, 1, 2, 9].map(|at| position.examination(at)), [None, Some(1.0), Some(0.5), Some(0.5)]);
    assert_eq!(set(&Objective::new("it", Kind::Binary, "it").debias(position)).sampled_label(0), 0.0);
}

/// An examination model against its closed form and finite differences; a conversion happens where its click does.
#[test]
fn examination_multiplies_clicks_and_what_follows_from_them() {
    let set = Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click").examined(3),
        Objective::new("bought", Kind::Conditional, "bought").given("click"),
    ])
    .unwrap();
    let towers = towers(&set);
    let (_, theta) = towers.parameters().into_iter().find(|(name, _)| name == "towers.click.examination").unwrap();
    theta.set(&Tensor::new(&[0.03f32, -0.12], &Device::Cpu).unwrap()).unwrap();
    let curve = &towers.examination().unwrap()[0];
    let sigma = |z: f64| 1.0 / (1.0 + (-z).exp());
    assert_eq!((curve.0.as_str(), curve.1[0]), ("click", 1.0));
    near("second", curve.1[1], sigma(0.3));
    near("third", curve.1[2], sigma(-1.2));
    let positions: [u16; N] = [0, 1, 2, 3, 40];
    let columns = [vec![1.0, 0.0, 1.0, 0.0, 1.0], vec![1.0, f32::NAN, 0.0, 1.0, 1.0]];
    let bought = [1.0, 0.0, 0.0, 0.0, 1.0];
    let labels = Labels::new(&set, towers.scalers(), &columns, &Device::Cpu).unwrap();
    let outputs = towers.forward(&input(), None).unwrap();
    assert!(outputs.losses(&labels).unwrap_err().to_string().contains("position"));
    let labels = labels.at(&positions);
    let losses = outputs.losses(&labels).unwrap();
    let logits: Vec<Vec<f64>> = outputs.logits().iter().map(host).collect();
    let expected = |theta: [f64; 2]| -> [f64; 2] {
        let mut sums = [0.0; 2];
        for row in 0..N {
            let looked = match positions[row] {
                0 | 1 => 1.0,
                2 => sigma(10.0 * theta[0]),
                _ => sigma(10.0 * theta[1]),
            };
            let click = looked * sigma(logits[0][row]);
            let both = click * sigma(logits[1][row]);
            let pay = |p: f64, y: f64| -(y * p.ln() + (1.0 - y) * (1.0 - p).ln());
            sums[0] += pay(click, f64::from(columns[0][row])) / N as f64;
            sums[1] += pay(both, bought[row]) / N as f64;
        }
        sums
    };
    let at = [0.03, -0.12];
    for (k, loss) in losses.iter().enumerate() {
        near("loss", scalar(&loss.loss), expected(at)[k]);
        let found = host(loss.loss.backward().unwrap().get(&theta).unwrap());
        for i in 0..2 {
            let shifted = |step: f64| {
                let mut moved = at;
                moved[i] += step;
                expected(moved)[k]
            };
            near("gradient", found[i], (shifted(1e-5) - shifted(-1e-5)) / 2e-5);
            assert!(found[i] != 0.0);
        }
    }
    // What is predicted is what the first position would get.
    let predicted = outputs.predictions().unwrap();
    near("prediction", f64::from(predicted[0][4]), sigma(logits[0][4]));
    let kinds = [Objective::new("it", Kind::Regression, "it"), Objective::new("it", Kind::Ranking, "it")];
    assert!(kinds.into_iter().all(|it| Objectives::new(vec![it.examined(5)]).is_err()));
    assert!(Objectives::new(vec![Objective::new("it", Kind::Binary, "it").examined(1)]).is_err());
}

/// Weights and imputations add no parameter to what is not debiased, and each new one learns.
#[test]
fn every_parameter_of_a_doubly_robust_objective_learns() {
    let towers = towers(&set(Kind::Binary, Some(selection(DebiasMethod::DoublyRobust))));
    let names: Vec<String> = towers.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("towers.it.imputation.")).count(), 4);
    assert_eq!(names.len(), 12);
    let outputs = towers.forward(&input(), None).unwrap();
    let loss = loss(&towers, &outputs, &[vec![1.0; N], FLAGS.to_vec()], Some(weights(&inverse())));
    let store = loss.backward().unwrap();
    for (name, var) in towers.parameters().into_iter().filter(|(name, _)| name.starts_with("towers.it.")) {
        let gradient = host(store.get(&var).unwrap_or_else(|| panic!("{name} has no gradient")));
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0), "{name}");
    }
    // The representation learns from predictions alone: what imputes does not move it.
    let z = Var::from_tensor(&input()).unwrap();
    let imputed = towers.forward(&z, None).unwrap().imputed()[1].clone().unwrap();
    assert!(imputed.sum_all().unwrap().to_dtype(DType::F32).unwrap().backward().unwrap().get(&z).is_none());
}
