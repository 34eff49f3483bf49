//! The loop.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::Tensor;
use paretune_data::Part;
use paretune_objectives::Objectives;
use paretune_optim::{Ema, Gradients, Optimizer, accumulate};
use paretune_recommender::{Batch, Corpus, Parameters, Recommender};

use crate::{
    Balancer, HistoryMode, Observer, Plan, Stream, TrainError, TrainEvent, TrainingConfig,
    checkpoint::{self, State, Tensors},
    depth,
    evaluation::Monitor,
    plan::Batches,
    preference::Preferences,
    step,
};

mod explain;
mod saving;

/// How a training run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Steps done.
    pub steps: usize,
    /// Best value of the monitored combination, if there was a validation.
    pub best: Option<f64>,
    /// Passes over the training rows that had been made when it was found.
    pub best_epoch: f64,
    /// Whether early stopping ended it.
    pub stopped_early: bool,
}

/// What a validation saw.
struct Sight {
    metrics: BTreeMap<String, f64>,
    value: f64,
    /// The weights, if they are the best so far.
    better: Option<Tensors>,
}

/// Trains one model; see the crate's documentation for what a step does.
pub struct Trainer<'a> {
    model: &'a Recommender,
    corpus: &'a Corpus,
    objectives: &'a Objectives,
    config: &'a TrainingConfig,
    plan: Arc<dyn Batches + 'a>,
    parameters: Parameters,
    optimizer: Box<dyn Optimizer>,
    average: Option<Ema>,
    balancer: Balancer,
    /// Absent where nothing is held out for validation.
    monitor: Option<Monitor<'a>>,
    /// Passes after which training ends, whatever it was planned for.
    until: Option<f64>,
    preferences: Option<Preferences>,
    checkpoints: Option<PathBuf>,
    seed: u64,
    state: State,
    best: Option<Tensors>,
}

impl<'a> Trainer<'a> {
    /// Prepares a run. With `checkpoints`, the state is saved there and a run that was cut off goes on from the newest one.
    ///
    /// # Errors
    /// A configuration that makes no sense, an empty training part, a checkpoint that does not fit.
    pub fn new(
        model: &'a Recommender,
        corpus: &'a Corpus,
        objectives: &'a Objectives,
        config: &'a TrainingConfig,
        balancer: Balancer,
        checkpoints: Option<&Path>,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let plan = Plan::new(corpus, objectives, config, seed)?.for_model(model, config);
        Self::over(Arc::new(plan), model, corpus, objectives, config, balancer, checkpoints, seed)
    }

    /// As [`Self::new`], over a log that is too large for memory, of which one part after the other is read. Validation looks at
    /// the stream's sample of users.
    ///
    /// # Errors
    /// Those of [`Self::new`], and a model or an objective that needs the whole log at once.
    pub fn streamed(
        model: &'a Recommender,
        stream: &'a Stream,
        objectives: &'a Objectives,
        config: &'a TrainingConfig,
        balancer: Balancer,
        checkpoints: Option<&Path>,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let plan = stream.batches(model, objectives, config, seed)?;
        Self::over(Arc::new(plan), model, stream.sample(), objectives, config, balancer, checkpoints, seed)
    }

    #[expect(clippy::too_many_arguments, reason = "those of both constructors, and what tells them apart")]
    fn over(
        plan: Arc<dyn Batches + 'a>,
        model: &'a Recommender,
        corpus: &'a Corpus,
        objectives: &'a Objectives,
        config: &'a TrainingConfig,
        mut balancer: Balancer,
        checkpoints: Option<&Path>,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let preferences = Self::checked(model, config, &balancer, seed)?;
        let validates = !corpus.split.rows(Part::Valid).is_empty();
        let monitor = validates.then(|| {
            let negatives = if corpus.only_positives() { config.negatives } else { 0 };
            Monitor::new(corpus, objectives, &config.monitor, negatives, config.validation_users, seed)
        });
        let parameters = model.parameters();
        let groups = depth::groups(model, &parameters, config);
        balancer.start(plan.steps())?;
        let mut trainer = Self {
            monitor: monitor.transpose()?,
            until: None,
            optimizer: config.optimizer.build(&groups, parameters.all())?,
            average: config.average().map(|average| Ema::new(average, parameters.all())).transpose()?,
            preferences,
            model,
            corpus,
            objectives,
            config,
            plan,
            parameters,
            balancer,
            checkpoints: checkpoints.map(Path::to_path_buf),
            seed,
            state: State {
                step: 0,
                best: None,
                best_step: 0,
                since_best: 0,
                balancer: None,
                finished: false,
                stopped_early: false,
            },
            best: None,
        };
        if let Some(path) = checkpoints.and_then(checkpoint::latest) {
            trainer.restore(&path)?;
        }
        Ok(trainer)
    }

    /// Whether a model can be trained so, as far as that shows without data: what [`Self::new`] refuses besides.
    ///
    /// # Errors
    /// Settings that do not fit each other.
    pub fn check(
        model: &Recommender,
        config: &TrainingConfig,
        balancer: &Balancer,
        seed: u64,
    ) -> Result<(), TrainError> {
        Self::checked(model, config, balancer, seed).map(drop)
    }

    fn checked(
        model: &Recommender,
        config: &TrainingConfig,
        balancer: &Balancer,
        seed: u64,
    ) -> Result<Option<Preferences>, TrainError> {
        config.check_moves()?;
        if config.sam.is_some() && !balancer.weighs() {
            let (field, value) = ("sam", "set".into());
            let problem =
                "graddrop answers with no weights to use again at the peak: leave it out, or take another method";
            return Err(TrainError::BadConfig { field, value, problem });
        }
        Preferences::new(model, balancer, config.dirichlet, seed)
    }

    /// Ends training after so many passes over the training rows, at the learning rates of the training that was planned: as far as another one
    /// was best ([`Outcome::best_epoch`]).
    #[must_use]
    pub fn until(self, epochs: f64) -> Self {
        Self { until: Some(epochs), ..self }
    }

    /// Steps already done by the checkpoint that was found.
    pub fn done(&self) -> usize {
        self.state.step
    }

    /// Trains to the end and leaves the best weights in the model.
    ///
    /// # Errors
    /// A loss that is not finite, a disk that is full, a failing tensor operation.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        let steps = self.plan.steps();
        let end = self.until.map(|epochs| (epochs * self.plan.steps_per_epoch() as f64).round() as usize);
        let end = end.map_or(steps, |end| end.clamp(1, steps));
        observer.observe(&TrainEvent::Start { step: self.state.step, steps: end });
        if !self.state.finished {
            self.train(steps, end, observer)?;
            if self.monitor.is_none() {
                self.keep()?;
            }
            self.state.finished = true;
            self.save(observer)?;
        }
        depth::wake(self.model, 0.0, steps, steps);
        if let Some(best) = &self.best {
            checkpoint::restore(&self.parameters.all(), best, Path::new("best weights"))?;
        }
        observer.observe(&TrainEvent::End { step: self.state.step, stopped_early: self.state.stopped_early });
        Ok(Outcome {
            steps: self.state.step,
            best: self.state.best,
            best_epoch: self.state.best_step as f64 / self.plan.steps_per_epoch() as f64,
            stopped_early: self.state.stopped_early,
        })
    }

    /// Trains for `end` steps at the learning rates of a training of `steps`.
    fn train(&mut self, steps: usize, end: usize, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let schedule = self.config.schedule();
        let moves = steps.div_ceil(self.config.accumulate);
        let between = self.plan.steps_per_epoch() as f64 / self.config.validations;
        let validate_every = self.whole_moves((between.ceil() as usize).max(1));
        let save_every = self.whole_moves(self.config.checkpoint_every);
        let mut known = self.model.embed(&self.corpus.tokens, None)?;
        let mut sum = Gradients::new();
        while self.state.step < end && !self.state.stopped_early {
            let plan = Arc::clone(&self.plan);
            plan.visit(self.state.step, &mut |mut batch| {
                let step = self.state.step;
                if let Some(preferences) = &self.preferences {
                    preferences.set(step, &mut batch, &mut self.balancer)?;
                }
                depth::wake(self.model, self.config.unfreeze, step, steps);
                let multiplier = schedule.at(step / self.config.accumulate, moves);
                let result = self.gradients(&batch, &known)?;
                if self.config.accumulate == 1 {
                    sum = result.gradients;
                } else {
                    // The last move may have fewer batches than the others.
                    let first = step / self.config.accumulate * self.config.accumulate;
                    let batches = self.config.accumulate.min(end - first);
                    accumulate(&mut sum, &result.gradients, 1.0 / batches as f64)?;
                }
                let mut norm = 0.0;
                if (step + 1).is_multiple_of(self.config.accumulate) || step + 1 == end {
                    let moved = self.move_parameters(&std::mem::take(&mut sum), multiplier);
                    norm = moved.map_err(|error| self.explain(error, &batch))?;
                    self.listen(&batch, &known)?;
                }
                self.state.step = step + 1;
                self.balancer.end_step();
                if self.state.step.is_multiple_of(plan.steps_per_epoch()) {
                    self.balancer.end_epoch();
                }
                let named = |values: &[f64]| {
                    let finite = self.objectives.iter().zip(values).filter(|(_, value)| value.is_finite());
                    finite.map(|(objective, value)| (objective.name.clone(), *value)).collect()
                };
                observer.observe(&TrainEvent::Step {
                    step: self.state.step,
                    steps: end,
                    losses: named(&result.losses),
                    added: result.added.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
                    weights: named(&result.weights),
                    gradient_norm: norm,
                    learning_rate: self.config.learning_rate * multiplier,
                    samples: batch.len(),
                });
                let last = self.state.step == end;
                let validates = last || self.state.step.is_multiple_of(validate_every);
                let saves = validates || (save_every > 0 && self.state.step.is_multiple_of(save_every));
                let refreshes = self.config.history == HistoryMode::Cached
                    && self.config.refresh_every > 0
                    && self.state.step.is_multiple_of(self.config.refresh_every);
                // A resumed run embeds the catalogue when it starts, so a run that was not cut off must do so wherever it saves.
                if self.reads_texts() && (saves || refreshes) {
                    known = self.model.embed(&self.corpus.tokens, None)?;
                }
                if validates {
                    self.validate(&known, observer)?;
                }
                if saves && !last && !self.state.stopped_early {
                    self.save(observer)?;
                }
                Ok(if last || self.state.stopped_early { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        Ok(())
    }

    /// Whether there is an encoder that learns: what one that does not says of the catalogue stays as it was.
    fn reads_texts(&self) -> bool {
        !self.parameters.backbone.is_empty()
    }

    /// Rounds a number of steps up to whole moves of the parameters, since a half-accumulated gradient is not saved.
    fn whole_moves(&self, steps: usize) -> usize {
        steps.div_ceil(self.config.accumulate) * self.config.accumulate
    }

    fn gradients(&mut self, batch: &Batch, known: &Tensor) -> Result<step::StepGradients, TrainError> {
        let options = self.options();
        let (model, parameters) = (self.model, &self.parameters);
        let found = step::balanced_gradients(model, parameters, batch, known, &mut self.balancer, options)
            .map_err(|error| self.explain(error, batch))?;
        let Some(sam) = self.config.sam else { return Ok(found) };
        // The same batch, dropout and weights: at the peak, too, it is the gradient of one function.
        let (weights, balancer) = (&found.weights, &self.balancer);
        let peak = sam.at_peak(&parameters.all(), &found.gradients, || {
            step::gradients_with_weights(model, parameters, batch, known, weights, balancer, options)
        });
        let gradients = peak.map_err(|error| self.explain(error, batch))?;
        Ok(step::StepGradients { gradients, ..found })
    }

    /// Tells a balancing method that asks for it what the step made of the same batch's losses.
    fn listen(&mut self, batch: &Batch, known: &Tensor) -> Result<(), TrainError> {
        if !self.balancer.listens() {
            return Ok(());
        }
        let losses = step::losses(self.model, batch, known, self.options());
        let losses = losses.map_err(|error| self.explain(error, batch))?;
        self.balancer.after_step(&losses)
    }

    /// The seed of this step's dropout, and how many texts it takes at a time.
    fn options(&self) -> step::StepOptions {
        let dropout = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.state.step as u64);
        step::StepOptions { dropout, chunk: self.config.chunk }
    }

    fn move_parameters(&mut self, gradients: &Gradients, multiplier: f64) -> Result<f64, TrainError> {
        let norm = self.optimizer.step_clipped(gradients, self.config.learning_rate * multiplier, self.config.clip)?;
        if let Some(average) = &mut self.average {
            average.update()?;
        }
        Ok(norm)
    }

    fn validate(&mut self, known: &Tensor, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let Some(monitor) = &self.monitor else { return Ok(()) };
        let Sight { metrics, value, better } = match &self.average {
            None => self.look(monitor, known)?,
            Some(average) if self.reads_texts() => average.in_place_of_parameters(|| {
                let known = self.model.embed(&self.corpus.tokens, None)?;
                self.look(monitor, &known)
            })?,
            Some(average) => average.in_place_of_parameters(|| self.look(monitor, known))?,
        };
        let skills = Monitor::skills(&metrics, self.objectives).into_iter();
        self.balancer.observe(&skills.map(|skill| skill.filter(|value| value.is_finite())).collect::<Vec<_>>())?;
        let best = better.is_some();
        if best {
            self.state.best = Some(value);
            self.state.best_step = self.state.step;
            self.state.since_best = 0;
            self.best = better;
        } else {
            self.state.since_best += 1;
            self.state.stopped_early = self.config.patience > 0 && self.state.since_best >= self.config.patience;
        }
        observer.observe(&TrainEvent::Validation { step: self.state.step, metrics, monitor: value, best });
        Ok(())
    }

    /// Measures the weights that are in the model now, and keeps them if they are the best so far.
    fn look(&self, monitor: &Monitor<'_>, known: &Tensor) -> Result<Sight, TrainError> {
        let (metrics, value) = match &self.preferences {
            None => {
                let metrics = monitor.measure(self.model, self.corpus, self.objectives, known)?;
                let value = monitor.combine(&metrics, self.objectives, self.balancer.wanted())?;
                (metrics, value)
            }
            Some(preferences) => monitor.over(&preferences.grid(), self.model, self.corpus, self.objectives, known)?,
        };
        // What cannot be measured is never better, and anything is better than it.
        let best = self.state.best.is_none_or(|best| value > best || best.is_nan());
        let better = best.then(|| checkpoint::snapshot(&self.parameters.all())).transpose()?;
        Ok(Sight { metrics, value, better })
    }
}
