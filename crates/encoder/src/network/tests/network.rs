//! Embeddings, layers and pooling together.

use candle_core::{DType, Tensor, Var};
use paretune_features::Packed;

use super::{Step, by_candle, by_kernels, largest, network, numbers, odd, packed, parameters};
use crate::family::ModelConfig;
use crate::network::{Network, Parameters, embeddings};
use crate::parameter::Pass;
use crate::pooling::Pooling;

const LENGTHS: [usize; 5] = [7, 1, 40, 2, 33];

fn dropping(seed: u64) -> Pass {
    Pass { dropout: Some(seed), ..Pass::TRACKED }
}

fn step(config: &ModelConfig, frozen: impl Fn(&str) -> bool, packed: &Packed, kind: Pooling, pass: Pass) -> Step {
    let all = parameters(config, DType::F32, frozen);
    Step::new(by_kernels(&network(config, &all), packed, kind, pass), &all, None)
}

fn twin(config: &ModelConfig, packed: &Packed, kind: Pooling, pass: Pass) -> Step {
    let all = parameters(config, DType::F64, |_| false);
    Step::new(by_candle(&network(config, &all), packed, kind, pass), &all, None)
}

#[test]
fn the_network_equals_its_definition() {
    let packed = packed(&LENGTHS);
    for activation in ["gelu", "gelu_new", "relu"] {
        for kind in [Pooling::Mean, Pooling::Cls, Pooling::Max] {
            for pass in [Pass::TRACKED, dropping(3), Pass { first_token: 91, recompute: true, ..dropping(4) }] {
                let config = odd(activation);
                let step = step(&config, |_| false, &packed, kind, pass);
                assert_eq!(step.gradients.len(), config.architecture.tensors().len());
                let what = format!("{activation}, {kind:?}, {pass:?}");
                step.assert_near(&twin(&config, &packed, kind, pass), &what);
            }
        }
    }
}

#[test]
fn the_longest_sequence_and_the_shortest_equal_their_definition() {
    let packed = packed(&[512, 1]);
    let config = odd("gelu");
    let step = step(&config, |_| false, &packed, Pooling::Mean, dropping(3));
    step.assert_near(&twin(&config, &packed, Pooling::Mean, dropping(3)), "512 tokens");
}

#[test]
fn each_part_can_be_frozen_alone() {
    let (config, packed) = (odd("gelu"), packed(&LENGTHS));
    for pass in [Pass::TRACKED, dropping(3)] {
        let all = step(&config, |_| false, &packed, Pooling::Mean, pass);
        for frozen in parameters(&config, DType::F32, |_| false).keys() {
            let step = step(&config, |name| name == frozen, &packed, Pooling::Mean, pass);
            assert!(!step.gradients.contains_key(frozen), "{frozen}");
            assert_eq!(step.gradients.len(), config.architecture.tensors().len() - 1, "{frozen}");
            step.assert_same(&all, frozen);
        }
    }
}

#[test]
fn frozen_lower_layers_drop_nothing() {
    let (config, packed) = (odd("gelu"), packed(&LENGTHS));
    let offsets = packed.offsets.as_slice().into();
    let all = parameters(&config, DType::F32, |name| !name.starts_with("encoder.layer.1."));
    let network = network(&config, &all);
    assert_eq!(network.first_trained, 1);
    let below = |pass| {
        let x = network.embed(&packed, pass).unwrap();
        network.layers(&x, 0..1, &offsets, pass).unwrap()
    };
    let (one, other, fixed) = (below(dropping(1)), below(dropping(2)), below(Pass::INFERENCE));
    assert!(!one.track_op());
    assert_eq!(numbers(&one), numbers(&fixed));
    assert_eq!(numbers(&other), numbers(&fixed));
    // The trained layer on top drops what it always does.
    let out = |pass| numbers(&network.forward(&packed, &offsets, pass, &mut Ok).unwrap());
    let on_top = |pass| numbers(&network.layers(&fixed, 1..2, &offsets, pass).unwrap());
    assert_eq!(out(dropping(1)), on_top(dropping(1)));
    assert_ne!(out(dropping(1)), out(dropping(2)));
    assert_ne!(out(dropping(1)), out(Pass::TRACKED));
}

#[test]
fn each_place_of_the_network_draws_for_itself() {
    let config = odd("gelu");
    let network = network(&config, &parameters(&config, DType::F32, |_| false));
    let mut drawn = vec![network.embedding_mask(dropping(1)).unwrap().unwrap()];
    for layer in 0..2 {
        drawn.extend(network.masks(layer, dropping(1)).unwrap().blocks.map(|mask| mask.unwrap()));
    }
    drawn.extend(network.embedding_mask(dropping(2)).unwrap());
    let kept: Vec<Vec<bool>> =
        drawn.iter().map(|mask| (0..64).map(|column| mask.row(0).factor(column) == 0.0).collect()).collect();
    for (at, one) in kept.iter().enumerate() {
        assert!(kept[..at].iter().all(|other| other != one), "place {at}");
    }
}

#[test]
fn the_gradient_of_a_word_is_the_sum_of_its_places() {
    let config = odd("gelu");
    // The same token everywhere, in one and in two sequences.
    let packed = Packed::from_sequences([&[4u32, 4, 4][..], &[4, 9]]);
    let step = step(&config, |_| false, &packed, Pooling::Mean, Pass::TRACKED);
    step.assert_near(&twin(&config, &packed, Pooling::Mean, Pass::TRACKED), "repeated");
    let words = &step.gradients["embeddings.word_embeddings.weight"];
    for row in 0..config.vocab_size() {
        let is_used = row == 4 || row == 9;
        assert_eq!(largest(&words.get(row).unwrap()) > 0.0, is_used, "row {row}");
    }
    let segments = &step.gradients["embeddings.token_type_embeddings.weight"];
    assert_eq!(largest(&segments.get(1).unwrap()), 0.0);
    let positions = &step.gradients["embeddings.position_embeddings.weight"];
    assert!(largest(&positions.get(2).unwrap()) > 0.0 && largest(&positions.get(3).unwrap()) == 0.0);
}

#[test]
fn embeddings_refuse_places_outside_of_their_tables() {
    let config = odd("gelu");
    let network = network(&config, &parameters(&config, DType::F32, |_| false));
    let run =
        |ids: &[u32], places: &[u32]| embeddings::embeddings(&network.embeddings, ids, places, None, Pass::TRACKED);
    assert_eq!(run(&[30, 0], &[511, 0]).unwrap().dims(), [2, 20]);
    assert_eq!(run(&[], &[]).unwrap().dims(), [0, 20]);
    assert!(run(&[31], &[0]).is_err());
    assert!(run(&[0], &[512]).is_err());
}

#[test]
fn gradients_of_what_follows_reach_the_network() {
    // The same weights, once more in an operation of Candle's.
    let (config, packed) = (odd("gelu"), packed(&[3, 2]));
    let name = "encoder.layer.1.output.dense.bias";
    let run = |dtype, compute: &dyn Fn(&Network) -> Tensor| {
        let all: Parameters = parameters(&config, dtype, |_| false);
        let out = compute(&network(&config, &all));
        let var: &Var = all[name].var().unwrap();
        Step::new(out.broadcast_mul(var.as_tensor()).unwrap(), &all, None)
    };
    let found = run(DType::F32, &|network| by_kernels(network, &packed, Pooling::Mean, Pass::TRACKED));
    let expected = run(DType::F64, &|network| by_candle(network, &packed, Pooling::Mean, Pass::TRACKED));
    found.assert_near(&expected, "used twice");
}
