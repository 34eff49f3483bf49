//! Relations from files and of shared users, in the graph of a corpus.

use std::collections::BTreeSet;
use std::path::Path;

use paretune_data::RelationFile;
use paretune_recommender::{Corpus, Graph, GraphConfig};
use serde_json::json;

use crate::world;

/// A relation that reads `content` from a file in `folder`.
fn relation(folder: &Path, name: &str, content: &str, weight: f64, to: &str) -> RelationFile {
    let path = folder.join(format!("{name}.tsv"));
    std::fs::write(&path, content).unwrap();
    serde_json::from_value(json!({"name": name, "file": path, "weight": weight, "to": to})).unwrap()
}

fn edges(graph: &Graph) -> BTreeSet<(u32, u32)> {
    let of = |node: u32| graph.row(node as usize).map(move |(other, _)| (node.min(other), node.max(other)));
    (0..graph.nodes() as u32).flat_map(of).filter(|(low, high)| low != high).collect()
}

fn id(corpus: &Corpus, item: usize) -> &str {
    &corpus.dataset.items.ids[item]
}

#[test]
fn relations_of_files_become_edges() {
    let corpus = world::corpus();
    let folder = tempfile::tempdir().unwrap();
    let [a, b, c] = [3, 40, 77].map(|item| id(&corpus, item));
    let pairs = format!("head\ttail\n{a}\t{b}\n{b}\t{a}\n{c}\tnobody\n");
    let brands = format!("head\ttail\n{a}\tAcme\n{c}\tAcme\n{b}\tOther\n");
    let config = GraphConfig {
        relations: vec![
            relation(folder.path(), "bought together", &pairs, 0.25, "items"),
            relation(folder.path(), "brand", &brands, 2.0, "attributes"),
        ],
        ..GraphConfig::default()
    };
    let relations = corpus.relations(&config).unwrap();
    assert_eq!(relations.iter().map(|r| (r.rows, r.unknown)).collect::<Vec<_>>(), [(2, 1), (3, 0)]);
    let (plain, graph) = (corpus.graph(&GraphConfig::default()).unwrap(), corpus.graph(&config).unwrap());
    let users = corpus.dataset.users.len() as u32;
    let brand = users + 120;
    assert_eq!(graph.attributes().len(), 1, "nothing else is of the brand `Other`");
    let added: BTreeSet<(u32, u32)> = edges(&graph).difference(&edges(&plain)).copied().collect();
    assert_eq!(added, [(users + 3, users + 40), (users + 3, brand), (users + 77, brand)].into());
    assert!(edges(&plain).is_subset(&edges(&graph)));
    // Degrees are sums of weights.
    let more = |item: u32| graph.degrees()[(users + item) as usize] - plain.degrees()[(users + item) as usize];
    assert_eq!([more(3), more(40), more(77), more(4)], [2.25, 0.25, 2.0, 0.0]);
    // A file with a fault is named, with its line.
    let broken = relation(folder.path(), "broken", &format!("head\ttail\n{a}\t{b}\n{a}\n"), 1.0, "items");
    let refused = corpus.graph(&GraphConfig { relations: vec![broken], ..GraphConfig::default() });
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("broken.tsv, line 3"), "{refused}");
    let weightless =
        GraphConfig { relations: vec![RelationFile { weight: 0.0, ..config.relations[0].clone() }], ..config };
    assert!(corpus.graph(&weightless).err().unwrap().to_string().contains("`bought together` weighs 0"));
}

#[test]
fn items_with_the_same_users_are_tied() {
    let corpus = world::corpus();
    let users = corpus.dataset.users.len() as u32;
    let config = GraphConfig { co_engaged: 3, co_engaged_weight: 0.75, ..GraphConfig::default() };
    let (plain, graph) = (corpus.graph(&GraphConfig::default()).unwrap(), corpus.graph(&config).unwrap());
    let lists: Vec<BTreeSet<u32>> =
        (0..users).map(|user| corpus.histories.engaged_items(user, true).into_iter().collect()).collect();
    let shared = |a: u32, b: u32| lists.iter().filter(|list| list.contains(&a) && list.contains(&b)).count();
    let popular = |item: u32| lists.iter().filter(|list| list.contains(&item)).count();
    let mut expected = BTreeSet::new();
    for item in 0..120 {
        let mut others: Vec<u32> = (0..120).filter(|other| *other != item && shared(item, *other) > 0).collect();
        others.sort_by_key(|other| (usize::MAX - shared(item, *other), popular(*other), *other));
        expected.extend(others.iter().take(3).map(|other| (users + item.min(*other), users + item.max(*other))));
    }
    let added: BTreeSet<(u32, u32)> = edges(&graph).difference(&edges(&plain)).copied().collect();
    assert!(added.len() > 100, "{}", added.len());
    assert_eq!(added, expected);
    let more = graph.degrees().iter().zip(plain.degrees()).map(|(more, less)| more - less).sum::<f64>();
    assert!((more - 2.0 * 0.75 * added.len() as f64).abs() < 1e-9);
}
