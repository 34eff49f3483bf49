//! Alignment of the gradients' principal components.

use serde::{Deserialize, Serialize};

use crate::solvers::eigen::Eigen;
use crate::solvers::exact::check_point;
use crate::{Gramian, Result, Rule};

/// Which eigenvalue of the Gramian the aligned components get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlignedScale {
    /// The smallest: no component grows.
    #[default]
    Min,
    /// The lower median.
    Median,
    /// The mean.
    Rmse,
}

/// Aligned-MTL (Senushkin et al., "Independent component alignment for multi-task learning", CVPR 2023): `w = B p` with `B = √σ V Λ^(-½) Vᵀ` from
/// the Gramian's eigenvalues `Λ` and eigenvectors `V`, which gives the system of gradients the condition number 1.
///
/// Components whose eigenvalue is below `λ_max · m · ε` are left out, so that a Pareto-stationary combination is not blown up; a
/// row far shorter than the others falls out with them. Weights can be negative. Without any gradient `w = p`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlignedMtl {
    /// The common scale `σ` after alignment.
    pub scale: AlignedScale,
}

impl Rule for AlignedMtl {
    const NAME: &'static str = "aligned-mtl";

    fn weights(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Vec<f64>> {
        check_point(preferences, gramian.size())?;
        let eigen = Eigen::new(gramian.relative().1, gramian.size());
        let rank = eigen.rank();
        if rank == 0 {
            return Ok(preferences.to_vec());
        }
        let values = &eigen.values[..rank];
        let scale = match self.scale {
            AlignedScale::Min => values[rank - 1],
            AlignedScale::Median => values[rank / 2],
            AlignedScale::Rmse => values.iter().sum::<f64>() / rank as f64,
        };
        Ok(eigen.apply(preferences, |l| (scale / l).sqrt()))
    }
}
