use proptest::prelude::*;

use super::*;
use crate::SplitStrategy;
use crate::simulator::{Simulation, SimulationConfig};

mod cutoff;
mod values;

fn columns() -> BehaviourConfig {
    BehaviourConfig { engaged: "click".to_owned(), feedback: vec!["rating".to_owned()] }
}

fn marketplace() -> (Dataset, Split, Behaviour) {
    let config = SimulationConfig { items: 300, users: 150, ..SimulationConfig::default() };
    let (data, _) = Simulation::new(config).run().unwrap();
    let split = Split::new(&data, &SplitStrategy::Time { valid: 0.1, test: 0.1 }).unwrap();
    let feedback = ["click", "conversion", "rating", "dwell_seconds"].map(str::to_owned);
    let config = BehaviourConfig { engaged: "click".to_owned(), feedback: feedback.to_vec() };
    let behaviour = Behaviour::fit(&data, &split, config).unwrap();
    (data, split, behaviour)
}

fn bits32(write: impl FnOnce(&mut Vec<f32>)) -> Vec<u32> {
    let mut out = Vec::new();
    write(&mut out);
    out.into_iter().map(f32::to_bits).collect()
}

fn bits64(write: impl FnOnce(&mut Vec<f64>)) -> Vec<u64> {
    let mut out = Vec::new();
    write(&mut out);
    out.into_iter().map(f64::to_bits).collect()
}

fn strategies() -> impl Strategy<Value = SplitStrategy> {
    prop_oneof![
        Just(SplitStrategy::Time { valid: 0.2, test: 0.2 }),
        Just(SplitStrategy::LeaveLast),
        (0u64..9).prop_map(|seed| SplitStrategy::Random { valid: 0.2, test: 0.2, seed }),
        (0u64..9).prop_map(|seed| SplitStrategy::ColdItems { valid: 0.2, test: 0.2, seed }),
    ]
}
