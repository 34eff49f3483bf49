//! The balancing section of a configuration.

use serde::{Deserialize, Serialize};

use super::parameters::{fields, read};
use super::{Method, MethodKind, Parameters, Setting};
use crate::methods::{
    AlignedMtl, CaGrad, ConFig, DualProj, Epo, EpsilonConstraint, ExcessMtl, FairGrad, GradDrop, GradNorm, GradVac,
    ImtlG, Lexicographic, Mgda, MgdaConfig, MoDo, NashMtl, PcGrad, Pcd, Pmtl, SdmGrad, UpGrad,
};
use crate::scalarizers::{
    Chebyshev, Cosmos, Dwa, Famo, GeometricMean, ImtlL, Pbi, Random, Scalarizer, SmoothChebyshev, UncertaintyConfig,
    UncertaintyWeighting, WeightedSum,
};
use crate::{FromRows, Gramian, Memoryless, OptimError, Preference, Result, RowWeighting, Rule, Weighting};

/// A method and its parameters: one flat table, `method = "cagrad"` and `c = 0.4` side by side.
///
/// A parameter that the method does not have is refused, with a list of those that it has, when the table is read and when the method is
/// built. `normalize = "l2"` and `uncertainty_lr = 0.01`, the defaults that earlier versions wrote for every method, are passed over.
///
/// ```
/// # use paretune_optim::{BalanceConfig, Method};
/// let config: BalanceConfig = serde_json::from_str(r#"{"method": "cagrad", "c": 0.4}"#).unwrap();
/// assert_eq!(config, BalanceConfig::new(Method::CaGrad).with("c", 0.4));
/// let error = serde_json::from_str::<BalanceConfig>(r#"{"method": "cagrad", "alpha": 1.0}"#).unwrap_err().to_string();
/// assert!(error.contains("no parameter alpha") && error.contains("its parameters are c"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct BalanceConfig {
    /// Which method.
    pub method: Method,
    /// Its parameters.
    #[serde(flatten)]
    pub parameters: Parameters,
}

#[derive(Deserialize)]
struct Unchecked {
    #[serde(default)]
    method: Method,
    #[serde(flatten)]
    parameters: Parameters,
}

impl TryFrom<Unchecked> for BalanceConfig {
    type Error = OptimError;

    fn try_from(read: Unchecked) -> Result<Self> {
        let config = Self { method: read.method, parameters: read.parameters };
        config.check()?;
        Ok(config)
    }
}

/// What happens to a method's typed parameters.
trait Visit {
    type Output;

    fn losses<S: Scalarizer + 'static>(&self, method: Result<S>) -> Result<Self::Output>;
    fn gramian<W: Weighting + 'static>(&self, method: Result<W>) -> Result<Self::Output>;
    fn rows<R: RowWeighting + 'static>(&self, method: Result<R>) -> Result<Self::Output>;

    fn rule<R: Rule + 'static>(&self, rule: R, objectives: &[Preference]) -> Result<Self::Output> {
        self.gramian(Memoryless::new(rule, objectives))
    }
}

impl BalanceConfig {
    /// The method with its defaults.
    pub fn new(method: Method) -> Self {
        Self { method, parameters: Parameters::new() }
    }

    /// Sets a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Setting>) -> Self {
        self.parameters.insert(name.to_string(), value.into());
        self
    }

    /// Whether the method has these parameters, with values of these kinds. Ranges that depend on the objectives are for
    /// [`BalanceConfig::build`] to check.
    ///
    /// # Errors
    /// [`OptimError::Parameter`].
    pub fn check(&self) -> Result<()> {
        self.visit_fields().map(|_| ())
    }

    /// The names of the method's parameters.
    pub fn known_parameters(&self) -> &'static [&'static str] {
        Self::new(self.method).visit_fields().unwrap_or(&[])
    }

    /// The method, ready for its first step.
    ///
    /// # Errors
    /// No objectives, wrong preferences, a wrong parameter, or a method that needs the gradients themselves
    /// ([`OptimError::NeedsRows`]).
    pub fn build(&self, objectives: &[Preference]) -> Result<Box<dyn Weighting>> {
        struct Boxed;
        impl Visit for Boxed {
            type Output = Box<dyn Weighting>;

            fn losses<S: Scalarizer + 'static>(&self, method: Result<S>) -> Result<Self::Output> {
                Ok(Box::new(method?))
            }
            fn gramian<W: Weighting + 'static>(&self, method: Result<W>) -> Result<Self::Output> {
                Ok(Box::new(method?))
            }
            fn rows<R: RowWeighting + 'static>(&self, method: Result<R>) -> Result<Self::Output> {
                Err(OptimError::NeedsRows { method: method?.name() })
            }
        }
        self.visit(objectives, &Boxed)
    }

    /// The method as a function of losses, which it must be.
    ///
    /// # Errors
    /// As [`BalanceConfig::build`], or a method that needs gradients.
    pub fn build_scalarizer(&self, objectives: &[Preference]) -> Result<Box<dyn Scalarizer>> {
        struct Boxed;
        impl Visit for Boxed {
            type Output = Box<dyn Scalarizer>;

            fn losses<S: Scalarizer + 'static>(&self, method: Result<S>) -> Result<Self::Output> {
                Ok(Box::new(method?))
            }
            fn gramian<W: Weighting + 'static>(&self, method: Result<W>) -> Result<Self::Output> {
                Err(OptimError::MissingGramian { method: method?.name() })
            }
            fn rows<R: RowWeighting + 'static>(&self, method: Result<R>) -> Result<Self::Output> {
                Err(OptimError::NeedsRows { method: method?.name() })
            }
        }
        self.visit(objectives, &Boxed)
    }

    /// The method where the gradients themselves are at hand; every method can be built so.
    ///
    /// # Errors
    /// No objectives, wrong preferences, or a wrong parameter.
    pub fn build_rows(&self, objectives: &[Preference]) -> Result<Box<dyn RowWeighting>> {
        struct Boxed;
        impl Visit for Boxed {
            type Output = Box<dyn RowWeighting>;

            fn losses<S: Scalarizer + 'static>(&self, method: Result<S>) -> Result<Self::Output> {
                Ok(Box::new(FromRows(Box::new(method?))))
            }
            fn gramian<W: Weighting + 'static>(&self, method: Result<W>) -> Result<Self::Output> {
                Ok(Box::new(FromRows(Box::new(method?))))
            }
            fn rows<R: RowWeighting + 'static>(&self, method: Result<R>) -> Result<Self::Output> {
                Ok(Box::new(method?))
            }
        }
        self.visit(objectives, &Boxed)
    }

    /// The weights of a method that is a [`Rule`], as published: for this Gramian alone, zero rows included. `None` for other
    /// methods.
    ///
    /// # Errors
    /// A wrong parameter, or preferences that do not fit.
    pub fn published(&self, gramian: &Gramian, preferences: &[f64]) -> Result<Option<Vec<f64>>> {
        struct Direct<'a>(&'a Gramian, &'a [f64]);
        impl Visit for Direct<'_> {
            type Output = Option<Vec<f64>>;

            fn losses<S: Scalarizer + 'static>(&self, method: Result<S>) -> Result<Self::Output> {
                method.map(|_| None)
            }
            fn gramian<W: Weighting + 'static>(&self, method: Result<W>) -> Result<Self::Output> {
                method.map(|_| None)
            }
            fn rows<R: RowWeighting + 'static>(&self, method: Result<R>) -> Result<Self::Output> {
                method.map(|_| None)
            }
            fn rule<R: Rule + 'static>(&self, rule: R, _: &[Preference]) -> Result<Self::Output> {
                rule.check()?;
                rule.weights(self.0, self.1).map(Some)
            }
        }
        let names = preferences.iter().enumerate().map(|(i, p)| Preference::new(i.to_string(), *p));
        self.visit(&names.collect::<Vec<_>>(), &Direct(gramian, preferences))
    }

    /// What the method needs to see.
    pub fn kind(&self) -> MethodKind {
        self.method.kind()
    }

    /// The parameters without the defaults that earlier versions wrote for every method.
    fn own_parameters(&self, known: &[&str]) -> Parameters {
        let inherited = |name: &str, value: &Setting| match name {
            "normalize" => *value == Setting::from("l2"),
            "uncertainty_lr" => *value == Setting::from(0.01),
            _ => false,
        };
        let own = |(name, value): &(&String, &Setting)| known.contains(&name.as_str()) || !inherited(name, value);
        self.parameters.iter().filter(own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn typed<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        read(self.method.name(), &self.own_parameters(fields::<T>()))
    }
}

/// A rule is its parameters; anything else is built from them.
macro_rules! build {
    ($visitor:ident, rule, $objectives:ident, $parameters:ident) => {
        $visitor.rule($parameters, $objectives)
    };
    ($visitor:ident, $kind:ident, $given:ident, $read:ident, |$objectives:ident, $parameters:ident| $build:expr) => {{
        let ($objectives, $parameters) = ($given, $read);
        $visitor.$kind($build)
    }};
}

/// One line for each method: its parameters' type, how it is built, and what it needs.
macro_rules! registry {
    ($($method:ident: $config:ty, $kind:ident $(, |$objectives:ident, $parameters:ident| $build:expr)?;)*) => {
        impl BalanceConfig {
            fn visit<V: Visit>(&self, objectives: &[Preference], visitor: &V) -> Result<V::Output> {
                match self.method {
                    $(Method::$method => {
                        let parameters = self.typed::<$config>()?;
                        build!(visitor, $kind, objectives, parameters $(, |$objectives, $parameters| $build)?)
                    })*
                }
            }

            /// The names of the parameters, once they are all read.
            fn visit_fields(&self) -> Result<&'static [&'static str]> {
                match self.method {
                    $(Method::$method => self.typed::<$config>().map(|_| fields::<$config>()),)*
                }
            }
        }
    };
}

/// Of methods without parameters.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

registry! {
    WeightedSum: Nothing, losses, |o, _p| WeightedSum::new(o);
    Uncertainty: UncertaintyConfig, losses, |o, p| UncertaintyWeighting::new(o, p.uncertainty_lr);
    Mgda: MgdaConfig, gramian, |o, p| Mgda::new(o, p.normalize);
    Sum: Nothing, losses, |o, _p| WeightedSum::sum(o);
    Mean: Nothing, losses, |o, _p| WeightedSum::mean(o);
    Constant: crate::scalarizers::ConstantConfig, losses, |o, p| WeightedSum::constant(o, &p);
    Random: crate::scalarizers::RandomConfig, losses, |o, p| Random::new(o, p);
    UpGrad: UpGrad, rule;
    DualProj: DualProj, rule;
    PcGrad: crate::methods::PcGradConfig, gramian, |o, p| PcGrad::new(o, &p);
    GradVac: crate::methods::GradVacConfig, gramian, |o, p| GradVac::new(o, p);
    CaGrad: CaGrad, rule;
    NashMtl: crate::methods::NashMtlConfig, gramian, |o, p| NashMtl::new(o, p);
    FairGrad: FairGrad, rule;
    ImtlG: ImtlG, rule;
    AlignedMtl: AlignedMtl, rule;
    ConFig: ConFig, rule;
    GradDrop: crate::methods::GradDropConfig, rows, |o, p| GradDrop::new(o, p);
    SdmGrad: crate::methods::SdmGradConfig, gramian, |o, p| SdmGrad::new(o, p);
    MoDo: crate::methods::MoDoConfig, gramian, |o, p| MoDo::new(o, p);
    ExcessMtl: crate::methods::ExcessMtlConfig, rows, |o, p| ExcessMtl::new(o, p);
    GradNorm: crate::methods::GradNormConfig, gramian, |o, p| GradNorm::new(o, p);
    Epo: crate::methods::EpoConfig, gramian, |o, p| Epo::new(o, p);
    Pmtl: crate::methods::PmtlConfig, gramian, |o, p| Pmtl::new(o, &p);
    Pcd: crate::methods::PcdConfig, gramian, |o, p| Pcd::new(o, p);
    Lexicographic: crate::methods::LexicographicConfig, gramian, |o, p| Lexicographic::new(o, &p);
    EpsilonConstraint: crate::methods::EpsilonConstraintConfig, gramian, |o, p| EpsilonConstraint::new(o, p);
    Chebyshev: crate::scalarizers::ChebyshevConfig, losses, |o, p| Chebyshev::new(o, &p);
    SmoothChebyshev: crate::scalarizers::SmoothChebyshevConfig, losses, |o, p| SmoothChebyshev::new(o, &p);
    Pbi: crate::scalarizers::PbiConfig, losses, |o, p| Pbi::new(o, &p);
    Cosmos: crate::scalarizers::CosmosConfig, losses, |o, p| Cosmos::new(o, p);
    GeometricMean: Nothing, losses, |o, _p| GeometricMean::new(o);
    ImtlL: crate::scalarizers::ImtlLConfig, losses, |o, p| ImtlL::new(o, p);
    Dwa: crate::scalarizers::DwaConfig, losses, |o, p| Dwa::new(o, p);
    Famo: crate::scalarizers::FamoConfig, losses, |o, p| Famo::new(o, &p);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signals;

    #[test]
    fn every_method_has_one_name_everywhere() {
        let objectives = [Preference::new("click", 0.3), Preference::new("rating", 0.7)];
        for &method in Method::ALL {
            assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
            assert_eq!(serde_json::to_string(&method).unwrap(), format!("\"{method}\""));
            let mut config = BalanceConfig::new(method);
            if method == Method::Constant {
                config = config.with("weights", vec![Setting::from(1.0), Setting::from(2.0)]);
            }
            let built = config.build_rows(&objectives).unwrap();
            assert_eq!(built.name(), method.name());
            assert_eq!(built.state().method, method.name());
            match config.kind() {
                MethodKind::Rows => {
                    assert!(matches!(config.build(&objectives), Err(OptimError::NeedsRows { .. })));
                }
                kind => {
                    let gramian = config.build(&objectives).unwrap().needs_gramian();
                    assert_eq!(gramian, kind == MethodKind::Gramian);
                    assert_eq!(config.build_scalarizer(&objectives).is_ok(), kind == MethodKind::Losses);
                }
            }
        }
        let error = "pcgrad-ish".parse::<Method>().unwrap_err().to_string();
        assert!(error.contains("pcgrad-ish") && error.contains("weighted-sum, uncertainty, mgda"), "{error}");
    }

    #[test]
    fn weighted_sum_gives_the_preferences_back() {
        let objectives = [Preference::new("click", 0.3), Preference::new("rating", 2.0)];
        let mut sum = BalanceConfig::default().build(&objectives).unwrap();
        assert!(!sum.needs_gramian());
        let signals = Signals { losses: &[1.0, 1.0], observed: &[1, 0], gramian: None };
        assert_eq!(sum.weights(&signals).unwrap(), vec![0.3, 2.0]);
        let error = sum.weights(&Signals { losses: &[1.0], ..signals }).unwrap_err().to_string();
        assert!(error.contains("got 1 losses for 2 objectives"), "{error}");
    }

    #[test]
    fn wrong_preferences_and_settings_are_refused() {
        let build = |weights: &[f64]| {
            let all: Vec<_> = weights.iter().map(|&w| Preference::new("click", w)).collect();
            BalanceConfig::default().build(&all).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert!(build(&[]).contains("at least one"));
        assert!(build(&[-1.0]).contains("objective click = -1"));
        assert!(build(&[f64::NAN]).contains("NaN"));
        assert!(build(&[0.0, 0.0]).contains("at least one objective must count"));
        let wrong = BalanceConfig::new(Method::Uncertainty).with("uncertainty_lr", 0.0);
        assert!(wrong.build(&[Preference::new("click", 1.0)]).is_err());
    }

    #[test]
    fn a_state_of_another_method_is_refused() {
        let objectives = [Preference::new("click", 1.0)];
        let mut sum = WeightedSum::new(&objectives).unwrap();
        let other = UncertaintyWeighting::new(&objectives, 0.01).unwrap().state();
        assert!(sum.restore(&other).unwrap_err().to_string().contains("uncertainty"));
    }

    #[test]
    fn parameters_are_read_written_and_refused() {
        let read = |text: &str| serde_json::from_str::<BalanceConfig>(text);
        for text in [
            r#"{"method":"aligned-mtl","scale":"median"}"#,
            r#"{"method":"epsilon-constraint","bounds":{"rating":0.4},"primary":"click"}"#,
            r#"{"method":"pcgrad","order":["rating","click"],"seed":3}"#,
            r#"{"method":"fairgrad","alpha":2}"#,
            r#"{"method":"constant","weights":[1,0.5]}"#,
        ] {
            let config = read(text).unwrap();
            assert_eq!(serde_json::to_string(&config).unwrap(), text);
            config.build(&[Preference::new("click", 1.0), Preference::new("rating", 1.0)]).unwrap();
        }
        // What every run of earlier versions wrote.
        let config = read(r#"{"method":"weighted-sum","normalize":"l2","uncertainty_lr":0.01}"#).unwrap();
        config.build(&[Preference::new("click", 1.0)]).unwrap();
        for (text, parts) in [
            (r#"{"method":"upgrad","c":1}"#, ["no parameter c", "it has no parameters"]),
            (r#"{"method":"uncertainty","normalize":"none"}"#, ["no parameter normalize", "are uncertainty_lr"]),
            (r#"{"method":"aligned-mtl","scale":"max"}"#, ["scale: unknown variant `max`", "`median`"]),
            (r#"{"method":"cagrad","c":"wide"}"#, ["c: invalid type", "expected f64"]),
            (r#"{"method":"nope"}"#, ["nope", "sdmgrad"]),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        let known = BalanceConfig::new(Method::SdmGrad).known_parameters();
        assert_eq!(known, ["lr", "momentum", "iterations", "lambda"]);
    }

    #[test]
    fn a_toml_table_goes_round() {
        let text = "method = \"epsilon-constraint\"\nmargin = 1\nprimary = \"click\"\n\n[bounds]\nrating = 0.4\n";
        let config: BalanceConfig = toml::from_str(text).unwrap();
        assert_eq!(toml::to_string(&config).unwrap(), text);
        assert_eq!(toml::from_str::<BalanceConfig>("").unwrap(), BalanceConfig::default());
        let error = toml::from_str::<BalanceConfig>("method = \"mgda\"\nc = 1").unwrap_err().to_string();
        assert!(error.contains("no parameter c") && error.contains("its parameters are normalize"), "{error}");
    }
}
