//! Ranking losses by name.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::RankingError;

/// How a logit comes from two vectors: `⟨user, item⟩ / temperature`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scoring {
    /// Divides products; small ones make a loss look at the hardest negatives. Above 0.
    pub temperature: f64,
    /// Whether vectors are scaled to unit length first, so that products are cosines.
    pub cosine: bool,
}

impl Default for Scoring {
    fn default() -> Self {
        Self { temperature: 1.0, cosine: false }
    }
}

/// Settings of `gbce`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calibrated {
    /// As in [`Scoring`].
    pub temperature: f64,
    /// As in [`Scoring`].
    pub cosine: bool,
    /// How much of the overconfidence is taken back, between 0 (none: `bce`) and 1 (all). Petrov & Macdonald advise 0.75.
    pub t: f64,
}

impl Default for Calibrated {
    fn default() -> Self {
        Self { temperature: 1.0, cosine: false, t: 0.75 }
    }
}

/// Settings of losses over graded lists, whose logits the caller has made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listwise {
    /// Divides logits, or, for `approx-ndcg`, their differences: the smaller, the nearer smooth ranks are to ranks. Above 0.
    pub temperature: f64,
}

impl Default for Listwise {
    fn default() -> Self {
        Self { temperature: 1.0 }
    }
}

/// What a loss is to be shown besides users and the items they chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Negatives drawn for each row ([`Negatives::Own`](super::Negatives::Own)); a shared pool will do as well.
    Own,
    /// A pool of negatives for all rows ([`Negatives::Shared`](super::Negatives::Shared)), and, unless it was drawn uniformly, the
    /// logarithms of the probabilities to be drawn; negatives of each row's own will do as well.
    Pool,
    /// The whole catalogue as [`Negatives::Shared`](super::Negatives::Shared).
    Catalogue,
    /// Nothing: the positives of the other rows ([`Negatives::Others`](super::Negatives::Others)), with the logarithms of the items' popularity.
    Others,
    /// The lists that were shown, with a grade for each item: [`RankingLoss::listwise`].
    Graded,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Own => "negatives of each row's own, or a shared pool (Negatives::Own or Negatives::Shared)",
            Self::Pool => "a shared pool of negatives, or each row's own (Negatives::Shared or Negatives::Own)",
            Self::Catalogue => "the whole catalogue as negatives (Negatives::Shared)",
            Self::Others => "the positives of the other rows as negatives (Negatives::Others)",
            Self::Graded => "graded lists (RankingLoss::listwise)",
        })
    }
}

/// A ranking loss's name and its parameters: the bare name, or a table with `name` and what differs from the defaults.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use paretune_recommender::{Negatives, RankingBatch, RankingLoss};
///
/// let loss: RankingLoss = serde_json::from_str(r#"{ "name": "sampled-softmax", "temperature": 0.5 }"#)?;
/// // Two requests, three items; the first request chose item 70, the second one item 12.
/// let users = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let candidates = Tensor::new(&[[1f32, 0.0], [0.0, 0.5], [0.2, 0.2]], &Device::Cpu)?;
/// let batch = RankingBatch {
///     users: &users,
///     candidates: &candidates,
///     ids: &[70, 12, 31],
///     positives: &[0, 1],
///     negatives: Negatives::Shared(&[1, 2]), // item 12 is no negative of the request that chose it
///     exempt: None,
///     log_q: None,
///     weights: None,
///     catalogue: None,
/// };
/// // ((ln(e² + e⁰ + e^0.4) - 2) + (ln(e¹ + e^0.4) - 1)) / 2
/// let value = loss.loss(&batch)?.to_scalar::<f32>()?;
/// assert!((value - 0.364_045).abs() < 1e-5, "{value}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", remote = "Self")]
pub enum RankingLoss {
    /// Every positive above its negatives, pair by pair.
    Bpr(Scoring),
    /// Binary cross-entropy of the positive and its negatives.
    Bce(Scoring),
    /// Binary cross-entropy, calibrated for the share of the catalogue that is drawn as negatives.
    Gbce(Calibrated),
    /// The positive among the whole catalogue.
    Softmax(Scoring),
    /// The positive among a pool of negatives.
    SampledSoftmax(Scoring),
    /// The positive among those of the other rows.
    InBatch(Scoring),
    /// Top-one probabilities of grades and of logits.
    #[serde(rename = "listnet")]
    ListNet(Listwise),
    /// NDCG of smooth ranks.
    ApproxNdcg(Listwise),
}

impl Default for RankingLoss {
    /// Sampled softmax: the best known one for a catalogue of any size.
    fn default() -> Self {
        Self::SampledSoftmax(Scoring::default())
    }
}

impl RankingLoss {
    /// The name in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bpr(_) => "bpr",
            Self::Bce(_) => "bce",
            Self::Gbce(_) => "gbce",
            Self::Softmax(_) => "softmax",
            Self::SampledSoftmax(_) => "sampled-softmax",
            Self::InBatch(_) => "in-batch",
            Self::ListNet(_) => "listnet",
            Self::ApproxNdcg(_) => "approx-ndcg",
        }
    }

    /// What it is to be shown.
    pub fn needs(&self) -> Needs {
        match self {
            Self::Bpr(_) | Self::Bce(_) | Self::Gbce(_) => Needs::Own,
            Self::SampledSoftmax(_) => Needs::Pool,
            Self::Softmax(_) => Needs::Catalogue,
            Self::InBatch(_) => Needs::Others,
            Self::ListNet(_) | Self::ApproxNdcg(_) => Needs::Graded,
        }
    }

    /// How logits come from vectors, for ranking with what was learned; lists are given as logits (temperature 1, no cosine).
    pub fn scoring(&self) -> Scoring {
        match *self {
            Self::Bpr(scoring)
            | Self::Bce(scoring)
            | Self::Softmax(scoring)
            | Self::SampledSoftmax(scoring)
            | Self::InBatch(scoring) => scoring,
            Self::Gbce(Calibrated { temperature, cosine, .. }) => Scoring { temperature, cosine },
            Self::ListNet(_) | Self::ApproxNdcg(_) => Scoring::default(),
        }
    }

    /// The same loss of vectors that are compared as they are.
    #[must_use]
    pub(crate) fn of_products(self) -> Self {
        let plain = |scoring: Scoring| Scoring { cosine: false, ..scoring };
        match self {
            Self::Bpr(scoring) => Self::Bpr(plain(scoring)),
            Self::Bce(scoring) => Self::Bce(plain(scoring)),
            Self::Gbce(calibrated) => Self::Gbce(Calibrated { cosine: false, ..calibrated }),
            Self::Softmax(scoring) => Self::Softmax(plain(scoring)),
            Self::SampledSoftmax(scoring) => Self::SampledSoftmax(plain(scoring)),
            Self::InBatch(scoring) => Self::InBatch(plain(scoring)),
            graded @ (Self::ListNet(_) | Self::ApproxNdcg(_)) => graded,
        }
    }

    /// Says whether the settings are in range.
    ///
    /// # Errors
    /// [`RankingError::Setting`].
    pub fn check(&self) -> Result<(), RankingError> {
        let temperature = match self {
            Self::ListNet(list) | Self::ApproxNdcg(list) => list.temperature,
            _ => self.scoring().temperature,
        };
        check_temperature("model.ranking.temperature", temperature)?;
        match self {
            Self::Gbce(Calibrated { t, .. }) if !(0.0..=1.0).contains(t) => {
                let rule = "it is a share of the overconfidence, between 0 and 1";
                Err(RankingError::Setting { setting: "model.ranking.t", value: *t, rule })
            }
            _ => Ok(()),
        }
    }
}

/// Says whether logits can be divided by `temperature`, in single precision too.
pub(crate) fn check_temperature(setting: &'static str, temperature: f64) -> Result<(), RankingError> {
    if (1e-6..=1e6).contains(&temperature) {
        return Ok(());
    }
    let rule = "logits are divided by it, so it must lie between 0.000001 and 1000000; 0.05 to 1 is usual";
    Err(RankingError::Setting { setting, value: temperature, rule })
}

impl Serialize for RankingLoss {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // The derived function, which is not the trait's.
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for RankingLoss {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = RankingLoss;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a ranking loss's name, or a table with its `name` and parameters")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                // As the table that names nothing else.
                RankingLoss::deserialize(MapDeserializer::new([("name", name)].into_iter()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                RankingLoss::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> serde_json::Result<RankingLoss> {
        serde_json::from_str(value)
    }

    #[test]
    fn every_loss_has_one_name_everywhere() {
        let names = ["bpr", "bce", "gbce", "softmax", "sampled-softmax", "in-batch", "listnet", "approx-ndcg"];
        for name in names {
            let bare = read(&format!("\"{name}\"")).unwrap();
            assert_eq!(bare, read(&format!("{{ \"name\": \"{name}\" }}")).unwrap());
            assert_eq!(bare.name(), name);
            assert!(bare.check().is_ok());
            let tuned = read(&format!("{{ \"name\": \"{name}\", \"temperature\": 0.1 }}")).unwrap();
            assert_ne!(tuned, bare);
            assert_eq!(read(&serde_json::to_string(&tuned).unwrap()).unwrap(), tuned);
        }
        assert_eq!(read("\"sampled-softmax\"").unwrap(), RankingLoss::default());
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_does() {
        for (value, parts) in [
            ("\"warp\"", ["unknown variant `warp`", "`sampled-softmax`"]),
            ("{ \"name\": \"bpr\", \"t\": 1 }", ["unknown field `t`", "`cosine`"]),
            ("{ \"name\": \"listnet\", \"cosine\": true }", ["unknown field `cosine`", "`temperature`"]),
            ("{ \"temperature\": 1 }", ["missing field", "`name`"]),
            ("3", ["invalid type: integer `3`", "a ranking loss's name"]),
        ] {
            let refused = read(value).unwrap_err().to_string();
            assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let scoring = |temperature| Scoring { temperature, cosine: true };
        for (loss, part) in [
            (RankingLoss::Bpr(scoring(0.0)), "model.ranking.temperature = 0 "),
            (RankingLoss::Softmax(scoring(f64::NAN)), "model.ranking.temperature = NaN "),
            (RankingLoss::InBatch(scoring(-1.0)), "model.ranking.temperature = -1 "),
            (RankingLoss::ListNet(Listwise { temperature: f64::INFINITY }), "model.ranking.temperature = inf "),
            (RankingLoss::Gbce(Calibrated { t: 1.5, ..Calibrated::default() }), "model.ranking.t = 1.5 "),
            (RankingLoss::Gbce(Calibrated { temperature: 0.0, ..Calibrated::default() }), "temperature = 0 "),
        ] {
            let refused = loss.check().unwrap_err().to_string();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
