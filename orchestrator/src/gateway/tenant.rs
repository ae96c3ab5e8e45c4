//! Who sees and changes what: a caller with a tenant, only what belongs to it. All else is not there for him.
//!
//! Every route with the id of a task or an approval asks here first: [`Gateway::task_of`] reads the task, [`Gateway::check_task`]
//! only judges; so do [`Gateway::approval_of`] and [`Gateway::check_approval`]. Figures of the whole namespace are for
//! [`see_all`].

use std::ops::Range;

use axum::http::StatusCode;

use super::{Caller, Gateway, Problem};
use crate::{APPROVALS_MAX, Approval, ApprovalId, Error, Result, Task, TaskId};

/// Approvals looked at for one list of a tenant.
const LOOKED_AT_MAX: usize = 10 * APPROVALS_MAX;

/// One list of approvals.
pub(super) struct Approvals {
    /// How many there are for this caller; `None` when not all were looked at.
    pub(super) total: Option<u64>,
    pub(super) approvals: Vec<Approval>,
}

/// Which approvals are listed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Pending,
    History,
}

impl Caller {
    /// Whether what belongs to `tenant`, or to none, is there for him.
    pub(super) fn sees(&self, tenant: Option<&str>) -> bool {
        self.tenant.is_none() || self.tenant.as_deref() == tenant
    }
}

/// Refuses a caller who sees one tenant only what tells of all.
pub(super) fn see_all(caller: &Caller) -> Result<(), Problem> {
    match &caller.tenant {
        None => Ok(()),
        Some(tenant) => {
            let said = format!(
                "this tells of all tenants; {} belongs to the tenant {tenant} and sees that alone",
                caller.name
            );
            Err(Problem::new(StatusCode::FORBIDDEN, said))
        }
    }
}

impl Gateway {
    /// The task, when it is there for this caller.
    pub(super) async fn task_of(&self, caller: &Caller, id: TaskId) -> Result<Task, Problem> {
        let task = self.ask(self.orch.get(id)).await?;
        match caller.sees(task.tenant.as_deref()) {
            true => Ok(task),
            // In the words for a task that nobody knows.
            false => Err(Error::NotFound { what: format!("task {id}") }.into()),
        }
    }

    /// Refuses a task that is not there for this caller. Asks Redis only about callers with a tenant: for routes that find out
    /// by themselves whether the task is known.
    pub(super) async fn check_task(&self, caller: &Caller, id: TaskId) -> Result<(), Problem> {
        match &caller.tenant {
            None => Ok(()),
            Some(_) => self.task_of(caller, id).await.map(drop),
        }
    }

    /// The approval, when it is there for this caller: when its task is.
    pub(super) async fn approval_of(&self, caller: &Caller, id: ApprovalId) -> Result<Approval, Problem> {
        let approval = self.ask(self.orch.approval(id)).await?;
        match caller.sees(approval.tenant.as_deref()) {
            true => Ok(approval),
            false => Err(Error::NotFound { what: id.to_string() }.into()),
        }
    }

    /// As [`Gateway::check_task`], of an approval.
    pub(super) async fn check_approval(&self, caller: &Caller, id: ApprovalId) -> Result<(), Problem> {
        match &caller.tenant {
            None => Ok(()),
            Some(_) => self.approval_of(caller, id).await.map(drop),
        }
    }

    /// The approvals of `range`, counted in those that are there for this caller, newest first. Of a tenant's, only those are
    /// found that are among the newest [`LOOKED_AT_MAX`] of the namespace.
    pub(super) async fn approvals_of(
        &self,
        caller: &Caller,
        which: Which,
        range: Range<usize>,
    ) -> Result<Approvals, Problem> {
        let read = async |skip, limit| match which {
            Which::Pending => self.ask(self.orch.approvals_pending(skip, limit)).await,
            Which::History => self.ask(self.orch.approvals_history(skip, limit)).await,
        };
        if caller.tenant.is_none() {
            let page = read(range.start, range.len()).await?;
            return Ok(Approvals { total: Some(page.total), approvals: page.approvals });
        }
        let (mut found, mut approvals) = (0, Vec::new());
        for skip in (0..LOOKED_AT_MAX).step_by(APPROVALS_MAX) {
            let page = read(skip, APPROVALS_MAX).await?;
            for approval in page.approvals {
                if caller.sees(approval.tenant.as_deref()) {
                    if range.contains(&found) {
                        approvals.push(approval);
                    }
                    found += 1;
                }
            }
            if page.total <= (skip + APPROVALS_MAX) as u64 {
                return Ok(Approvals { total: Some(found as u64), approvals });
            }
            if found >= range.end {
                break;
            }
        }
        Ok(Approvals { total: None, approvals })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Role;

    #[test]
    fn a_tenant_sees_its_own_and_who_has_none_sees_all() {
        let caller = |tenant: Option<&str>| Caller {
            name: "ada".into(),
            role: Role::Admin,
            groups: Vec::new(),
            tenant: tenant.map(Into::into),
        };
        for (own, of, sees) in [
            (None, None, true),
            (None, Some("acme"), true),
            (Some("acme"), Some("acme"), true),
            (Some("acme"), Some("acme2"), false),
            (Some("acme"), None, false),
        ] {
            assert_eq!(caller(own).sees(of), sees, "{own:?} {of:?}");
        }
        assert!(see_all(&caller(None)).is_ok() && see_all(&caller(Some("acme"))).is_err());
    }
}
