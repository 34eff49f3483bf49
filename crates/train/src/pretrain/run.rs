//! The loop that both objectives share: seeded batches, warm-up and cosine, clipped AdamW.

use candle_core::Var;
use paretune_encoder::Gradients;
use paretune_optim::{AdamW, AdamWConfig, Groups, Schedule};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{PretrainConfig, PretrainStep};
use crate::TrainError;
use crate::differentiate::named;

/// What random numbers are for; each has a stream of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Order = 1,
    Masks = 2,
    Dropout = 3,
    HeldOut = 4,
}

/// Random numbers of one purpose, for one step or epoch.
pub(super) fn random(seed: u64, purpose: Purpose, number: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 48 | number as u64);
    rng
}

/// Is given a step's number and the texts of its batch; see [`run`].
type Answer<'a> = &'a mut dyn FnMut(usize, &[u32]) -> Result<Option<(f64, Gradients)>, TrainError>;

/// Runs all steps. `gradients` answers for the texts of a batch with the loss and its gradients, or with nothing where the batch has
/// nothing to teach.
pub(super) fn run(
    what: &str,
    parameters: Vec<(String, Var)>,
    texts: usize,
    config: &PretrainConfig,
    gradients: Answer<'_>,
    on_step: &mut dyn FnMut(PretrainStep),
) -> Result<Vec<PretrainStep>, TrainError> {
    let batch = config.batch.min(texts);
    let per_epoch = texts / batch;
    let steps = if config.steps > 0 { config.steps } else { per_epoch * config.epochs };
    let groups = Groups { weight_decay: config.weight_decay, ..Groups::default() };
    let mut optimizer = AdamW::new(AdamWConfig::default(), &groups, parameters.clone())?;
    let schedule = Schedule { warmup: config.warmup, ..Schedule::default() };
    let mut order: Vec<u32> = Vec::new();
    let mut curve = Vec::with_capacity(steps);
    for step in 0..steps {
        if step % per_epoch == 0 {
            order = (0..texts as u32).collect();
            order.shuffle(&mut random(config.seed, Purpose::Order, step / per_epoch));
        }
        let chosen = &order[step % per_epoch * batch..][..batch];
        let learning_rate = config.learning_rate * schedule.at(step, steps);
        let Some((loss, found)) = gradients(step, chosen)? else { continue };
        if !loss.is_finite() {
            return Err(TrainError::NotFinite {
                what: "the loss",
                objective: what.to_owned(),
                value: loss,
                step: step + 1,
                samples: batch,
                examples: format!("texts {:?}", &chosen[..batch.min(3)]),
            });
        }
        optimizer.step_clipped(&named(&found, &parameters)?, learning_rate, config.clip)?;
        let done = PretrainStep { step: step + 1, steps, loss, learning_rate };
        on_step(done);
        curve.push(done);
    }
    Ok(curve)
}
