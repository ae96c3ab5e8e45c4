//! Corners of schedules that chance alone seldom comes to.

use orchestrator::{Overlap, Status, TaskId};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::hands::Holding;
use super::reference::Place;
use super::ticks::{Making, Plan};
use super::world::World;

impl World {
    fn one_of(&mut self, wanted: impl Fn(&Plan) -> bool) -> Option<String> {
        let plans = self.model.schedules.plans.iter().filter(|(_, plan)| plan.paused.is_none() && wanted(plan));
        let names: Vec<String> = plans.map(|(name, _)| name.clone()).collect();
        names.choose(&mut self.rng).cloned()
    }

    fn last_run(&self, name: &str) -> Option<(TaskId, Status)> {
        let (_, id) = self.model.schedules.plans.get(name)?.last?;
        Some((id, self.model.known(id)?.status()))
    }

    /// The time is that of the next tick, if it is not past.
    async fn go_to_next_tick(&mut self, name: &str) {
        let next = self.model.schedules.plans.get(name).and_then(|plan| plan.next);
        if let Some(next) = next.filter(|next| *next > self.model.now) {
            self.set_time(next).await;
        }
    }

    /// The last run of a schedule is claimed, and led on; then its next tick comes.
    pub(crate) async fn lead_a_run_on(&mut self, worker: usize) {
        let ready = |id: TaskId| self.model.tasks.get(&id).is_some_and(|e| matches!(e.place, Place::Ready { .. }));
        let all = self.model.schedules.plans.iter().filter_map(|(name, plan)| Some((name.clone(), plan.last?.1)));
        let some: Vec<(String, TaskId)> = all.filter(|(_, id)| ready(*id)).collect();
        let Some((name, id)) = some.choose(&mut self.rng).cloned() else { return };
        let queue = self.model.tasks[&id].asked.queue.clone();
        let claims = self.step(worker, None, &[], 60, &[queue], None).await;
        self.give(worker, claims);
        let at = self.hands[worker].claims.iter().position(|holding: &Holding| holding.ticket().id == id);
        if let Some(at) = at {
            let holding = self.hands[worker].take(at);
            match self.rng.random_range(0..6) {
                0 => {
                    let end = self.finish(holding);
                    self.step(worker, None, &[end], 0, &[], None).await;
                }
                1 => {
                    self.retry(worker, None, &holding, 4_000_000).await;
                    self.hands[worker].dismiss(holding);
                }
                2 => {
                    self.shelve(worker, None, &holding).await;
                    self.hands[worker].dismiss(holding);
                }
                3 => self.give(worker, Some(vec![holding])),
                _ => self.wait_with(worker, holding).await,
            }
        }
        self.go_to_next_tick(&name).await;
        self.fire_due().await;
    }

    /// A run that others wait for ends, comes back to life, and ends again, while processes act on what they have read.
    pub(crate) async fn lead_to_and_fro(&mut self) {
        let Some(name) = self.one_of(|plan| !plan.waiting.is_empty()) else { return };
        self.go_to_next_tick(&name).await;
        let due = self.see_schedule(&name).await.expect("a schedule");
        let Some((id, status)) = self.last_run(&name) else { return };
        if !status.is_terminal() {
            self.cancel(id).await;
        }
        if self.rng.random_bool(0.3) {
            self.act_on(&due).await;
        }
        let ended = self.see_schedule(&name).await.expect("a schedule");
        self.revive(id).await;
        if self.rng.random_bool(0.5) {
            self.act_on(&ended).await;
        }
        let alive = self.see_schedule(&name).await.expect("a schedule");
        self.cancel(id).await;
        self.act_on(&alive).await;
        self.fire_due().await;
    }

    /// A schedule is removed and made again, and the clock steps back: a tick comes that has come.
    pub(crate) async fn begin_again(&mut self) {
        let recent = self.model.now.saturating_sub(20_000);
        let Some(name) = self.one_of(|plan| plan.last.is_some_and(|(tick, _)| tick > recent)) else { return };
        let plan = self.model.schedules.plans[&name].clone();
        let (Some((tick, _)), overlaps) = (plan.last, [plan.making.overlap, Overlap::Queue]) else { return };
        self.remove_schedule(&name).await;
        self.set_time(tick - 1).await;
        let unique = plan.making.asked.unique.is_some();
        let overlap = if unique { plan.making.overlap } else { overlaps[self.rng.random_range(0..2)] };
        self.put_this(&name, &Making { overlap, ..plan.making }, None).await;
        self.go_to_next_tick(&name).await;
        self.fire_due().await;
    }
}
