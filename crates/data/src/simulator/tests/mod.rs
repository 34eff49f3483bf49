use std::sync::OnceLock;

use super::*;

mod making;
mod realism;

/// The default marketplace, simulated once for all tests.
fn marketplace() -> &'static (Dataset, Truth) {
    static MARKETPLACE: OnceLock<(Dataset, Truth)> = OnceLock::new();
    MARKETPLACE.get_or_init(|| Simulation::new(SimulationConfig::default()).run().unwrap())
}

fn small(seed: u64) -> SimulationConfig {
    SimulationConfig { items: 200, users: 50, seed, ..SimulationConfig::default() }
}
