//! What holds of every network, whatever its numbers.

use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;

use super::{
    KINDS, LENGTHS, SequenceConfig, SequenceEncoder, SequenceKind, Step, any_config, bits, difference, largest,
    numbers, odd, offsets, rows, weighted,
};
use crate::backward;
use crate::parameter::Pass;

/// `x` with one row changed.
fn changed(x: &Tensor, row: usize) -> Tensor {
    let (count, width) = x.dims2().unwrap();
    let mut values = x.to_vec2::<f32>().unwrap().concat();
    values[row * width..][..width].iter_mut().for_each(|value| *value = 3.0 - 2.0 * *value);
    Tensor::from_vec(values, (count, width), &Device::Cpu).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_comes_later_changes_no_bit_of_what_was_before(
        config in any_config(),
        lengths in prop::collection::vec(0u32..18, 1..16),
        dropout in prop::option::of(0u64..1000),
        at in any::<prop::sample::Index>(),
    ) {
        let offsets = offsets(&lengths);
        let total = offsets[offsets.len() - 1] as usize;
        prop_assume!(total > 0);
        let encoder = weighted(&config);
        let (x, row) = (rows(&lengths, config.width, 5), at.index(total));
        let run = |x: &Tensor| encoder.forward(x, &offsets, dropout).unwrap();
        let (first, second) = (run(&x), run(&changed(&x, row)));
        let sequence = offsets.windows(2).find(|pair| (pair[0] as usize..pair[1] as usize).contains(&row)).unwrap();
        for other in 0..total {
            // Other sequences never change; within one, a network that sees all may.
            let own = (sequence[0] as usize..sequence[1] as usize).contains(&other);
            let may = own && (other >= row || config.kind == SequenceKind::Bidirectional);
            let same = bits(&first.get(other).unwrap()) == bits(&second.get(other).unwrap());
            prop_assert!(same || may, "row {} changed with row {}", other, row);
        }
    }

    #[test]
    fn a_sequence_alone_is_what_it_is_among_others(
        config in any_config(),
        lengths in prop::collection::vec(0u32..18, 1..16),
    ) {
        let (encoder, offsets) = (weighted(&config), offsets(&lengths));
        let x = rows(&lengths, config.width, 5);
        let all = encoder.forward(&x, &offsets, None).unwrap();
        for pair in offsets.windows(2).filter(|pair| pair[0] < pair[1]) {
            let own = |of: &Tensor| of.narrow(0, pair[0] as usize, (pair[1] - pair[0]) as usize).unwrap();
            let alone = encoder.forward(&own(&x), &[0, pair[1] - pair[0]], None).unwrap();
            let off = difference(&alone, &own(&all));
            prop_assert!(off <= 2e-6 * largest(&alone).max(1.0), "off by {}", off);
        }
    }
}

#[test]
fn what_comes_before_changes_what_comes_later() {
    for kind in KINDS {
        let encoder = weighted(&odd(kind));
        let x = rows(&[9], 18, 5);
        let run = |x: &Tensor| encoder.forward(x, &[0, 9], None).unwrap().get(5).unwrap();
        assert!(difference(&run(&x), &run(&changed(&x, 2))) > 1e-3, "{kind:?}");
        let later = difference(&run(&x), &run(&changed(&x, 7)));
        assert_eq!(later > 1e-3, kind == SequenceKind::Bidirectional, "{kind:?}: {later}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |threads: usize, work: &(dyn Fn() -> Vec<Vec<u32>> + Sync)| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    };
    let lengths: Vec<u32> = (0..90).map(|i| (i * i + 3 * i) % 20).collect();
    for kind in KINDS {
        let config = SequenceConfig { width: 48, inner: 70, ..odd(kind) };
        let (encoder, offsets) = (weighted(&config), offsets(&lengths));
        let x = rows(&lengths, 48, 5);
        let pass = Pass { dropout: Some(3), ..Pass::TRACKED };
        let step = || Step::new(&encoder, &x, &offsets, pass).bits();
        let one = with(1, &step);
        for threads in [2, 3, 7] {
            assert!(with(threads, &step) == one, "{kind:?} with {threads} threads");
        }
    }
}

#[test]
fn dropout_is_a_function_of_the_seed() {
    let offsets = offsets(&LENGTHS);
    let x = rows(&LENGTHS, 18, 5);
    for kind in KINDS {
        let encoder = weighted(&odd(kind));
        let run = |encoder: &SequenceEncoder, seed| bits(&encoder.forward(&x, &offsets, seed).unwrap());
        assert_eq!(run(&encoder, Some(1)), run(&encoder, Some(1)), "{kind:?}");
        assert_ne!(run(&encoder, Some(1)), run(&encoder, Some(2)), "{kind:?}");
        assert_ne!(run(&encoder, Some(1)), run(&encoder, None), "{kind:?}");
        // Nothing to drop.
        let sure = weighted(&SequenceConfig { dropout: 0.0, ..odd(kind) });
        assert_eq!(run(&sure, Some(1)), run(&encoder, None), "{kind:?}");
        let single = weighted(&SequenceConfig { layers: 1, ..odd(kind) });
        assert_eq!(run(&single, Some(1)) == run(&single, None), !kind.is_transformer(), "{kind:?}");
    }
}

#[test]
fn a_fresh_network_gives_every_parameter_a_gradient() {
    for kind in KINDS {
        for pre_norm in [false, true] {
            let config = SequenceConfig { pre_norm, layers: 3, ..odd(kind) };
            let encoder = SequenceEncoder::new(&config, 11, &Device::Cpu).unwrap();
            let step = Step::new(&encoder, &rows(&LENGTHS, 18, 5), &offsets(&LENGTHS), Pass::TRACKED);
            assert!(numbers(&step.out).iter().all(|value| value.is_finite()));
            for (name, gradient) in &step.gradients {
                assert!(numbers(gradient).iter().all(|value| value.is_finite()), "{kind:?}: {name}");
                assert!(largest(gradient) > 0.0, "{kind:?}: {name}");
            }
            // Positions that no sequence reaches have none.
            if kind.is_transformer() {
                let positions = &step.gradients[1].1;
                assert!(largest(&positions.get(18).unwrap()) > 0.0);
                assert_eq!(largest(&positions.get(19).unwrap()), 0.0);
            }
        }
    }
}

#[test]
fn both_backward_passes_give_the_same_and_so_does_a_second_one() {
    for kind in KINDS {
        let encoder = weighted(&odd(kind));
        let x = Var::from_tensor(&rows(&LENGTHS, 18, 5)).unwrap();
        let out = encoder.forward(&x, &offsets(&LENGTHS), Some(2)).unwrap();
        let loss = out.sqr().unwrap().sum_all().unwrap();
        let (own, again, candle) = (backward(&loss).unwrap(), backward(&loss).unwrap(), loss.backward().unwrap());
        let vars = encoder.parameters("p").into_iter().chain([("x".to_owned(), x.clone())]);
        for (name, var) in vars {
            let expected = bits(candle.get(&var).unwrap());
            assert_eq!(bits(own.get(&var).unwrap()), expected, "{kind:?}: {name}");
            assert_eq!(bits(again.get(&var).unwrap()), expected, "{kind:?}: {name}");
        }
    }
}

#[test]
fn an_input_that_needs_no_gradient_gets_none() {
    for kind in KINDS {
        let encoder = weighted(&odd(kind));
        let x = rows(&LENGTHS, 18, 5);
        let tracked = Step::new(&encoder, &x, &offsets(&LENGTHS), Pass::TRACKED);
        let out = encoder.forward(&x, &offsets(&LENGTHS), None).unwrap();
        assert_eq!(bits(&out), bits(&tracked.out));
        let store = (&out * super::direction(&out)).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(store.get(&x).is_none());
        for ((name, var), (_, expected)) in encoder.parameters("p").iter().zip(&tracked.gradients[1..]) {
            assert_eq!(bits(store.get(var).unwrap()), bits(expected), "{kind:?}: {name}");
        }
    }
}

#[test]
fn an_input_that_is_not_contiguous_is_read_as_it_is() {
    for kind in KINDS {
        let encoder = weighted(&odd(kind));
        let x = rows(&[4, 3], 18, 5);
        let columns = Var::from_tensor(&x.t().unwrap().contiguous().unwrap()).unwrap();
        let run = |x: &Tensor| encoder.forward(x, &[0, 4, 7], None).unwrap();
        let out = run(&columns.t().unwrap());
        assert_eq!(bits(&out), bits(&run(&x)));
        let gradient = out.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&columns).unwrap().clone();
        let rows = Var::from_tensor(&x).unwrap();
        let expected = run(&rows).sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&rows).unwrap().clone();
        assert_eq!(bits(&gradient.t().unwrap()), bits(&expected));
    }
}
