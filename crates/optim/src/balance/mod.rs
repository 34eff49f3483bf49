//! Balancing methods by name, with their parameters.

mod config;
mod method;
mod parameters;

pub use config::BalanceConfig;
pub use method::{Method, MethodKind};
pub use parameters::{Parameters, Setting};
