//! Training and evaluation on a small simulated marketplace with a tiny random encoder.

#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.
#![allow(clippy::result_large_err)] // Tests pass errors on only to look at them.

mod auxiliary;
mod calibration;
mod candidates;
mod clicks;
mod conditioning;
mod debias;
mod devices;
mod direction;
mod distill;
mod evaluation;
mod features;
mod goals;
mod hidden_users;
mod kinds;
mod loaders;
mod masks;
mod negatives;
mod optimizers;
mod plan;
mod pretrain;
mod ranking;
mod resume;
mod run;
mod search;
mod semi;
mod step;
mod stream;
mod tasks;
mod taught;
mod world;
