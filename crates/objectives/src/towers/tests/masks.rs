//! What was not observed touches no bit: every architecture, every loss.

use std::sync::Arc;

use super::*;
use crate::{
    Architecture, CrossStitchConfig, CustomObjective, Distill, ExpertsConfig, LevelsConfig, Loss, TransferConfig,
};

const B: usize = 8;

/// Squared error, by way of a trait.
#[derive(Debug)]
struct Squared;

impl CustomObjective for Squared {
    fn name(&self) -> &str {
        "squared"
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
        (logits - labels)?.sqr()
    }

    fn predict(&self, logit: f32) -> f32 {
        logit
    }

    fn logit(&self, mean: f32) -> f32 {
        mean
    }
}

/// Every kind and every loss of it; `taught` ones have a teacher.
fn everything() -> Objectives {
    let of = |name: &str, kind| Objective::new(name, kind, name);
    let number = |name: &str, loss| of(name, Kind::Regression).loss(loss);
    let log = |name: &str, loss| of(name, Kind::LogRegression).loss(loss);
    let conditional = |name: &str, given: &str| of(name, Kind::Conditional).given(given);
    let set = Objectives::new(vec![
        of("click", Kind::Binary),
        Objective { smoothing: 0.1, positive_weight: 3.0, ..of("smooth", Kind::Binary) },
        of("focal", Kind::Binary).loss(Loss::Focal { gamma: 2.0, alpha: Some(0.3) }),
        of("taught", Kind::Binary).distill(Distill::new("taught_by")),
        conditional("cart", "click"),
        conditional("buy", "click").through("cart").distill(Distill::new("buy_by")),
        conditional("stays", "buy"),
        of("rating", Kind::Regression),
        number("huber", Loss::Huber { delta: 0.5 }),
        number("absolute", Loss::Absolute),
        number("quantile", Loss::Quantile { q: 0.8 }),
        number("ordinal", Loss::Ordinal { levels: vec![1.0, 2.0, 3.0] }),
        of("told", Kind::Regression).distill(Distill::new("told_by")),
        of("dwell", Kind::LogRegression),
        log("spread", Loss::LogNormal),
        log("censored", Loss::Censored { at: 2.5 }),
        of("own", Kind::Custom),
    ]);
    set.unwrap().with_custom("own", Arc::new(Squared)).unwrap()
}

fn architectures() -> [Architecture; 6] {
    let experts = ExpertsConfig { experts: 3, width: 4 };
    [
        Architecture::SharedBottom,
        Architecture::Omoe(experts.clone()),
        Architecture::Mmoe(experts),
        Architecture::Ple(LevelsConfig { levels: 2, shared: 1, own: 1, width: 4 }),
        Architecture::CrossStitch(CrossStitchConfig { layers: 2, width: 4 }),
        Architecture::Aitm(TransferConfig { width: 4 }),
    ]
}

/// One column for each objective and each teacher; row `r` of column `k` is not observed where `(r + k) % 3 == 0`.
fn observed(objectives: &Objectives) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let masked = |row: usize, k: usize| (row + k).is_multiple_of(3);
    let label = |kind: Kind, row: usize, k: usize| match kind.is_binary() {
        _ if masked(row, k) => NO,
        true => ((row / 2 + k) % 2) as f32,
        false => (1 + (row * (k + 1)) % 3) as f32,
    };
    let labels = objectives.iter().enumerate();
    let labels = labels.map(|(k, objective)| (0..B).map(|row| label(objective.kind, row, k)).collect()).collect();
    let said = |k: usize| (0..B).map(|row| if masked(row, k + 1) { NO } else { (0.1 + row as f32) / 8.0 }).collect();
    (labels, objectives.teachers().map(|(k, _)| said(k)).collect())
}

struct Bench {
    objectives: Objectives,
    towers: TaskTowers,
    z: Var,
}

/// Bits of a loss and of all its gradients, by parameter; `shared` is the representation.
type Bits = (u32, BTreeMap<String, Option<Vec<u32>>>);

impl Bench {
    fn new(architecture: Architecture) -> Self {
        let objectives = everything();
        let config = TowerConfig { architecture, ..config() };
        let mut towers = TaskTowers::new(&objectives, &config, &Device::Cpu).unwrap();
        towers.fit(&observed(&objectives).0).unwrap();
        Self { objectives, towers, z: shared(B, 6) }
    }

    fn losses(&self, (labels, teachers): &(Vec<Vec<f32>>, Vec<Vec<f32>>)) -> Vec<crate::TaskLoss> {
        let scalers = self.towers.scalers();
        let labels = Labels::new(&self.objectives, scalers, labels, &Device::Cpu).unwrap();
        let labels = labels.taught(&self.objectives, scalers, teachers, &Device::Cpu).unwrap();
        self.towers.forward(&self.z, Some(3)).unwrap().losses(&labels).unwrap()
    }

    fn gradients(&self, loss: &Tensor) -> Bits {
        let store = loss.backward().unwrap();
        let bits = |var: &Var| store.get(var).map(|g| values(g).into_iter().map(f32::to_bits).collect());
        let all = [self.towers.shared_parameters(), self.towers.parameters(), vec![("shared".into(), self.z.clone())]];
        let gradients = all.concat().into_iter().map(|(name, var)| (name, bits(&var))).collect();
        (loss.to_scalar::<f32>().unwrap().to_bits(), gradients)
    }

    fn total(&self, columns: &(Vec<Vec<f32>>, Vec<Vec<f32>>)) -> Bits {
        let losses = self.losses(columns).into_iter().map(|task| task.loss);
        self.gradients(&losses.reduce(|a, b| (a + b).unwrap()).unwrap())
    }

    /// What an objective's loss looks at: itself, and whatever its condition leads to.
    fn chain(&self, k: usize) -> Vec<usize> {
        let next = [self.objectives.given_index(k), self.objectives.through_index(k)];
        let mut chain = vec![k];
        chain.extend(next.into_iter().flatten().flat_map(|next| self.chain(next)));
        chain
    }
}

/// Numbers that are none, as files and other programs write them: with a sign, with something in their other bits.
const NOTHING: [u32; 4] = [0x7fc0_0000, 0xffc0_0000, 0x7fc0_beef, 0xff80_0001];

#[test]
fn whatever_stands_where_nothing_was_observed() {
    for architecture in architectures() {
        let bench = Bench::new(architecture.clone());
        let columns = observed(&bench.objectives);
        let expected = bench.total(&columns);
        let finite = |bits: &Option<Vec<u32>>| bits.iter().flatten().all(|bits| f32::from_bits(*bits).is_finite());
        assert!(expected.1.values().all(finite), "{architecture:?}");
        for bits in NOTHING {
            let other = |column: &Vec<f32>| {
                column.iter().map(|y| if y.is_nan() { f32::from_bits(bits) } else { *y }).collect::<Vec<f32>>()
            };
            let changed = (columns.0.iter().map(other).collect(), columns.1.iter().map(other).collect());
            assert_eq!(bench.total(&changed), expected, "{architecture:?} {bits:x}");
        }
        // Without a click there is no purchase, whatever was written down.
        let mut settled = columns.clone();
        bench.objectives.apply_conditions(&mut settled.0).unwrap();
        for written in [0.0, 1.0, NO] {
            let mut changed = columns.clone();
            for (k, objective) in bench.objectives.iter().enumerate() {
                let Some(given) = bench.objectives.given_index(k) else { continue };
                assert_eq!(objective.kind, Kind::Conditional);
                let without = (0..B).filter(|row| settled.0[given][*row] == 0.0);
                without.for_each(|row| changed.0[k][row] = written);
            }
            assert_eq!(bench.total(&changed), expected, "{architecture:?} {written}");
        }
    }
}

#[test]
fn a_loss_feels_only_its_own_labels_and_only_where_they_are() {
    for architecture in architectures() {
        let bench = Bench::new(architecture.clone());
        let columns = observed(&bench.objectives);
        let before = bench.losses(&columns);
        let mut settled = columns.clone();
        bench.objectives.apply_conditions(&mut settled.0).unwrap();
        for (k, objective) in bench.objectives.iter().enumerate() {
            let what = format!("{architecture:?}, {}", objective.name);
            let expected = bench.gradients(&before[k].loss);
            // All others say something else, or nothing.
            let chain = bench.chain(k);
            let mut changed = columns.clone();
            for (other, theirs) in bench.objectives.iter().enumerate().filter(|(other, _)| !chain.contains(other)) {
                let turned = |y: f32| if theirs.kind.is_binary() { 1.0 - y } else { 4.0 - y };
                changed.0[other].iter_mut().enumerate().for_each(|(row, y)| *y = if row < 4 { turned(*y) } else { NO });
            }
            for (teacher, (taught, _)) in
                bench.objectives.teachers().enumerate().filter(|(_, (taught, _))| *taught != k)
            {
                assert_ne!(taught, k);
                changed.1[teacher].iter_mut().for_each(|said| *said = 0.5);
            }
            let after = bench.losses(&changed);
            assert_eq!(bench.gradients(&after[k].loss), expected, "{what}");
            // Rows that say nothing to it are not moved by it: their gradient is exactly zero.
            let teacher = bench.objectives.teachers().position(|(taught, _)| taught == k);
            let slopes = expected.1["shared"].as_ref().unwrap();
            let mut silent = 0;
            for row in 0..B {
                let said = teacher.is_some_and(|teacher| !columns.1[teacher][row].is_nan());
                let moved = slopes[row * D..(row + 1) * D].iter().any(|bits| f32::from_bits(*bits) != 0.0);
                let speaks = said || !settled.0[k][row].is_nan();
                silent += usize::from(!speaks);
                // An error of size 0, or one that a loss does not feel, moves nothing either.
                assert!(speaks || !moved, "{what}: row {row}");
            }
            assert!(silent > 0 || teacher.is_some() || objective.kind == Kind::Conditional, "{what}");
        }
    }
}

#[test]
fn a_task_without_labels_leaves_its_tower_and_all_others_alone() {
    for architecture in architectures() {
        let bench = Bench::new(architecture.clone());
        let columns = observed(&bench.objectives);
        let before = bench.losses(&columns);
        // Those that are looked at by no other loss.
        let alone = |k: &usize| (0..bench.objectives.len()).all(|other| other == *k || !bench.chain(other).contains(k));
        let tasks: Vec<usize> = (0..bench.objectives.len()).filter(alone).collect();
        assert_eq!(tasks.len(), bench.objectives.len() - 3);
        for k in tasks {
            let name = &bench.objectives.as_slice()[k].name;
            let what = format!("{architecture:?}, {name}");
            let mut silent = columns.clone();
            silent.0[k].fill(NO);
            // A label that follows from a condition is one: to have none, a conversion needs clicks that are not known to be missing.
            let mut expected = before.clone();
            if bench.objectives.given_index(k).is_some() {
                for condition in bench.chain(k) {
                    silent.0[condition].fill(NO);
                }
                expected = bench.losses(&silent);
            }
            if let Some(teacher) = bench.objectives.teachers().position(|(taught, _)| taught == k) {
                silent.1[teacher].fill(NO);
            }
            let losses = bench.losses(&silent);
            assert_eq!((losses[k].observed, losses[k].loss.to_scalar::<f32>().unwrap().to_bits()), (0, 0), "{what}");
            let sum = |losses: Vec<&Tensor>| losses.into_iter().cloned().reduce(|a, b| (a + b).unwrap()).unwrap();
            let others = expected.iter().enumerate().filter(|(other, _)| *other != k).map(|(_, task)| &task.loss);
            let others = bench.gradients(&sum(others.collect()));
            let all = bench.gradients(&sum(losses.iter().map(|task| &task.loss).collect()));
            assert_eq!(all.1, others.1, "{what}");
            let own = format!("towers.{name}.");
            assert!(all.1.iter().all(|(name, bits)| bits.is_none() || !name.starts_with(&own)), "{what}");
            assert!(all.1.iter().any(|(name, _)| name.starts_with(&own)), "{what}");
        }
    }
}
