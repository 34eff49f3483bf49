//! The text encoder's layers are not all trained alike: learning rates that fall from layer to layer, and layers that rest at first.

use paretune_optim::{Groups, ParameterGroup};
use paretune_recommender::{Parameters, Recommender};

use crate::TrainingConfig;

/// Learning rates and weight decay of every parameter: the towers at the learning rate itself, the text encoder's top layer (or the id
/// table) at its own, each layer below at `layer_decay` times that of the one above it.
pub(crate) fn groups(model: &Recommender, parameters: &Parameters, config: &TrainingConfig) -> Groups {
    let top = config.backbone_learning_rate / config.learning_rate;
    let own = parameters.backbone.iter().map(|(name, _)| {
        let below =
            model.encoder().map_or(0, |encoder| encoder.config().layers().saturating_sub(encoder.depth_of(name)));
        let lr_scale = top * config.layer_decay.powi(i32::try_from(below).unwrap_or(i32::MAX));
        ParameterGroup { prefix: name.clone(), lr_scale, weight_decay: None }
    });
    let defaults = Groups::default();
    // Whatever families call them: vectors are biases and scales, which a pull to zero has no meaning for.
    let vectors = parameters.backbone.iter().filter(|(_, var)| var.rank() < 2).map(|(name, _)| name.clone());
    let no_decay = defaults.no_decay.into_iter().chain(vectors).collect();
    Groups { weight_decay: config.weight_decay, no_decay, own: own.collect() }
}

/// Lets the layers rest that are not yet unfrozen at `step` of `steps`, of which the share `unfreeze` goes by until all are.
pub(crate) fn wake(model: &Recommender, unfreeze: f64, step: usize, steps: usize) {
    let Some(encoder) = model.encoder() else { return };
    let depth = match unfreeze > 0.0 {
        true => resting(unfreeze, step, steps, encoder.config().layers() + 1),
        false => 0,
    };
    encoder.rest_below(depth);
}

fn resting(unfreeze: f64, step: usize, steps: usize, top: usize) -> usize {
    let progress = step as f64 / (unfreeze * steps as f64).max(1.0);
    (((1.0 - progress) * top as f64).ceil().max(0.0) as usize).min(top)
}

#[cfg(test)]
mod tests {
    use super::resting;

    #[test]
    fn layers_wake_from_the_top_down() {
        // Six layers, over the first half of a hundred steps: the top of seven depths at once, the last at step 50.
        let depths: Vec<usize> = (0..100).map(|step| resting(0.5, step, 100, 7)).collect();
        assert_eq!(depths[0], 7);
        assert!(depths.windows(2).all(|pair| pair[0] >= pair[1]));
        assert_eq!((depths[8], depths[49], depths[50], depths[99]), (6, 1, 0, 0));
        assert_eq!(resting(1.0, 0, 0, 7), 7);
    }
}
