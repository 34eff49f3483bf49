//! The example that searches titles.

#[allow(dead_code, reason = "its `main` is for the command line")]
#[path = "../../examples/search.rs"]
mod example;

use super::sentence::{files, load};

#[test]
fn the_nearest_titles_come_first() {
    let model = load(&files("sharded")).unwrap();
    let titles = "w40 w41\nw7 w8 w9\n\n  w50 w51 w52\nw7 w8\n";
    let best = example::nearest(&model, titles, "w7 w8 w9", 2).unwrap();
    assert_eq!(best.len(), 2);
    assert!(best[0].1 == "w7 w8 w9" && (best[0].0 - 1.0).abs() < 1e-5 && best[1].0 < best[0].0, "{best:?}");
    let all = example::nearest(&model, titles, "w7", 10).unwrap();
    assert!(all.len() == 4 && all.is_sorted_by(|a, b| a.0 >= b.0), "{all:?}");
    assert!(example::nearest(&model, "\n", "w7", 10).unwrap().is_empty());
}
