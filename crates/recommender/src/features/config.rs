//! What a model makes of features, as the configuration says it.

use serde::{Deserialize, Serialize};

use crate::RecommenderError;

/// `[model.features]`: how numbers and categories become vectors.
///
/// ```
/// use paretune_recommender::{FeatureConfig, FeatureNetwork};
///
/// let config: FeatureConfig = serde_json::from_str(r#"{ "kind": "dcn", "layers": 3 }"#)?;
/// assert_eq!((config.kind, config.layers, config.dim), (FeatureNetwork::Dcn, 3, 16));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureConfig {
    /// The network over them.
    pub kind: FeatureNetwork,
    /// Width of a category's row.
    pub dim: usize,
    /// Widths of the hidden layers of [`FeatureNetwork::Mlp`] and beside, or above, the crosses; none leaves the crosses alone.
    pub hidden: Vec<usize>,
    /// Crosses, one on top of the other.
    pub layers: usize,
    /// Rank of the crosses' matrices; 0 leaves them whole.
    pub rank: usize,
    /// Where the hidden layers stand.
    pub arrangement: Arrangement,
    /// Dropout after each hidden layer.
    pub dropout: f64,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        Self {
            kind: FeatureNetwork::Linear,
            dim: 16,
            hidden: vec![64],
            layers: 2,
            rank: 0,
            arrangement: Arrangement::Parallel,
            dropout: 0.1,
        }
    }
}

/// A network over numbers and the rows of categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureNetwork {
    /// One layer.
    #[default]
    Linear,
    /// Hidden layers with ReLU, then one.
    Mlp,
    /// Crosses of DCN-v2 (Wang et al. 2021) with hidden layers beside or above them, then one layer.
    Dcn,
}

impl FeatureNetwork {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Mlp => "mlp",
            Self::Dcn => "dcn",
        }
    }
}

/// Where hidden layers stand beside crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrangement {
    /// Both read the input; the last layer reads both.
    #[default]
    Parallel,
    /// The hidden layers read what the crosses make of the input.
    Stacked,
}

impl FeatureConfig {
    /// Says whether the settings are in range.
    pub(crate) fn check(&self) -> Result<(), RecommenderError> {
        let shape =
            |field, value, problem: &str| Err(RecommenderError::Shape { field, value, problem: problem.to_owned() });
        if self.dim == 0 {
            return shape("features.dim", 0, "must be at least 1");
        }
        if self.hidden.contains(&0) {
            return shape("features.hidden", 0, "is no width; every hidden layer needs at least 1");
        }
        if self.kind == FeatureNetwork::Mlp && self.hidden.is_empty() {
            return shape("features.hidden", 0, "layers make no mlp; give a width for each, as in hidden = [64]");
        }
        if self.kind == FeatureNetwork::Dcn && self.layers == 0 {
            return shape("features.layers", 0, "must be at least 1 for kind = \"dcn\"");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let (field, rule) = ("features.dropout", "must be at least 0 and below 1");
            return Err(RecommenderError::Setting { field, value: self.dropout, rule });
        }
        Ok(())
    }
}
