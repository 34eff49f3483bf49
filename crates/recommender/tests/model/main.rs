//! The composed model on a small simulated marketplace with a tiny random encoder.

mod clock;
mod files;
mod gradients;
mod lookup;
mod users;
mod world;
