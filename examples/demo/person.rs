//! The people of the demo: whoever sits at the terminal, else a second identity.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use orchestrator_worker::{Approval, Approver, Ballot, Error, Orchestrator};

use crate::Failure;
use crate::told::Told;

/// Who decides when nobody sits there.
const REVIEWER: &str = "reviewer";

/// Time between two looks at what waits.
const BEAT: Duration = Duration::from_millis(30);

/// Decides on whatever is asked, as long as the demo lasts: at the second look, so that whoever watches has seen it wait.
pub(crate) async fn decide(orch: &Orchestrator, told: &Told) -> Result<(), Failure> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut seen = Vec::new();
    loop {
        for approval in orch.approvals_pending(0, 10).await?.approvals {
            if !seen.contains(&approval.approval_id) {
                seen.push(approval.approval_id);
                continue;
            }
            let ballot =
                if terminal { ask(approval.clone()).await? } else { Ballot::approve(Approver::named(REVIEWER)) };
            match orch.decide(approval.approval_id, &ballot.shown(&approval.payload_hash)).await {
                Ok(_) if terminal => {}
                Ok(_) => told.note(format!("            {REVIEWER} approves: {}", words(&approval))),
                // Somebody was quicker, or it was called off.
                Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        tokio::time::sleep(BEAT).await;
    }
}

fn words(approval: &Approval) -> String {
    let question = if approval.question.is_empty() { &approval.reason } else { &approval.question };
    format!("{} ({question})", approval.task_type)
}

/// Asks whoever sits at the terminal.
async fn ask(approval: Approval) -> Result<Ballot, Failure> {
    let answer = tokio::task::spawn_blocking(move || {
        let mut out = std::io::stdout().lock();
        let shown = serde_json::to_string_pretty(&approval.shown).unwrap_or_default();
        writeln!(out, "\n  {} asks for approval: {}\n{shown}", approval.task_id, words(&approval))?;
        write!(out, "  Approve? [Y/n] ")?;
        out.flush()?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await??.trim().to_lowercase();
    let name = std::env::var("USER").unwrap_or_else(|_| "you".to_owned());
    let me = Approver::named(if name == crate::scenario::SUBMITTER { "you" } else { &name });
    Ok(match answer.as_str() {
        "" | "y" | "yes" => Ballot::approve(me),
        _ => Ballot::reject(me).note("not approved at the terminal"),
    })
}
