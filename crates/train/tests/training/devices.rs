//! Training with the network of other devices, which on the CPU is Candle's operations in place of the kernels.

use std::panic::{AssertUnwindSafe, catch_unwind};

use paretune_encoder::Kernels;
use paretune_optim::{AdamWConfig, OptimizerConfig};
use paretune_recommender::Recommender;
use paretune_train::{HistoryMode, Observer, Silent, TrainEvent, Trainer, TrainingConfig};

use crate::world::{Diary, World, short, values};

/// Steps that divide by less: where a second moment is nearly 0, Adam makes much of the last digits.
fn config() -> TrainingConfig {
    let optimizer = AdamWConfig { eps: 1e-4, ..AdamWConfig::default() };
    TrainingConfig { optimizer: OptimizerConfig::AdamW(optimizer), checkpoint_every: 3, refresh_every: 4, ..short() }
}

fn world(kernels: Kernels) -> World {
    World { kernels, ..World::new() }
}

/// The losses of every step, in order.
fn losses(diary: &Diary) -> Vec<f64> {
    let step = |event: &TrainEvent| match event {
        TrainEvent::Step { losses, .. } => losses.values().copied().collect(),
        _ => Vec::new(),
    };
    diary.0.iter().flat_map(step).collect()
}

fn assert_near(a: &Recommender, b: &Recommender, what: &str) {
    for ((name, a), (same, b)) in a.parameters().all().into_iter().zip(b.parameters().all()) {
        assert_eq!(name, same);
        let off = values(&a).iter().zip(values(&b)).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(off < 1e-4, "{what}: {name} is off by {off}");
    }
}

#[test]
fn a_whole_run_is_that_of_the_kernels() {
    for (balance, history) in [
        ("method = \"mgda\"", HistoryMode::Cached),
        ("method = \"upgrad\"\ngradients = \"full\"", HistoryMode::Trained),
        ("method = \"graddrop\"\ngradients = \"full\"", HistoryMode::Cached),
        ("method = \"uncertainty\"", HistoryMode::Trained),
    ] {
        let config = TrainingConfig { history, ..config() };
        let run = |kernels| {
            let (world, mut diary) = (world(kernels), Diary::default());
            let balancer = world.balancer_of(balance, &[1.0, 1.0, 0.5, 1.0]);
            let (model, outcome) = world.train(&config, balancer, None, &mut diary);
            assert!(outcome.unwrap().steps > 12);
            (model, losses(&diary))
        };
        let ((fused, expected), (composed, found)) = (run(Kernels::Fused), run(Kernels::Composed));
        assert_eq!(expected.len(), found.len());
        assert_ne!(expected, found, "one was compared with itself");
        for (a, b) in expected.iter().zip(&found) {
            assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{balance}: {a} and {b}");
        }
        assert_near(&fused, &composed, balance);
    }
}

/// Dies at the `left`-th event from now.
struct Mortal {
    left: usize,
}

impl Observer for Mortal {
    fn observe(&mut self, _event: &TrainEvent) {
        assert!(self.left > 0, "killed");
        self.left -= 1;
    }
}

#[test]
fn a_run_that_was_cut_off_goes_on_with_the_other_network() {
    let balance = "method = \"mgda\"";
    let weights = [1.0, 1.0, 0.5, 1.0];
    // Averages of weights move along.
    let config = TrainingConfig { ema: 0.9, ..config() };
    let fused = world(Kernels::Fused);
    let (straight, outcome) = fused.train(&config, fused.balancer_of(balance, &weights), None, &mut Silent);
    for (from, to) in [(Kernels::Fused, Kernels::Composed), (Kernels::Composed, Kernels::Fused)] {
        let (first, second) = (world(from), world(to));
        let dir = tempfile::tempdir().unwrap();
        let died = catch_unwind(AssertUnwindSafe(|| {
            let balancer = first.balancer_of(balance, &weights);
            first.train(&config, balancer, Some(dir.path()), &mut Mortal { left: 9 })
        }));
        assert!(died.is_err());
        let model = second.model();
        let balancer = second.balancer_of(balance, &weights);
        let trainer =
            Trainer::new(&model, &second.corpus, &second.objectives, &config, balancer, Some(dir.path()), 9).unwrap();
        assert!(trainer.done() > 0);
        assert_eq!(trainer.run(&mut Silent).unwrap().steps, outcome.as_ref().unwrap().steps);
        assert_near(&straight, &model, &format!("{from:?} to {to:?}"));
    }
}
