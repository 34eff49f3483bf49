//! The composed model on a small simulated marketplace with a tiny random encoder.

#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

mod auxiliary;
mod clock;
mod conditioning;
mod features;
mod files;
mod given;
mod goals;
mod gradients;
mod kinds;
mod lookup;
mod prior;
mod reference;
mod relations;
mod repeats;
mod search;
mod start;
mod users;
mod width;
mod world;
