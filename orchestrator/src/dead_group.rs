//! Dead letters that failed alike, counted.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::dead_letters::DeadLetter;
use crate::{DeadFilter, DeadSweep, Orchestrator, Result, TaskId};

/// Groups that one call tells apart; letters of further ones are counted together.
const GROUPS_MAX: usize = 10_000;
/// Characters of the example.
const EXAMPLE_MAX: usize = 500;

/// Failures that are alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct DeadGroup {
    /// What they have in common; see [`fingerprint`](crate::fingerprint).
    pub fingerprint: String,
    /// How many of them are kept.
    pub count: u64,
    /// The type of the tasks.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Why they ended: `retries`, `fatal`, `poison` …
    pub reason: Option<String>,
    /// When the first of them failed.
    pub first_at: DateTime<Utc>,
    /// When the last of them failed.
    pub last_at: DateTime<Utc>,
    /// The error of the last one, 500 characters of it at most.
    pub error: String,
    /// The last one.
    pub task_id: TaskId,
}

/// Dead letters by what they have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadGroups {
    /// The largest group first, of two the one that was seen last.
    pub groups: Vec<DeadGroup>,
    /// Letters in all groups.
    pub letters: u64,
    /// Letters that belong to further groups, beyond the 10,000 that are told apart.
    pub others: u64,
    /// Whether all letters were looked at.
    pub complete: bool,
}

impl Orchestrator {
    /// Groups dead letters by fingerprint. Only the patience of `sweep` counts. `progress` is told how many letters were looked
    /// at, of how many.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a filter that means nothing; [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn dead_groups(
        &self,
        filter: &DeadFilter,
        sweep: &DeadSweep,
        progress: impl FnMut(u64, u64),
    ) -> Result<DeadGroups> {
        let (mut groups, mut told) = (HashMap::new(), DeadGroups::default());
        told.complete =
            self.each_dead(filter, sweep.patience, |letter| add(&mut groups, &mut told, letter), progress).await?;
        told.groups = groups.into_values().collect();
        told.groups.sort_by(|a, b| (b.count, b.last_at, &a.fingerprint).cmp(&(a.count, a.last_at, &b.fingerprint)));
        Ok(told)
    }
}

/// Letters come newest first.
fn add(groups: &mut HashMap<String, DeadGroup>, told: &mut DeadGroups, letter: DeadLetter) {
    let DeadLetter { died_at, fingerprint, task, .. } = letter;
    if let Some(group) = groups.get_mut(&fingerprint) {
        group.count += 1;
        group.first_at = group.first_at.min(died_at);
    } else if groups.len() < GROUPS_MAX {
        let group = DeadGroup {
            fingerprint: fingerprint.clone(),
            count: 1,
            task_type: task.task_type,
            reason: task.reason,
            first_at: died_at,
            last_at: died_at,
            error: task.error.unwrap_or_default().chars().take(EXAMPLE_MAX).collect(),
            task_id: task.task_id,
        };
        groups.insert(fingerprint, group);
    } else {
        told.others += 1;
    }
    told.letters += 1;
}
