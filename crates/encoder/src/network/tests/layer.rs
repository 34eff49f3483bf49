//! One transformer layer.

use std::sync::Arc;

use candle_core::{DType, Tensor, Var};

use super::{Step, model, network, numbers, odd_bert, offsets, parameters, uniform};
use crate::family::{BertConfig, ModelConfig};
use crate::kernels::dropout::Mask;
use crate::network::composed;
use crate::network::layer::{Masks, layer};
use crate::parameter::Pass;

struct Case {
    config: ModelConfig,
    offsets: Arc<[u32]>,
    pass: Pass,
    dropout: bool,
}

impl Case {
    fn new(activation: &str, sizes: (usize, usize, usize), lengths: &[usize]) -> Self {
        let (hidden_size, num_attention_heads, intermediate_size) = sizes;
        let sizes = BertConfig { hidden_size, num_attention_heads, intermediate_size, ..odd_bert(activation) };
        let config = model(BertConfig { num_hidden_layers: 1, ..sizes });
        Self { config, offsets: offsets(lengths), pass: Pass::TRACKED, dropout: true }
    }

    fn masks(&self) -> Masks {
        let mask = |p, seed| if self.dropout { Mask::new(p, seed).unwrap() } else { None };
        Masks { blocks: [mask(0.35, 1), mask(0.2, 2), mask(0.2, 3)], ..Masks::default() }
    }

    fn x(&self) -> Tensor {
        uniform(&[self.offsets[self.offsets.len() - 1] as usize, self.config.hidden_size()], 5)
            .affine(1.7, 0.0)
            .unwrap()
    }

    /// The layer's step, by the kernels in `f32` or by Candle in `f64`.
    fn step(&self, by_candle: bool, frozen: impl Fn(&str) -> bool, track_x: bool) -> Step {
        let dtype = if by_candle { DType::F64 } else { DType::F32 };
        let all = parameters(&self.config, dtype, |name| name.starts_with("embeddings.") || frozen(name));
        let network = network(&self.config, &all);
        let x = Var::from_tensor(&self.x().to_dtype(dtype).unwrap()).unwrap();
        let input = if track_x { x.as_tensor().clone() } else { x.as_detached_tensor() };
        let run = if by_candle { composed::layer } else { layer };
        let out = run(&input, &network.layers[0], &network.sizes[0], &self.offsets, self.masks(), self.pass).unwrap();
        Step::new(out, &all, Some(&x))
    }

    fn check(&self, what: &str) {
        let none = |_: &str| false;
        let step = self.step(false, none, true);
        assert_eq!(
            step.gradients.len(),
            self.config.architecture.tensors().iter().filter(|(name, _)| name.starts_with("encoder.layer.")).count()
                + 1,
            "{what}"
        );
        step.assert_near(&self.step(true, none, true), what);
    }
}

const SIZES: [(usize, usize, usize); 5] = [(20, 5, 33), (17, 1, 3), (3, 3, 1), (66, 2, 130), (96, 3, 64)];

#[test]
fn a_layer_of_any_size_equals_its_definition() {
    for sizes in SIZES {
        for activation in ["gelu", "gelu_new", "relu"] {
            for dropout in [false, true] {
                let case = Case { dropout, ..Case::new(activation, sizes, &[5, 1, 33, 2]) };
                case.check(&format!("{sizes:?} {activation}, dropout {dropout}"));
            }
        }
    }
}

#[test]
fn a_layer_on_the_longest_sequence_equals_its_definition() {
    Case::new("gelu", (20, 5, 33), &[1, 512, 1]).check("512 tokens");
}

/// Wide enough that every product is computed in several blocks of columns, whose biases and residuals begin elsewhere.
#[test]
fn a_wide_layer_equals_its_definition() {
    Case::new("gelu", (640, 4, 1152), &[5, 1, 9]).check("640 wide");
}

#[test]
fn a_layer_on_one_token_equals_its_definition() {
    for sizes in SIZES {
        Case::new("gelu", sizes, &[1]).check(&format!("{sizes:?}"));
    }
}

#[test]
fn dropout_is_that_of_the_whole_batch() {
    let mut case = Case::new("gelu", (20, 5, 33), &[5, 1, 19]);
    let first = case.step(false, |_| false, true);
    for first_token in [1, 37, 100_000] {
        case.pass.first_token = first_token;
        case.check(&format!("first token {first_token}"));
        assert_ne!(numbers(&first.out), numbers(&case.step(false, |_| false, true).out));
    }
}

#[test]
fn recomputing_changes_no_bit() {
    for dropout in [false, true] {
        let mut case = Case { dropout, ..Case::new("gelu", (20, 5, 33), &[5, 1, 33, 2]) };
        let kept = case.step(false, |_| false, true);
        case.pass.recompute = true;
        let recomputed = case.step(false, |_| false, true);
        assert_eq!(kept.names(), recomputed.names());
        recomputed.assert_same(&kept, "recomputed");
    }
}

#[test]
fn what_is_frozen_gets_no_gradient_and_changes_no_other() {
    let case = Case::new("gelu", (20, 5, 33), &[5, 1, 19]);
    let all = case.step(false, |_| false, true);
    let tensors = case.config.architecture.tensors();
    for part in tensors.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("encoder.layer.0.")) {
        for track_x in [true, false] {
            let step = case.step(false, |name| name == part, track_x);
            let what = format!("{part} frozen, x tracked: {track_x}");
            assert!(!step.gradients.contains_key(&part), "{what}");
            assert_eq!(step.gradients.contains_key("x"), track_x, "{what}");
            assert_eq!(step.gradients.len(), 15 + usize::from(track_x), "{what}");
            step.assert_same(&all, &what);
        }
        // And trained alone.
        let step = case.step(false, |name| name != part, false);
        assert_eq!(step.names(), [&part]);
        step.assert_same(&all, &part);
    }
    let only_x = case.step(false, |_| true, true);
    assert_eq!(only_x.names(), ["x"]);
    only_x.assert_same(&all, "only x");
}

#[test]
fn an_untracked_layer_computes_the_same_and_keeps_nothing() {
    let mut case = Case::new("gelu_new", (20, 5, 33), &[5, 1, 19]);
    let all = case.step(false, |_| false, true);
    let parameters = parameters(&case.config, DType::F32, |_| true);
    let network = network(&case.config, &parameters);
    let run =
        |pass| layer(&case.x(), &network.layers[0], &network.sizes[0], &case.offsets, case.masks(), pass).unwrap();
    for pass in [Pass::TRACKED, Pass::INFERENCE] {
        let out = run(pass);
        assert!(!out.track_op());
        assert_eq!(numbers(&out), numbers(&all.out));
    }
    // Trained weights in a pass that is not to be differentiated.
    case.pass.track = false;
    let trained = self::parameters(&case.config, DType::F32, |_| false);
    let network = self::network(&case.config, &trained);
    let out = layer(&case.x(), &network.layers[0], &network.sizes[0], &case.offsets, case.masks(), case.pass).unwrap();
    assert!(!out.track_op());
    assert_eq!(numbers(&out), numbers(&all.out));
}

#[test]
fn a_second_backward_pass_gives_the_same() {
    let case = Case::new("gelu", (20, 5, 33), &[5, 1, 19]);
    let all = parameters(&case.config, DType::F32, |_| false);
    let network = network(&case.config, &all);
    let x = Var::from_tensor(&case.x()).unwrap();
    let out = layer(&x, &network.layers[0], &network.sizes[0], &case.offsets, case.masks(), case.pass).unwrap();
    let (first, second) = (Step::new(out.clone(), &all, Some(&x)), Step::new(out, &all, Some(&x)));
    assert_eq!(first.names(), second.names());
    first.assert_same(&second, "again");
}

#[test]
fn an_input_that_is_not_contiguous_is_read_as_it_is() {
    let case = Case::new("gelu", (20, 5, 33), &[4, 3]);
    let expected = case.step(false, |_| true, true);
    let all = parameters(&case.config, DType::F32, |_| true);
    let network = network(&case.config, &all);
    let columns = Var::from_tensor(&case.x().t().unwrap().contiguous().unwrap()).unwrap();
    let rows = columns.t().unwrap();
    let out = layer(&rows, &network.layers[0], &network.sizes[0], &case.offsets, case.masks(), case.pass).unwrap();
    assert_eq!(numbers(&out), numbers(&expected.out));
    let step = Step::new(out, &all, Some(&columns));
    let gradient = step.gradients["x"].t().unwrap();
    assert_eq!(numbers(&gradient), numbers(&expected.gradients["x"]));
}

#[test]
fn a_layer_refuses_what_does_not_fit() {
    let case = Case::new("gelu", (20, 5, 33), &[4, 3]);
    let network = network(&case.config, &parameters(&case.config, DType::F32, |_| false));
    let run = |x: &Tensor, offsets: &[u32]| {
        layer(x, &network.layers[0], &network.sizes[0], &offsets.into(), case.masks(), case.pass)
    };
    assert!(run(&case.x(), &[0, 4, 7]).is_ok());
    assert!(run(&uniform(&[7, 19], 1), &[0, 4, 7]).is_err());
    assert!(run(&uniform(&[140], 1), &[0, 4, 7]).is_err());
    assert!(run(&case.x().to_dtype(DType::F64).unwrap(), &[0, 4, 7]).is_err());
    for offsets in [&[][..], &[0, 4], &[0, 4, 8]] {
        assert!(run(&case.x(), offsets).is_err(), "{offsets:?}");
    }
}
