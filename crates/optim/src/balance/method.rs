//! The methods' names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{OptimError, Result};

/// What a method needs to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodKind {
    /// The losses: a [`crate::Scalarizer`].
    Losses,
    /// The gradients' products: a [`crate::Weighting`].
    Gramian,
    /// The gradients themselves: a [`crate::RowWeighting`].
    Rows,
}

macro_rules! methods {
    ($($(#[$attribute:meta])* $variant:ident = $name:literal, $kind:ident, $target:literal;)*) => {
        /// Every balancing method.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum Method {
            $(
                #[doc = concat!("[`", $target, "`](crate::", $target, ").")]
                $(#[$attribute])*
                #[serde(rename = $name)]
                $variant,
            )*
        }

        impl Method {
            /// All of them, in the order in which they are documented.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in configuration files.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it needs to see.
            pub fn kind(self) -> MethodKind {
                match self { $(Self::$variant => MethodKind::$kind,)* }
            }
        }
    };
}

methods! {
    #[default]
    WeightedSum = "weighted-sum", Losses, "scalarizers::WeightedSum";
    Uncertainty = "uncertainty", Losses, "scalarizers::UncertaintyWeighting";
    Mgda = "mgda", Gramian, "methods::Mgda";
    Sum = "sum", Losses, "scalarizers::WeightedSum::sum";
    Mean = "mean", Losses, "scalarizers::WeightedSum::mean";
    Constant = "constant", Losses, "scalarizers::WeightedSum::constant";
    Random = "random", Losses, "scalarizers::Random";
    UpGrad = "upgrad", Gramian, "methods::UpGrad";
    DualProj = "dualproj", Gramian, "methods::DualProj";
    PcGrad = "pcgrad", Gramian, "methods::PcGrad";
    GradVac = "gradvac", Gramian, "methods::GradVac";
    CaGrad = "cagrad", Gramian, "methods::CaGrad";
    NashMtl = "nash-mtl", Gramian, "methods::NashMtl";
    FairGrad = "fairgrad", Gramian, "methods::FairGrad";
    ImtlG = "imtl-g", Gramian, "methods::ImtlG";
    AlignedMtl = "aligned-mtl", Gramian, "methods::AlignedMtl";
    ConFig = "config", Gramian, "methods::ConFig";
    GradDrop = "graddrop", Rows, "methods::GradDrop";
    SdmGrad = "sdmgrad", Gramian, "methods::SdmGrad";
    MoDo = "modo", Gramian, "methods::MoDo";
    ExcessMtl = "excess-mtl", Rows, "methods::ExcessMtl";
    GradNorm = "gradnorm", Gramian, "methods::GradNorm";
    Epo = "epo", Gramian, "methods::Epo";
    Pmtl = "pmtl", Gramian, "methods::Pmtl";
    Pcd = "pcd", Gramian, "methods::Pcd";
    Lexicographic = "lexicographic", Gramian, "methods::Lexicographic";
    EpsilonConstraint = "epsilon-constraint", Gramian, "methods::EpsilonConstraint";
    Chebyshev = "chebyshev", Losses, "scalarizers::Chebyshev";
    SmoothChebyshev = "smooth-chebyshev", Losses, "scalarizers::SmoothChebyshev";
    Pbi = "pbi", Losses, "scalarizers::Pbi";
    Cosmos = "cosmos", Losses, "scalarizers::Cosmos";
    GeometricMean = "geometric-mean", Losses, "scalarizers::GeometricMean";
    ImtlL = "imtl-l", Losses, "scalarizers::ImtlL";
    Dwa = "dwa", Losses, "scalarizers::Dwa";
    Famo = "famo", Losses, "scalarizers::Famo";
}

impl Method {
    /// Whether it goes another way under other positive preferences: if not, a model that is to answer for any preference cannot be trained with it.
    pub fn reads_preferences(self) -> bool {
        !matches!(
            self,
            Self::Mgda
                | Self::Constant
                | Self::ImtlG
                | Self::MoDo
                | Self::ExcessMtl
                | Self::GradNorm
                | Self::Pcd
                | Self::EpsilonConstraint
        )
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = OptimError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|m| m.name() == name).ok_or_else(|| OptimError::UnknownMethod {
            name: name.to_string(),
            known: Self::ALL.iter().map(|m| m.name()).collect::<Vec<_>>().join(", "),
        })
    }
}
