//! The audit: who decided what, appended only, each entry carrying the hash of the one before it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::approval::ApprovalId;
use crate::store::Fields;
use crate::task::instant;

/// One entry of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its number, from 1, without a gap.
    pub number: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// `requested`, `vote`, `approved`, `rejected`, `timeout`, `cancelled`, `delegated`, `escalated` or `retried`.
    pub op: String,
    /// What it was about; for `retried` the gate's id names the task.
    pub approval_id: ApprovalId,
    /// Who; empty where nobody acted.
    pub who: String,
    /// The note, the reason, or whom it was delegated to.
    pub note: String,
    /// SHA-256 of what was shown.
    pub payload_hash: String,
    /// SHA-256 over the hash of the entry before and all of the above.
    pub hash: String,
}

/// What a check of the audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditVerdict {
    /// Entries looked at.
    pub entries: u64,
    /// Number of the first that is still kept; more than 1 when older ones were dropped at the bound.
    pub first: u64,
    /// Hash of the last entry: keep it elsewhere, and a cut at the end will show too.
    pub head: String,
    /// The first fault, if there is one.
    pub fault: Option<String>,
}

/// Walks over the audit and proves the chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    entries: u64,
    first: u64,
    last: u64,
    head: String,
    fault: Option<String>,
}

impl Chain {
    /// Looks at the next entry as it is stored.
    pub(crate) fn next(&mut self, stored: &str, fields: &Fields) -> Option<AuditEntry> {
        let field = |name: &[u8]| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice()).unwrap_or_default();
        let text = |name: &[u8]| String::from_utf8_lossy(field(name)).into_owned();
        let names: [&[u8]; 8] = [b"n", b"t", b"op", b"id", b"no", b"who", b"note", b"hash"];
        let number = text(b"n").parse::<u64>().unwrap_or(0);
        let hash = text(b"h");
        let (whole, before) = (fields.len() == 10 && number > 0, text(b"before"));
        if self.fault.is_none() {
            if self.entries == 0 {
                // What came before was dropped at the bound: the entry says itself what it follows.
                self.first = number;
                self.head.clone_from(&before);
            } else if number != self.last + 1 {
                self.fault =
                    Some(format!("after entry {} comes entry {number}: something was taken out or put in", self.last));
            }
            let sealed =
                before == self.head && hash == seal(&before, names.map(field)) && (number > 1 || before.is_empty());
            if self.fault.is_none() && (!whole || !sealed) {
                self.fault =
                    Some(format!("entry {number} (stored as {stored}) does not match its hash: it was changed"));
            }
        }
        self.entries += 1;
        self.last = number;
        self.head.clone_from(&hash);
        let mut id = field(b"id").to_vec();
        id.extend(text(b"no").parse::<u16>().unwrap_or(0).to_be_bytes());
        Some(AuditEntry {
            number,
            at: instant(text(b"t").parse().unwrap_or(0)),
            op: text(b"op"),
            approval_id: ApprovalId::from_slice(&id)?,
            who: text(b"who"),
            note: text(b"note"),
            payload_hash: text(b"hash"),
            hash,
        })
    }

    /// `bound` is how many entries are kept at least before older ones are dropped.
    pub(crate) fn verdict(self, bound: u64) -> AuditVerdict {
        let early = self.first > 1 && self.entries < bound;
        let cut = early.then(|| {
            format!(
                "the entries before {} are gone, and only {} are kept where {bound} may be",
                self.first, self.entries
            )
        });
        AuditVerdict { entries: self.entries, first: self.first, head: self.head, fault: self.fault.or(cut) }
    }
}

/// The hash of an entry: over the one before it and its values, each after its length and a colon.
fn seal(before: &str, values: [&[u8]; 8]) -> String {
    let mut digest = Sha256::new();
    for value in std::iter::once(before.as_bytes()).chain(values) {
        digest.update(format!("{}:", value.len()));
        digest.update(value);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
