//! The user table in the making.

use std::collections::HashMap;

use super::items::{or_empty, put};
use super::rows::{Cell, Wanted};
use super::{Fault, FileReport, Taken, TakesRows};
use crate::descriptor::{FileSpec, NumberSpec, TextSpec, UsersSpec};
use crate::{UserColumn, Users};

/// Users so far: those of the user file, then those that only the log knows.
#[derive(Default)]
pub(super) struct People {
    wanted: Wanted,
    id: usize,
    columns: Vec<(usize, Kind)>,
    users: Users,
    known: HashMap<String, u32>,
}

enum Kind {
    Category(TextSpec),
    Number(NumberSpec),
}

impl People {
    pub(super) fn new(spec: &UsersSpec) -> Self {
        let mut wanted = Wanted::default();
        let id = wanted.add(&spec.user_id);
        let mut users = Users::default();
        let mut kinds = std::collections::BTreeMap::new();
        for (name, text) in &spec.categories {
            users.columns.insert(name.clone(), UserColumn::Categorical(Vec::new()));
            kinds.insert(name, (wanted.add(&text.column), Kind::Category(text.clone())));
        }
        for (name, number) in &spec.numbers {
            users.columns.insert(name.clone(), UserColumn::Numeric(Vec::new()));
            kinds.insert(name, (wanted.add(&number.column), Kind::Number(number.clone())));
        }
        Self {
            wanted,
            id,
            // In the order of the columns, which is that of their names.
            columns: kinds.into_values().collect(),
            users,
            known: HashMap::new(),
        }
    }

    /// The user of an event.
    pub(super) fn find(&mut self, id: &str) -> u32 {
        if let Some(user) = self.known.get(id) {
            return *user;
        }
        let user = self.users.ids.len() as u32;
        self.users.push_unknown(id.to_owned());
        self.known.insert(id.to_owned(), user);
        user
    }

    pub(super) fn finish(self) -> Users {
        self.users
    }
}

impl TakesRows for People {
    fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    fn take(&mut self, file: &FileSpec, cells: &[Cell<'_>], report: &mut FileReport) -> Result<Taken, Fault> {
        let id = cells[self.id].id(&self.wanted.names[self.id])?;
        let (row, taken) = match self.known.get(id.as_ref()) {
            Some(row) => (*row as usize, Taken::Repeated),
            None => {
                let row = self.users.ids.len();
                self.known.insert(id.to_string(), row as u32);
                self.users.ids.push(id.into_owned());
                (row, Taken::New)
            }
        };
        for (column, (place, kind)) in self.users.columns.values_mut().zip(&self.columns) {
            match (column, kind) {
                (UserColumn::Categorical(column), Kind::Category(spec)) => {
                    put(column, row, cells[*place].cleaned(spec, file));
                }
                (UserColumn::Numeric(column), Kind::Number(spec)) => {
                    put(column, row, or_empty(cells[*place].number(spec), &spec.column, report));
                }
                // Both were made from the same descriptor, in the same order.
                _ => {}
            }
        }
        Ok(taken)
    }
}
