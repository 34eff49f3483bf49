//! Tables of settings that lie above one another.

use std::path::Path;

use toml::{Table, Value};

use crate::failure::wrong_input;

/// Reads TOML, or says in one line where it is wrong.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(text: &str, path: &Path) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| format!(", line {}", before.matches('\n').count() + 1)).unwrap_or_default();
        wrong_input(format!("{}{line}: {}", path.display(), error.message()))
    })
}

/// Sets `a.b.c` in nested tables.
pub(super) fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(table.insert(path.to_owned(), value)),
        Some((head, rest)) => {
            let entry = table.entry(head.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                put(inner, rest, value);
            }
        }
    }
}

/// Puts `over` on top of `base`, table by table. A split strategy replaces the other's fields as a whole.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) if !table.contains_key("strategy") => merge(inner, table),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn later_settings_win_table_by_table() {
        let mut base = table("[training]\nepochs = 2\nbatch = 8\n");
        merge(&mut base, table("[training]\nepochs = 5\n"));
        assert_eq!(base, table("[training]\nepochs = 5\nbatch = 8\n"));
    }

    #[test]
    fn a_split_strategy_is_replaced_whole() {
        let mut base = table("split = { strategy = \"time\", valid = 0.1, test = 0.1 }");
        merge(&mut base, table("split = { strategy = \"leave-last\" }"));
        assert_eq!(base, table("split = { strategy = \"leave-last\" }"));
    }

    #[test]
    fn settings_reach_nested_tables() {
        let mut base = Table::new();
        put(&mut base, "a.b.c", Value::from(3));
        assert_eq!(base, table("[a.b]\nc = 3\n"));
    }
}
