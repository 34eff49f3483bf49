use paretune_data::{Dataset, Histories, Split};

use super::{ClassicError, distinct};

/// Who engaged with what in training: a matrix of zeros and ones, users × items, by rows.
///
/// ```
/// use paretune_recommender::Interactions;
///
/// let log = Interactions::new(vec![vec![4, 1, 4], vec![]], 5)?;
/// assert_eq!(log.users(), [vec![1, 4], vec![]]);
/// assert!(Interactions::new(vec![vec![5]], 5).is_err());
/// # Ok::<(), paretune_recommender::ClassicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interactions {
    users: Vec<Vec<u32>>,
    items: usize,
}

impl Interactions {
    /// The items of each user (any order; repeats count once), out of a catalogue of `items` items.
    ///
    /// # Errors
    /// [`ClassicError::ItemOutOfRange`].
    pub fn new(mut users: Vec<Vec<u32>>, items: usize) -> Result<Self, ClassicError> {
        for (user, list) in users.iter_mut().enumerate() {
            if let Some(&item) = list.iter().find(|item| **item as usize >= items) {
                return Err(ClassicError::ItemOutOfRange { user, item, items });
            }
            *list = distinct(list, items);
        }
        Ok(Self { users, items })
    }

    /// The events of the training part whose feedback in the column `engaged` is positive.
    ///
    /// # Errors
    /// `engaged` is no feedback column, or the split was made for another log.
    pub fn of(dataset: &Dataset, split: &Split, engaged: &str) -> Result<Self, ClassicError> {
        let histories = Histories::new(dataset, split, engaged)?;
        let users = (0..histories.users() as u32).map(|user| histories.engaged_items(user, true)).collect();
        Self::new(users, dataset.items.len())
    }

    /// The distinct items of each user, ascending.
    #[must_use]
    pub fn users(&self) -> &[Vec<u32>] {
        &self.users
    }

    /// Number of items of the catalogue.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }

    /// The users of each item, ascending.
    pub(super) fn by_item(&self) -> Vec<Vec<u32>> {
        let mut users = vec![Vec::new(); self.items];
        for (user, items) in (0_u32..).zip(&self.users) {
            for &item in items {
                users[item as usize].push(user);
            }
        }
        users
    }
}
