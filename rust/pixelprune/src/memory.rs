//! Fallible allocation. Every allocation whose size depends on the input is made here.

use crate::error::{Error, Result};

fn refused<T>(length: usize) -> Error {
    Error::Memory { bytes: length.saturating_mul(size_of::<T>()) }
}

/// An empty vector with room for `length` items.
pub(crate) fn with_room<T>(length: usize) -> Result<Vec<T>> {
    let mut items = Vec::new();
    match items.try_reserve_exact(length) {
        Ok(()) => Ok(items),
        Err(_) => Err(refused::<T>(length)),
    }
}

/// `length` copies of a value.
pub(crate) fn filled<T: Clone>(value: T, length: usize) -> Result<Vec<T>> {
    let mut items = with_room(length)?;
    items.resize(length, value);
    Ok(items)
}

/// Resizes a vector to `length`; new items are copies of a value.
pub(crate) fn resize<T: Clone>(items: &mut Vec<T>, length: usize, value: T) -> Result<()> {
    reserve(items, length.saturating_sub(items.len()))?;
    items.resize(length, value);
    Ok(())
}

/// Makes room for `more` items.
pub(crate) fn reserve<T>(items: &mut Vec<T>, more: usize) -> Result<()> {
    items.try_reserve(more).map_err(|_| refused::<T>(items.len().saturating_add(more)))
}

/// Collects an iterator.
pub(crate) fn collected<T>(iterator: impl Iterator<Item = T>) -> Result<Vec<T>> {
    let mut items = with_room(iterator.size_hint().0)?;
    for item in iterator {
        if items.len() == items.capacity() {
            reserve(&mut items, 1)?;
        }
        items.push(item);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_an_error() {
        let bytes = usize::MAX / 2 * 2;
        assert_eq!(with_room::<u16>(usize::MAX / 2), Err(Error::Memory { bytes }));
        assert_eq!(filled(0u16, usize::MAX / 2), Err(Error::Memory { bytes }));
        assert_eq!(filled(0u16, usize::MAX), Err(Error::Memory { bytes: usize::MAX }));
        assert!(resize(&mut vec![1u8], usize::MAX, 0).is_err());
        assert!(reserve(&mut vec![1u8], usize::MAX).is_err());
        assert!(collected((0..u64::MAX).map(|_| [0u8; 64])).is_err());
    }

    #[test]
    fn iterators_of_unknown_length_are_collected_whole() {
        assert_eq!(collected((0..100).filter(|i| i % 3 == 0)).unwrap().len(), 34);
    }
}
