//! Fitting: what the training rows say of each feature.

use std::collections::BTreeMap;

use super::category::{Cross, Rows};
use super::cell::Cell;
use super::column::{self, Column};
use super::encoders::{Category, Encoders, Numeric, Written};
use super::moment::Moment;
use super::numeric::Scale;
use super::past::{Past, Recent};
use super::saved::{FORMAT, State};
use super::spec::{FeatureKind, FeatureSpec, Side};
use crate::{DataError, Dataset, Histories, Part, Split, consistency};

/// Features that one cross may combine.
const CROSSED: std::ops::RangeInclusive<usize> = 2..=8;

/// The log, as features are fitted to it.
struct Fit<'a> {
    dataset: &'a Dataset,
    /// Training rows of each user and each item: what happens often counts often.
    of_user: Vec<u64>,
    of_item: Vec<u64>,
    train: Vec<u32>,
    clock: &'a [i64],
    real_times: bool,
}

/// Where the index of a feature stands: whose, and at which place there.
type Place = (Side, u32);

pub(super) fn fit(
    dataset: &Dataset,
    split: &Split,
    histories: &Histories,
    specs: &[FeatureSpec],
) -> Result<State, DataError> {
    consistency::check_with(dataset, split)?;
    let train = split.rows(Part::Train);
    let count = |of: &[u32], rows: usize| {
        let mut counts = vec![0u64; rows];
        train.iter().for_each(|row| counts[of[*row as usize] as usize] += 1);
        counts
    };
    let events = &dataset.events;
    let fit = Fit {
        dataset,
        of_user: count(&events.user, dataset.users.len()),
        of_item: count(&events.item, dataset.items.len()),
        clock: &split.clock,
        real_times: split.has_real_times(),
        train,
    };

    let mut names = BTreeMap::new();
    let mut sides =
        BTreeMap::from([Side::User, Side::Item, Side::EventContext].map(|side| (side, Encoders::default())));
    let mut recent = Vec::new();
    for spec in specs {
        if names.insert(spec.name.as_str(), None).is_some() {
            return Err(spec.wrong("name", "is that of another feature too; every feature needs a name of its own"));
        }
        match &spec.kind {
            FeatureKind::Numeric { of, column, normalise } => {
                let scale = Scale::fit(*normalise, &fit.numbers(spec, *of, column)?);
                let feature = Numeric { name: spec.name.clone(), column: column.clone(), scale };
                sides.entry(*of).or_default().numeric.push(feature);
            }
            FeatureKind::Bucket { of, column, buckets } => {
                let rows = Rows::buckets(*buckets, &fit.numbers(spec, *of, column)?);
                let place = push(sides.entry(*of).or_default(), spec, column, rows);
                names.insert(&spec.name, Some((*of, place)));
            }
            FeatureKind::Category { of, column, levels } => {
                let rows = Rows::levels(*levels, fit.cells(spec, *of, column)?);
                let place = push(sides.entry(*of).or_default(), spec, column, rows);
                names.insert(&spec.name, Some((*of, place)));
            }
            FeatureKind::Recent { column, last, levels } => {
                let found = column::find(dataset, spec, Side::Item, column)?;
                let rows = Rows::levels(*levels, fit.cells(spec, Side::Item, column)?);
                let of_item = (0..dataset.items.len()).map(|item| rows.row(found.get(item).as_ref())).collect();
                recent.push(Recent { name: spec.name.clone(), last: *last, rows, of_item });
            }
            FeatureKind::Cross { .. } => {}
        }
    }

    // Crosses come last, whatever their order among the specs. Those of one side belong to it; what else there is, to the pair.
    let mut mixed = Vec::new();
    for spec in specs {
        let FeatureKind::Cross { of, hash, seed } = &spec.kind else {
            continue;
        };
        let parts = parts(spec, of, &names)?;
        let cross = |places: Vec<u32>| Cross { name: spec.name.clone(), parts: places, hash: *hash, seed: *seed };
        match parts.iter().map(|(side, _)| *side).collect::<Vec<_>>().as_slice() {
            [first, rest @ ..] if rest.iter().all(|side| side == first) => {
                let places = parts.iter().map(|(_, place)| *place).collect();
                sides.entry(*first).or_default().crosses.push(cross(places));
            }
            _ => mixed.push((parts, cross(Vec::new()))),
        }
    }
    let mut side = |side: Side| sides.remove(&side).unwrap_or_default();
    let (users, items, context) = (side(Side::User), side(Side::Item), side(Side::EventContext));
    let slots: u32 = recent.iter().map(|recent| recent.last).sum();
    let item_start = users.indices() as u32 + slots;
    let context_start = item_start + items.indices() as u32;
    let pairs = mixed.into_iter().map(|(parts, cross)| {
        let place = |(side, place): (Side, u32)| match side {
            Side::User => place,
            Side::Item => item_start + place,
            Side::EventContext => context_start + place,
        };
        Cross { parts: parts.into_iter().map(place).collect(), ..cross }
    });

    Ok(State {
        format: FORMAT,
        pairs: pairs.collect(),
        user_rows: Written::new(&users, dataset.users.len(), |row, name| {
            Column::of_users(&dataset.users, name)?.get(row)
        }),
        item_rows: Written::new(&items, dataset.items.len(), |row, name| {
            Column::of_items(&dataset.items, name)?.get(row)
        }),
        past: if recent.is_empty() { Past::default() } else { Past::new(dataset, &split.clock, histories) },
        specs: specs.to_vec(),
        users,
        items,
        context,
        recent,
        real_times: fit.real_times,
    })
}

/// Adds a category and says where its index will stand.
fn push(side: &mut Encoders, spec: &FeatureSpec, column: &str, rows: Rows) -> u32 {
    side.categories.push(Category { name: spec.name.clone(), column: column.to_owned(), rows });
    side.categories.len() as u32 - 1
}

/// Where the parts of a cross stand.
fn parts(spec: &FeatureSpec, of: &[String], names: &BTreeMap<&str, Option<Place>>) -> Result<Vec<Place>, DataError> {
    if !CROSSED.contains(&of.len()) {
        return Err(spec.wrong("of", format!("names {} features; a cross takes 2 to 8", of.len())));
    }
    of.iter()
        .enumerate()
        .map(|(nth, name)| match names.get(name.as_str()) {
            _ if of[..nth].contains(name) => Err(spec.wrong("of", format!("names {name:?} twice; name it once"))),
            Some(Some(place)) => Ok(*place),
            Some(None) => {
                let problem = format!(
                    "{name:?} is no category and no bucket; numbers can be crossed as buckets, crosses not at all"
                );
                Err(spec.wrong("of", problem))
            }
            None => {
                let known: Vec<&str> =
                    names.iter().filter(|(_, place)| place.is_some()).map(|(name, _)| *name).collect();
                let problem =
                    format!("there is no feature {name:?}; those that can be crossed are: {}", known.join(", "));
                Err(spec.wrong("of", problem))
            }
        })
        .collect()
}

impl<'a> Fit<'a> {
    /// The values of a column that training rows hold, each with how many do.
    fn cells(&self, spec: &FeatureSpec, of: Side, name: &str) -> Result<Vec<(Cell<'a>, u64)>, DataError> {
        let counts = match of {
            Side::User => &self.of_user,
            Side::Item => &self.of_item,
            Side::EventContext => return self.context_cells(spec, name),
        };
        let column = column::find(self.dataset, spec, of, name)?;
        let seen = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Ok(seen.filter_map(|(row, count)| Some((column.get(row)?, *count))).collect())
    }

    fn context_cells(&self, spec: &FeatureSpec, name: &str) -> Result<Vec<(Cell<'a>, u64)>, DataError> {
        column::find_context(self.dataset, spec, name, self.real_times)?;
        let queries = self.dataset.events.query.as_deref();
        let cell = |row: &u32| {
            let row = *row as usize;
            let query = queries.and_then(|queries| queries[row].as_deref());
            Some((Moment { clock: self.clock[row], query }.get(name, self.real_times)?, 1))
        };
        Ok(self.train.iter().filter_map(cell).collect())
    }

    /// The numbers of a column that training rows hold, each with how many do.
    fn numbers(&self, spec: &FeatureSpec, of: Side, name: &str) -> Result<Vec<(f64, u64)>, DataError> {
        let cells = self.cells(spec, of, name)?;
        let refuse = |text: &Cell<'_>| {
            let problem = format!(
                "`{name}` holds {:?}, which is no number; take kind = \"category\", or clean the column (`null` of a descriptor names \
                 values that mean \"unknown\")",
                text.as_name()
            );
            Err(spec.wrong("column", problem))
        };
        // A text that is no number is refused wherever it stands: it would be missing without anybody having said so.
        let rows = match of {
            Side::User => self.of_user.len(),
            Side::Item => self.of_item.len(),
            Side::EventContext => 0,
        };
        let whole = if rows == 0 { None } else { Some(column::find(self.dataset, spec, of, name)?) };
        let everywhere = (0..rows).filter_map(|row| whole?.get(row));
        match everywhere.chain(cells.iter().map(|(cell, _)| cell.clone())).find(|cell| cell.as_number().is_none()) {
            Some(text) => refuse(&text),
            None => Ok(cells.iter().filter_map(|(cell, count)| Some((cell.as_number()?, *count))).collect()),
        }
    }
}
