//! Optimizers, SAM, averages and schedules against PyTorch, transformers and timm (`fixtures/make_optimizers.py`), and what always holds.

#![cfg(feature = "candle")]
// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use paretune_optim::{
    Decay, Ema, EmaConfig, Gradient, Gradients, Groups, OptimError, Optimizer, OptimizerConfig, Sam, Schedule,
    SgdConfig,
};
use proptest::prelude::*;
use serde::Deserialize;

type Values = BTreeMap<String, Vec<f64>>;

#[derive(Deserialize)]
struct Fixture {
    shapes: BTreeMap<String, Vec<usize>>,
    start: Values,
    gradients: Vec<Values>,
    rates: Vec<f64>,
    weight_decay: f64,
    rows: Vec<u32>,
    cases: Vec<Case>,
    sam: Vec<SamCase>,
    averages: Vec<AverageCase>,
    schedules: Vec<ScheduleCase>,
}

#[derive(Deserialize)]
struct Case {
    optimizer: OptimizerConfig,
    by_rows: bool,
    after: Vec<Values>,
}

#[derive(Deserialize)]
struct SamCase {
    adaptive: bool,
    rho: f64,
    lr: f64,
    momentum: f64,
    after: Vec<Values>,
}

#[derive(Deserialize)]
struct AverageCase {
    decay: f64,
    after: Vec<Values>,
}

#[derive(Deserialize)]
struct ScheduleCase {
    decay: Decay,
    total: usize,
    warmup: f64,
    values: Vec<f64>,
}

/// Steps in place, and steps of Candle's operations in the precision that the references have.
const KINDS: [(DType, f64); 2] = [(DType::F32, 3e-5), (DType::F64, 1e-12)];

impl Fixture {
    fn read() -> Self {
        serde_json::from_str(include_str!("fixtures/optimizers.json")).unwrap()
    }

    fn tensor(&self, values: &Values, name: &str, dtype: DType) -> Tensor {
        let shape = self.shapes[name].clone();
        Tensor::from_slice(&values[name], shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    }

    fn parameters(&self, dtype: DType) -> Vec<(String, Var)> {
        let var = |name: &String| Var::from_tensor(&self.tensor(&self.start, name, dtype)).unwrap();
        self.start.keys().map(|name| (name.clone(), var(name))).collect()
    }

    fn gradients(&self, step: usize, by_rows: bool, dtype: DType) -> Gradients {
        let gradient = |name: &String| {
            let values = self.tensor(&self.gradients[step], name, dtype);
            match by_rows && name == "table.weight" {
                true => some_rows(&values, &self.rows),
                false => values.into(),
            }
        };
        self.start.keys().map(|name| (name.clone(), gradient(name))).collect()
    }
}

fn some_rows(table: &Tensor, rows: &[u32]) -> Gradient {
    let values = table.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap();
    Gradient::Rows { rows: rows.to_vec(), values, height: table.dim(0).unwrap() }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_close(parameters: &[(String, Var)], expected: &Values, tolerance: f64, what: &str) {
    for (name, var) in parameters {
        for (a, b) in numbers(var).iter().zip(&expected[name]) {
            assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {name} is {a}, not {b}");
        }
    }
}

#[test]
fn steps_are_those_of_the_references() {
    let fixture = Fixture::read();
    assert_eq!(fixture.cases.len(), 16);
    for Case { optimizer: config, by_rows, after } in &fixture.cases {
        for (dtype, tolerance) in KINDS {
            let groups = Groups { weight_decay: fixture.weight_decay, ..Groups::default() };
            let parameters = fixture.parameters(dtype);
            let mut optimizer = config.build(&groups, parameters.clone()).unwrap();
            for (step, (expected, &lr)) in after.iter().zip(&fixture.rates).enumerate() {
                optimizer.step(&fixture.gradients(step, *by_rows, dtype), lr).unwrap();
                assert_close(
                    &parameters,
                    expected,
                    tolerance,
                    &format!("{config:?} {dtype:?} rows {by_rows} step {step}"),
                );
            }
        }
    }
}

#[test]
fn sam_is_the_published_one() {
    let fixture = Fixture::read();
    for case in &fixture.sam {
        for (dtype, tolerance) in KINDS {
            let parameters = fixture.parameters(dtype);
            let sgd = OptimizerConfig::Sgd(SgdConfig { momentum: case.momentum, nesterov: false });
            let groups = Groups { weight_decay: 0.0, ..Groups::default() };
            let mut optimizer = sgd.build(&groups, parameters.clone()).unwrap();
            let sam = Sam { rho: case.rho, adaptive: case.adaptive };
            for (step, expected) in case.after.iter().enumerate() {
                let slope = || -> Gradients {
                    let gradient = |name: &str, var: &Var| {
                        let target = fixture.tensor(&fixture.gradients[step], name, dtype);
                        ((var.as_detached_tensor() * 0.5)?.exp()? * 0.5)? - target
                    };
                    let all = parameters.iter();
                    all.map(|(name, var)| (name.clone(), gradient(name, var).unwrap().into())).collect()
                };
                let there = sam.at_peak(&parameters, &slope(), || Ok::<_, OptimError>(slope())).unwrap();
                optimizer.step(&there, case.lr).unwrap();
                assert_close(&parameters, expected, tolerance, &format!("adaptive {} step {step}", case.adaptive));
            }
        }
    }
}

#[test]
fn averages_are_pytorchs() {
    let fixture = Fixture::read();
    for case in &fixture.averages {
        for (dtype, tolerance) in KINDS {
            let parameters = fixture.parameters(dtype);
            let config = EmaConfig { decay: case.decay, warmup: false };
            let mut average = Ema::new(config, parameters.clone()).unwrap();
            for (step, expected) in case.after.iter().enumerate() {
                for (name, var) in &parameters {
                    var.set(&fixture.tensor(&fixture.gradients[step], name, dtype)).unwrap();
                }
                average.update().unwrap();
                average
                    .in_place_of_parameters(|| {
                        assert_close(&parameters, expected, tolerance, "averages");
                        Ok::<_, OptimError>(())
                    })
                    .unwrap();
            }
        }
    }
}

#[test]
fn schedules_are_those_of_the_references() {
    for case in Fixture::read().schedules {
        let schedule = Schedule { warmup: case.warmup / case.total as f64, decay: case.decay, floor: 0.0 };
        for (step, &expected) in case.values.iter().enumerate() {
            // Transformers begins to warm up at 0; here the first step moves already, and the warm-up ends a step earlier.
            let warms_up = case.decay != Decay::OneCycle && (step as f64) < case.warmup;
            let expected = if warms_up { (step + 1) as f64 / case.warmup } else { expected };
            let found = schedule.at(step, case.total);
            assert!((found - expected).abs() < 1e-12, "{:?} {step}: {found}, not {expected}", case.decay);
        }
    }
}

/// All of them, with what differs from the defaults in how they work.
fn every_optimizer() -> Vec<OptimizerConfig> {
    let configs = r#"[{"name":"adamw"},{"name":"lamb"},{"name":"adafactor"},{"name":"adafactor","relative_step":true},{"name":"sgd"},
        {"name":"sgd","nesterov":false},{"name":"sgd","momentum":0,"nesterov":false}]"#;
    serde_json::from_str(configs).unwrap()
}

/// A matrix larger than what a thread takes at a time, a vector, and a table.
fn large(dtype: DType) -> Vec<(String, Var)> {
    let var = |salt: f64, shape: &[usize]| {
        let values: Vec<f64> = (0..shape.iter().product()).map(|i| (i as f64 * 0.37 + salt).sin()).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap()
    };
    vec![
        ("matrix".into(), var(0.0, &[331, 70])),
        ("vector".into(), var(1.0, &[40_001])),
        ("cube".into(), var(3.0, &[3, 5, 7])),
        ("norm.bias".into(), var(4.0, &[9])),
        ("table".into(), var(2.0, &[900, 33])),
    ]
}

fn slopes(parameters: &[(String, Var)], step: usize) -> Gradients {
    let slope = |(name, var): &(String, Var)| {
        let values: Vec<f64> = (0..var.elem_count()).map(|i| ((i * 7 + step * 13) as f64 * 0.11).cos()).collect();
        let values = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap();
        let rows: Vec<u32> = (0..900).filter(|row| (row * 31 + step as u32).is_multiple_of(4)).collect();
        (name.clone(), if name == "table" { some_rows(&values, &rows) } else { values.into() })
    };
    parameters.iter().map(slope).collect()
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    numbers(tensor).iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_restored_state_goes_on_bit_for_bit_whatever_the_threads() {
    for config in every_optimizer() {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let run = |stop: Option<usize>, threads: usize| {
                let parameters = large(dtype);
                let fresh = || config.build(&Groups::default(), parameters.clone()).unwrap();
                let mut optimizer = fresh();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                for step in 0..4 {
                    if stop == Some(step) {
                        let state = optimizer.state().unwrap();
                        optimizer = fresh();
                        optimizer.restore(state).unwrap();
                    }
                    let slopes = slopes(&parameters, step);
                    pool.install(|| optimizer.step_clipped(&slopes, 0.01, 3.0)).unwrap();
                }
                let state = optimizer.state().unwrap();
                let all = parameters.iter().map(|(name, var)| (name.clone(), bits(var)));
                all.chain(state.iter().map(|(name, tensor)| (name.clone(), bits(tensor)))).collect::<Vec<_>>()
            };
            assert!(run(None, 1) == run(Some(2), 3), "{config:?} {dtype:?}");
        }
    }
}

#[test]
fn a_state_of_another_optimizer_is_refused_and_changes_nothing() {
    let parameters = large(DType::F32);
    let built = |config: &OptimizerConfig| config.build(&Groups::default(), parameters.clone()).unwrap();
    let same = |a: &dyn Optimizer, b: &[(String, Tensor)]| {
        a.state().unwrap().iter().zip(b).all(|(a, b)| a.0 == b.0 && bits(&a.1) == bits(&b.1))
    };
    for config in every_optimizer() {
        let mut optimizer = built(&config);
        optimizer.step(&slopes(&parameters, 0), 0.01).unwrap();
        let good = optimizer.state().unwrap();
        for other in every_optimizer() {
            let state = built(&other).state().unwrap();
            let names = |state: &[(String, Tensor)]| state.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            if names(&state) != names(&good) {
                assert!(matches!(optimizer.restore(state), Err(OptimError::State { .. })), "{config:?} {other:?}");
            }
        }
        let mut short = good.clone();
        short[0].1 = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
        assert!(optimizer.restore(short).is_err());
        assert!(optimizer.restore([&good[..], &good[..1]].concat()).is_ok(), "the same entry twice is one entry");
        assert!(optimizer.restore([&good[..], &[("x.steps".into(), good[0].1.clone())]].concat()).is_err());
        assert!(same(&*optimizer, &good));
    }
}

#[test]
fn what_does_not_fit_is_refused_and_moves_nothing() {
    for config in every_optimizer() {
        let parameters = large(DType::F32);
        let mut optimizer = config.build(&Groups::default(), parameters.clone()).unwrap();
        let good = slopes(&parameters, 0);
        let values = Tensor::ones((2, 33), DType::F32, &Device::Cpu).unwrap();
        let rows = |rows: &[u32]| Gradient::Rows { rows: rows.to_vec(), values: values.clone(), height: 900 };
        for (name, wrong) in [
            ("table", rows(&[3, 900])),
            ("table", rows(&[3, 3])),
            ("table", rows(&[4, 3])),
            ("table", rows(&[1, 2, 3])),
            ("vector", values.clone().into()),
            ("nobody", values.clone().into()),
        ] {
            let mut gradients = good.clone();
            gradients.insert(name.into(), wrong);
            assert!(matches!(optimizer.step(&gradients, 0.1), Err(OptimError::GradientShape { .. })), "{config:?}");
        }
        assert!(optimizer.step(&good, f64::NAN).is_err() && optimizer.step(&good, -1.0).is_err());
        let mut gradients = good.clone();
        gradients.insert("vector".into(), Tensor::full(f32::NAN, 40_001, &Device::Cpu).unwrap().into());
        assert!(matches!(optimizer.step_clipped(&gradients, 0.1, 1.0), Err(OptimError::NotFiniteGradient { .. })));
        for ((name, now), (_, before)) in parameters.iter().zip(large(DType::F32)) {
            assert!(bits(now) == bits(&before), "{config:?} {name}");
        }
    }
}

#[test]
fn nothing_is_divided_by_zero_and_what_is_empty_stays() {
    for config in every_optimizer() {
        for dtype in [DType::F32, DType::F64] {
            let zeros = |shape: &[usize]| Var::zeros(shape, dtype, &Device::Cpu).unwrap();
            let parameters = vec![("matrix".to_string(), zeros(&[3, 2])), ("none".to_string(), zeros(&[0, 2]))];
            let mut optimizer = config.build(&Groups::default(), parameters.clone()).unwrap();
            let none = Gradient::Rows { rows: Vec::new(), values: zeros(&[0, 2]).as_detached_tensor(), height: 3 };
            optimizer.step(&Gradients::from([("matrix".to_string(), none)]), 0.1).unwrap();
            for value in [0.0, 1.0] {
                let gradient = |var: &Var| (var.ones_like().unwrap() * value).unwrap();
                let all = parameters.iter();
                let gradients = all.map(|(name, var)| (name.clone(), gradient(var).into())).collect();
                optimizer.step_clipped(&gradients, 0.1, 1.0).unwrap();
                let found = numbers(&parameters[0].1);
                assert!(found.iter().all(|x| x.is_finite() && (*x != 0.0) == (value != 0.0)), "{config:?} {found:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The passes in place are the operations of Candle, whichever rows and shapes.
    #[test]
    fn steps_in_place_are_the_composed_ones(
        which in 0_usize..7, height in 1_usize..7, width in 1_usize..6, seed in 0_u32..1000,
        touched in prop::collection::vec(prop::collection::vec(any::<bool>(), 7), 1..5),
    ) {
        let config = every_optimizer()[which];
        let value = |i: usize, salt: u32| (f64::from(seed + 17 * salt) + i as f64 * 1.7).sin();
        let table = |salt: u32, dtype: DType| {
            let values: Vec<f64> = (0..height * width).map(|i| value(i, salt)).collect();
            Tensor::from_vec(values, (height, width), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
        };
        let run = |dtype: DType| {
            let var = Var::from_tensor(&table(0, dtype)).unwrap();
            let mut optimizer = config.build(&Groups::default(), vec![("w".into(), var.clone())]).unwrap();
            for (step, touched) in (1..).zip(&touched) {
                let rows: Vec<u32> = (0..height as u32).filter(|&row| touched[row as usize]).collect();
                // Those that touch the last place are dense.
                let gradient = if touched[6] { table(step, dtype).into() } else { some_rows(&table(step, dtype), &rows) };
                let before = numbers(&var);
                optimizer.step(&Gradients::from([("w".into(), gradient)]), 0.05).unwrap();
                for (i, (a, b)) in before.iter().zip(numbers(&var)).enumerate() {
                    assert!(touched[6] || touched[i / width] || *a == b, "an untouched row moved");
                }
            }
            numbers(&var)
        };
        for (a, b) in run(DType::F32).iter().zip(run(DType::F64)) {
            // Where a gradient is nearly zero its direction is not known to the last digit.
            prop_assert!((a - b).abs() < 2e-4, "{config:?}: {a} in place, {b} composed");
        }
    }

    /// Which row is which is nothing to an optimizer.
    #[test]
    fn rows_in_another_order_move_alike(which in 0_usize..7, turn in 0_usize..5, seed in 0_u32..1000) {
        let config = every_optimizer()[which];
        let order: Vec<u32> = (0..5).map(|row| (row + turn as u32) % 5).collect();
        let order = Tensor::new(order, &Device::Cpu).unwrap();
        let table = |salt: u32| {
            let values: Vec<f64> = (0..15).map(|i| (f64::from(seed + 31 * salt) + f64::from(i) * 2.3).sin()).collect();
            Tensor::from_vec(values, (5, 3), &Device::Cpu).unwrap()
        };
        let run = |turned: bool| {
            let turn = |t: Tensor| if turned { t.index_select(&order, 0).unwrap() } else { t };
            let var = Var::from_tensor(&turn(table(0))).unwrap();
            let mut optimizer = config.build(&Groups::default(), vec![("w".into(), var.clone())]).unwrap();
            for step in 1..4 {
                optimizer.step(&Gradients::from([("w".into(), turn(table(step)).into())]), 0.05).unwrap();
            }
            var.as_detached_tensor()
        };
        let expected = run(false).index_select(&order, 0).unwrap();
        for (a, b) in numbers(&run(true)).iter().zip(numbers(&expected)) {
            prop_assert!((a - b).abs() < 1e-12);
        }
    }
}
