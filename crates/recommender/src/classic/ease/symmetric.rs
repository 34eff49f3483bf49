use rayon::prelude::*;

use super::tile::{self, Left, Right, SIDE, Tile};

#[cfg(test)]
mod tests;

/// A symmetric matrix in tiles: those on and below the diagonal, row by row. It is padded to whole tiles with the identity, so
/// that the padding of an inverse is the identity again.
pub(super) struct Symmetric {
    size: usize,
    tiles: Vec<Tile>,
}

/// What a row of tiles, the one of the pivot left out, brings to a step of [`Symmetric::invert`].
struct Panel {
    /// `A_ik`.
    left: Left,
    /// `−(A_ik D)ᵀ`.
    right: Right,
    /// `A_ik D`.
    solved: Tile,
}

impl Symmetric {
    /// A matrix of `size` rows, in parallel: `fill` is given a row and a function that sets the value of a column, up to the
    /// diagonal (values above it are passed over). Values that are not set are zero.
    pub(super) fn of_rows<S>(
        size: usize,
        scratch: impl Fn() -> S + Sync + Send,
        fill: impl Fn(&mut S, usize, &mut dyn FnMut(usize, f64)) + Sync,
    ) -> Self {
        let blocks = size.div_ceil(SIDE);
        let rows: Vec<Vec<Tile>> = (0..blocks)
            .into_par_iter()
            .map_init(scratch, |scratch, block| {
                let mut tiles: Vec<Tile> = (0..=block).map(|_| tile::zeros()).collect();
                for inside in 0..SIDE {
                    let row = block * SIDE + inside;
                    let mut set = |column: usize, value: f64| {
                        if column <= row {
                            tiles[column / SIDE][inside * SIDE + column % SIDE] = value;
                            // Tiles on the diagonal are kept whole.
                            if column / SIDE == block {
                                tiles[block][column % SIDE * SIDE + inside] = value;
                            }
                        }
                    };
                    if row < size { fill(scratch, row, &mut set) } else { set(row, 1.0) }
                }
                tiles
            })
            .collect();
        Self { size, tiles: rows.into_iter().flatten().collect() }
    }

    /// The value at `row` and `column`, both below the size.
    pub(super) fn at(&self, row: usize, column: usize) -> f64 {
        let (row, column) = (row.max(column), row.min(column));
        self.tiles[place(row / SIDE, column / SIDE)][row % SIDE * SIDE + column % SIDE]
    }

    /// Puts the inverse of a positive definite matrix in its place; `false` (and nothing of use is left) where a pivot is not
    /// positive, so that the matrix is not positive definite, or not in double precision.
    ///
    /// Blocks `k` are swept one after another: with `D = A_kk⁻¹`, `A_ij ← A_ij − A_ik D A_kj`, `A_ik ← A_ik D`, `A_kk ← −D`. The matrix stays
    /// symmetric and is minus the inverse at the end. That takes as many operations as by Cholesky's factors, no memory beyond a row
    /// of tiles, and each step is one product for each tile, which no other tile waits for.
    pub(super) fn invert(&mut self) -> bool {
        for pivot in 0..self.size.div_ceil(SIDE) {
            let Some(inverse) = tile::inverse(&self.tiles[place(pivot, pivot)]) else { return false };
            let panels = self.panels(pivot, &inverse);
            self.tiles.par_iter_mut().enumerate().for_each(|(index, own)| {
                let (row, column) = block_of(index);
                match (&panels[row], &panels[column]) {
                    (Some(row), Some(column)) => tile::add_product(own, &row.left, &column.right),
                    (Some(row), None) => own.copy_from_slice(&row.solved),
                    (None, Some(column)) => own.copy_from_slice(&tile::transposed(&column.solved)),
                    (None, None) => own.copy_from_slice(&tile::negated(&inverse)),
                }
            });
        }
        self.tiles.par_iter_mut().for_each(|own| own.iter_mut().for_each(|value| *value = -*value));
        true
    }

    /// One panel for each row of tiles, `None` for the pivot's.
    fn panels(&self, pivot: usize, inverse: &[f64]) -> Vec<Option<Panel>> {
        // The inverse is its own transpose.
        let inverse = Right::transpose_of(inverse);
        (0..self.size.div_ceil(SIDE))
            .into_par_iter()
            .map(|block| {
                let left = match block.cmp(&pivot) {
                    std::cmp::Ordering::Less => Left::new(&tile::transposed(&self.tiles[place(pivot, block)])),
                    std::cmp::Ordering::Equal => return None,
                    std::cmp::Ordering::Greater => Left::new(&self.tiles[place(block, pivot)]),
                };
                let mut solved = tile::zeros();
                tile::add_product(&mut solved, &left, &inverse);
                let right = Right::transpose_of(&tile::negated(&solved));
                Some(Panel { left, right, solved })
            })
            .collect()
    }
}

/// Where the tile of a row and a column of tiles, `row ≥ column`, is kept.
fn place(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

/// The row and the column of tiles that are kept at `index`: the inverse of [`place`].
fn block_of(index: usize) -> (usize, usize) {
    let row = ((8 * index + 1).isqrt() - 1) / 2;
    (row, index - place(row, 0))
}
