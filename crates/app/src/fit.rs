//! One training of one model.

use std::path::Path;

use anyhow::Context;
use paretune_recommender::Recommender;
use paretune_train::{BalanceConfig, Balancer, Observer, Outcome, Silent, TrainEvent, Trainer, TrainingConfig};

use crate::{
    job::{Job, Variant},
    progress::{Progress, Show},
};

/// What is trained, and where it leaves its traces.
pub(crate) struct Fit<'a> {
    pub(crate) variant: Variant,
    /// Weights of the objectives, in their order.
    pub(crate) weights: &'a [f64],
    /// Folder of the checkpoints, from which a training that was cut off goes on.
    pub(crate) checkpoints: &'a Path,
    /// File that keeps what happens.
    pub(crate) log: Option<&'a Path>,
    /// What people are told that this is.
    pub(crate) label: &'a str,
    /// Passes over the training rows after which it ends, at the learning rates of the training that is configured.
    pub(crate) until: Option<f64>,
}

impl<'a> Fit<'a> {
    /// As long as is configured, without a log.
    pub(crate) fn new(variant: Variant, weights: &'a [f64], checkpoints: &'a Path, label: &'a str) -> Self {
        Self { variant, weights, checkpoints, log: None, label, until: None }
    }

    /// Trains a fresh model (or goes on with its checkpoint) and returns it with its best weights.
    pub(crate) fn run(&self, job: &Job, show: Show) -> anyhow::Result<(Recommender, (Outcome, Progress))> {
        self.watched(job, show, &mut Silent)
    }

    /// As [`Self::run`], with somebody who is told what happens.
    pub(crate) fn watched(
        &self,
        job: &Job,
        show: Show,
        watch: &mut dyn Observer,
    ) -> anyhow::Result<(Recommender, (Outcome, Progress))> {
        let model = job.new_model(self.variant)?;
        let config = TrainingConfig { epochs: self.variant.epochs, ..job.config.training.clone() };
        let (folder, seed) = (self.checkpoints, job.config.seed);
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let balancer = Balancer::new(&job.config.balance, &job.objectives, self.weights)?;
        let folder = Some(folder);
        let trainer = match &job.stream {
            Some(stream) => Trainer::streamed(&model, stream, &job.objectives, &config, balancer, folder, seed)?,
            None => Trainer::new(&model, &job.corpus, &job.objectives, &config, balancer, folder, seed)?,
        };
        let trainer = match self.until {
            Some(epochs) => trainer.until(epochs),
            None => trainer,
        };
        let mut progress = Progress::new(show, self.label, self.log, trainer.done())?;
        let outcome = trainer.run(&mut Watched { progress: &mut progress, watch })?;
        Ok((model, (outcome, progress)))
    }
}

/// Whether a model can be trained under this balance, before anything is trained.
pub(crate) fn check(job: &Job, model: &Recommender, balance: &BalanceConfig) -> anyhow::Result<()> {
    let balancer = Balancer::new(balance, &job.objectives, &job.weights())?;
    Ok(Trainer::check(model, &job.config.training, &balancer, job.config.seed)?)
}

/// Shows what happens and tells somebody else as well.
struct Watched<'a> {
    progress: &'a mut Progress,
    watch: &'a mut dyn Observer,
}

impl Observer for Watched<'_> {
    fn observe(&mut self, event: &TrainEvent) {
        self.watch.observe(event);
        self.progress.observe(event);
    }
}
