//! Closed forms, and a world in which the truth is known.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Three contexts and four actions with known mean rewards; the log prefers some actions, the target others.
struct World {
    reward: [[f64; 4]; 3],
    logging: [[f64; 4]; 3],
    target: [[f64; 4]; 3],
}

const WORLD: World = World {
    reward: [[0.1, 0.5, 0.3, 0.9], [0.2, 0.7, 0.6, 0.1], [0.4, 0.3, 0.8, 0.5]],
    logging: [[0.6, 0.2, 0.15, 0.05], [0.5, 0.1, 0.1, 0.3], [0.25, 0.25, 0.25, 0.25]],
    target: [[0.05, 0.2, 0.05, 0.7], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.7, 0.1]],
};

impl World {
    fn truth(&self) -> f64 {
        let value = |context: usize| (0..4).map(|a| self.target[context][a] * self.reward[context][a]).sum::<f64>();
        (0..3).map(value).sum::<f64>() / 3.0
    }

    /// Decisions, with what a reward model that is off by a half says of them and of the target.
    fn log(&self, decisions: usize, seed: u64) -> (OffPolicy, Vec<f64>, Vec<f64>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut rewards, mut logging, mut target, mut predicted, mut expected) =
            (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..decisions {
            let context = random.random_range(0..3);
            let mut draw: f64 = random.random();
            let action = (0..3).find(|a| {
                draw -= self.logging[context][*a];
                draw < 0.0
            });
            let action = action.unwrap_or(3);
            rewards.push(f64::from(u8::from(random.random::<f64>() < self.reward[context][action])));
            logging.push(self.logging[context][action]);
            target.push(self.target[context][action]);
            let model = |a: usize| 0.5 * self.reward[context][a] + 0.1;
            predicted.push(model(action));
            expected.push((0..4).map(|a| self.target[context][a] * model(a)).sum());
        }
        (OffPolicy::new(&rewards, &logging, &target).unwrap(), predicted, expected)
    }
}

#[test]
fn weighted_estimates_find_the_truth_and_the_naive_one_does_not() {
    let truth = WORLD.truth();
    let (log, predicted, expected) = WORLD.log(40_000, 1);
    let robust = log.doubly_robust(&predicted, &expected, f64::INFINITY).unwrap();
    for (name, estimate) in [("ips", log.ips()), ("snips", log.snips()), ("dr", robust)] {
        let (low, high) = estimate.interval();
        assert!(low - 0.01 < truth && truth < high + 0.01, "{name}: {estimate:?}, truth {truth}");
        assert!(estimate.error < 0.02, "{name}: {estimate:?}");
    }
    assert!((log.naive().value - truth).abs() > 0.2);
    // A reward model takes noise away, even a wrong one; and alone it is wrong.
    assert!(robust.error < log.ips().error);
    assert!((expected.iter().sum::<f64>() / 40_000.0 - truth).abs() > 0.1);
    let mean = log.mean_weight();
    assert!((mean.value - 1.0).abs() < 4.0 * mean.error);
}

/// Intervals at 95 % hold the truth about as often.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let truth = WORLD.truth();
    let mut held = [0; 3];
    for seed in 0..300 {
        let (log, predicted, expected) = WORLD.log(600, 100 + seed);
        let robust = log.doubly_robust(&predicted, &expected, f64::INFINITY).unwrap();
        for (count, estimate) in held.iter_mut().zip([log.ips(), log.snips(), robust]) {
            let (low, high) = estimate.interval();
            *count += usize::from(low <= truth && truth <= high);
        }
    }
    assert!(held.iter().all(|count| (265..=298).contains(count)), "{held:?} of 300");
}

#[test]
fn estimates_have_their_closed_forms() {
    let log = OffPolicy::new(&[1.0, 0.0, 2.0, 1.0], &[0.5, 0.25, 0.2, 1.0], &[0.25, 0.5, 0.8, 0.5]).unwrap();
    assert_eq!(log.weights(), [0.5, 2.0, 4.0, 0.5]);
    assert_eq!(log.naive().value, 1.0);
    assert_eq!(log.ips().value, (0.5 + 8.0 + 0.5) / 4.0);
    assert_eq!(log.clipped(2.0).value, (0.5 + 4.0 + 0.5) / 4.0);
    assert_eq!(log.snips().value, 9.0 / 7.0);
    assert_eq!(log.effective_size(), 49.0 / (0.25 + 4.0 + 16.0 + 0.25));
    let robust = log.doubly_robust(&[1.0, 0.5, 1.0, 0.0], &[0.5; 4], f64::INFINITY).unwrap();
    assert_eq!(robust.value, 0.5 + (0.0 - 1.0 + 4.0 + 0.5) / 4.0);
    // A model that is right about everything needs no log.
    assert_eq!(log.doubly_robust(&[1.0, 0.0, 2.0, 1.0], &[0.7; 4], 10.0).unwrap().value, 0.7);
    let nothing = OffPolicy::new(&[1.0], &[0.5], &[0.0]).unwrap();
    assert_eq!((nothing.snips().value, nothing.effective_size()), (0.0, 0.0));
}

#[test]
fn what_is_no_log_is_refused_with_its_row() {
    let refused = |rewards: &[f64], logging: &[f64], target: &[f64]| {
        OffPolicy::new(rewards, logging, target).unwrap_err().to_string()
    };
    assert!(refused(&[], &[], &[]).contains("log of decisions"));
    assert!(refused(&[1.0], &[0.5, 0.5], &[1.0]).contains("logging probabilities has 2"));
    assert!(refused(&[1.0, 1.0], &[0.5, 0.0], &[1.0, 1.0]).contains("row 1"));
    assert!(refused(&[1.0], &[0.5], &[1.5]).contains("from 0 to 1"));
    assert!(refused(&[f64::NAN], &[0.5], &[1.0]).contains("the reward"));
    assert!(OffPolicy::new(&[1.0], &[0.5], &[1.0]).unwrap().doubly_robust(&[], &[1.0], 1.0).is_err());
}
