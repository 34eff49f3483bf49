//! The rows as one matrix, for methods that look at single coordinates.

use candle_core::{Device, Shape, Tensor};
use paretune_optim::{Gradient, Jacobian, OptimError};

use super::row::Row;
use crate::TrainError;

/// Gradients of several objectives side by side: `K` rows over parts of known shapes, zeros where a part is missing.
pub(super) struct Stacked {
    shapes: Vec<Shape>,
    /// What the gradients of each part look like together; `None` where no objective has one.
    kinds: Vec<Option<Kind>>,
    device: Device,
}

enum Kind {
    Dense,
    /// Every objective's gradient is of some rows of a table, and these are all of them.
    Rows(Vec<u32>),
}

impl Stacked {
    /// The matrix of `rows`, whose parts have `shapes`. The names are for messages.
    pub(super) fn new(
        rows: &[Row],
        shapes: Vec<Shape>,
        names: &[&str],
        device: &Device,
    ) -> Result<(Self, Jacobian), TrainError> {
        let kind = |part: usize| {
            let mut all = rows.iter().filter_map(|row| row.get(part)?.as_ref()).peekable();
            all.peek()?;
            let mut touched = std::collections::BTreeSet::new();
            for gradient in all {
                match gradient {
                    Gradient::Dense(_) => return Some(Kind::Dense),
                    Gradient::Rows { rows, .. } => touched.extend(rows.iter().copied()),
                }
            }
            Some(Kind::Rows(touched.into_iter().collect()))
        };
        let kinds = (0..shapes.len()).map(kind).collect();
        let mut matrix = Vec::with_capacity(rows.len());
        for (row, name) in rows.iter().zip(names) {
            let mut flat: Vec<f64> = Vec::with_capacity(shapes.iter().map(Shape::elem_count).sum());
            for (part, shape) in shapes.iter().enumerate() {
                match row.get(part).and_then(Option::as_ref) {
                    Some(gradient) => {
                        let values = gradient.dense()?.flatten_all()?.to_vec1::<f32>()?;
                        if let Some(wrong) = values.iter().find(|value| !value.is_finite()) {
                            let (what, value) = ("the gradient", f64::from(*wrong));
                            return Err(OptimError::NotFinite { what, objective: (*name).into(), value }.into());
                        }
                        flat.extend(values.into_iter().map(f64::from));
                    }
                    None => flat.resize(flat.len() + shape.elem_count(), 0.0),
                }
            }
            matrix.push(flat);
        }
        Ok((Self { shapes, kinds, device: device.clone() }, Jacobian::new(matrix)?))
    }

    /// A direction of the matrix' width as parts again; those that no objective had stay without, tables keep to the rows that some had.
    pub(super) fn parts(&self, direction: &[f64]) -> Result<Row, TrainError> {
        let mut rest = direction;
        let mut parts = Row::new();
        for (shape, kind) in self.shapes.iter().zip(&self.kinds) {
            let (own, after) = rest.split_at(shape.elem_count().min(rest.len()));
            rest = after;
            let values = |own: &[f64]| own.iter().map(|value| *value as f32).collect::<Vec<_>>();
            parts.push(match kind {
                None => None,
                Some(Kind::Dense) => Some(Tensor::from_vec(values(own), shape.clone(), &self.device)?.into()),
                Some(Kind::Rows(rows)) => {
                    let (height, width) = shape.dims2()?;
                    let touched: Vec<f32> =
                        rows.iter().flat_map(|row| values(&own[*row as usize * width..][..width])).collect();
                    let values = Tensor::from_vec(touched, (rows.len(), width), &self.device)?;
                    Some(Gradient::Rows { rows: rows.clone(), values, height })
                }
            });
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_went_in() {
        let device = Device::Cpu;
        let tensor = |values: &[f32]| Tensor::new(values, &device).unwrap();
        let table = |row: u32, value: f32| {
            Some(Gradient::Rows {
                rows: vec![row],
                values: tensor(&[value, -value]).reshape((1, 2)).unwrap(),
                height: 3,
            })
        };
        let rows: [Row; 2] =
            [vec![Some(tensor(&[1.0, 2.0]).into()), table(0, 5.0), None], vec![None, table(2, 7.0), None]];
        let shapes = vec![Shape::from(2), Shape::from((3, 2)), Shape::from(4)];
        let (stacked, jacobian) = Stacked::new(&rows, shapes, &["a", "b"], &device).unwrap();
        assert_eq!(jacobian.rows()[0], [1.0, 2.0, 5.0, -5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let parts = stacked.parts(&jacobian.combine(&[2.0, 1.0])).unwrap();
        assert_eq!(parts[0].as_ref().unwrap().dense().unwrap().to_vec1::<f32>().unwrap(), [2.0, 4.0]);
        assert!(matches!(&parts[1], Some(Gradient::Rows { rows, .. }) if *rows == [0, 2]));
        let table = parts[1].as_ref().unwrap().dense().unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(table, [[10.0, -10.0], [0.0, 0.0], [7.0, -7.0]]);
        assert!(parts[2].is_none());
        let wrong: Row = vec![Some(tensor(&[f32::NAN, 0.0]).into())];
        let refused = Stacked::new(&[wrong], vec![Shape::from(2)], &["dwell"], &device).err().unwrap().to_string();
        assert!(refused.contains("objective dwell"), "{refused}");
    }
}
