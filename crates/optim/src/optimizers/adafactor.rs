//! Adafactor.

use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Stepper;
use super::algorithm::{Algorithm, Buffer, Step};
use super::inplace::{Flat, Piece, cut, squares};
use crate::gradient::in_double;
use crate::{OptimError, Result};

/// Adafactor (Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML 2018), without momentum.
///
/// Of a matrix it remembers the mean squared gradient of each row `R` and of each column `C`, whose product stands in for that of each value:
///
/// ```text
/// k = t^-decay                             R ← R + k (mean over a row of (g² + ε) - R)       C alike
/// u = g / √(R C / mean R)                  (of anything but a matrix: V ← V + k (g² + ε - V),  u = g / √V)
/// θ ← θ (1 - lr λ) - α u / max(1, rms(u) / clip)
/// ```
///
/// `α` is the learning rate; with `relative_step`, as published, it is `max(min_scale, rms(θ)) · min(lr, 1/√t)`.
///
/// Of a table whose gradient is of some rows, those rows are the matrix: means and root mean squares are over them. Each row has its own
/// `t` for `R`, so that a row which is met late does not start from a mean of zeros. Everything else is a [`Stepper`]'s.
///
/// ```
/// use candle_core::{Device, Var};
/// use paretune_optim::{Adafactor, AdafactorConfig, Groups};
///
/// let w = Var::new(&[[3.0_f32, -4.0, 1.0], [1.0, 2.0, 5.0]], &Device::Cpu)?;
/// let optimizer = Adafactor::new(AdafactorConfig::default(), &Groups::default(), vec![("w".into(), w)])?;
/// let sizes: Vec<_> = optimizer.state()?.iter().map(|(name, tensor)| (name.clone(), tensor.elem_count())).collect();
/// // Two rows with their step counts, three columns.
/// let expected = [("w.row", 2), ("w.row_steps", 2), ("w.column", 3), ("w.steps", 1)];
/// assert_eq!(sizes, expected.map(|(name, size)| (name.to_string(), size)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Adafactor = Stepper<AdafactorConfig>;

/// Settings of [`Adafactor`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdafactorConfig {
    /// How fast the memory grows longer, in `(0, 1]`: its mean is over the last `t^decay` steps.
    pub decay: f64,
    /// Largest root mean square of an update before the learning rate, above 0.
    pub clip: f64,
    /// Added to squared gradients, above 0.
    pub eps: f64,
    /// Steps in proportion to the parameter's own size, and no longer than `1/√t`.
    pub relative_step: bool,
    /// With `relative_step`, the size that smaller parameters are taken for, above 0.
    pub min_scale: f64,
}

impl Default for AdafactorConfig {
    fn default() -> Self {
        Self { decay: 0.8, clip: 1.0, eps: 1e-30, relative_step: false, min_scale: 1e-3 }
    }
}

impl AdafactorConfig {
    /// `α`, given the parameter's mean square.
    fn rate(&self, step: &Step, mean_square: impl FnOnce() -> f64) -> f64 {
        match self.relative_step {
            true => self.min_scale.max(mean_square().sqrt()) * step.lr.min((step.t as f64).powf(-0.5)),
            false => step.lr,
        }
    }

    /// What an update is multiplied by, given `α` and the update's mean square.
    fn size(&self, rate: f64, mean_square: f64) -> f64 {
        rate / (mean_square.sqrt() / self.clip).max(1.0)
    }

    /// Share of the newest gradient in the memory at step `t`.
    fn newest(&self, t: f64) -> f64 {
        t.powf(-self.decay)
    }

    fn matrix(&self, step: &Step, flat: Flat<'_>) {
        let [row_memory, row_steps, column_memory] = flat.buffers else { return };
        let width = column_memory.len();
        let all: Vec<u32>;
        let rows = match flat.rows {
            Some(rows) => rows,
            None => {
                all = (0..u32::try_from(row_memory.len()).unwrap_or(u32::MAX)).collect();
                &all
            }
        };
        let mut pieces = cut::<0>(flat.parameter, flat.gradient, Some(rows), width, []);
        let (scale, values) = (step.scale as f32, (rows.len() * width) as f64);
        let at_a_time = (BLOCK / width).max(1);

        let sums: Vec<Sums> =
            pieces.par_chunks(at_a_time).map(|pieces| Sums::of(pieces, width, scale, self.relative_step)).collect();
        let rate = self.rate(step, || sums.iter().map(|sums| sums.parameter).sum::<f64>() / values);
        let mut total = 0.0;
        for (&row, square) in rows.iter().zip(sums.iter().flat_map(|sums| &sums.rows)) {
            let (memory, t) = (&mut row_memory[row as usize], &mut row_steps[row as usize]);
            *t += 1.0;
            let mean = square / width as f64 + self.eps;
            *memory = (f64::from(*memory) + self.newest(f64::from(*t)) * (mean - f64::from(*memory))) as f32;
            total += f64::from(*memory);
        }
        let newest = self.newest(step.t as f64);
        let mut columns = Vec::with_capacity(width);
        for (column, memory) in column_memory.iter_mut().enumerate() {
            let mean = sums.iter().map(|sums| sums.columns[column]).sum::<f64>() / rows.len() as f64 + self.eps;
            *memory = (f64::from(*memory) + newest * (mean - f64::from(*memory))) as f32;
            columns.push((1.0 / f64::from(*memory).sqrt()) as f32);
        }
        let mean = total / rows.len() as f64;
        let of_row = |row: u32| ((mean / f64::from(row_memory[row as usize])).sqrt() * step.scale) as f32;

        let updates: Vec<f64> = pieces
            .par_chunks(at_a_time)
            .zip(rows.par_chunks(at_a_time))
            .map(|(pieces, rows)| {
                let of_piece = |(piece, &row): (&Piece<'_, 0>, &u32)| {
                    let factor = of_row(row);
                    squares([piece.gradient, &columns], |[g, column]| g * factor * column)
                };
                pieces.iter().zip(rows).map(of_piece).sum()
            })
            .collect();
        let size = self.size(rate, updates.iter().sum::<f64>() / values) as f32;
        let keep = (1.0 - step.lr * step.weight_decay) as f32;
        pieces.par_chunks_mut(at_a_time).zip(rows.par_chunks(at_a_time)).for_each(|(pieces, rows)| {
            for (piece, &row) in pieces.iter_mut().zip(rows) {
                let factor = of_row(row);
                for ((p, g), column) in piece.parameter.iter_mut().zip(piece.gradient).zip(&columns) {
                    *p = keep * *p - size * (g * factor * column);
                }
            }
        });
    }

    fn vector(&self, step: &Step, flat: Flat<'_>) {
        let values = flat.gradient.len() as f64;
        let (scale, eps, newest) = (step.scale as f32, self.eps as f32, self.newest(step.t as f64) as f32);
        let mut pieces = flat.pieces();
        let sums: Vec<(f64, f64)> = pieces
            .par_iter_mut()
            .map(|Piece { parameter, gradient, buffers: [second] }| {
                for (g, v) in gradient.iter().zip(second.iter_mut()) {
                    let g = g * scale;
                    *v += newest * (g * g + eps - *v);
                }
                (squares([parameter], |[p]| p), squares([gradient, second], |[g, v]| g * scale / v.sqrt()))
            })
            .collect();
        let (parameter, update) = sums.iter().fold((0.0, 0.0), |sums, more| (sums.0 + more.0, sums.1 + more.1));
        let size = self.size(self.rate(step, || parameter / values), update / values) as f32;
        let keep = (1.0 - step.lr * step.weight_decay) as f32;
        pieces.into_par_iter().for_each(|Piece { parameter, gradient, buffers: [second] }| {
            for ((p, g), &mut v) in parameter.iter_mut().zip(gradient).zip(second) {
                *p = keep * *p - size * (g * scale / v.sqrt());
            }
        });
    }
}

/// Values whose sums one thread takes.
const BLOCK: usize = 1 << 14;

/// Sums of squares over some rows.
struct Sums {
    /// Of the gradient, row by row.
    rows: Vec<f64>,
    /// Of the gradient, column by column.
    columns: Vec<f64>,
    /// Of the parameter.
    parameter: f64,
}

impl Sums {
    fn of(pieces: &[Piece<'_, 0>], width: usize, scale: f32, with_parameter: bool) -> Self {
        let mut sums = Self { rows: Vec::with_capacity(pieces.len()), columns: vec![0.0; width], parameter: 0.0 };
        for piece in pieces {
            for (g, column) in piece.gradient.iter().zip(&mut sums.columns) {
                *column += f64::from(g * scale).powi(2);
            }
            sums.rows.push(squares([piece.gradient], |[g]| g * scale));
            if with_parameter {
                sums.parameter += squares([piece.parameter], |[p]| p);
            }
        }
        sums
    }
}

impl Algorithm for AdafactorConfig {
    const NAME: &'static str = "adafactor";

    fn check(&self) -> Result<()> {
        let wrong = |setting: &str, value: f64, rule| {
            Err(OptimError::Setting { setting: setting.into(), value: value.to_string(), rule })
        };
        if !(self.decay > 0.0 && self.decay <= 1.0) {
            return wrong("decay", self.decay, "it is above 0 and at most 1");
        }
        // Below, it would be no number of single precision.
        if !(1e-37..1.0).contains(&self.eps) {
            return wrong("eps", self.eps, "it is a small positive number, such as 1e-30");
        }
        for (setting, value) in [("clip", self.clip), ("min_scale", self.min_scale)] {
            if !(value.is_finite() && value > 0.0) {
                return wrong(setting, value, "it is a positive number");
            }
        }
        Ok(())
    }

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        match *shape {
            [rows, columns] => vec![
                Buffer::like("row", &[rows]),
                Buffer::like("row_steps", &[rows]),
                Buffer { name: "column", shape: vec![columns], by_rows: false },
            ],
            _ => vec![Buffer::like("second", shape)],
        }
    }

    fn flat(&self, step: &Step, flat: Flat<'_>) {
        match flat.shape {
            [_, _] => self.matrix(step, flat),
            _ => self.vector(step, flat),
        }
    }

    fn composed(
        &self,
        step: &Step,
        parameter: &Tensor,
        gradient: &Tensor,
        buffers: &mut [Tensor],
    ) -> candle_core::Result<Tensor> {
        let squares = (gradient.sqr()? + self.eps)?;
        let newest = self.newest(step.t as f64);
        let towards = |memory: &Tensor, mean: &Tensor| memory + ((mean - memory)? * newest)?;
        let update = match buffers {
            [row, row_steps, column] => {
                *row_steps = (&*row_steps + 1.0)?;
                *row = (&*row + ((squares.mean(1)? - &*row)? * row_steps.powf(-self.decay)?)?)?;
                *column = towards(column, &squares.mean(0)?)?;
                let of_row = row.broadcast_div(&row.mean_all()?)?.sqrt()?.unsqueeze(1)?;
                gradient.broadcast_div(&of_row)?.broadcast_div(&column.sqrt()?.unsqueeze(0)?)?
            }
            [second] => {
                *second = towards(second, &squares)?;
                (gradient / second.sqrt()?)?
            }
            _ => candle_core::bail!("no such memory"),
        };
        let mean_square = |t: &Tensor| in_double(t)?.sqr()?.mean_all()?.to_scalar::<f64>();
        let before = mean_square(parameter)?;
        let size = self.size(self.rate(step, || before), mean_square(&update)?);
        (parameter * (1.0 - step.lr * step.weight_decay))? - (update * size)?
    }
}
