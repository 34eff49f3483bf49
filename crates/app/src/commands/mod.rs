//! One file for each command.

mod compare;
mod corpus;
mod distill;
mod embed;
mod ensemble;
mod evaluate;
mod finetune;
mod front;
mod import;
mod pretrain;
mod push;
mod recommend;
mod simulate;
mod teach;

use clap::CommandFactory;

use crate::cli::{Cli, Command};

/// Runs a command.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Finetune(args) => finetune::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Ensemble(args) => ensemble::run(&args),
        Command::Recommend(args) => recommend::run(&args),
        Command::Front(args) => front::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Teach(args) => teach::run(&args),
        Command::Distill(args) => distill::run(&args),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Completions { shell } => {
            // In one piece: the generator itself panics when the reader leaves early.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "paretune", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            Ok(())
        }
    }
}
