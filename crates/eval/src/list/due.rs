/// Groups of items, what they are shown, and what is their due.
#[derive(Debug, Clone)]
pub(super) struct Due<'a> {
    name: String,
    groups: &'a [Option<u32>],
    due: &'a [f64],
    exposure: Vec<f64>,
}

impl<'a> Due<'a> {
    pub(super) fn new(name: String, groups: &'a [Option<u32>], due: &'a [f64]) -> Self {
        Self { name, groups, due, exposure: vec![0.0; due.len()] }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn add(&mut self, item: usize, exposure: f64) {
        let group = self.groups.get(item).copied().flatten();
        if let Some(sum) = group.and_then(|group| self.exposure.get_mut(group as usize)) {
            *sum += exposure;
        }
    }

    /// `½ Σ_g |E_g − t_g|`; `None` where nothing was shown, or nobody is due anything.
    pub(super) fn disparity(&self) -> Option<f64> {
        let shown: f64 = self.exposure.iter().sum();
        let due: f64 = self.due.iter().sum();
        let differences = || self.exposure.iter().zip(self.due).map(|(own, share)| (own / shown - share / due).abs());
        (shown > 0.0 && due > 0.0).then(|| differences().sum::<f64>() / 2.0)
    }
}
