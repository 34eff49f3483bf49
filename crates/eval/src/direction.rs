/// Metrics for which less is better, by their name without prefix and cut-off.
const LOWER: [&str; 18] = [
    "disparity",
    "ece",
    "error",
    "gini",
    "item_gini",
    "layers",
    "log_loss",
    "log_rmse",
    "logloss",
    "loss",
    "mae",
    "mse",
    "popularity",
    "provider_gini",
    "provider_top_share",
    "rmse",
    "seconds",
    "width",
];

/// Whether a larger value of this metric is better.
///
/// A prefix that ends in `/`, `.`, `:` or a space (the objective) and a cut-off after `@` are ignored, as is letter case.
/// Unknown metrics count as better when higher. Popularity and concentration of exposure count as better when lower.
///
/// ```
/// use paretune_eval::better_is_higher;
///
/// assert!(better_is_higher("ndcg@10"));
/// assert!(!better_is_higher("satisfaction/rmse"));
/// assert!(!better_is_higher("provider_gini@10"));
/// ```
#[must_use]
pub fn better_is_higher(metric: &str) -> bool {
    let name = metric.split('@').next().unwrap_or_default().trim();
    let name = name.rsplit(['/', '.', ':', ' ']).next().unwrap_or_default().to_ascii_lowercase();
    !LOWER.contains(&name.as_str()) && !name.ends_with("_loss")
}
