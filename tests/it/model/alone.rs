//! How the model keeps tasks alone: one live holder a key, until it is begun or has ended.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::TaskId;
use sha2::{Digest as _, Sha256};

use super::reference::{Asked, Reference};
use super::state::Dump;

/// What stands for a key.
pub(crate) type Digest = [u8; 16];

impl Asked {
    /// Until when it holds its key, as the scripts know it, and the key's digest: of the task's type and the key, each behind
    /// its length.
    pub(crate) fn lock(&self) -> Option<(u8, Digest)> {
        let (key, started) = self.unique?;
        let mut hasher = Sha256::new();
        for part in [self.task_type.clone(), format!("={key}")] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize()[..16].try_into().expect("a half");
        Some((if started { b's' } else { b'd' }, digest))
    }
}

impl Reference {
    /// Those of these tasks for which another is there, and which that is.
    pub(crate) fn others(&mut self, fresh: &[&Asked]) -> BTreeMap<TaskId, TaskId> {
        let (mut mine, mut others) = (BTreeMap::new(), BTreeMap::new());
        for asked in fresh {
            let Some((_, digest)) = asked.lock() else { continue };
            match (mine.get(&digest), self.locks.get(&digest)) {
                (Some(first), _) => {
                    others.insert(asked.id, *first);
                    self.meet("a key was given twice in one call", ());
                }
                (None, Some(holder)) => {
                    others.insert(asked.id, *holder);
                    self.meet("a key was taken", ());
                }
                (None, None) => drop(mine.insert(digest, asked.id)),
            }
        }
        others
    }

    /// An attempt of it begins (`s`), or it has ended (`d`).
    pub(crate) fn unlock(&mut self, id: TaskId, at: u8) {
        let Some((mode, digest)) = self.tasks[&id].asked.lock() else { return };
        if self.locks.get(&digest) == Some(&id) && (at == b'd' || mode == b's') {
            self.locks.remove(&digest);
            let what =
                if at == b's' { "a key was free when its task began" } else { "a key was free when its task ended" };
            self.meet(what, ());
        }
    }
}

/// Each key has one live holder, which knows of it, counted on Redis alone; `flags` are those of the live tasks.
pub(crate) fn no_orphans(dump: &Dump, flags: &BTreeMap<&[u8], u16>) {
    let nothing = BTreeMap::new();
    let locks = dump.get(b"l".as_slice()).unwrap_or(&nothing);
    let held: BTreeSet<(&[u8], &[u8])> =
        locks.iter().filter(|(field, _)| field.len() == 16).map(|(digest, id)| (id.as_slice(), &digest[..])).collect();
    let known: BTreeSet<(&[u8], &[u8])> = locks
        .iter()
        .filter(|(field, _)| field.len() == 14)
        .flat_map(|(id, keys)| keys.chunks(17).map(|key| (id.as_slice(), &key[1..])))
        .collect();
    assert_eq!(held, known, "who holds a key, and what they hold");
    for (id, _) in held {
        let flags = flags.get(id).copied();
        assert!(flags.is_some_and(|flags| flags & 4096 != 0), "{} holds a key: {flags:?}", id.escape_ascii());
    }
}
