use paretune_data::DataError;

/// What can go wrong while fitting a model without gradients.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassicError {
    /// The tables could not be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An interaction with an item that does not exist.
    #[error("user {user} engaged with item {item}, but there are {items} items: items are numbered from 0")]
    ItemOutOfRange {
        /// The user.
        user: usize,
        /// The item.
        item: u32,
        /// The size of the catalogue.
        items: usize,
    },
    /// A setting that no model can be fitted with.
    #[error("{model}: {setting} = {value} does not work: give {needs}")]
    Setting {
        /// The model.
        model: &'static str,
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// What it should be.
        needs: &'static str,
    },
    /// A catalogue whose square does not fit into memory.
    #[error(
        "EASE over {items} items would take {gib:.1} GiB, 8 bytes for each pair of items, and is offered for up to {limit} items: \
         use item kNN or matrix factorization, or leave rare items out"
    )]
    TooLarge {
        /// The size of the catalogue.
        items: usize,
        /// The largest catalogue that is taken.
        limit: usize,
        /// Memory that fitting would take.
        gib: f64,
    },
    /// A matrix without an inverse in double precision.
    #[error("EASE with lambda = {lambda} has a matrix that is singular in double precision: raise lambda")]
    Singular {
        /// The regularization.
        lambda: f64,
    },
}

/// An error that names the setting, unless it is `valid`.
pub(super) fn check_setting(
    model: &'static str,
    setting: &'static str,
    value: f64,
    valid: bool,
    needs: &'static str,
) -> Result<(), ClassicError> {
    if valid { Ok(()) } else { Err(ClassicError::Setting { model, setting, value, needs }) }
}
