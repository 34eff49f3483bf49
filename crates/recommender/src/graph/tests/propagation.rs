//! Values and gradients of the propagation.

use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use super::super::{Graph, composed, propagate};
use super::{assert_close, dense, fixture, floats, graph_of, numbers, pairs, random, tensor};

/// `1/(L + 1) Σ Âˡ x` with dense sums.
fn expected(matrix: &[f64], x: &[f64], nodes: usize, layers: usize) -> Vec<f64> {
    let width = x.len() / nodes;
    let (mut layer, mut total) = (x.to_vec(), x.to_vec());
    for _ in 0..layers {
        let mut next = vec![0.0; x.len()];
        for row in 0..nodes {
            for other in 0..nodes {
                for column in 0..width {
                    next[row * width + column] += matrix[row * nodes + other] * layer[other * width + column];
                }
            }
        }
        total.iter_mut().zip(&next).for_each(|(total, next)| *total += next);
        layer = next;
    }
    total.iter().map(|total| total / (layers + 1) as f64).collect()
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let fixture = fixture();
    let graph = graph_of(&fixture, false);
    for case in fixture["propagation"].as_array().unwrap() {
        let layers = case["layers"].as_u64().unwrap() as usize;
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 2e-6)] {
            let x = Var::from_tensor(&tensor(&floats(&fixture["x"]), graph.nodes(), dtype)).unwrap();
            let upstream = tensor(&floats(&case["upstream"]), graph.nodes(), dtype);
            for out in [
                propagate(&x, &graph, layers).unwrap(),
                composed::mean_of_layers(&x, &graph.adjacency, layers).unwrap(),
            ] {
                assert_close(&numbers(&out), &floats(&case["out"]), tolerance);
                let gradients = (&out * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
                assert_close(&numbers(gradients.get(&x).unwrap()), &floats(&case["gradient"]), tolerance);
            }
        }
    }
}

#[test]
fn every_width_is_summed_whole() {
    let graph = Graph::interactions(40, 50, pairs(40, 50, 400, 2)).unwrap();
    let matrix = dense(&graph);
    for width in [1, 3, 4, 7, 16, 21, 63, 64, 65, 130, 149] {
        let x = random(graph.nodes() * width, width as u64);
        let expected = expected(&matrix, &x, graph.nodes(), 3);
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-6)] {
            let out = propagate(&tensor(&x, graph.nodes(), dtype), &graph, 3).unwrap();
            assert_close(&numbers(&out), &expected, tolerance);
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let graph = Graph::interactions(7, 9, pairs(7, 9, 25, 3)).unwrap();
    let (nodes, width) = (graph.nodes(), 3);
    let values = random(nodes * width, 4);
    // Something that is not linear.
    let loss = |x: &Tensor| propagate(x, &graph, 2).unwrap().exp().unwrap().sum_all().unwrap();
    let x = Var::from_tensor(&tensor(&values, nodes, DType::F64)).unwrap();
    let gradients = loss(&x).backward().unwrap();
    let gradient = numbers(gradients.get(&x).unwrap());
    for place in 0..values.len() {
        let at = |step: f64| {
            let mut moved = values.clone();
            moved[place] += step;
            loss(&tensor(&moved, nodes, DType::F64)).to_scalar::<f64>().unwrap()
        };
        let found = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((found - gradient[place]).abs() < 1e-8 * found.abs().max(1.0), "{found} {}", gradient[place]);
    }
}

#[test]
fn a_node_without_edges_stays_what_it_is() {
    let graph = Graph::interactions(3, 4, [(0, 0), (1, 1), (1, 0)]).unwrap();
    let x = random(7 * 6, 5);
    for layers in 0..5 {
        let out = numbers(&propagate(&tensor(&x, 7, DType::F64), &graph, layers).unwrap());
        // User 2, items 2 and 3.
        for node in [2, 5, 6] {
            assert_close(&out[node * 6..][..6], &x[node * 6..][..6], 1e-15);
        }
        assert!(layers == 0 || (out[0] - x[0]).abs() > 1e-3);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let graph = Graph::interactions(300, 200, pairs(300, 200, 4000, 6)).unwrap();
    let x = tensor(&random(500 * 20, 7), 500, DType::F32);
    let run = |threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| numbers(&propagate(&x, &graph, 3).unwrap()))
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn shapes_and_types_are_checked() {
    let graph = Graph::interactions(1, 2, [(0, 0)]).unwrap();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    for shape in [&[2usize, 4][..], &[3][..], &[3, 1, 1][..]] {
        let message = propagate(&zeros(shape, DType::F32), &graph, 1).unwrap_err().to_string();
        assert!(message.contains("needs [3, any width]"), "{message}");
    }
    assert!(propagate(&zeros(&[3, 2], DType::U32), &graph, 1).unwrap_err().to_string().contains("F32"));
    assert_eq!(propagate(&zeros(&[3, 0], DType::F32), &graph, 2).unwrap().dims(), [3, 0]);
    let empty = Graph::interactions(0, 0, []).unwrap();
    assert_eq!(propagate(&zeros(&[0, 4], DType::F32), &empty, 2).unwrap().dims(), [0, 4]);
    // A transposed matrix is read by its rows.
    let x = tensor(&random(6, 8), 2, DType::F64).t().unwrap();
    let copy = tensor(&numbers(&x), 3, DType::F64);
    assert_eq!(numbers(&propagate(&x, &graph, 2).unwrap()), numbers(&propagate(&copy, &graph, 2).unwrap()));
}

proptest! {
    /// Another numbering of users and items gives the same vectors at their new places, and `⟨P x, y⟩ = ⟨x, P y⟩`.
    #[test]
    fn numbering_does_not_matter_and_propagation_is_symmetric(
        (users, items) in (1usize..10, 1usize..10), count in 0usize..40, layers in 0usize..4, seed: u64,
    ) {
        let edges = pairs(users, items, count, seed);
        let graph = Graph::interactions(users, items, edges.iter().copied()).unwrap();
        // Turned round: user u is users - 1 - u, and so are the items.
        let turned = edges.iter().map(|(user, item)| (users as u32 - 1 - user, items as u32 - 1 - item));
        let turned = Graph::interactions(users, items, turned).unwrap();
        let place = |node: usize| if node < users { users - 1 - node } else { users + (users + items - 1 - node) };
        let (nodes, width) = (users + items, 5);
        let x = random(nodes * width, seed ^ 1);
        let mut moved = vec![0.0; x.len()];
        for node in 0..nodes {
            moved[place(node) * width..][..width].copy_from_slice(&x[node * width..][..width]);
        }
        let run = |graph: &Graph, x: &[f64]| numbers(&propagate(&tensor(x, nodes, DType::F64), graph, layers).unwrap());
        let (out, out_moved) = (run(&graph, &x), run(&turned, &moved));
        for node in 0..nodes {
            assert_close(&out_moved[place(node) * width..][..width], &out[node * width..][..width], 1e-13);
        }
        let y = random(nodes * width, seed ^ 2);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        prop_assert!((dot(&out, &y) - dot(&x, &run(&graph, &y))).abs() < 1e-12);
    }
}
