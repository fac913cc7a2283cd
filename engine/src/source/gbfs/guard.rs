//! Doubt: a listing that lost most of its stations at once is more often a fault than a fact.

use arrow::array::{AsArray, RecordBatch};
use hashbrown::HashSet;
use velib_operators::row;

use crate::source::Rejection;

/// So many doubtful listings in a row are believed.
const BELIEVED: u32 = 3;

/// Holds back listings that lost more than a share of the stations of the last one that was believed.
#[derive(Debug)]
pub(super) struct Guard {
    share: f64,
    believed: HashSet<u64>,
    doubted: u32,
}

impl Guard {
    /// Believes the first listing.
    pub(super) fn new(share: f64) -> Self {
        Guard { share, believed: HashSet::new(), doubted: 0 }
    }

    /// Whether the listing may be believed; it is the new measure then.
    ///
    /// # Errors
    /// Why it is held back.
    pub(super) fn check(&mut self, listing: &RecordBatch) -> Result<(), String> {
        let ids: HashSet<u64> = hashes(listing).collect();
        let before = self.believed.len();
        let lost = before - self.believed.intersection(&ids).count();
        self.doubted += 1;
        if lost as f64 > before as f64 * self.share && self.doubted < BELIEVED {
            let (doubted, listed) = (self.doubted, ids.len());
            return Err(format!(
                "held back: {lost} of {before} stations are gone at once, {listed} are listed; \
                 believed if it is so {BELIEVED} times in a row (this is {doubted})"
            ));
        }
        self.doubted = 0;
        self.believed = ids;
        Ok(())
    }

    /// The stations of `listing` that the last believed one does not have.
    pub(super) fn unknown<'a>(&'a self, listing: &'a RecordBatch) -> impl Iterator<Item = u64> + 'a {
        hashes(listing).filter(|id| !self.believed.contains(id))
    }
}

/// Hashes of the ids: enough to tell stations apart, for a threshold.
fn hashes(listing: &RecordBatch) -> impl Iterator<Item = u64> + '_ {
    listing.column(0).as_string::<i32>().iter().flatten().map(|id| row::hash(id.as_bytes()))
}

/// Faults that stand from one document to the next are told once, when they begin.
#[derive(Debug, Default)]
pub(super) struct Standing(HashSet<u64>);

impl Standing {
    /// Leaves what the document before did not have.
    pub(super) fn news(&mut self, rejections: Vec<Rejection>) -> Vec<Rejection> {
        let mut standing = HashSet::with_capacity(rejections.len());
        let mut news = rejections;
        news.retain(|rejection| {
            let fault = row::hash(format!("{}\0{}", rejection.relation, rejection.reason).as_bytes());
            standing.insert(fault);
            !self.0.contains(&fault)
        });
        self.0 = standing;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use std::sync::Arc;

    fn listing(ids: std::ops::Range<u32>) -> RecordBatch {
        let ids = StringArray::from_iter_values(ids.map(|id| id.to_string()));
        RecordBatch::try_from_iter([("station_id", Arc::new(ids) as _)]).unwrap()
    }

    #[test]
    fn what_lost_most_is_believed_the_third_time() {
        let mut guard = Guard::new(0.5);
        for (ids, believed) in [
            (0..10, true),
            (0..5, true),
            (0..2, false),
            (0..2, false),
            (0..5, true),
            (0..2, false),
            (0..1, false),
            (0..2, true),
            // Others, though as many.
            (5..7, false),
        ] {
            assert_eq!(guard.check(&listing(ids.clone())).is_ok(), believed, "{ids:?}");
        }
        assert!(Guard::new(1.0).check(&listing(0..0)).is_ok());
    }
}
