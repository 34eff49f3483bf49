//! Gradient balancing: methods that look at the gradients, one a file.
//!
//! A struct holds a method's parameters, with defaults, as they stand in a configuration file. Those that are a [`crate::Rule`] have no
//! memory; [`crate::Memoryless`] puts them into a training loop. `docs/balancing.md` has their formulas side by side.

mod aligned_mtl;
mod cagrad;
mod config;
mod dualproj;
mod epo;
mod epsilon_constraint;
mod excess_mtl;
mod fairgrad;
mod graddrop;
mod gradnorm;
mod gradvac;
mod imtl_g;
mod lexicographic;
mod mgda;
mod modo;
mod nash_mtl;
mod pcd;
mod pcgrad;
mod pmtl;
mod sdmgrad;
mod upgrad;

pub use aligned_mtl::{AlignedMtl, AlignedScale};
pub use cagrad::CaGrad;
pub use config::ConFig;
pub use dualproj::DualProj;
pub use epo::{Epo, EpoConfig};
pub use epsilon_constraint::{EpsilonConstraint, EpsilonConstraintConfig};
pub use excess_mtl::{ExcessMtl, ExcessMtlConfig};
pub use fairgrad::FairGrad;
pub use graddrop::{GradDrop, GradDropConfig};
pub use gradnorm::{GradNorm, GradNormConfig};
pub use gradvac::{GradVac, GradVacConfig};
pub use imtl_g::ImtlG;
pub use lexicographic::{Lexicographic, LexicographicConfig};
pub use mgda::{Mgda, MgdaConfig, Normalization};
pub use modo::{MoDo, MoDoConfig};
pub use nash_mtl::{NashMtl, NashMtlConfig};
pub use pcd::{Pcd, PcdConfig};
pub use pcgrad::{PcGrad, PcGradConfig, PcGradOrder};
pub use pmtl::{Pmtl, PmtlConfig};
pub use sdmgrad::{SdmGrad, SdmGradConfig};
pub use upgrad::UpGrad;
