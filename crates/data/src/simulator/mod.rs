//! A marketplace that never was: items with natural texts, users with latent tastes, and a log of what happened between them.
//!
//! Its trade-offs are real. Bait collects clicks and disappoints: lower ratings, shorter dwell, fewer conversions. Dear items convert
//! less, yet price follows quality, so they satisfy more. Large providers get most of the exposure whatever they are worth. The log
//! comes from a known policy with propensities, and the [`Truth`] is kept, so a test can ask how close a model came to it.
//!
//! ```
//! use paretune_data::simulator::{Simulation, SimulationConfig};
//!
//! let config = SimulationConfig { items: 120, users: 40, ..SimulationConfig::default() };
//! let (dataset, truth) = Simulation::new(config).run()?;
//! assert_eq!(dataset.items.len(), truth.items.len());
//! println!("{}", dataset.items.field(0, "title").unwrap_or_default());
//! # Ok::<(), paretune_data::DataError>(())
//! ```

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{DataError, Dataset};

mod catalogue;
mod config;
mod files;
mod logging;
mod population;
mod products;
#[cfg(test)]
mod tests;
mod topic;
mod truth;
mod vocabulary;

pub use config::SimulationConfig;
pub use files::write;
pub use topic::TOPICS;
pub use truth::{ItemTruth, Truth, UserTruth};

use topic::Directions;

/// The log starts on Monday, 6 January 2025, 00:00 UTC.
const START: i64 = 1_736_121_600;

/// A marketplace about to be simulated.
#[derive(Clone, Debug)]
pub struct Simulation {
    config: SimulationConfig,
}

impl Simulation {
    /// Takes the configuration; [`run`](Self::run) checks it.
    pub fn new(config: SimulationConfig) -> Self {
        Self { config }
    }

    /// Simulates: the data set a recommender may see, and the truth it may not.
    ///
    /// # Errors
    /// A configuration that cannot be simulated.
    pub fn run(&self) -> Result<(Dataset, Truth), DataError> {
        let config = &self.config;
        config.check()?;
        // A stream for each part: more users do not change the items.
        let stream = |number: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
            rng.set_stream(number);
            rng
        };
        let directions = Directions::draw(&mut stream(0));
        let (items, item_truths) = catalogue::items(config, &directions, &mut stream(1));
        let (users, user_truths) = population::users(config, &directions, &mut stream(2));
        let truth = Truth { items: item_truths, users: user_truths, position_bias: config.position_bias };
        let created: Vec<i64> = items.created_at.iter().flatten().flatten().copied().collect();
        let events = logging::events(config, &truth, &created, &mut stream(3));
        let dataset = Dataset { name: "marketplace".to_owned(), items, users, events };
        Ok((dataset, truth))
    }
}
