//! The live tasks, newest first, over the slices of 65 seconds of creation in which they lie.

use super::Reader;
use super::cursor::{Position, Step, slice_below, slice_floor, slice_of};
use crate::store::{Hash, Place, Slice};
use crate::{Result, Status, TaskId};

/// Slices asked for at once.
const SLICES: usize = 64;
/// Tasks in a slice up to which it is sorted.
const SORTED_MAX: usize = 10_000;

/// Those of `ids` in between, newest first, each once.
pub(super) fn falling(mut ids: Vec<TaskId>, oldest: TaskId, below: TaskId) -> Vec<TaskId> {
    ids.retain(|id| (oldest..below).contains(id));
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.dedup();
    ids
}

/// The id below which to go on when `done` of `ids` are dealt with.
pub(super) fn below_last(ids: &[TaskId], done: usize, before: TaskId) -> TaskId {
    done.checked_sub(1).map_or(before, |last| ids[last])
}

impl Reader<'_> {
    /// Tells live tasks below an id.
    pub(super) async fn live(&mut self, below: TaskId) -> Result<Option<Position>> {
        let oldest = self.filter.oldest();
        if self.filter.statuses == [Status::InProgress] {
            // What runs is few and listed by worker; the slices may hold millions that wait.
            let ids = falling(self.store.held_ids().await?, oldest, below);
            let done = self.take(&ids, Place::Live, |_, _| true).await?;
            return Ok((done < ids.len()).then(|| Position::Live { below: below_last(&ids, done, below) }));
        }
        let slices = self.store.slices(slice_below(below), slice_of(oldest), SLICES).await?;
        let more = slices.len() == SLICES;
        let mut below = below;
        for slice in slices {
            self.spend(1);
            match self.store.slice_length(slice).await? {
                0 => {}
                length if length > SORTED_MAX => return Ok(Some(Position::Crowd { below, slice, step: Step::at(0) })),
                _ => {
                    let ids = falling(self.store.slice_ids(slice).await?, oldest, below);
                    let done = self.take(&ids, Place::Live, |_, _| true).await?;
                    if done < ids.len() {
                        return Ok(Some(Position::Live { below: below_last(&ids, done, below) }));
                    }
                }
            }
            below = below.min(slice_floor(slice));
        }
        Ok(if more { Some(Position::Live { below }) } else { self.behind_live() })
    }

    /// Tells live tasks below an id that lie in one large slice.
    pub(super) async fn crowd(&mut self, below: TaskId, slice: Slice, step: Step) -> Result<Option<Position>> {
        let (next, ids) = self.store.hash_step(Hash::Slice(slice), step.place).await?;
        self.spend(1);
        let ids = falling(ids, self.filter.oldest(), below.min(step.below));
        let done = self.take(&ids, Place::Live, |_, _| true).await?;
        Ok(Some(if done < ids.len() {
            Position::Crowd { below, slice, step: Step { below: below_last(&ids, done, step.below), ..step } }
        } else if next > 0 {
            Position::Crowd { below, slice, step: Step::at(next) }
        } else {
            Position::Live { below: below.min(slice_floor(slice)) }
        }))
    }
}
