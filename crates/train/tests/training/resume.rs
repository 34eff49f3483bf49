//! A run that is cut off and goes on ends with the bytes of one that was not.

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use paretune_objectives::Conditioning;
use paretune_optim::{Decay, Method, Sam};
use paretune_train::{
    GradientCut, HistoryMode, Observer, Silent, TrainError, TrainEvent, Trainer, TrainingConfig, latest_checkpoint,
};

use crate::world::{Diary, World, bits, short};

/// Dies at the `left`-th event from now.
pub(crate) struct Mortal {
    pub(crate) left: usize,
}

impl Observer for Mortal {
    fn observe(&mut self, _event: &TrainEvent) {
        assert!(self.left > 0, "killed");
        self.left -= 1;
    }
}

/// Name and content of every file of the newest checkpoint.
pub(crate) fn newest(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(latest_checkpoint(folder).unwrap()).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

fn check_resumed_is_straight(config: &TrainingConfig, balance: &str) {
    check_resumed_in(&World::new(), config, balance);
}

fn check_resumed_in(world: &World, config: &TrainingConfig, balance: &str) {
    let balancer = || world.balancer_of(balance, &[1.0, 1.0, 0.5, 1.0]);
    let straight_dir = tempfile::tempdir().unwrap();
    let mut diary = Diary::default();
    let (straight, outcome) = world.train(config, balancer(), Some(straight_dir.path()), &mut diary);
    let outcome = outcome.unwrap();
    let events = diary.0;
    for cut_at in [2, events.len() / 3, events.len() / 2, events.len() - 3, events.len() - 1] {
        let dir = tempfile::tempdir().unwrap();
        let died = catch_unwind(AssertUnwindSafe(|| {
            world.train(config, balancer(), Some(dir.path()), &mut Mortal { left: cut_at })
        }));
        assert!(died.is_err());
        let model = world.model();
        let trainer =
            Trainer::new(&model, &world.corpus, &world.objectives, config, balancer(), Some(dir.path()), 9).unwrap();
        let done = trainer.done();
        assert!(done <= events[cut_at].step());
        let mut after = Diary::default();
        assert_eq!(trainer.run(&mut after).unwrap(), outcome);
        assert_eq!(bits(&model), bits(&straight), "cut at event {cut_at}, resumed at step {done}");
        assert!(newest(dir.path()) == newest(straight_dir.path()), "the last checkpoint differs");
        // What was told after the checkpoint is what would have been told.
        let rest: Vec<&TrainEvent> = events.iter().filter(|event| event.step() > done).collect();
        let told: Vec<&TrainEvent> = after.0.iter().filter(|event| event.step() > done).collect();
        assert_eq!(told, rest);
    }
}

#[test]
fn with_balanced_gradients_and_cached_histories() {
    let config = TrainingConfig { checkpoint_every: 3, refresh_every: 4, epochs: 2, ..short() };
    check_resumed_is_straight(&config, "method = \"mgda\"");
}

#[test]
fn with_a_method_that_remembers_and_accumulated_gradients() {
    let config =
        TrainingConfig { checkpoint_every: 3, accumulate: 2, history: HistoryMode::Trained, negatives: 1, ..short() };
    check_resumed_is_straight(&config, "method = \"uncertainty\"");
}

#[test]
fn with_weights_that_are_kept_over_all_parameters() {
    let config = TrainingConfig { checkpoint_every: 2, ..short() };
    check_resumed_is_straight(&config, "method = \"nash-mtl\"\nrefresh = 3\ngradients = \"full\"");
}

#[test]
fn with_a_method_that_remembers_a_number_for_every_value() {
    let config = TrainingConfig { checkpoint_every: 3, ..short() };
    check_resumed_is_straight(&config, "method = \"excess-mtl\"");
}

#[test]
fn with_methods_that_hear_of_steps_and_epochs() {
    let config = TrainingConfig { checkpoint_every: 4, epochs: 2, ..short() };
    check_resumed_is_straight(&config, "method = \"famo\"\nupdate = \"same-batch\"");
    let config = TrainingConfig { max_steps: 30, epochs: 4, checkpoint_every: 13, ..short() };
    check_resumed_is_straight(&config, "method = \"dwa\"\nwindow = 0");
}

#[test]
fn with_preferences_that_follow_what_is_measured() {
    let config = TrainingConfig { checkpoint_every: 3, validations: 4.0, ..short() };
    let control = "control = { kind = \"target\", floors = { satisfaction = 0.9 } }";
    check_resumed_is_straight(&config, &format!("method = \"weighted-sum\"\n{control}"));
}

#[test]
fn with_preferences_drawn_at_every_step() {
    let config = TrainingConfig { checkpoint_every: 3, ..short() };
    let film = World::conditioned(Conditioning::Film);
    check_resumed_in(&film, &config, "method = \"weighted-sum\"");
    let config = TrainingConfig { accumulate: 2, dirichlet: 0.4, ..config };
    check_resumed_in(&World::conditioned(Conditioning::Hypernetwork), &config, "method = \"upgrad\"");
    check_resumed_in(&film, &TrainingConfig { max_steps: 8, ..config }, "method = \"graddrop\"");
}

#[test]
fn with_early_stopping() {
    let config = TrainingConfig { epochs: 4, validations: 4.0, patience: 1, learning_rate: 0.2, ..short() };
    check_resumed_is_straight(&config, "method = \"weighted-sum\"");
}

/// A run with many things to remember, and what differs.
fn with(optimizer: &str, rest: TrainingConfig) -> TrainingConfig {
    let optimizer = serde_json::from_str(optimizer).unwrap();
    TrainingConfig { optimizer, checkpoint_every: 3, refresh_every: 4, ..rest }
}

#[test]
fn with_adamw_along_one_cycle_with_sam() {
    let config = TrainingConfig { schedule: Decay::OneCycle, sam: Some(Sam::default()), ..short() };
    check_resumed_is_straight(&with(r#""adamw""#, config), "method = \"mgda\"");
}

#[test]
fn with_lamb_and_averaged_weights() {
    let config = TrainingConfig { ema: 0.9, epochs: 2, ..short() };
    check_resumed_is_straight(&with(r#""lamb""#, config), "method = \"weighted-sum\"");
}

#[test]
fn with_adafactor_and_adaptive_sam_over_accumulated_gradients() {
    let sam = Some(Sam { rho: 0.5, adaptive: true });
    let config = TrainingConfig { sam, accumulate: 2, schedule: Decay::InverseRoot, ..short() };
    let optimizer = r#"{"name": "adafactor", "relative_step": true}"#;
    check_resumed_is_straight(&with(optimizer, config), "method = \"uncertainty\"");
}

#[test]
fn with_sgd_sam_and_averaged_weights() {
    let config = TrainingConfig { sam: Some(Sam::default()), ema: 0.99, schedule: Decay::Linear, ..short() };
    check_resumed_is_straight(&with(r#""sgd""#, config), "method = \"mgda\"\ngradients = \"full\"\nrefresh = 2");
}

#[test]
fn a_checkpoint_of_another_optimizer_or_without_averages_is_refused() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let train = |config: &TrainingConfig| {
        let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
        world.train(config, balancer, Some(dir.path()), &mut Silent).1
    };
    let config = TrainingConfig { max_steps: 2, ..short() };
    train(&config).unwrap();
    let refused = train(&with(r#""sgd""#, config.clone())).unwrap_err().to_string();
    assert!(refused.contains("momentum is missing from the sgd optimizer"), "{refused}");
    let refused = train(&TrainingConfig { ema: 0.9, ..config.clone() }).unwrap_err().to_string();
    assert!(refused.contains("it has no averages") && refused.contains("resume with the configuration"), "{refused}");
    fs::remove_dir_all(latest_checkpoint(dir.path()).unwrap()).unwrap();
    train(&TrainingConfig { ema: 0.9, ..config.clone() }).unwrap();
    let refused = train(&config).unwrap_err().to_string();
    assert!(refused.contains("it has averages"), "{refused}");
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let balancer = || world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
    let (first, outcome) = world.train(&short(), balancer(), Some(dir.path()), &mut Silent);
    let before = newest(dir.path());
    let mut diary = Diary::default();
    let (again, same) = world.train(&short(), balancer(), Some(dir.path()), &mut diary);
    assert_eq!(outcome.unwrap(), same.unwrap());
    assert_eq!(bits(&first), bits(&again));
    assert!(diary.0.iter().all(|event| matches!(event, TrainEvent::Start { .. } | TrainEvent::End { .. })));
    assert!(before == newest(dir.path()));
}

#[test]
fn few_checkpoints_are_kept_and_none_is_half_there() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
    let config = TrainingConfig { checkpoint_every: 2, ..short() };
    world.train(&config, balancer, Some(dir.path()), &mut Silent).1.unwrap();
    let names: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("step-")), "{names:?}");
}

#[test]
fn a_broken_checkpoint_is_named_and_the_one_before_it_serves() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let balancer = || world.balancer(Method::Uncertainty, GradientCut::Shared, &[1.0; 4]);
    let config = TrainingConfig { checkpoint_every: 3, ..short() };
    let (straight, outcome) = world.train(&config, balancer(), Some(dir.path()), &mut Silent);
    outcome.unwrap();
    let last = latest_checkpoint(dir.path()).unwrap();
    let resumed = || world.train(&config, balancer(), Some(dir.path()), &mut Silent);
    for name in ["model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"] {
        let whole = fs::read(last.join(name)).unwrap();
        fs::write(last.join(name), &whole[..whole.len() / 2]).unwrap();
        let refused = resumed().1.unwrap_err();
        assert!(matches!(refused, TrainError::BadCheckpoint { .. }), "{refused:?}");
        assert!(refused.to_string().contains(name) && refused.to_string().contains("delete it"), "{refused}");
        fs::write(last.join(name), whole).unwrap();
    }
    fs::remove_dir_all(&last).unwrap();
    let (again, outcome) = resumed();
    outcome.unwrap();
    assert_eq!(bits(&again), bits(&straight));
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
    world.train(&TrainingConfig { max_steps: 2, ..short() }, balancer, Some(dir.path()), &mut Silent).1.unwrap();
    let other = World::with_only(&["click", "satisfaction"]);
    let balancer = other.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 2]);
    assert!(other.train(&short(), balancer, Some(dir.path()), &mut Silent).1.is_err());
    let balancer = world.balancer(Method::Mgda, GradientCut::Shared, &[1.0; 4]);
    let refused = world.train(&short(), balancer, Some(dir.path()), &mut Silent).1.unwrap_err().to_string();
    assert!(refused.contains("weighted-sum"), "{refused}");
}
