//! Records that cannot be read, of kinds on which nobody's access hangs: they are said, and passed over.

use core::fmt::Display;

use inborn_store::StoreError;

/// What was read; `None` if the store holds something else than what was ever written there. Only that is passed over: a store that is not
/// reached may have anything to say.
///
/// # Errors
/// The store's others.
pub(crate) fn pass_over<T>(
    what: &'static str,
    id: impl Display,
    read: Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Corrupt(why)) => {
            tracing::error!(
                what,
                %id,
                why,
                "a record cannot be read and is passed over: what others change of it is not known here. Keep a copy of the database, mend \
                 or delete the record, or restore a backup, and start this server again"
            );
            Ok(None)
        }
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_passed_over() {
        assert_eq!(pass_over("a node", 1, Ok(7)), Ok(Some(7)));
        assert_eq!(pass_over::<u8>("a node", 1, Err(StoreError::Corrupt("bits".to_owned()))), Ok(None));
        for error in [StoreError::Busy, StoreError::Closed, StoreError::Unavailable(String::new())] {
            assert_eq!(pass_over::<u8>("a node", 1, Err(error.clone())), Err(error));
        }
    }
}
