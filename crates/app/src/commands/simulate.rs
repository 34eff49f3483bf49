//! `simulate`: the marketplace whose truth is known.

use paretune_data::simulator::{self, SimulationConfig};

use crate::cli;

pub(super) fn run(args: &cli::Simulate) -> anyhow::Result<()> {
    let mut config = SimulationConfig { seed: args.seed, ..SimulationConfig::default() };
    config.items = args.items.unwrap_or(config.items);
    config.users = args.users.unwrap_or(config.users);
    simulator::write(&args.out, &config)?;
    println!(
        "simulated {} items and {} users with seed {} into {}",
        config.items,
        config.users,
        config.seed,
        args.out.display()
    );
    Ok(())
}
