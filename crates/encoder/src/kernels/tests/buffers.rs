//! Buffers that are used again.

use crate::kernels::buffers::{Buffer, LANES};

#[test]
fn buffers_begin_on_a_cache_line_and_have_the_length_asked_for() {
    for length in [0usize, 1, 15, 16, 17, 1000, 100_003] {
        let mut floats = Buffer::<f32>::take(length);
        assert_eq!(floats.len(), length);
        assert!(length == 0 || floats.as_ptr().addr().is_multiple_of(4 * LANES), "{length}");
        floats.fill(1.0);
        assert_eq!(Buffer::<u32>::take(length).len(), length);
    }
}

#[test]
fn buffers_in_use_never_share_memory() {
    let threads: Vec<_> = (0..4u32)
        .map(|thread| {
            std::thread::spawn(move || {
                for round in 0..200u32 {
                    let mark = thread * 1000 + round;
                    let mut held: Vec<_> = (1..4).map(|size| Buffer::<u32>::take(size * 64 + round as usize)).collect();
                    for (at, buffer) in held.iter_mut().enumerate() {
                        buffer.fill(4 * mark + at as u32);
                    }
                    std::thread::yield_now();
                    for (at, buffer) in held.iter().enumerate() {
                        assert!(buffer.iter().all(|&value| value == 4 * mark + at as u32));
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
