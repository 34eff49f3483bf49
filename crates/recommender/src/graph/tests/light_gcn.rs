//! The module: its tables, users nobody knew, and everything that learns.

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::backward;

use super::super::{EdgeDropout, Graph, GraphBuilder, LightGcn};
use super::{assert_close, fixture, floats, graph_of, numbers, pairs, random, tensor};

fn table(model: &LightGcn, name: &str) -> Var {
    let all = model.parameters("graph");
    all.into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn the_loss_and_its_gradients_are_those_of_pytorch() {
    let fixture = fixture();
    let graph = graph_of(&fixture, false);
    let case = &fixture["light_gcn"];
    let (users, items, x) = (graph.users(), graph.items(), floats(&fixture["x"]));
    let width = fixture["width"].as_u64().unwrap() as usize;
    let layers = case["layers"].as_u64().unwrap() as usize;
    let model = LightGcn::new(graph.clone(), width, layers, 1, &Device::Cpu).unwrap();
    let (first, last) = (users * width, (users + items) * width);
    let user_table = table(&model, "graph.users.weight");
    user_table.set(&tensor(&x[..first], users, DType::F32)).unwrap();
    let attribute_table = table(&model, "graph.attributes.weight");
    attribute_table.set(&tensor(&x[last..], graph.attributes().len(), DType::F32)).unwrap();
    let item_vectors = Var::from_tensor(&tensor(&x[first..last], items, DType::F32)).unwrap();

    let out = model.forward(&item_vectors, None).unwrap();
    let pulled = |vectors: &Tensor, pull: &str| {
        let pull = tensor(&floats(&case[pull]), vectors.dims()[0], DType::F32);
        (vectors.sqr().unwrap() * pull).unwrap().sum_all().unwrap()
    };
    let loss = (pulled(&out.users, "pull_users") + pulled(&out.items, "pull_items")).unwrap();
    assert_close(&numbers(&loss), &[case["loss"].as_f64().unwrap()], 1e-5);
    let (own, candles) = (backward(&loss).unwrap(), loss.backward().unwrap());
    for (var, name) in [(&user_table, "users"), (&item_vectors, "items"), (&attribute_table, "attributes")] {
        assert_close(&numbers(own.get(var).unwrap()), &floats(&case[name]), 1e-5);
        assert_close(&numbers(candles.get(var).unwrap()), &floats(&case[name]), 1e-5);
    }
}

#[test]
fn every_parameter_learns() {
    let mut builder = GraphBuilder::new(20, 30).unwrap();
    builder.interactions(pairs(20, 30, 100, 1)).unwrap();
    builder.share("parity", 1.0, (0..30).map(|item| (item, if item % 2 == 0 { "even" } else { "odd" }))).unwrap();
    let model = LightGcn::new(builder.build().unwrap(), 8, 3, 2, &Device::Cpu).unwrap();
    let items = Var::from_tensor(&tensor(&random(240, 3), 30, DType::F32)).unwrap();
    for dropout in [None, Some(EdgeDropout { probability: 0.2, seed: 4 })] {
        let out = model.forward(&items, dropout).unwrap();
        let scores = out.users.matmul(&out.items.t().unwrap()).unwrap();
        let gradients = scores.exp().unwrap().sum_all().unwrap().backward().unwrap();
        let mut parameters = model.parameters("graph");
        assert_eq!(parameters.len(), 2);
        parameters.push(("items".into(), items.clone()));
        for (name, var) in parameters {
            let gradient = numbers(gradients.get(&var).unwrap());
            assert!(gradient.iter().all(|g| g.is_finite() && *g != 0.0), "{name}");
        }
    }
    let vectors = |dropout| numbers(&model.forward(&items, dropout).unwrap().users);
    let seeded = |seed| vectors(Some(EdgeDropout { probability: 0.2, seed }));
    assert_eq!(seeded(4), seeded(4));
    assert_ne!(seeded(4), seeded(5));
    assert_eq!(vectors(Some(EdgeDropout { probability: 0.0, seed: 4 })), vectors(None));
}

#[test]
fn the_same_seed_gives_the_same_tables() {
    let make = |seed| {
        let graph = Graph::interactions(5, 3, [(0, 0)]).unwrap();
        numbers(&table(&LightGcn::new(graph, 4, 2, seed, &Device::Cpu).unwrap(), "graph.users.weight"))
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1), make(2));
}

/// With one layer, a newcomer is what a known user with a row of zeros and the same edges is.
#[test]
fn a_newcomer_is_a_user_with_a_row_of_zeros() {
    let (users, items, width) = (6, 8, 5);
    let edges = pairs(users, items, 20, 5);
    let vectors = tensor(&random(items * width, 6), items, DType::F32);
    let history = [7u32, 0, 3, 0, 7];
    let joined = edges.iter().copied().chain(history.iter().map(|item| (users as u32, *item)));
    let whole =
        LightGcn::new(Graph::interactions(users + 1, items, joined).unwrap(), width, 1, 1, &Device::Cpu).unwrap();
    table(&whole, "graph.users.weight")
        .set(&Tensor::zeros((users + 1, width), DType::F32, &Device::Cpu).unwrap())
        .unwrap();
    let expected = whole.forward(&vectors, None).unwrap().users.narrow(0, users, 1).unwrap();

    let known = LightGcn::new(Graph::interactions(users, items, edges).unwrap(), width, 1, 1, &Device::Cpu).unwrap();
    let messages = known.messages(&vectors).unwrap();
    let found = known.newcomers(&messages, &[&[], &history]).unwrap();
    assert_close(&numbers(&found.narrow(0, 1, 1).unwrap()), &numbers(&expected), 1e-6);
    assert_eq!(numbers(&found.narrow(0, 0, 1).unwrap()), vec![0.0; width], "nobody knows anything of the first");
}

/// `u = Σ_i m_i / √(|H| (D_i + 1))` with `m = 1/(L + 1) Σ_{l<L} Âˡ x`, by hand on a graph of one edge.
#[test]
fn messages_hold_every_layer_but_the_last() {
    let model = LightGcn::new(Graph::interactions(1, 2, [(0, 0)]).unwrap(), 1, 3, 1, &Device::Cpu).unwrap();
    table(&model, "graph.users.weight").set(&Tensor::new(&[[2f32]], &Device::Cpu).unwrap()).unwrap();
    let items = Var::new(&[[1f32], [4.0]], &Device::Cpu).unwrap();
    let messages = model.messages(&items).unwrap();
    // Layers of item 0: 1, 2, 1. Item 1 has no edges: 4, 4, 4.
    assert_close(&numbers(&messages), &[4.0 / 4.0, 12.0 / 4.0], 1e-6);
    let user = model.newcomers(&messages, &[&[0, 1]]).unwrap();
    assert_close(&numbers(&user), &[1.0 / (2.0 * 2.0f64).sqrt() + 3.0 / 2.0f64.sqrt()], 1e-6);
    let gradients = user.sum_all().unwrap().backward().unwrap();
    // Item 0 is in its own message twice, in layers 0 and 2.
    let expected = [0.5 * 2.0 / 4.0, 3.0 / 4.0 / 2.0f64.sqrt()];
    assert_close(&numbers(gradients.get(&items).unwrap()), &expected, 1e-6);
}

#[test]
fn parts_may_be_missing() {
    let none = LightGcn::new(Graph::interactions(0, 2, []).unwrap(), 3, 2, 1, &Device::Cpu).unwrap();
    assert!(none.parameters("graph").is_empty());
    let items = tensor(&random(6, 1), 2, DType::F32);
    let out = none.forward(&items, None).unwrap();
    assert_eq!(out.users.dims(), [0, 3]);
    assert_close(&numbers(&out.items), &numbers(&items), 1e-6);
    let empty = LightGcn::new(Graph::interactions(2, 0, []).unwrap(), 3, 2, 1, &Device::Cpu).unwrap();
    let nothing = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(empty.forward(&nothing, None).unwrap().users.dims(), [2, 3]);
    assert_eq!(empty.newcomers(&nothing, &[]).unwrap().dims(), [0, 3]);
}

#[test]
fn what_does_not_fit_is_named() {
    let graph = Graph::interactions(1, 2, [(0, 0)]).unwrap();
    assert!(LightGcn::new(graph.clone(), 0, 2, 1, &Device::Cpu).unwrap_err().to_string().contains("dim = 0"));
    let model = LightGcn::new(graph.clone(), 3, 2, 1, &Device::Cpu).unwrap();
    let wrong = Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(model.forward(&wrong, None).unwrap_err().to_string().contains("needs [2, 3]"));
    let right = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let message = model.newcomers(&right, &[&[0], &[2]]).unwrap_err().to_string();
    assert!(message.contains("item 2") && message.contains("edge 1"), "{message}");
    let flat = LightGcn::new(graph, 3, 0, 1, &Device::Cpu).unwrap();
    assert!(flat.messages(&right).unwrap_err().to_string().contains("layers = 0"));
}
