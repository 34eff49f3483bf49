//! What fitting the models without gradients costs, on synthetic interactions with popular and unpopular items.
//!
//! usage: cargo run --release -p paretune-recommender --example fits -- [--models item-knn,ease,mf] [--users N] [--items N] [--events N]
//! [--threads N] [--runs N]
//!
//! Users have `--events` interactions on average, a geometric number of them; the item of rank `r` is met in proportion to `1/r`. Prints a
//! line of JSON for each model.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use paretune_recommender::{Ease, EaseConfig, Interactions, ItemKnn, ItemKnnConfig, Mf, MfConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Fallible<T> = Result<T, Box<dyn Error>>;

struct Options {
    models: Vec<String>,
    users: usize,
    items: usize,
    events: usize,
    threads: usize,
    runs: usize,
}

impl Options {
    fn parse() -> Fallible<Self> {
        let mut options = Self {
            models: ["item-knn", "ease", "mf"].map(str::to_owned).to_vec(),
            users: 22_363,
            items: 12_101,
            events: 9,
            threads: 0,
            runs: 3,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--models" => options.models = value()?.split(',').map(str::to_owned).collect(),
                "--users" => options.users = value()?.parse::<usize>()?.max(1),
                "--items" => options.items = value()?.parse::<usize>()?.max(2),
                "--events" => options.events = value()?.parse::<usize>()?.max(1),
                "--threads" => options.threads = value()?.parse()?,
                "--runs" => options.runs = value()?.parse::<usize>()?.max(1),
                other => return Err(format!("unknown `{other}`; the head of this file says what there is").into()),
            }
        }
        Ok(options)
    }

    fn interactions(&self) -> Fallible<Interactions> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut uniform = || random.random::<f64>().max(1e-12);
        let mean = self.events as f64;
        let users = (0..self.users).map(|_| {
            // One and a geometric number of further ones.
            let further = if self.events > 1 { uniform().ln() / (1.0 - 1.0 / mean).ln() } else { 0.0 };
            let count = 1 + (further as usize).min(self.items);
            let rank = |uniform: f64| ((self.items as f64).powf(uniform) - 1.0) as u32;
            (0..count).map(|_| rank(uniform()).min(self.items as u32 - 1)).collect()
        });
        Ok(Interactions::new(users.collect(), self.items)?)
    }

    fn measure(&self, model: &str, log: &Interactions) -> Fallible<serde_json::Value> {
        let mut times = Vec::new();
        for _ in 0..self.runs {
            let start = Instant::now();
            match model {
                "item-knn" => drop(black_box(ItemKnn::fit(log, &ItemKnnConfig::default())?)),
                "ease" => drop(black_box(Ease::fit(log, &EaseConfig::default())?)),
                "mf" => drop(black_box(Mf::fit(log, &MfConfig::default())?)),
                other => return Err(format!("no model `{other}`; there are item-knn, ease, mf").into()),
            }
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let pairs: usize = log.users().iter().map(Vec::len).sum();
        Ok(serde_json::json!({
            "figure": "fit", "peer": "paretune", "model": model, "s": (times[times.len() / 2] * 1e4).round() / 1e4,
            "users": self.users, "items": self.items, "interactions": pairs,
        }))
    }
}

fn main() -> Fallible<()> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let log = options.interactions()?;
    for model in &options.models {
        println!("{}", options.measure(model, &log)?);
    }
    Ok(())
}
