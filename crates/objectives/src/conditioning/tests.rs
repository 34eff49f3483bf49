use std::collections::BTreeMap;

use candle_core::{DType, Var};
use rand::RngExt;

use super::*;
use crate::layers::named_rng;
use crate::{Kind, Labels, Objective, ObjectiveError, Objectives, TaskTowers, TowerConfig};

const NO: f32 = f32::NAN;
const BOTH: [Conditioning; 2] = [Conditioning::Film, Conditioning::Hypernetwork];

fn objectives() -> Objectives {
    Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click").weight(3.0),
        Objective::new("conversion", Kind::Conditional, "conversion").given("click"),
        Objective::new("rating", Kind::Regression, "rating"),
    ])
    .unwrap()
}

fn config(conditioning: Conditioning, hidden: usize) -> TowerConfig {
    TowerConfig { input: 5, hidden, dropout: 0.3, seed: 11, conditioning, ..TowerConfig::default() }
}

fn towers(conditioning: Conditioning, hidden: usize) -> (TaskTowers, Labels) {
    let objectives = objectives();
    let columns =
        vec![vec![1.0, 0.0, 1.0, 0.0, 1.0, 1.0], vec![0.0, NO, 1.0, 0.0, NO, 1.0], vec![4.0, NO, 2.5, NO, NO, 5.0]];
    let scalers = objectives.fit_scalers(&columns).unwrap();
    let labels = Labels::new(&objectives, &scalers, &columns, &Device::Cpu).unwrap();
    let mut towers = TaskTowers::new(&objectives, &config(conditioning, hidden), &Device::Cpu).unwrap();
    towers.set_scalers(scalers).unwrap();
    (towers, labels)
}

fn shared(rows: usize, seed: u64) -> Var {
    let mut random = named_rng(seed, "shared");
    let values: Vec<f32> = (0..rows * 5).map(|_| random.random_range(-1.5..1.5)).collect();
    Var::from_vec(values, (rows, 5), &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// The sum of all losses.
fn total(towers: &TaskTowers, z: &Tensor, labels: &Labels, preference: &[f64], dropout: Option<u64>) -> Tensor {
    let losses = towers.forward_for(z, Some(preference), dropout).unwrap().losses(labels).unwrap();
    losses.iter().map(|l| l.loss.clone()).reduce(|a, b| (a + b).unwrap()).unwrap()
}

#[test]
fn gradients_are_those_of_central_differences() {
    for (conditioning, hidden) in [(BOTH[0], 4), (BOTH[1], 4), (BOTH[0], 0), (BOTH[1], 0)] {
        let (towers, labels) = towers(conditioning, hidden);
        let z = shared(6, 1);
        let modulation = Modulation::new("z", conditioning, 3, 5, 2, &Device::Cpu).unwrap().unwrap();
        let mut inputs = towers.parameters();
        inputs.extend(modulation.parameters());
        inputs.push(("shared".into(), z.clone()));
        let r = [0.5, 0.2, 0.3];
        let loss = || total(&towers, &modulation.forward(&z, &r).unwrap(), &labels, &r, Some(5));
        let store = loss().backward().unwrap();
        for (name, var) in &inputs {
            let found = values(store.get(var).unwrap_or_else(|| panic!("{conditioning:?}: {name} has no gradient")));
            let start = values(var);
            let set = |v: Vec<f32>| var.set(&Tensor::from_vec(v, var.shape(), &Device::Cpu).unwrap()).unwrap();
            // Some of each tensor: a transposed or forgotten factor shows anywhere.
            for i in (0..start.len()).step_by(start.len().div_ceil(24)) {
                let at = |step: f32| {
                    let mut moved = start.clone();
                    moved[i] += step;
                    set(moved);
                    f64::from(loss().to_scalar::<f32>().unwrap())
                };
                let step = 1e-2;
                let difference = (at(step) - at(-step)) / f64::from(2.0 * step);
                assert!(
                    (difference - f64::from(found[i])).abs() < 2e-3 * difference.abs().max(0.1),
                    "{conditioning:?}, {name}[{i}]: {} instead of {difference}",
                    found[i]
                );
            }
            set(start);
        }
    }
}

#[test]
fn every_parameter_learns_from_the_first_step_whatever_the_preference() {
    for conditioning in BOTH {
        for hidden in [0, 4] {
            let (towers, labels) = towers(conditioning, hidden);
            let modulation = Modulation::new("z", conditioning, 3, 5, 2, &Device::Cpu).unwrap().unwrap();
            for r in [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]] {
                let shares = towers.objectives().shares(&r).unwrap();
                let z = modulation.forward(&shared(6, 2), &shares).unwrap();
                let store = total(&towers, &z, &labels, &r, None).backward().unwrap();
                for (name, var) in towers.parameters().into_iter().chain(modulation.parameters()) {
                    let gradient = values(store.get(&var).unwrap_or_else(|| panic!("{name} has no gradient")));
                    let largest = gradient.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
                    assert!(gradient.iter().all(|g| g.is_finite()) && largest > 1e-7, "{conditioning:?}: {name}");
                }
            }
        }
    }
}

#[test]
fn a_fresh_model_is_close_to_one_without_conditioning_and_moved_by_the_preference() {
    let (plain, _) = towers(Conditioning::None, 4);
    let z = shared(40, 3);
    let logits = |towers: &TaskTowers, r: Option<&[f64]>, k: usize| -> Vec<f32> {
        values(&towers.forward_for(&z, r, None).unwrap().logits()[k])
    };
    for conditioning in BOTH {
        let (towers, _) = towers(conditioning, 4);
        for k in 0..3 {
            let base = logits(&plain, None, k);
            let size = base.iter().map(|x| x * x).sum::<f32>().sqrt();
            let away = |r: &[f64]| -> f32 {
                let other = logits(&towers, Some(r), k);
                base.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt() / size
            };
            assert!(away(&[1.0, 1.0, 1.0]) < 0.3, "{conditioning:?}: {}", away(&[1.0, 1.0, 1.0]));
            assert_ne!(logits(&towers, Some(&[1.0, 0.0, 0.0]), k), logits(&towers, Some(&[0.0, 0.0, 1.0]), k));
        }
        let modulation = Modulation::new("z", conditioning, 3, 5, 2, &Device::Cpu).unwrap().unwrap();
        let moved = (modulation.forward(&z, &[0.2, 0.3, 0.5]).unwrap() - z.as_tensor()).unwrap();
        let norm = |t: &Tensor| values(t).iter().map(|x| x * x).sum::<f32>().sqrt();
        let share = norm(&moved) / norm(&z);
        assert!(share > 1e-4 && share < 0.3, "{conditioning:?}: {share}");
    }
}

#[test]
fn only_shares_count_and_the_own_preference_is_that_of_the_weights() {
    for conditioning in BOTH {
        let (mut towers, _) = towers(conditioning, 4);
        let z = shared(4, 1);
        let of = |towers: &TaskTowers, r: Option<&[f64]>| values(&towers.forward_for(&z, r, None).unwrap().logits()[1]);
        assert_eq!(towers.preference(), Some([0.6, 0.2, 0.2].as_slice()));
        assert_eq!(of(&towers, None), of(&towers, Some(&[3.0, 1.0, 1.0])));
        assert_eq!(of(&towers, Some(&[3e307, 1e307, 1e307])), of(&towers, None));
        let overflow = [f64::MAX, f64::MAX, 0.0];
        assert_eq!(of(&towers, Some(&overflow)), of(&towers, Some(&[1.0, 1.0, 0.0])));
        towers.prefer(&[0.0, 2.0, 2.0]).unwrap();
        assert_eq!(towers.preference(), Some([0.0, 0.5, 0.5].as_slice()));
        assert_eq!(of(&towers, None), of(&towers, Some(&[0.0, 1.0, 1.0])));
    }
}

#[test]
fn wrong_preferences_are_refused() {
    let z = shared(2, 1);
    let refused = |conditioning, r: &[f64]| -> String {
        let (mut towers, _) = towers(conditioning, 4);
        let own = towers.preference().map(<[f64]>::to_vec);
        let message = towers.forward_for(&z, Some(r), None).unwrap_err().to_string();
        assert_eq!(towers.prefer(r).unwrap_err().to_string(), message);
        assert_eq!(towers.preference().map(<[f64]>::to_vec), own, "nothing has changed");
        message
    };
    for conditioning in BOTH {
        assert!(refused(conditioning, &[1.0, 2.0]).contains("got 2 preferences for objectives click, conversion"));
        assert!(refused(conditioning, &[1.0, -2.0, 0.0]).contains("\"conversion\": weight -2"));
        assert!(refused(conditioning, &[1.0, 0.0, f64::NAN]).contains("\"rating\": weight NaN"));
        assert!(refused(conditioning, &[0.0; 3]).contains("at least one objective"));
    }
    assert!(refused(Conditioning::None, &[1.0; 3]).contains("model.conditioning"));
    // A model of weights that are all zero has no preference of its own.
    let none = Objectives::new(vec![Objective::new("click", Kind::Binary, "click").weight(0.0)]).unwrap();
    assert!(TaskTowers::new(&none, &config(Conditioning::Film, 4), &Device::Cpu).is_err());
    assert!(TaskTowers::new(&none, &config(Conditioning::None, 4), &Device::Cpu).is_ok());
}

#[test]
fn saved_parameters_come_back_and_those_of_another_form_are_refused() {
    for conditioning in BOTH {
        let (towers, _) = towers(conditioning, 4);
        let names: Vec<String> = towers.parameters().into_iter().map(|(name, _)| name).collect();
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        let saved: BTreeMap<String, Tensor> =
            towers.parameters().into_iter().map(|(n, v)| (n, v.as_tensor().clone())).collect();
        let fresh = |conditioning| {
            let config = TowerConfig { seed: 99, ..config(conditioning, 4) };
            TaskTowers::new(&objectives(), &config, &Device::Cpu).unwrap()
        };
        let (z, r) = (shared(3, 9), [0.1, 0.2, 0.7]);
        let of = |t: &TaskTowers| values(&t.forward_for(&z, Some(&r), None).unwrap().logits()[2]);
        let other = fresh(conditioning);
        assert_ne!(of(&towers), of(&other));
        other.load(&saved).unwrap();
        assert_eq!(of(&towers), of(&other));
        let wrong = fresh(BOTH[usize::from(conditioning == BOTH[0])]).load(&saved).unwrap_err();
        assert!(matches!(wrong, ObjectiveError::Parameter { .. }), "{wrong}");
    }
}

/// Two regressions that want different answers of one network: over a batch, `L_1 = mean (y - a)²` and `L_2 = mean (y - b)²`, with
/// `a` and `b` fixed numbers. The optimum of `p L_1 + (1 - p) L_2` is `y = p a + (1 - p) b`, with `√L_1 = (1 - p) |a - b|` and
/// `√L_2 = p |a - b|`: the front is `√L_1 + √L_2 = |a - b|`.
#[test]
fn one_model_covers_a_front_that_is_known_in_closed_form() {
    let (a, b) = (-1.0_f32, 1.5_f32);
    let objectives = Objectives::new(vec![
        Objective::new("low", Kind::Regression, "low"),
        Objective::new("high", Kind::Regression, "high"),
    ])
    .unwrap();
    for conditioning in BOTH {
        let config = TowerConfig { input: 5, hidden: 8, dropout: 0.0, seed: 3, conditioning, ..TowerConfig::default() };
        let towers = TaskTowers::new(&objectives, &config, &Device::Cpu).unwrap();
        let answer = |r: [f64; 2], z: &Var| towers.forward_for(z, Some(&r), None).unwrap().logits()[0].clone();
        let mut random = named_rng(5, "preferences");
        let parameters = towers.parameters();
        let zeros = || -> Vec<Tensor> { parameters.iter().map(|(_, v)| v.zeros_like().unwrap()).collect() };
        let (mut first, mut second) = (zeros(), zeros());
        for step in 1..=600_u32 {
            let p: f64 = random.random();
            let y = answer([p, 1.0 - p], &shared(16, u64::from(step)));
            let square = |target: f32| (&y - f64::from(target)).unwrap().sqr().unwrap().mean_all().unwrap();
            let loss = ((square(a) * p).unwrap() + (square(b) * (1.0 - p)).unwrap()).unwrap();
            let store = loss.backward().unwrap();
            // Adam (Kingma and Ba 2015), as short as it gets.
            let rate = 0.01 * (1.0 - f64::from(step) / 700.0);
            for (at, (_, var)) in parameters.iter().enumerate() {
                let Some(g) = store.get(var) else { continue };
                first[at] = ((&first[at] * 0.9).unwrap() + (g * 0.1).unwrap()).unwrap();
                second[at] = ((&second[at] * 0.99).unwrap() + (g.sqr().unwrap() * 0.01).unwrap()).unwrap();
                let mean = (&first[at] / (1.0 - 0.9_f64.powi(step as i32))).unwrap();
                let size = (&second[at] / (1.0 - 0.99_f64.powi(step as i32))).unwrap().sqrt().unwrap();
                let moved = ((mean / (size + 1e-8).unwrap()).unwrap() * rate).unwrap();
                var.set(&(var.as_tensor() - moved).unwrap()).unwrap();
            }
        }
        // Fresh inputs, preferences from one corner to the other.
        let z = shared(200, 77);
        let losses: Vec<(f64, f64)> = (0..=20)
            .map(|i| {
                let p = f64::from(i) / 20.0;
                let y = values(&answer([p, 1.0 - p], &z));
                let mean =
                    |target: f32| y.iter().map(|y| f64::from((y - target).powi(2))).sum::<f64>() / y.len() as f64;
                let centre = y.iter().map(|y| f64::from(*y)).sum::<f64>() / y.len() as f64;
                let optimum = p * f64::from(a) + (1.0 - p) * f64::from(b);
                assert!((centre - optimum).abs() < 0.2, "{conditioning:?}, p = {p}: {centre} instead of {optimum}");
                (mean(a), mean(b))
            })
            .collect();
        // The preference is obeyed in order: more of an objective, less of its loss.
        assert!(losses.windows(2).all(|w| w[1].0 < w[0].0 + 0.02 && w[1].1 > w[0].1 - 0.02), "{losses:?}");
        // Hypervolume from the reference (R, R), R = |a - b|²: by the closed form of the front and by what the model reaches.
        let gap = f64::from(b - a);
        let reference = gap * gap;
        let volume = |points: &[(f64, f64)]| -> f64 {
            let mut sorted: Vec<(f64, f64)> =
                points.iter().copied().filter(|(x, y)| *x < reference && *y < reference).collect();
            sorted.sort_by(|l, r| l.0.total_cmp(&r.0));
            let (mut volume, mut ceiling) = (0.0, reference);
            for (x, y) in sorted {
                if y < ceiling {
                    volume += (reference - x) * (ceiling - y);
                    ceiling = y;
                }
            }
            volume
        };
        let same = |i: u32| {
            let p = f64::from(i) / 20.0;
            (((1.0 - p) * gap).powi(2), (p * gap).powi(2))
        };
        let best = volume(&(0..=20).map(same).collect::<Vec<_>>());
        let share = volume(&losses) / best;
        assert!(share > 0.97 && share < 1.001, "{conditioning:?} covers {share} of what these preferences can");
    }
}

#[test]
fn a_name_in_a_configuration_is_the_name_that_is_written() {
    for conditioning in [Conditioning::None, Conditioning::Film, Conditioning::Hypernetwork] {
        let written = serde_json::to_string(&conditioning).unwrap();
        assert_eq!(written, format!("\"{}\"", conditioning.name()));
        assert_eq!(serde_json::from_str::<Conditioning>(&written).unwrap(), conditioning);
    }
    assert!(serde_json::from_str::<Conditioning>("\"filmy\"").unwrap_err().to_string().contains("hypernetwork"));
    let zero = input(&[0.5, 0.5], &Device::Cpu).unwrap();
    assert_eq!((zero.dims(), zero.dtype(), values(&zero)), ([1, 2].as_slice(), DType::F32, vec![1.0, 1.0]));
}
