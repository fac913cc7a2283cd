//! Keys and their places: the first one is at 0.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::Row;
use crate::row::hash;

/// The keys seen so far, in the order in which they came.
///
/// A feed lists its stations in one order, snapshot after snapshot: the key that followed the last time is looked at
/// before anything is hashed.
#[derive(Debug, Default)]
pub struct Places {
    keys: Vec<Row>,
    table: HashTable<u32>,
    /// After the last one found.
    next: usize,
}

impl Places {
    /// The place of the key with these bytes; a new one takes the next that is free.
    #[inline]
    pub fn of(&mut self, bytes: &[u8]) -> u32 {
        if self.next == self.keys.len() {
            self.next = 0;
        }
        let place = match self.keys.get(self.next) {
            Some(key) if key.as_slice() == bytes => self.next as u32,
            _ => self.find(bytes),
        };
        self.next = place as usize + 1;
        place
    }

    fn find(&mut self, bytes: &[u8]) -> u32 {
        let keys = &mut self.keys;
        let equal = |place: &u32| keys[*place as usize].as_slice() == bytes;
        match self.table.entry(hash(bytes), equal, |place| keys[*place as usize].route()) {
            Entry::Occupied(held) => *held.get(),
            Entry::Vacant(free) => {
                let place = keys.len() as u32;
                free.insert(place);
                keys.push(Row::new(bytes));
                place
            }
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, which are forgotten.
    pub fn take(&mut self) -> Vec<Row> {
        self.table.clear();
        self.next = 0;
        std::mem::take(&mut self.keys)
    }

    /// The keys, by place.
    pub fn keys(&self) -> &[Row] {
        &self.keys
    }

    /// Bytes held, but for those of the keys.
    pub fn size(&self) -> usize {
        self.keys.capacity() * size_of::<Row>() + self.table.capacity() * 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_place_in_whatever_order_it_comes() {
        let mut places = Places::default();
        let mut of = |keys: &str| keys.bytes().map(|key| places.of(&[key])).collect::<Vec<_>>();
        assert_eq!(of("abcabc"), [0, 1, 2, 0, 1, 2]);
        assert_eq!(of("cbad"), [2, 1, 0, 3]);
        assert_eq!(of("dabce"), [3, 0, 1, 2, 4]);
        assert_eq!(places.take().len(), 5);
        assert_eq!((places.of(b"e"), places.of(b"e"), places.len()), (0, 0, 1));
    }
}
