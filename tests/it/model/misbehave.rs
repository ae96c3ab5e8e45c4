//! Lost replies, calls that come twice or too late, and workers that do what they should not.

use orchestrator::Ticket;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::random::Owned;
use super::reference::Place;
use super::world::{QUEUES, World};

impl World {
    /// A call runs, or does not, and its answer never comes.
    pub(crate) async fn lose_a_reply(&mut self, worker: usize) {
        let generation = self.hands[worker].generation();
        let late = self.ends(worker);
        match self.rng.random_range(0..5) {
            0 => self.log.say("  (a call that never arrives)".into()),
            1 => {
                if let Some(holding) = self.take_any(worker) {
                    self.retry(worker, None, &holding, 10).await;
                    self.hands[worker].dismiss(holding);
                }
            }
            _ => {
                self.log.say("  (the answer is lost)".into());
                let (want, queues) = (self.want(), self.some_of(&QUEUES));
                drop(self.step(worker, None, &late, want, &queues, None).await);
            }
        }
        if !self.hands[worker].alive {
            return;
        }
        self.reconcile(worker, None, &late).await;
        if self.rng.random_bool(0.5) {
            self.log.say("  (a delayed call arrives)".into());
            let (want, queues) = (self.want(), self.some_of(&QUEUES));
            self.step(worker, Some(generation), &late, want, &queues, None).await;
        }
        // What was not heard of is sent once more, under the new generation.
        self.step(worker, None, &late, 0, &[], None).await;
    }

    /// What no worker should do, and some will.
    pub(crate) async fn misbehave(&mut self) {
        let n = self.hands.len();
        let worker = self.rng.random_range(n.saturating_sub(8)..n);
        let other = self.rng.random_range(n.saturating_sub(8)..n);
        let queues = self.some_of(&QUEUES);
        match self.rng.random_range(0..9) {
            // A finish sent before comes again, from its worker or from another.
            0 | 1 => {
                let sent: Vec<Owned> = self.sent.iter().cloned().collect();
                let Some((owner, end)) = sent.choose(&mut self.rng).cloned() else { return };
                let worker = if self.rng.random_bool(0.7) { owner } else { worker };
                self.step(worker, None, &[end], 0, &[], None).await;
            }
            // Claims let go of before are let go of again.
            2 | 3 => {
                let owners: Vec<usize> = (0..n).rev().filter(|w| !self.hands[*w].past.is_empty()).take(6).collect();
                let Some(owner) = owners.choose(&mut self.rng).copied() else { return };
                let Some(holding) = self.hands[owner].past.pop_front() else { return };
                let actor = if self.rng.random_bool(0.8) { owner } else { worker };
                match self.rng.random_range(0..7) {
                    4 | 5 => {
                        let wait = self.waiting(&holding);
                        self.park(actor, None, &holding, &wait).await;
                    }
                    6 => {
                        let (name, entry) = self.noted();
                        let tells = self.tells(&holding);
                        self.note(actor, None, &holding, (&name, &entry), &tells).await;
                    }
                    0 => self.retry(actor, None, &holding, 5).await,
                    1 => self.shelve(actor, None, &holding).await,
                    2 => self.release(actor, None, &[holding.ticket()]).await,
                    _ => {
                        let end = self.finish(holding);
                        self.step(actor, None, &[end], 0, &[], None).await;
                    }
                }
            }
            // Tickets that were never handed out, or to another.
            4 => {
                let held: Vec<Ticket> =
                    self.model.live().filter(|e| e.place != Place::Held { worker }).map(|e| e.ticket()).collect();
                let mut tickets: Vec<Ticket> = held.choose_multiple(&mut self.rng, 2).copied().collect();
                let own: Vec<Ticket> = self.model.held(worker);
                tickets.extend(own.first().map(|t| Ticket { epoch: t.epoch + 1, ..*t }));
                tickets.extend(own.last().map(|t| Ticket { epoch: t.epoch.wrapping_sub(1), ..*t }));
                self.release(worker, None, &tickets).await;
            }
            // A call of another generation.
            5 => {
                let present = self.hands[worker].generation();
                let choices: Vec<u64> =
                    [1, present - 1, present + 1].into_iter().filter(|generation| *generation != present).collect();
                let generation = choices[self.rng.random_range(0..choices.len())];
                let late = self.ends(worker);
                match (self.rng.random_range(0..7), self.take_any(worker)) {
                    (5, Some(holding)) => {
                        let wait = self.waiting(&holding);
                        self.park(worker, Some(generation), &holding, &wait).await;
                        self.give(worker, Some(vec![holding]));
                    }
                    (6, Some(holding)) => {
                        let (name, entry) = self.noted();
                        let tells = self.tells(&holding);
                        self.note(worker, Some(generation), &holding, (&name, &entry), &tells).await;
                        self.give(worker, Some(vec![holding]));
                    }
                    (0, Some(holding)) => {
                        self.retry(worker, Some(generation), &holding, 5).await;
                        self.give(worker, Some(vec![holding]));
                    }
                    (1, Some(holding)) => {
                        self.shelve(worker, Some(generation), &holding).await;
                        self.give(worker, Some(vec![holding]));
                    }
                    (2, Some(holding)) => {
                        self.release(worker, Some(generation), &[holding.ticket()]).await;
                        self.give(worker, Some(vec![holding]));
                    }
                    (_, holding) => {
                        self.give(worker, Some(holding.into_iter().collect()));
                        self.step(worker, Some(generation), &late, 3, &queues, None).await;
                    }
                }
                self.step(worker, None, &late, 0, &[], None).await;
            }
            // One finish twice in one step; or two ends of one claim.
            6 => {
                let Some(holding) = self.take_any(worker) else { return };
                let twin = holding.twin();
                let (end, other) = (self.finish(holding), self.finish(twin));
                self.keep((worker, end.clone()));
                self.step(worker, None, &[end.clone(), other, end], 0, &[], None).await;
            }
            // Another's claim is finished, before its owner does.
            7 => {
                let ends = self.ends(other);
                if worker != other {
                    self.step(worker, None, &ends, 2, &[], None).await;
                }
                self.step(other, None, &ends, 0, &[], None).await;
            }
            // One that crashed was only slow.
            _ => {
                let late = self.ends(worker);
                let claims = self.step(worker, None, &late, 2, &queues, None).await;
                if self.rng.random_bool(0.5) {
                    self.give(worker, claims);
                }
                if self.hands[worker].alive {
                    self.reconcile(worker, None, &[]).await;
                }
            }
        }
    }
}
