use rayon::prelude::*;

/// Rows of which a partial sum is taken: fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 512;

/// One vector for each user or for each item, all of the same width.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factors {
    width: usize,
    /// Row-major `[len, width]`.
    values: Vec<f64>,
}

impl Factors {
    /// `values` holds whole rows of `width ≥ 1`.
    pub(super) fn new(width: usize, values: Vec<f64>) -> Self {
        Self { width, values }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub(super) fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..][..self.width]
    }

    /// `YᵀY + λI`, all of it, row-major `[width, width]`.
    pub(super) fn gram(&self, lambda: f64) -> Vec<f64> {
        let width = self.width;
        let partial = |rows: &[f64]| {
            let mut sum = vec![0.0; width * width];
            for row in rows.chunks_exact(width) {
                for (sum, value) in sum.chunks_exact_mut(width).zip(row) {
                    add_multiple(sum, *value, row);
                }
            }
            sum
        };
        let partials: Vec<Vec<f64>> = self.values.par_chunks(CHUNK * width).map(partial).collect();
        let mut gram = vec![0.0; width * width];
        for partial in &partials {
            add_multiple(&mut gram, 1.0, partial);
        }
        gram.iter_mut().step_by(width + 1).for_each(|diagonal| *diagonal += lambda);
        gram
    }

    /// The product of every row with `vector`.
    pub(super) fn products(&self, vector: &[f64]) -> Vec<f32> {
        self.values.chunks_exact(self.width).map(|row| dot(row, vector) as f32).collect()
    }
}

/// `sum += scale · values`.
pub(super) fn add_multiple(sum: &mut [f64], scale: f64, values: &[f64]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += scale * value);
}

/// `Σ aᵢ bᵢ` in eight partial sums, which are added in a fixed order.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}
