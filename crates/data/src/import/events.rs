//! The log in the making: rows of several files, merged where they speak of the same event.

use std::collections::{BTreeSet, HashMap};

use super::cells::missing;
use super::items::Catalogue;
use super::rows::{Cell, Wanted};
use super::users::People;
use super::{DropReason, Fault, FileReport, Taken, TakesRows};
use crate::descriptor::{EventsSpec, FeedbackSpec, FileSpec, NumberSpec};
use crate::{Descriptor, Events};

/// What makes two rows the same event: user, item, and time and request where there are any.
type Key = (u32, u32, Option<i64>, Option<u32>);

/// Events so far.
pub(super) struct Log<'a> {
    catalogue: &'a mut Catalogue,
    people: &'a mut People,
    events: Events,
    known: HashMap<Key, usize>,
    requests: HashMap<String, u32>,
    /// Per row the file that touched it last.
    origin: Vec<usize>,
    file: usize,
    wanted: Wanted,
    places: Places,
    spec: Option<EventsSpec>,
}

/// Where the cells of the present file stand.
#[derive(Default)]
struct Places {
    user: usize,
    item: usize,
    timestamp: usize,
    request: usize,
    position: usize,
    propensity: usize,
    query: usize,
    /// In the order of the file's feedback columns.
    feedback: Vec<usize>,
}

impl<'a> Log<'a> {
    pub(super) fn new(catalogue: &'a mut Catalogue, people: &'a mut People, descriptor: &Descriptor) -> Self {
        catalogue.open = descriptor.items.is_none();
        let files = &descriptor.events;
        let names: BTreeSet<&String> = files.iter().flat_map(|file| file.feedback.keys()).collect();
        Self {
            catalogue,
            people,
            events: Events {
                timestamp: files.iter().any(|file| file.timestamp.is_some()).then(Vec::new),
                request: files.iter().any(|file| file.request_id.is_some()).then(Vec::new),
                position: files.iter().any(|file| file.position.is_some()).then(Vec::new),
                propensity: files.iter().any(|file| file.propensity.is_some()).then(Vec::new),
                query: files.iter().any(|file| file.query.is_some()).then(Vec::new),
                feedback: names.into_iter().map(|name| (name.clone(), Vec::new())).collect(),
                ..Events::default()
            },
            known: HashMap::new(),
            requests: HashMap::new(),
            origin: Vec::new(),
            file: 0,
            wanted: Wanted::default(),
            places: Places::default(),
            spec: None,
        }
    }

    /// Turns to the next file.
    pub(super) fn open(&mut self, file: usize, spec: &EventsSpec) {
        let mut wanted = Wanted::default();
        let mut optional = |name: Option<&String>| name.map_or(0, |name| wanted.add(name));
        self.places = Places {
            user: optional(Some(&spec.user_id)),
            item: optional(Some(&spec.item_id)),
            timestamp: optional(spec.timestamp.as_ref().map(|time| &time.column)),
            request: optional(spec.request_id.as_ref()),
            position: optional(spec.position.as_ref()),
            propensity: optional(spec.propensity.as_ref().map(|number| &number.column)),
            query: optional(spec.query.as_ref().map(|text| &text.column)),
            feedback: spec
                .feedback
                .values()
                .map(|feedback| match feedback {
                    FeedbackSpec::Constant(_) => 0,
                    FeedbackSpec::Column(number) => optional(Some(&number.column)),
                })
                .collect(),
        };
        self.wanted = wanted;
        self.file = file;
        self.spec = Some(spec.clone());
    }

    pub(super) fn finish(mut self) -> Events {
        self.events.sort();
        self.events
    }

    /// The row of an event, a new one with nothing observed if need be.
    fn row(&mut self, key: Key) -> (usize, Taken) {
        let events = &mut self.events;
        let next = events.user.len();
        let row = *self.known.entry(key).or_insert(next);
        if row < next {
            let taken = if self.origin[row] == self.file { Taken::Repeated } else { Taken::Merged };
            self.origin[row] = self.file;
            return (row, taken);
        }
        let (user, item, time, request) = key;
        events.user.push(user);
        events.item.push(item);
        if let Some(column) = &mut events.timestamp {
            column.push(time.unwrap_or_default());
        }
        if let Some(column) = &mut events.request {
            column.push(request.unwrap_or_default());
        }
        if let Some(column) = &mut events.position {
            column.push(0);
        }
        if let Some(column) = &mut events.propensity {
            column.push(f32::NAN);
        }
        if let Some(column) = &mut events.query {
            column.push(None);
        }
        for column in events.feedback.values_mut() {
            column.push(f32::NAN);
        }
        self.origin.push(self.file);
        (row, Taken::New)
    }

    fn request(&mut self, id: &str) -> u32 {
        if let Some(request) = self.requests.get(id) {
            return *request;
        }
        let request = self.requests.len() as u32;
        self.requests.insert(id.to_owned(), request);
        request
    }
}

/// Everything of a row but its key, read before anything is stored, so that a bad row leaves no trace.
struct Observed {
    position: Option<u16>,
    propensity: Option<f32>,
    query: Option<String>,
    feedback: Vec<Option<f32>>,
}

impl Observed {
    fn read(spec: &EventsSpec, places: &Places, file: &FileSpec, cells: &[Cell<'_>]) -> Result<Self, Fault> {
        let position = match &spec.position {
            Some(column) => position(&cells[places.position], column)?,
            None => None,
        };
        let propensity = match &spec.propensity {
            Some(number) => probability(cells[places.propensity].number(number)?, &number.column)?,
            None => None,
        };
        let query = spec.query.as_ref().and_then(|text| cells[places.query].cleaned(text, file));
        let feedback = spec
            .feedback
            .values()
            .zip(&places.feedback)
            .map(|(feedback, place)| match feedback {
                FeedbackSpec::Constant(value) => Ok(Some(*value as f32)),
                FeedbackSpec::Column(number) => {
                    let value = cells[*place].number(number)?;
                    Ok(value.map(|value| value as f32))
                }
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Self { position, propensity, query, feedback })
    }
}

impl TakesRows for Log<'_> {
    fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    fn take(&mut self, file: &FileSpec, cells: &[Cell<'_>], _: &mut FileReport) -> Result<Taken, Fault> {
        // Taken out so that the tables can be changed meanwhile.
        let Some(spec) = self.spec.take() else {
            return Err(missing("file"));
        };
        let taken = self.take_as(&spec, file, cells);
        self.spec = Some(spec);
        taken
    }
}

impl Log<'_> {
    fn take_as(&mut self, spec: &EventsSpec, file: &FileSpec, cells: &[Cell<'_>]) -> Result<Taken, Fault> {
        let places = &self.places;
        let user = cells[places.user].id(&spec.user_id)?;
        let item = cells[places.item].id(&spec.item_id)?;
        let time = match &spec.timestamp {
            Some(time) => {
                let there = cells[places.timestamp].time(time)?;
                Some(there.ok_or_else(|| missing(&time.column))?)
            }
            None => None,
        };
        let request = match &spec.request_id {
            Some(column) => Some(cells[places.request].id(column)?),
            None => None,
        };
        let observed = Observed::read(spec, places, file, cells)?;
        let item = self.catalogue.find(&item)?;
        let user = self.people.find(&user);
        let request = request.map(|id| self.request(&id));

        let (row, taken) = self.row((user, item, time, request));
        let events = &mut self.events;
        if let (Some(column), Some(position)) = (&mut events.position, observed.position) {
            column[row] = position;
        }
        if let (Some(column), Some(propensity)) = (&mut events.propensity, observed.propensity) {
            column[row] = propensity;
        }
        if let (Some(column), Some(query)) = (&mut events.query, observed.query) {
            column[row] = Some(query);
        }
        for (name, value) in spec.feedback.keys().zip(observed.feedback) {
            if let (Some(column), Some(value)) = (events.feedback.get_mut(name), value) {
                column[row] = value;
            }
        }
        Ok(taken)
    }
}

/// A place in the list, from 1.
fn position(cell: &Cell<'_>, column: &str) -> Result<Option<u16>, Fault> {
    let spec = NumberSpec {
        column: column.to_owned(),
        min: Some(0.0),
        max: Some(f64::from(u16::MAX)),
        scale: 1.0,
        cap: None,
        threshold: None,
        null: Vec::new(),
    };
    Ok(cell.number(&spec)?.map(|number| number as u16))
}

/// A propensity divides by itself later: it must be above 0, and at most 1.
fn probability(number: Option<f64>, column: &str) -> Result<Option<f32>, Fault> {
    match number {
        Some(number) if !(number > 0.0 && number <= 1.0) => {
            Err(Fault::new(DropReason::OutOfRange, format!("`{column}` is {number}, not a probability above 0")))
        }
        number => Ok(number.map(|number| number as f32)),
    }
}
