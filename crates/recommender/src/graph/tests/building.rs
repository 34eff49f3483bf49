//! Edges, merging, normalisation, and what is refused.

use proptest::prelude::*;

use super::super::{EdgeDropout, Graph, GraphBuilder, GraphError};
use super::{assert_close, dense, fixture, floats, graph_of, pairs};

#[test]
fn the_normalised_matrix_is_that_of_scipy() {
    let fixture = fixture();
    let graph = graph_of(&fixture, false);
    assert_eq!(graph.edges() as u64, fixture["edges"].as_u64().unwrap());
    let names: Vec<[&str; 2]> = graph.attributes().iter().map(|a| [a.relation.as_str(), a.value.as_str()]).collect();
    let expected: Vec<[&str; 2]> = fixture["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| [name[0].as_str().unwrap(), name[1].as_str().unwrap()])
        .collect();
    assert_eq!(names, expected);
    assert_eq!(graph.nodes(), graph.users() + graph.items() + names.len());
    assert_close(&dense(&graph), &floats(&fixture["matrix"]), 1e-14);
    assert_close(graph.degrees(), &floats(&fixture["degrees"]), 1e-14);
}

#[test]
fn the_order_of_edges_does_not_matter() {
    let fixture = fixture();
    let (forwards, backwards) = (graph_of(&fixture, false), graph_of(&fixture, true));
    assert_eq!(forwards.attributes(), backwards.attributes());
    for node in 0..forwards.nodes() {
        assert_eq!(forwards.row(node).collect::<Vec<_>>(), backwards.row(node).collect::<Vec<_>>());
    }
}

#[test]
fn a_large_group_makes_as_many_edges_as_it_has_members() {
    let mut builder = GraphBuilder::new(0, 10_000).unwrap();
    builder.share("category", 1.0, (0..10_000).map(|item| (item, "all"))).unwrap();
    let graph = builder.build().unwrap();
    assert_eq!((graph.nodes(), graph.edges()), (10_001, 10_000));
}

#[test]
fn what_does_not_fit_is_named() {
    let check = |result: Result<(), GraphError>, words: &[&str]| {
        let message = result.unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    let mut builder = GraphBuilder::new(2, 3).unwrap();
    check(builder.interactions([(0, 0), (2, 0)]), &["edge 1", "user 2", "there are 2"]);
    check(builder.interactions([(0, 3)]), &["item 3", "there are 3"]);
    for weight in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30] {
        check(builder.weighted_interactions([(0, 0, weight)]), &["interactions", "above 0"]);
        check(builder.relate("series", weight, []), &["series", "above 0"]);
    }
    check(builder.relate("series", 1.0, [(0, 1), (1, 7)]), &["edge 1", "series", "item 7"]);
    check(builder.share("series", 2.0, [(0, "x")]), &["series", "twice", "1", "2"]);
    check(builder.share("brand", 2.0, [(4, "x")]), &["brand", "item 4"]);
    check(GraphBuilder::new(usize::MAX, 3).map(|_| ()), &["more than"]);
    let graph = Graph::interactions(2, 2, [(0, 0)]).unwrap();
    for probability in [-0.1, 1.0, f64::NAN] {
        check(graph.thinned(EdgeDropout { probability, seed: 1 }).map(|_| ()), &["edge_dropout", "below 1"]);
    }
}

#[test]
fn a_relation_may_be_called_as_interactions_are() {
    let mut builder = GraphBuilder::new(1, 2).unwrap();
    builder.interactions([(0, 0)]).unwrap();
    builder.relate("interactions", 0.5, [(0, 1)]).unwrap();
    assert_eq!(builder.build().unwrap().degrees(), [1.0, 1.5, 0.5]);
}

#[test]
fn empty_graphs_are_graphs() {
    let graph = Graph::interactions(0, 0, []).unwrap();
    assert_eq!((graph.nodes(), graph.edges()), (0, 0));
    assert_eq!(graph.row(0).count(), 0);
    let graph = Graph::interactions(2, 0, []).unwrap();
    assert_eq!(graph.row(1).collect::<Vec<_>>(), [(1, 1.0)]);
}

#[test]
fn dropped_edges_go_in_both_directions_and_the_mean_stays() {
    let graph = Graph::interactions(30, 40, pairs(30, 40, 300, 1)).unwrap();
    let (whole, nodes) = (dense(&graph), graph.nodes());
    let mut mean = vec![0.0; whole.len()];
    let (rounds, p) = (400, 0.3);
    let mut kept = 0;
    for seed in 0..rounds {
        let thin = graph.thinned(EdgeDropout { probability: p, seed }).unwrap();
        kept += thin.edges();
        let part = dense(&thin);
        for row in 0..nodes {
            for column in 0..nodes {
                let value = part[row * nodes + column];
                assert_eq!(value.to_bits(), part[column * nodes + row].to_bits());
                let expected =
                    if row == column { whole[row * nodes + column] } else { whole[row * nodes + column] / (1.0 - p) };
                assert!(value == 0.0 || (value - expected).abs() < 1e-6 * expected);
            }
        }
        mean.iter_mut().zip(&part).for_each(|(mean, value)| *mean += value / rounds as f64);
    }
    let share = kept as f64 / (rounds as usize * graph.edges()) as f64;
    assert!((share - (1.0 - p)).abs() < 0.01, "{share}");
    // Six deviations of the mean of a coin thrown 400 times.
    let deviation = (p / (1.0 - p) / rounds as f64).sqrt();
    for (mean, whole) in mean.iter().zip(&whole) {
        assert!((mean - whole).abs() <= 6.0 * deviation * whole, "{mean} {whole}");
    }
    let again = |seed| dense(&graph.thinned(EdgeDropout { probability: p, seed }).unwrap());
    assert_eq!(again(3), again(3));
    assert_ne!(again(3), again(4));
    assert_eq!(dense(&graph.thinned(EdgeDropout { probability: 0.0, seed: 1 }).unwrap()), whole);
}

proptest! {
    /// `Â v = v` for `v_i = √D_ii`: the largest eigenvalue of a normalised adjacency is 1.
    #[test]
    fn roots_of_degrees_are_an_eigenvector(users in 1usize..12, items in 1usize..12, count in 0usize..60, seed: u64) {
        let graph = Graph::interactions(users, items, pairs(users, items, count, seed)).unwrap();
        let (matrix, nodes) = (dense(&graph), graph.nodes());
        for row in 0..nodes {
            for column in 0..nodes {
                prop_assert_eq!(matrix[row * nodes + column].to_bits(), matrix[column * nodes + row].to_bits());
            }
            let sum: f64 = (0..nodes).map(|column| matrix[row * nodes + column] * graph.degrees()[column].sqrt()).sum();
            prop_assert!((sum - graph.degrees()[row].sqrt()).abs() < 1e-9);
            prop_assert!(graph.row(row).map(|(neighbour, _)| neighbour).is_sorted_by(|a, b| a < b));
        }
    }
}
