//! Exact and safeguarded solvers for the tiny problems that balancing methods pose (`m ≤ 16`, say).

pub(crate) mod dual_cone;
pub(crate) mod eigen;
pub(crate) mod equilibrium;
pub(crate) mod exact;
pub(crate) mod linear_program;
pub(crate) mod min_norm;
pub(crate) mod non_negative;
mod number;
pub(crate) mod root;
pub(crate) mod simplex;
mod wide;
