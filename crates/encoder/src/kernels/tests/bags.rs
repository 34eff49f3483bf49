//! Means and attention over bags of rows.

use std::ops::Range;

use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;

use super::{assert_gradient, assert_near, by_threads, check, matrix, numbers, random, values, wide};
use crate::kernels::bags::{BagAttention, Bags, EntryFeatures, Parts, attend_parts, composed, mean_parts};
use crate::layers::{LayerNorm, Linear};

const EPSILON: f64 = 1e-5;
/// For rows of a few numbers, and never fewer than four: they may be so alike that a small epsilon makes hundreds of what single precision
/// rounds, and what is left of two of them behind a norm is next to nothing.
const LARGE_EPSILON: f64 = 0.1;

/// Bags that follow each other, some of them empty, then one that shares the entries of the first ones. Single precision adds up as many as
/// it holds with an error of their number: histories are some hundreds long at most.
fn bags(lengths: &[usize], height: u32, seed: u64) -> Bags {
    let count: usize = lengths.iter().sum();
    let rows: Vec<u32> = values(count, seed).iter().map(|value| value.to_bits() % height).collect();
    let mut ranges: Vec<Range<u32>> = Vec::new();
    let mut end = 0;
    for &length in lengths {
        ranges.push(end..end + length as u32);
        end += length as u32;
    }
    ranges.push(0..end.min(100));
    Bags::new(&rows, &ranges).unwrap()
}

/// Table, norm, queries and values, then, with features, the layer's weight and bias.
fn arguments(height: usize, width: usize, heads: usize, outputs: usize, features: Option<usize>) -> Vec<Tensor> {
    let mut all = vec![
        random(&[height, width], 1),
        random(&[width], 2),
        random(&[width], 3),
        random(&[heads, width], 4),
        random(&[outputs, width], 5),
        random(&[outputs], 6),
    ];
    all.extend(features.map(|count| random(&[width, count], 7)));
    all.extend(features.map(|_| random(&[width], 8)));
    all
}

fn parts(arguments: &[Tensor], features: Option<&Tensor>, epsilon: f64) -> Parts {
    let of = |place: usize| arguments[place].clone();
    Parts {
        features: features.map(|values| [values.to_dtype(of(0).dtype()).unwrap(), of(6), of(7)]),
        norm: [of(1), of(2)],
        epsilon,
        query: of(3),
        value: [of(4), of(5)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn means_of_bags(
        lengths in prop::collection::vec(0usize..30, 1..40), height in 1u32..20, width in 1usize..70, count in 0usize..5,
    ) {
        let bags = bags(&lengths, height, 9);
        let entries: usize = lengths.iter().sum();
        prop_assume!(entries > 0);
        let table = random(&[height as usize, width], 1);
        if count == 0 {
            check(&[table], |a| mean_parts(&bags, &a[0], None), |a| composed::mean(&bags, &a[0], None));
        } else {
            let features = random(&[entries, count], 10);
            let layer = |a: &[Tensor]| [features.to_dtype(a[0].dtype()).unwrap(), a[1].clone(), a[2].clone()];
            check(
                &[table, random(&[width, count], 2), random(&[width], 3)],
                |a| mean_parts(&bags, &a[0], Some(&layer(a))),
                |a| composed::mean(&bags, &a[0], Some(&layer(a))),
            );
        }
    }

    #[test]
    fn attention_over_bags(
        lengths in prop::collection::vec(0usize..20, 1..8), height in 1u32..20, width in 4usize..70, heads in 1usize..4,
        part in 1usize..20, count in 0usize..5,
    ) {
        let bags = bags(&lengths, height, 9);
        let entries: usize = lengths.iter().sum();
        prop_assume!(entries > 0);
        let features = (count > 0).then(|| random(&[entries, count], 10));
        let arguments = arguments(height as usize, width, heads, heads * part, features.as_ref().map(|_| count));
        check(
            &arguments,
            |a| attend_parts(&bags, &a[0], &parts(a, features.as_ref(), LARGE_EPSILON)),
            |a| composed::attend(&bags, &a[0], &parts(a, features.as_ref(), LARGE_EPSILON)),
        );
    }
}

/// Attention over bags, written as it is defined.
fn by_definition(bags: &[Vec<(usize, Vec<f64>)>], a: &[Vec<f64>], width: usize, heads: usize) -> Vec<f64> {
    let [table, scale, shift, query, value, bias, layer, layer_bias] = a else { panic!("eight arguments") };
    let part = bias.len() / heads;
    let mut out = Vec::new();
    for bag in bags {
        let rows: Vec<Vec<f64>> = bag
            .iter()
            .map(|(row, features)| {
                let count = features.len();
                let x: Vec<f64> = (0..width)
                    .map(|i| {
                        let said: f64 = (0..count).map(|j| layer[i * count + j] * features[j]).sum();
                        table[row * width + i] + said + layer_bias[i]
                    })
                    .collect();
                let mean = x.iter().sum::<f64>() / width as f64;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                (0..width).map(|i| (x[i] - mean) / (variance + EPSILON).sqrt() * scale[i] + shift[i]).collect()
            })
            .collect();
        for head in 0..heads {
            let query = &query[head * width..][..width];
            let score =
                |row: &Vec<f64>| (row.iter().zip(query).map(|(x, q)| x * q).sum::<f64>() / (width as f64).sqrt()).exp();
            let scores: Vec<f64> = rows.iter().map(score).collect();
            let total: f64 = scores.iter().sum();
            for output in head * part..(head + 1) * part {
                let of = |row: &Vec<f64>| {
                    row.iter().zip(&value[output * width..]).map(|(x, v)| x * v).sum::<f64>() + bias[output]
                };
                out.push(rows.iter().zip(&scores).map(|(row, score)| of(row) * score / total).sum());
            }
        }
    }
    out
}

#[test]
fn attention_is_its_definition_with_gradients_by_finite_differences() {
    let (height, width, heads, outputs, count) = (5usize, 6usize, 2usize, 4usize, 3usize);
    let rows = [3u32, 0, 3, 1, 4, 2];
    let ranges = [0..3, 3..3, 2..6, 0..1];
    let bags = Bags::new(&rows, &ranges).unwrap();
    let features = values(rows.len() * count, 20);
    let described: Vec<Vec<(usize, Vec<f64>)>> = ranges
        .iter()
        .map(|range| {
            let entry = |at: u32| (rows[at as usize] as usize, wide(&features[at as usize * count..][..count]));
            range.clone().map(entry).collect()
        })
        .collect();
    let features = matrix(&features, &[rows.len(), count]);
    let arguments = arguments(height, width, heads, outputs, Some(count));
    let vars: Vec<Var> = arguments.iter().map(|tensor| Var::from_tensor(tensor).unwrap()).collect();
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let out = attend_parts(&bags, &inputs[0], &parts(&inputs, Some(&features), EPSILON)).unwrap();
    let flat: Vec<Vec<f32>> = arguments.iter().map(|t| t.flatten_all().unwrap().to_vec1().unwrap()).collect();
    let exact: Vec<Vec<f64>> = flat.iter().map(|values| wide(values)).collect();
    let expected = by_definition(&described, &exact, width, heads);
    assert_near("values", &out.flatten_all().unwrap().to_vec1::<f32>().unwrap(), &expected, 2e-6);

    let direction = values(ranges.len() * outputs, 30);
    let loss = (&out * matrix(&direction, &[ranges.len(), outputs])).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    for (place, var) in vars.iter().enumerate() {
        let gradient: Vec<f32> = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_gradient(&format!("gradient {place}"), &gradient, &flat[place], &direction, 1e-5, |x| {
            let mut all = exact.clone();
            all[place] = x.to_vec();
            by_definition(&described, &all, width, heads)
        });
    }
}

#[test]
fn bags_have_the_same_bits_on_any_number_of_threads() {
    // More entries than one block of the backward pass.
    let lengths: Vec<usize> = (0..700).map(|i| i * 7 % 51).collect();
    let bags = bags(&lengths, 90, 3);
    let features = random(&[lengths.iter().sum(), 3], 10);
    by_threads(|| {
        let vars: Vec<Var> =
            arguments(90, 24, 2, 8, Some(3)).iter().map(|tensor| Var::from_tensor(tensor).unwrap()).collect();
        let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let out = attend_parts(&bags, &inputs[0], &parts(&inputs, Some(&features), EPSILON)).unwrap();
        let mean = mean_parts(&bags, &inputs[0], None).unwrap();
        let loss = (out.sqr().unwrap().sum_all().unwrap() + mean.sqr().unwrap().sum_all().unwrap()).unwrap();
        let gradients = loss.backward().unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        [flat(&out), flat(&mean), vars.iter().flat_map(|var| flat(gradients.get(var).unwrap())).collect()]
    });
}

#[test]
fn large_bags_agree_with_the_composed_form_over_several_blocks() {
    let lengths: Vec<usize> = (0..200).map(|i| i * 13 % 47).collect();
    let bags = bags(&lengths, 40, 3);
    let features = random(&[lengths.iter().sum(), 1], 10);
    check(
        &arguments(40, 4, 2, 2, Some(1)),
        |a| attend_parts(&bags, &a[0], &parts(a, Some(&features), LARGE_EPSILON)),
        |a| composed::attend(&bags, &a[0], &parts(a, Some(&features), LARGE_EPSILON)),
    );
}

#[test]
fn empty_bags_are_zero_and_leave_no_gradient() {
    let table = Var::from_tensor(&random(&[4, 6], 1)).unwrap();
    let norm = LayerNorm::new(6, EPSILON, &Device::Cpu).unwrap();
    let value = Linear::new(6, 6, 1, &Device::Cpu).unwrap();
    let query = random(&[2, 6], 2);
    let attention = BagAttention { features: None, norm: &norm, query: &query, value: &value };
    let some = Bags::new(&[1, 2], &[0..0, 0..2, 2..2]).unwrap();
    let none = Bags::new(&[], &[0..0, 0..0]).unwrap();
    for (out, width) in [(some.mean(&table, None).unwrap(), 6), (some.attend(&table, &attention).unwrap(), 6)] {
        let found = numbers(&out);
        assert_eq!(found[..width], vec![0.0; width]);
        assert_eq!(found[2 * width..], vec![0.0; width]);
        assert!(found[width..2 * width].iter().any(|value| *value != 0.0));
        let gradients = out.sum_all().unwrap().backward().unwrap();
        let gradient = numbers(gradients.get(&table).unwrap());
        assert_eq!(gradient[..6], [0.0; 6]);
        assert_eq!(gradient[18..], [0.0; 6]);
    }
    for out in [none.mean(&table, None).unwrap(), none.attend(&table, &attention).unwrap()] {
        assert_eq!(numbers(&out), [0.0; 12]);
        let gradients = out.sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&table).is_none_or(|gradient| numbers(gradient) == [0.0; 24]));
    }
    let nobody = Bags::new(&[1, 2], &[]).unwrap();
    assert_eq!(nobody.attend(&table, &attention).unwrap().dims(), [0, 6]);
    assert_eq!(nobody.mean(&table, None).unwrap().dims(), [0, 6]);
}

#[test]
fn other_types_run_the_composed_form() {
    let bags = bags(&[3, 0, 4], 5, 1);
    let table = random(&[5, 6], 1);
    let wide = table.to_dtype(DType::F64).unwrap();
    let (found, expected) = (bags.mean(&table, None).unwrap(), bags.mean(&wide, None).unwrap());
    assert_eq!(expected.dtype(), DType::F64);
    super::assert_close("mean", &found, &expected, 1e-6);
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(Bags::new(&[0, 1], &[0..2, 0..3]).is_err());
    let from_to = |start: u32, end: u32| start..end;
    assert!(Bags::new(&[0, 1], &[0..2, from_to(2, 1)]).is_err());
    let bags = Bags::new(&[0, 4], &[0..2, 0..1]).unwrap();
    let table = random(&[5, 6], 1);
    assert!(bags.mean(&random(&[4, 6], 1), None).is_err());
    assert!(bags.mean(&random(&[5, 0], 1), None).is_err());
    let layer = Linear::new(3, 6, 1, &Device::Cpu).unwrap();
    for values in [random(&[2, 2], 1), random(&[3, 3], 1)] {
        assert!(bags.mean(&table, Some(EntryFeatures { values: &values, layer: &layer })).is_err());
    }
    let norm = LayerNorm::new(6, EPSILON, &Device::Cpu).unwrap();
    for (heads, wide, inputs, outputs) in [(2, 5, 6, 6), (2, 6, 5, 6), (2, 6, 6, 5), (0, 6, 6, 6)] {
        let (query, value) = (random(&[heads, wide], 1), Linear::new(inputs, outputs, 1, &Device::Cpu).unwrap());
        let attention = BagAttention { features: None, norm: &norm, query: &query, value: &value };
        assert!(bags.attend(&table, &attention).is_err(), "{heads} {wide} {inputs} {outputs}");
    }
}
