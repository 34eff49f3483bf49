//! Losses over matches and rivals: the fused operation against Candle's own operations in `f64`, and both against closed forms.

use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::prelude::*;

use super::{by_threads, check, numbers, random, values};
use crate::kernels::contrast::{Contrast, ContrastLoss, Exempt, Rivals};
use crate::kernels::cross_entropy::cross_entropy;

const LOSSES: [ContrastLoss; 4] = [
    ContrastLoss::Softmax,
    ContrastLoss::Logistic { power: 1.0 },
    ContrastLoss::Logistic { power: 0.3 },
    ContrastLoss::Pairwise,
];

/// Lists of any size that fit together; some rivals are matches, and some places share an identity.
struct Lists {
    matches: Vec<u32>,
    shared: Vec<u32>,
    own: Vec<u32>,
    per_row: usize,
    identities: Vec<u32>,
    starts: Vec<usize>,
    exempt: Vec<u32>,
    bias: Vec<f32>,
    weights: Vec<f32>,
}

impl Lists {
    fn new(rows: usize, height: usize, shared: usize, per_row: usize) -> Self {
        let places = |count: usize, step: usize| (0..count).map(|i| (i * step % height) as u32).collect();
        Self {
            matches: places(rows, 5),
            shared: places(shared, 3),
            own: places(rows * per_row, 7),
            per_row,
            identities: (0..height as u32).map(|place| place / 3).collect(),
            // None for the first row, one for the second, and so on to three; some of them are rivals.
            starts: (0..=rows).map(|row| row / 4 * 6 + [0, 0, 1, 3][row % 4]).collect(),
            exempt: (0..(rows / 4 * 6 + [0, 0, 1, 3][rows % 4]) as u32).map(|i| i * 5 % (height as u32 + 2)).collect(),
            bias: values(height, 7),
            weights: values(rows, 8).iter().map(|weight| weight.abs()).collect(),
        }
    }

    fn contrast(&self, loss: ContrastLoss, shared: bool, extras: bool) -> Contrast<'_> {
        Contrast {
            loss,
            matches: &self.matches,
            rivals: match shared {
                true => Rivals::Shared(&self.shared),
                false => Rivals::Own { per_row: self.per_row, places: &self.own },
            },
            identities: &self.identities,
            exempt: extras.then_some(Exempt { starts: &self.starts, identities: &self.exempt }),
            bias: extras.then_some(&self.bias),
            weights: extras.then_some(&self.weights),
            scale: 0.7,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fused_losses_are_the_composed_ones(
        rows in 1usize..75, height in 1usize..40, width in 1usize..20, shared in 0usize..80, per_row in 0usize..9, which in 0usize..16,
    ) {
        let lists = Lists::new(rows, height, shared, per_row);
        let contrast = lists.contrast(LOSSES[which % 4], which & 4 == 0, which & 8 == 0);
        let loss = |a: &[Tensor]| contrast.loss(&a[0], &a[1]);
        check(&[random(&[rows, width], 1), random(&[height, width], 2)], loss, loss);
    }

    /// With every row of `right` as a rival the loss is the cross-entropy of the whole product; one bias for all changes nothing.
    #[test]
    fn softmax_over_everything_is_cross_entropy(rows in 1usize..40, height in 1usize..50, width in 1usize..9, shift in -5f32..5.0) {
        let (left, right) = (random(&[rows, width], 1), random(&[height, width], 2));
        let matches: Vec<u32> = (0..rows).map(|row| (row * 3 % height) as u32).collect();
        let everything: Vec<u32> = (0..height as u32).collect();
        let whole = cross_entropy(&left.matmul(&right.t().unwrap()).unwrap(), &matches).unwrap();
        let bias = vec![shift; height];
        for bias in [None, Some(&bias[..])] {
            let contrast = Contrast {
                loss: ContrastLoss::Softmax,
                matches: &matches,
                rivals: Rivals::Shared(&everything),
                identities: &everything,
                exempt: None,
                bias,
                weights: None,
                scale: 1.0,
            };
            let found = scalar(&contrast.loss(&left, &right).unwrap());
            prop_assert!((found - scalar(&whole)).abs() < 2e-5, "{} and {}", found, scalar(&whole));
        }
    }
}

fn scalar(tensor: &Tensor) -> f64 {
    numbers(tensor)[0]
}

/// One row against one rival, with logits `p` and `n`.
fn two(loss: ContrastLoss, p: f32, n: f32, dtype: DType) -> (f64, [f64; 2]) {
    let left = Tensor::ones((1, 1), dtype, &Device::Cpu).unwrap();
    let right = Var::from_tensor(&Tensor::new(&[[p], [n]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap();
    let contrast = Contrast {
        loss,
        matches: &[0],
        rivals: Rivals::Own { per_row: 1, places: &[1] },
        identities: &[0, 1],
        exempt: None,
        bias: None,
        weights: None,
        scale: 1.0,
    };
    let value = contrast.loss(&left, &right).unwrap();
    let gradient = numbers(value.backward().unwrap().get(&right).unwrap());
    (scalar(&value), [gradient[0], gradient[1]])
}

#[test]
fn two_logits_have_closed_forms_however_large_they_are() {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for p in [-1e4f32, -20.0, -0.5, 0.0, 2.0, 1e4] {
        for n in [-1e4f32, -3.0, 0.0, 0.1, 30.0, 1e4] {
            let (a, b) = (f64::from(p), f64::from(n));
            for loss in LOSSES {
                let (value, gradient) = match loss {
                    ContrastLoss::Softmax | ContrastLoss::Pairwise => {
                        (softplus(b - a), [-sigmoid(b - a), sigmoid(b - a)])
                    }
                    ContrastLoss::Logistic { power } => {
                        let value = power * softplus(-a) + softplus(b);
                        (value / 2.0, [-power * sigmoid(-a) / 2.0, sigmoid(b) / 2.0])
                    }
                };
                for dtype in [DType::F32, DType::F64] {
                    let (found, slopes) = two(loss, p, n, dtype);
                    assert!((found - value).abs() <= 1e-6 * value.max(1.0), "{loss:?} {p} {n}: {found}, not {value}");
                    for (found, expected) in slopes.iter().zip(gradient) {
                        assert!((found - expected).abs() <= 1e-6, "{loss:?} {p} {n}: {found}, not {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_does_not_count_has_no_gradient_and_no_say() {
    // The places 0 and 3 are one text; 3 is a rival of the row that 0 answers.
    nothing_of_the_last(&[8, 5, 6, 8], None);
    // Text 9 is another one, which the row exempts.
    let exempt = Exempt { starts: &[0, 2], identities: &[9, 7] };
    nothing_of_the_last(&[8, 5, 6, 9], Some(exempt));
}

/// Of four places with these identities, the first of which is the match.
fn nothing_of_the_last(identities: &[u32], exempt: Option<Exempt<'_>>) {
    let left = random(&[1, 4], 1);
    let rivals = [3, 1, 2, 3];
    for loss in LOSSES {
        for (dtype, rivals) in [
            (DType::F32, Rivals::Shared(&rivals)),
            (DType::F32, Rivals::Own { per_row: 4, places: &rivals }),
            (DType::F64, Rivals::Shared(&rivals)),
        ] {
            let contrast =
                Contrast { loss, matches: &[0], rivals, identities, exempt, bias: None, weights: None, scale: 1.0 };
            let run = |last: f32| {
                let rows = Tensor::cat(
                    &[
                        random(&[3, 4], 2),
                        (Tensor::ones((1, 4), DType::F32, &Device::Cpu).unwrap() * f64::from(last)).unwrap(),
                    ],
                    0,
                );
                let right = Var::from_tensor(&rows.unwrap().to_dtype(dtype).unwrap()).unwrap();
                let value = contrast.loss(&left.to_dtype(dtype).unwrap(), &right).unwrap();
                (numbers(&value), numbers(value.backward().unwrap().get(&right).unwrap()))
            };
            let (value, gradient) = run(0.5);
            assert_eq!(gradient[12..], [0.0; 4], "{loss:?}");
            assert!(gradient[..12].iter().all(|slope| *slope != 0.0), "{loss:?}: {gradient:?}");
            assert_eq!(run(1e4), (value, gradient), "{loss:?}");
        }
    }
}

#[test]
fn large_logits_have_finite_losses_and_gradients() {
    let lists = Lists::new(50, 30, 40, 5);
    for (which, loss) in LOSSES.into_iter().enumerate() {
        for shared in [true, false] {
            let [left, right] = [(50, 1), (30, 2)]
                .map(|(rows, seed)| Var::from_tensor(&(random(&[rows, 8], seed) * 100.0).unwrap()).unwrap());
            let value = lists.contrast(loss, shared, which % 2 == 0).loss(&left, &right).unwrap();
            let gradients = value.backward().unwrap();
            let found = [&left, &right].map(|var| numbers(gradients.get(var).unwrap()));
            assert!(scalar(&value).is_finite() && found.iter().flatten().all(|slope| slope.is_finite()), "{loss:?}");
            assert!(found.iter().flatten().any(|slope| *slope != 0.0), "{loss:?}");
        }
    }
}

#[test]
fn contrasts_do_not_depend_on_threads() {
    let lists = Lists::new(150, 90, 120, 11);
    for loss in LOSSES {
        for shared in [true, false] {
            by_threads(|| {
                let vars =
                    [(150, 1), (90, 2)].map(|(rows, seed)| Var::from_tensor(&random(&[rows, 24], seed)).unwrap());
                let value = lists.contrast(loss, shared, true).loss(&vars[0], &vars[1]).unwrap();
                let gradients = value.backward().unwrap();
                [&value, gradients.get(&vars[0]).unwrap(), gradients.get(&vars[1]).unwrap()]
                    .map(|found| found.flatten_all().unwrap().to_vec1().unwrap())
            });
        }
    }
}

#[test]
fn contrasts_refuse_what_does_not_fit() {
    let (left, right) = (random(&[3, 2], 1), random(&[4, 2], 2));
    let lists = Lists::new(3, 4, 5, 2);
    let good = lists.contrast(ContrastLoss::Softmax, true, true);
    assert!(good.loss(&left, &right).is_ok());
    let refused = |contrast: Contrast<'_>, left: &Tensor, right: &Tensor, part: &str| {
        let found: Result<Tensor> = contrast.loss(left, right);
        let found = found.unwrap_err().to_string();
        assert!(found.contains(part), "{found}");
    };
    refused(good, &left, &random(&[4, 3], 2), "as many columns");
    refused(good, &random(&[0, 2], 1), &right, "left a row");
    refused(Contrast { matches: &[0, 1], ..good }, &left, &right, "2 matches");
    refused(Contrast { matches: &[0, 1, 4], ..good }, &left, &right, "match 2 is row 4 of 4");
    refused(Contrast { rivals: Rivals::Shared(&[0, 9]), ..good }, &left, &right, "rival 1 is row 9");
    refused(Contrast { rivals: Rivals::Own { per_row: 2, places: &[0; 5] }, ..good }, &left, &right, "expected 6");
    refused(Contrast { identities: &[1, 2], ..good }, &left, &right, "2 identities");
    for starts in [&[0, 1, 2][..], &[0, 3, 2, 2], &[1, 1, 2, 2], &[0, 1, 2, 3]] {
        let exempt = Some(Exempt { starts, identities: &[1, 2] });
        refused(Contrast { exempt, ..good }, &left, &right, "rise from 0 to 2");
    }
    refused(Contrast { bias: Some(&[0.0]), ..good }, &left, &right, "1 biases");
    refused(Contrast { weights: Some(&[0.0]), ..good }, &left, &right, "1 weights");
    for weights in [[0.0; 3], [1.0, -0.5, 1.0], [f32::NAN, 1.0, 1.0]] {
        refused(Contrast { weights: Some(&weights), ..good }, &left, &right, "not all zero");
    }
}
