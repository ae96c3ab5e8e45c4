//! Where a listing stands, and its text. The text is a letter and fields in between dots:
//!
//! ```text
//! l.<id>                                  live tasks below this id
//! c.<id>.<slice>.<place>.<last>           the same, within a slice too large to be sorted
//! r.<ms>.<seq>.<done>                     ended tasks by the event stream, from this entry on, `done` of it are told
//! x.<until>.<ms>.<id>                     dead letters that failed until `until`, below this failure
//! d.<until>.<bucket>.<place>.<last>       buckets of what ended until `until`, from this one on
//! ```
//!
//! *Place* is where a step through a hash starts, *last* the id after which the step is to be taken up again; it is the
//! top id when nothing of the step is told.

use std::fmt;
use std::str::FromStr;

use crate::store::{EntryId, Slice};
use crate::{Error, Result, TaskId};

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Live tasks with smaller ids.
    Live { below: TaskId },
    /// Live tasks with smaller ids in one large slice, step by step.
    Crowd { below: TaskId, slice: Slice, step: Step },
    /// Ended tasks as the event stream has them, from this entry backwards; `done` tasks of the entry are told.
    Recent { entry: EntryId, done: usize },
    /// Dead letters that failed until the millisecond `until`, below (millisecond, id).
    Dead { until: u64, below: (u64, TaskId) },
    /// Other tasks that ended until `until`, from this bucket on.
    Bucket { until: u64, number: u64, step: Step },
}

/// A step through a hash: the ids at one place of it, in falling order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) place: u64,
    /// Only smaller ids of this step are still to be told.
    pub(super) below: TaskId,
}

impl Step {
    /// The start of a step.
    pub(super) fn at(place: u64) -> Self {
        Self { place, below: top() }
    }
}

/// Above every id.
pub(super) fn top() -> TaskId {
    TaskId::from_bytes([u8::MAX; 14])
}

/// The smallest id of a millisecond.
pub(super) fn floor(ms: u64) -> TaskId {
    let mut bytes = [0; 14];
    bytes[..6].copy_from_slice(&ms.min((1 << 48) - 1).to_be_bytes()[2..]);
    TaskId::from_bytes(bytes)
}

/// The smallest id of a slice.
pub(super) fn slice_floor(slice: Slice) -> TaskId {
    let mut bytes = [0; 14];
    bytes[..4].copy_from_slice(&slice);
    TaskId::from_bytes(bytes)
}

/// The slice of an id.
pub(super) fn slice_of(id: TaskId) -> Slice {
    let [a, b, c, d, ..] = *id.as_bytes();
    [a, b, c, d]
}

/// The slice of the greatest id that is smaller.
pub(super) fn slice_below(id: TaskId) -> Slice {
    let slice = slice_of(id);
    let step = u32::from(id == slice_floor(slice));
    u32::from_be_bytes(slice).saturating_sub(step).to_be_bytes()
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live { below } => write!(f, "l.{below}"),
            Self::Crowd { below, slice, step } => {
                write!(f, "c.{below}.{}.{}.{}", u32::from_be_bytes(*slice), step.place, step.below)
            }
            Self::Recent { entry: (ms, seq), done } => write!(f, "r.{ms}.{seq}.{done}"),
            Self::Dead { until, below: (ms, id) } => write!(f, "x.{until}.{ms}.{id}"),
            Self::Bucket { until, number, step } => write!(f, "d.{until}.{number}.{}.{}", step.place, step.below),
        }
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        read(text).ok_or_else(|| {
            Error::invalid(format!(
                "`{}` is no cursor of a listing; give back the one that came with a page",
                crate::error::excerpt(text)
            ))
        })
    }
}

fn read(text: &str) -> Option<Position> {
    let mut parts = text.split('.');
    let kind = parts.next()?;
    let fields: Vec<&str> = parts.collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    let id = |i: usize| fields.get(i)?.parse::<TaskId>().ok();
    let step = |i: usize| Some(Step { place: number(i)?, below: id(i + 1)? });
    let (position, length) = match kind {
        "l" => (Position::Live { below: id(0)? }, 1),
        "c" => {
            let slice = u32::try_from(number(1)?).ok()?.to_be_bytes();
            (Position::Crowd { below: id(0)?, slice, step: step(2)? }, 4)
        }
        "r" => {
            let done = usize::try_from(number(2)?).ok()?;
            (Position::Recent { entry: (number(0)?, number(1)?), done }, 3)
        }
        "x" => (Position::Dead { until: number(0)?, below: (number(1)?, id(2)?) }, 3),
        "d" => (Position::Bucket { until: number(0)?, number: number(1)?, step: step(2)? }, 4),
        _ => return None,
    };
    (fields.len() == length).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_other_text_is_refused() {
        let id = TaskId::at(1_790_000_000_000);
        let positions = [
            Position::Live { below: top() },
            Position::Crowd { below: id, slice: slice_of(id), step: Step { place: u64::MAX, below: id } },
            Position::Recent { entry: (u64::MAX, u64::MAX), done: 500 },
            Position::Dead { until: 7, below: (7, id) },
            Position::Bucket { until: u64::MAX, number: 124_305, step: Step::at(96) },
        ];
        for position in positions {
            let text = position.to_string();
            assert_eq!(text.parse::<Position>().ok(), Some(position), "{text}");
            assert!(
                text.len() <= 120 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b)),
                "{text}"
            );
            assert!(text[..text.len() - 1].parse::<Position>().map_or(true, |cut| cut != position));
            assert!(format!("{text}.0").parse::<Position>().is_err());
        }
        for text in ["", "l", "l.", "l.x", "q.1", "r.1.2.-3", "d.1.2.3", "é.1"] {
            assert!(text.parse::<Position>().expect_err(text).to_string().contains("no cursor"));
        }
    }

    #[test]
    fn floors_bound_their_ids() {
        let id = TaskId::at(1_790_000_000_000);
        assert!(floor(id.created_at_ms()) <= id && id < floor(id.created_at_ms() + 1));
        let slice = slice_floor(slice_of(id));
        assert!(slice <= id && id < top());
        assert!(slice_below(id) == slice_of(id) && slice_below(slice) < slice_of(slice));
    }
}
