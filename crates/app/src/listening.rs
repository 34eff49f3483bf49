//! Tables of what objectives listen to: experts, what is handed on, what is stitched together.

use paretune_eval::report::{Cell, Table};
use paretune_train::evaluation::Gate;

/// What objectives listen to: mean weights, and how often an expert weighs most.
pub(crate) fn tables(gates: &[Gate]) -> Vec<Table> {
    let mut experts: Vec<&str> = Vec::new();
    for name in gates.iter().flat_map(|gate| &gate.experts) {
        if !experts.contains(&name.as_str()) {
            experts.push(name);
        }
    }
    let table = |title: &str, note: &str, of: fn(&Gate) -> &[f64]| {
        let heads = ["level", "objective"].into_iter().chain(experts.iter().copied());
        let mut table = Table::new(title, heads).note(note);
        for gate in gates.iter().filter(|gate| !of(gate).is_empty()) {
            let cell = |expert: &&str| match gate.experts.iter().position(|own| own == expert) {
                Some(place) => Cell::number(of(gate)[place], 3),
                None => Cell::Empty,
            };
            let head = [Cell::from((gate.level + 1).to_string()), Cell::from(gate.gate.as_str())];
            table = table.row(head.into_iter().chain(experts.iter().map(cell)));
        }
        (!table.rows.is_empty()).then_some(table)
    };
    let shared = if gates.iter().any(|gate| gate.gate == "shared") {
        "`shared` is the gate of what belongs to no objective. "
    } else {
        ""
    };
    let weights = format!(
        "{shared}Means over the rows of the test part; a mixture that is learned once is the same for all of them."
    );
    let chosen = "Shares of the rows of the test part.";
    [
        table("What objectives listen to", &weights, |gate| &gate.weights),
        table("What weighs most for an objective", chosen, |gate| &gate.chosen),
    ]
    .into_iter()
    .flatten()
    .collect()
}
