//! Any optimizer by name.

use std::fmt;

use candle_core::Var;
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::algorithm::Algorithm;
use super::{Adafactor, AdafactorConfig, AdamW, AdamWConfig, Groups, Lamb, LambConfig, Optimizer, Sgd, SgdConfig};
use crate::Result;

/// An optimizer's name and its parameters: the bare name, or a table with `name` and what differs from the defaults.
///
/// ```
/// # use paretune_optim::{OptimizerConfig, SgdConfig};
/// # #[derive(serde::Deserialize)]
/// # struct Training { optimizer: OptimizerConfig }
/// # fn read(text: &str) -> Result<OptimizerConfig, toml::de::Error> {
/// #     toml::from_str::<Training>(text).map(|training| training.optimizer)
/// # }
/// assert_eq!(read("optimizer = 'lamb'")?, OptimizerConfig::Lamb(Default::default()));
/// let sgd = SgdConfig { momentum: 0.8, nesterov: true };
/// assert_eq!(read("optimizer = { name = 'sgd', momentum = 0.8 }")?, OptimizerConfig::Sgd(sgd));
/// let refused = read("optimizer = { name = 'sgd', beta1 = 0.8 }").unwrap_err().to_string();
/// assert!(refused.contains("unknown field `beta1`, expected `momentum` or `nesterov`"), "{refused}");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", remote = "Self")]
pub enum OptimizerConfig {
    /// [`AdamW`].
    AdamW(AdamWConfig),
    /// [`Lamb`].
    Lamb(LambConfig),
    /// [`Adafactor`].
    Adafactor(AdafactorConfig),
    /// [`Sgd`].
    Sgd(SgdConfig),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::AdamW(AdamWConfig::default())
    }
}

impl OptimizerConfig {
    /// The name in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AdamW(_) => AdamWConfig::NAME,
            Self::Lamb(_) => LambConfig::NAME,
            Self::Adafactor(_) => AdafactorConfig::NAME,
            Self::Sgd(_) => SgdConfig::NAME,
        }
    }

    /// Says whether the parameters are in range.
    ///
    /// # Errors
    /// [`crate::OptimError::Setting`].
    pub fn check(&self) -> Result<()> {
        match self {
            Self::AdamW(config) => config.check(),
            Self::Lamb(config) => config.check(),
            Self::Adafactor(config) => config.check(),
            Self::Sgd(config) => config.check(),
        }
    }

    /// The optimizer, ready for its first step.
    ///
    /// # Errors
    /// A setting out of range, or a name (or a variable) that is listed twice.
    pub fn build(&self, groups: &Groups, parameters: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>> {
        Ok(match *self {
            Self::AdamW(config) => Box::new(AdamW::new(config, groups, parameters)?),
            Self::Lamb(config) => Box::new(Lamb::new(config, groups, parameters)?),
            Self::Adafactor(config) => Box::new(Adafactor::new(config, groups, parameters)?),
            Self::Sgd(config) => Box::new(Sgd::new(config, groups, parameters)?),
        })
    }
}

impl Serialize for OptimizerConfig {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        // The derived function, which is not the trait's.
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for OptimizerConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = OptimizerConfig;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an optimizer's name, or a table with its `name` and parameters")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<Self::Value, E> {
                // As the table that names nothing else.
                OptimizerConfig::deserialize(MapDeserializer::new([("name", name)].into_iter()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> std::result::Result<Self::Value, M::Error> {
                OptimizerConfig::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Training {
        optimizer: OptimizerConfig,
    }

    fn read(value: &str) -> std::result::Result<Training, toml::de::Error> {
        toml::from_str(&format!("optimizer = {value}"))
    }

    #[test]
    fn every_optimizer_has_one_name_everywhere() {
        for name in ["adamw", "lamb", "adafactor", "sgd"] {
            let bare = read(&format!("'{name}'")).unwrap();
            assert_eq!(bare, read(&format!("{{ name = '{name}' }}")).unwrap());
            assert_eq!(bare.optimizer.name(), name);
            assert_eq!(bare.optimizer.build(&Groups::default(), Vec::new()).unwrap().name(), name);
            assert_eq!(toml::from_str::<Training>(&toml::to_string(&bare).unwrap()).unwrap(), bare);
        }
        assert_eq!(read("'adamw'").unwrap().optimizer, OptimizerConfig::default());
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_does() {
        for (value, parts) in [
            ("'adam'", ["unknown variant `adam`", "`adafactor`"]),
            ("{ name = 'adam' }", ["unknown variant `adam`", "`adafactor`"]),
            ("{ name = 'lamb', clip = 1 }", ["unknown field `clip`", "`beta1`"]),
            ("{ beta1 = 0.5 }", ["missing field", "`name`"]),
            ("3", ["invalid type: integer `3`", "an optimizer's name"]),
        ] {
            let refused = read(value).unwrap_err().to_string();
            assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
        }
        for (value, setting) in [
            ("{ name = 'adamw', beta2 = 1 }", "beta2 = 1"),
            ("{ name = 'lamb', eps = 0 }", "eps = 0"),
            ("{ name = 'adafactor', decay = 0 }", "decay = 0"),
            ("{ name = 'adafactor', clip = -1 }", "clip = -1"),
            ("{ name = 'adafactor', eps = 1e-60 }", "eps = 0.00"),
            ("{ name = 'adafactor', min_scale = nan }", "min_scale = NaN"),
            ("{ name = 'sgd', momentum = 1 }", "momentum = 1"),
            ("{ name = 'sgd', momentum = 0 }", "nesterov = true"),
        ] {
            let config = read(value).unwrap().optimizer;
            let refused = config.check().unwrap_err().to_string();
            assert!(refused.contains(setting), "{refused}");
            assert!(config.build(&Groups::default(), Vec::new()).is_err());
        }
    }
}
