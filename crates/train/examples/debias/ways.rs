//! What each model is told of the log's bias.

use paretune_objectives::{Debias, DebiasMethod, Kind, Objective, ObjectiveError, Objectives, Propensity};

/// Conversions where there was a click; nothing elsewhere.
pub(crate) const CLICKED: &str = "conversion_of_clicks";

/// The true probability of a click on each row, and of a rating.
pub(crate) const CLICK_PROPENSITY: &str = "true_click";
pub(crate) const RATING_PROPENSITY: &str = "true_rating";

/// How the three objectives are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Every label as it is, the position as an input of all towers.
    Naive,
    /// Clicks by the true examination of their positions; conversions and ratings by a fitted propensity.
    Ips,
    /// The same with weights of at most 10.
    Clipped,
    /// Clicks by logged propensities beside a learned examination; conversions and ratings by a fitted propensity.
    Snips,
    /// Clicks by logged propensities; conversions and ratings by a fitted one; the rest imputed.
    DoublyRobust,
    /// As `snips`, with the true propensities of conversions and ratings.
    SnipsTrue,
    /// As `doubly-robust`, with the true propensities of conversions and ratings.
    DoublyRobustTrue,
    /// A learned examination of clicks, conversions over all impressions (ESMM), ratings as they are.
    Examination,
}

impl Way {
    pub(crate) const ALL: [Self; 8] = [
        Self::Naive,
        Self::Ips,
        Self::Clipped,
        Self::Snips,
        Self::DoublyRobust,
        Self::SnipsTrue,
        Self::DoublyRobustTrue,
        Self::Examination,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Ips => "ips",
            Self::Clipped => "clipped",
            Self::Snips => "snips",
            Self::DoublyRobust => "doubly-robust",
            Self::SnipsTrue => "snips-true",
            Self::DoublyRobustTrue => "doubly-robust-true",
            Self::Examination => "examination",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|way| way.name() == name).ok_or(format!("no way `{name}`; there are {known}"))
    }

    /// Drawn items stand for the catalogue where clicks are imputed.
    pub(crate) fn negatives(self) -> usize {
        if matches!(self, Self::DoublyRobust | Self::DoublyRobustTrue) { 4 } else { 0 }
    }

    pub(crate) fn objectives(self, eta: f64) -> Result<Objectives, ObjectiveError> {
        let click = Objective::new("click", Kind::Binary, "click");
        let bought = Objective::new("conversion", Kind::Binary, CLICKED);
        let rating = Objective::new("satisfaction", Kind::Regression, "rating");
        let fitted = |method, clip| Debias { clip, ..Debias::new(method, Propensity::Model) };
        let looked = |method, clip| Debias { clip, eta: Some(eta), ..Debias::new(method, Propensity::Position) };
        let logged = |method| Debias { clip: Some(10.0), ..Debias::new(method, Propensity::Column) };
        let both = |click: Objective, method, clip| {
            vec![click, bought.clone().debias(fitted(method, clip)), rating.clone().debias(fitted(method, clip))]
        };
        let known = |name: &str, method| Debias {
            clip: Some(50.0),
            column: Some(name.to_owned()),
            ..Debias::new(method, Propensity::Column)
        };
        let told = |click: Objective, method| {
            let bought = bought.clone().debias(known(CLICK_PROPENSITY, method));
            vec![click, bought, rating.clone().debias(known(RATING_PROPENSITY, method))]
        };
        Objectives::new(match self {
            Self::Naive => vec![click, bought, rating],
            Self::Ips => both(click.debias(looked(DebiasMethod::Ips, None)), DebiasMethod::Ips, None),
            Self::Clipped => {
                let most = Some(10.0);
                both(click.debias(looked(DebiasMethod::Clipped, most)), DebiasMethod::Clipped, most)
            }
            Self::Snips => {
                both(click.examined(10).debias(logged(DebiasMethod::Snips)), DebiasMethod::Snips, Some(50.0))
            }
            Self::DoublyRobust => {
                let method = DebiasMethod::DoublyRobust;
                both(click.debias(logged(method)), method, Some(50.0))
            }
            Self::SnipsTrue => told(click.examined(10).debias(logged(DebiasMethod::Snips)), DebiasMethod::Snips),
            Self::DoublyRobustTrue => {
                let method = DebiasMethod::DoublyRobust;
                told(click.debias(logged(method)), method)
            }
            Self::Examination => {
                let bought = Objective::new("conversion", Kind::Conditional, "conversion").given("click");
                vec![click.examined(10), bought, rating]
            }
        })
    }
}
