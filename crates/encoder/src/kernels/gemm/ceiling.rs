//! How fast products can be at most on this machine.

use std::time::Instant;

use rayon::prelude::*;

use super::avx512::{self, Tile, Units};
use super::{Arithmetic, COLUMNS, ROWS, features};

/// Lanes along `p`: both sides of the tile stay in the first cache.
const LANES: usize = 192;

/// Operations per second (a multiplication and an addition are two) of the register tile on data in the first cache, on all threads
/// of the current Rayon pool together: the ceiling that a product with memory to read and results to write stays below. 0 where the
/// processor lacks the instructions.
///
/// It takes about a fifth of a second.
pub fn product_ceiling(arithmetic: Arithmetic) -> f64 {
    if !features().f32 || !arithmetic.is_available() {
        return 0.0;
    }
    let each = 2.0 * (ROWS * COLUMNS * LANES * arithmetic.values_per_lane()) as f64;
    let threads = rayon::current_num_threads();
    let rates: Vec<f64> = (0..threads)
        .into_par_iter()
        .with_max_len(1)
        .map(|_| {
            let (left, right) = (vec![0u32; ROWS * LANES], vec![0u32; COLUMNS * LANES + COLUMNS]);
            let mut out = vec![0f32; ROWS * COLUMNS];
            let (rows, columns, offsets) = ([1.0; ROWS], [1.0; COLUMNS], [0; COLUMNS]);
            let aligned = right.as_ptr().align_offset(64).min(COLUMNS);
            let mut best = 0f64;
            let begin = Instant::now();
            while begin.elapsed().as_secs_f64() < 0.2 {
                let start = Instant::now();
                for _ in 0..200 {
                    let tile = Tile {
                        left: left.as_ptr(),
                        row_stride: LANES,
                        step: 1,
                        right: right[aligned..].as_ptr(),
                        lanes: LANES,
                        out: out.as_mut_ptr(),
                        out_stride: COLUMNS,
                        columns: COLUMNS,
                        add: false,
                    };
                    // SAFETY: the processor has the instructions, as asked above; both sides hold 12 and 32 times `LANES` lanes, the
                    // output 12 x 32 numbers.
                    unsafe {
                        match arithmetic {
                            Arithmetic::F32 => avx512::float(ROWS, &tile),
                            Arithmetic::Bf16 => avx512::half(ROWS, &tile),
                            Arithmetic::Int8 => {
                                let units = Units { rows: &rows, columns: &columns, offsets: &offsets };
                                avx512::byte(ROWS, &tile, &units);
                            }
                        }
                    }
                }
                best = best.max(200.0 * each / start.elapsed().as_secs_f64());
            }
            best
        })
        .collect();
    rates.iter().sum()
}
