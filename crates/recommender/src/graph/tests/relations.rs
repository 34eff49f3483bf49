//! Rows of files.

use super::super::{Added, GraphBuilder, GraphError, Missing, Relation, Tail};

fn relations() -> Vec<Relation> {
    vec![
        Relation { name: "also_bought".into(), weight: 0.5, tail: Tail::Item },
        Relation { name: "brand".into(), weight: 2.0, tail: Tail::Attribute },
    ]
}

fn read(file: &str, missing: Missing) -> Result<(GraphBuilder, Added), GraphError> {
    let mut builder = GraphBuilder::new(1, 3)?;
    let rows = file.lines().map(|line| {
        let fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        <[String; 3]>::try_from(fields).map_err(|fields| format!("{} fields instead of 3", fields.len()))
    });
    let index = |id: &str| id.strip_prefix('i').and_then(|id| id.parse().ok()).filter(|id| *id < 5);
    let added = builder.triples(&relations(), rows, index, missing)?;
    Ok((builder, added))
}

#[test]
fn rows_become_edges_and_shared_nodes() {
    let (builder, added) =
        read("i0,also_bought,i1\ni0,brand,Acme\ni2,brand,Acme\ni1,brand,Other", Missing::Refuse).unwrap();
    assert_eq!(added, Added { rows: 4, skipped: 0 });
    let graph = builder.build().unwrap();
    assert_eq!(graph.attributes().len(), 1);
    assert_eq!((graph.attributes()[0].relation.as_str(), graph.attributes()[0].value.as_str()), ("brand", "Acme"));
    assert_eq!(graph.degrees(), [0.0, 2.5, 0.5, 2.0, 4.0]);
}

#[test]
fn what_is_unknown_is_refused_or_counted() {
    for (file, words) in [
        ("i0,also_bought,i1\nx,brand,Acme", ["row 2", "`x`", "skip"]),
        ("i0,also_bought,x", ["row 1", "`x`", "skip"]),
        ("i0,author,x", ["row 1", "`author`", "also_bought, brand"]),
    ] {
        let message = read(file, Missing::Refuse).err().unwrap().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        let (_, added) = read(file, Missing::Skip).unwrap();
        assert_eq!(added, Added { rows: file.lines().count() - 1, skipped: 1 });
    }
}

#[test]
fn what_is_broken_is_refused_in_any_case() {
    for missing in [Missing::Refuse, Missing::Skip] {
        let message = read("i0,brand,Acme\ni0,brand", missing).err().unwrap().to_string();
        assert!(message.contains("row 2") && message.contains("2 fields"), "{message}");
        // An index that the graph does not have is a mistake of the caller's.
        assert!(matches!(read("i4,brand,Acme", missing), Err(GraphError::OutOfRange { index: 4, count: 3, .. })));
    }
    let mut builder = GraphBuilder::new(0, 1).unwrap();
    let twice = [relations(), vec![Relation { name: "brand".into(), weight: 1.0, tail: Tail::Attribute }]].concat();
    let none = std::iter::empty::<Result<[&str; 3], String>>();
    let result = builder.triples(&twice, none, |_| None, Missing::Skip);
    assert!(matches!(result, Err(GraphError::TwoWeights { .. })));
}

#[test]
fn relations_are_settings() {
    let relation: Relation = serde_json::from_str(r#"{"name": "brand", "weight": 0.5, "tail": "attribute"}"#).unwrap();
    assert_eq!(relation, Relation { name: "brand".into(), weight: 0.5, tail: Tail::Attribute });
    let relation: Relation = serde_json::from_str(r#"{"name": "series", "weight": 1}"#).unwrap();
    assert_eq!(relation.tail, Tail::Item);
}
