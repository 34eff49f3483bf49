//! What each model is told of the log's bias.

use paretune_objectives::{Debias, DebiasMethod, Kind, Objective, ObjectiveError, Objectives, Propensity};

/// Conversions where there was a click; nothing elsewhere.
pub(crate) const CLICKED: &str = "conversion_of_clicks";

/// True probabilities: that a row is shown and clicked, that it is shown and rated; that it is clicked once it is shown, and rated.
pub(crate) const TRUE: [&str; 4] = ["shown_and_clicked", "shown_and_rated", "clicked", "rated"];

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
    /// As `snips`, with the true probabilities that what was converted and rated is shown and clicked or rated at all.
    SnipsTrue,
    /// As `doubly-robust`, with the true probabilities that what was shown is clicked and rated.
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
        let known = |name: &str, method, clip| Debias {
            clip: Some(clip),
            column: Some(name.to_owned()),
            ..Debias::new(method, Propensity::Column)
        };
        let told = |click: Objective, [clicked, rated]: [&str; 2], method, clip| {
            let bought = bought.clone().debias(known(clicked, method, clip));
            vec![click, bought, rating.clone().debias(known(rated, method, clip))]
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
            Self::SnipsTrue => {
                let method = DebiasMethod::Snips;
                told(click.examined(10).debias(logged(method)), [TRUE[0], TRUE[1]], method, 20_000.0)
            }
            Self::DoublyRobustTrue => {
                let method = DebiasMethod::DoublyRobust;
                told(click.debias(logged(method)), [TRUE[2], TRUE[3]], method, 50.0)
            }
            Self::Examination => {
                let bought = Objective::new("conversion", Kind::Conditional, "conversion").given("click");
                vec![click.examined(10), bought, rating]
            }
        })
    }
}
