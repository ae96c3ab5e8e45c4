//! Who puts something out bit by bit, who reads it, and who is told of it.

use std::collections::BTreeSet;

use orchestrator::{ChunkBatch, Error, Incarnation, PackedChunk, TaskId};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::bytes::id_bytes;
use super::hands::Holding;
use super::outputs::{Piece, Sending, Standing, note_bytes};
use super::reference::Place;
use super::world::World;

/// Who reads; whose name does not end with `.o` waits for the end alone.
const INBOXES: [&str; 4] = ["r1.o", "r2.o", "r3.o", "w1"];
/// How long a piece is of which a few are too many, in bytes.
const LONG: usize = 60_000;
/// Chunks that may be kept, but for a few.
const NEARLY_ALL: u64 = 9_990;

impl World {
    /// Something is put out, or read.
    pub(crate) async fn see_to_output(&mut self) {
        match self.rng.random_range(0..100) {
            0..45 => self.put_something_out().await,
            45..52 => self.put_out_too_late().await,
            52..54 => self.flood().await,
            54..56 => self.lose_output().await,
            56..78 => self.read_output().await,
            78..84 => {
                let told: Vec<TaskId> = self.model.outputs.told.keys().copied().collect();
                let any = self.any_task();
                let id = told.choose(&mut self.rng).copied().unwrap_or(any);
                let inbox = INBOXES[self.rng.random_range(0..INBOXES.len())];
                self.hush_inbox(id, inbox).await;
            }
            84 => self.crowd_readers().await,
            _ => {
                let inbox = INBOXES[self.rng.random_range(0..INBOXES.len())];
                self.hear_inbox(inbox).await;
            }
        }
    }

    /// What a handler sends, as its worker knows it.
    fn sending(&mut self, holding: &Holding) -> Sending {
        let ticket = holding.ticket();
        let newest = self.newest(ticket.id);
        let chunks = (0..[0, 1, 1, 2, 3][self.rng.random_range(0..5)])
            .map(|_| format!("{};", self.rng.random::<u16>()))
            .collect();
        let piece = Piece { attempt: holding.claim.attempt(), epoch: ticket.epoch, name: self.rng.random(), chunks };
        let lost = [0, 0, 0, 0, 0, 2, NEARLY_ALL][self.rng.random_range(0..7)];
        Sending { piece, at: if self.rng.random_bool(0.5) { newest } else { 0 }, lost }
    }

    async fn send(&mut self, life: &Incarnation, seat: (usize, u64), holding: &Holding, sending: &Sending) {
        let name = self.names(&[holding.ticket()]);
        let (expected, worker) = (self.model.put_out(seat, holding.ticket(), sending), seat.0);
        let Sending { at, lost, .. } = sending;
        let (count, call) = (sending.piece.chunks.len(), sending.piece.name[0]);
        self.log.say(format!(
            "w{worker} at {} puts {count} out of {name} by call {call}, behind {at} and {lost} lost: {expected:?}",
            seat.1
        ));
        let packed = |chunk: &String| PackedChunk::new(chunk.into()).expect("a fair chunk").expect("something");
        let batch = ChunkBatch {
            name: sending.piece.name,
            chunks: sending.piece.chunks.iter().map(packed).collect(),
            at: sending.at,
            lost: sending.lost,
        };
        match (life.put_out(&holding.claim, &batch, None).await, expected) {
            (Ok((number, now, cancel)), Some(expected)) => {
                assert_eq!(((number, cancel), now), (expected, self.model.now), "what was put out of {name}");
            }
            (Err(Error::LeaseLost), None) => {}
            (reply, expected) => panic!("what w{worker} puts out of {name}: {reply:?}, should be {expected:?}"),
        }
    }

    /// Somebody who has a task puts something out, as far as he knows; also one who has crashed in the eyes of others. Somebody
    /// reads it as it comes.
    async fn put_something_out(&mut self) {
        let acting = self.rng.random_bool(0.8);
        let holds = |worker: &usize| !self.hands[*worker].claims.is_empty() && (self.hands[*worker].alive || !acting);
        let holders: Vec<usize> = (0..self.hands.len()).filter(holds).collect();
        let Some(worker) = holders.choose(&mut self.rng).copied() else { return };
        let at = self.rng.random_range(0..self.hands[worker].claims.len());
        let holding = self.hands[worker].claims[at].twin();
        let old = self.rng.random_bool(0.05).then(|| self.hands[worker].generation() + 1);
        let ((life, seat), id) = (self.seat(worker, old), holding.ticket().id);
        for _ in 0..self.rng.random_range(1..4) {
            let sending = self.sending(&holding);
            for _ in 0..[1, 1, 1, 2][self.rng.random_range(0..4)] {
                self.send(&life, seat, &holding, &sending).await;
            }
            match self.rng.random_range(0..4) {
                0 => self.look_at_output(id).await,
                1 => {
                    let (inbox, newest) = (INBOXES[self.rng.random_range(0..INBOXES.len())], self.newest(id));
                    self.look_from(id, newest, inbox).await;
                }
                _ => {}
            }
        }
    }

    fn newest(&self, id: TaskId) -> u64 {
        self.model.outputs.kept.get(&id).map_or(0, |output| output.newest())
    }

    /// Somebody puts something out of a task that he has let go of: it has ended, waits, or is in other hands.
    async fn put_out_too_late(&mut self) {
        let among = self.rng.random_range(0..10);
        let wanted = |holding: &Holding| {
            let place = self.model.tasks.get(&holding.ticket().id).map(|entry| &entry.place);
            match among {
                0..3 => matches!(place, Some(Place::Held { .. })),
                3..6 => matches!(place, None | Some(Place::Ended { .. })),
                _ => true,
            }
        };
        let alive = self.rng.random_bool(0.8);
        let hands = self.hands.iter().enumerate().filter(|(_, hand)| hand.alive == alive);
        let let_go = hands.flat_map(|(worker, hand)| hand.past.iter().map(move |holding| (worker, holding)));
        let some: Vec<(usize, Holding)> =
            let_go.filter(|(_, holding)| wanted(holding)).map(|(worker, holding)| (worker, holding.twin())).collect();
        let n = some.len();
        let at = (n > 0).then(|| self.rng.random_range(0..n));
        let Some((worker, holding)) = at.and_then(|at| some.into_iter().nth(at)) else { return };
        let other = self.rng.random_range(0..self.hands.len());
        let worker = if self.rng.random_bool(0.8) { worker } else { other };
        let ((life, seat), sending) = (self.seat(worker, None), self.sending(&holding));
        self.send(&life, seat, &holding, &sending).await;
    }

    /// More is put out than is kept.
    async fn flood(&mut self) {
        let acting: Vec<usize> = (0..self.hands.len())
            .filter(|worker| self.hands[*worker].alive && !self.hands[*worker].claims.is_empty())
            .collect();
        let Some(worker) = acting.choose(&mut self.rng).copied() else { return };
        let holding = self.hands[worker].claims[0].twin();
        let (life, seat) = self.seat(worker, None);
        let by_number = self.rng.random_bool(0.5);
        for n in 0..7 {
            let mut sending = self.sending(&holding);
            (sending.lost, sending.piece.chunks) = match by_number {
                true => (NEARLY_ALL / 4, vec!["x".into(); 5]),
                false => (0, vec![format!("{n}").repeat(LONG); 3]),
            };
            self.send(&life, seat, &holding, &sending).await;
        }
        self.check().await;
        self.lose(holding.ticket().id).await;
    }

    /// Redis loses an output, as it does in time.
    async fn lose_output(&mut self) {
        let kept: Vec<TaskId> = self.model.outputs.kept.keys().copied().collect();
        let Some(id) = kept.choose(&mut self.rng).copied() else { return };
        self.lose(id).await;
        self.look_at_output(id).await;
    }

    async fn lose(&mut self, id: TaskId) {
        let name = self.name(id);
        self.log.say(format!("the output of {name} is lost"));
        let key = [self.base.as_bytes(), b"p:", &id_bytes(id)].concat();
        redis::cmd("DEL").arg(key).query_async::<()>(&mut self.raw).await.expect("a reply");
        if self.model.outputs.kept.remove(&id).is_some() {
            self.model.meet("output was lost", ());
        }
    }

    /// Somebody reads what a task has put out, and may be told of more.
    async fn read_output(&mut self) {
        let kept: Vec<TaskId> = self.model.outputs.kept.keys().copied().collect();
        let mut id = self.any_task();
        if self.rng.random_bool(0.7) {
            id = kept.choose(&mut self.rng).copied().unwrap_or(id);
        }
        self.look_at_output(id).await;
    }

    async fn look_at_output(&mut self, id: TaskId) {
        let newest = self.newest(id);
        let place = match self.rng.random_range(0..4) {
            0 => newest,
            1 => self.rng.random_range(0..newest + 3),
            _ => 0,
        };
        let inbox = if self.rng.random_bool(0.5) { INBOXES[self.rng.random_range(0..INBOXES.len())] } else { "" };
        self.look_from(id, place, inbox).await;
    }

    async fn look_from(&mut self, id: TaskId, place: u64, inbox: &str) {
        let name = self.name(id);
        let (read, standing, newest) = self.model.look_at_output(id, place, inbox);
        self.log.say(format!("`{inbox}` reads {name} behind {place}: {} chunks, {standing:?}", read.len()));
        let mut chunks = self.orch.chunks(id).after(place);
        let reply = chunks.look_as(inbox).await;
        if standing == Standing::Unknown && read.is_empty() {
            return assert!(matches!(reply, Err(Error::NotFound { .. })), "{name}: {reply:?}");
        }
        let (found, told) = reply.expect("a reply");
        let text = |chunk: &orchestrator::Chunk| chunk.data.as_text().expect("a text").to_owned();
        let found: Vec<_> = found.iter().map(|c| (c.number, c.attempt, c.epoch, c.missed, text(c))).collect();
        assert_eq!(found, read, "what {name} has put out behind {place}");
        assert_eq!(told, standing != Standing::Live(false), "whether `{inbox}` is told of {name}");
        let last = read.last().map_or(place.min(newest), |(number, ..)| *number);
        assert_eq!(chunks.place(), last, "where a reader of {name} stands");
        let ended = match standing {
            Standing::Ended(status) if read.is_empty() => Some(status),
            _ => None,
        };
        assert_eq!(chunks.status(), ended, "how {name} has ended for its reader");
    }

    async fn hush_inbox(&mut self, id: TaskId, inbox: &str) {
        let name = self.name(id);
        self.log.say(format!("`{inbox}` is told of {name} no more"));
        self.model.hush_inbox(id, inbox);
        self.orch.chunks(id).hush_as(inbox).await.expect("a reply");
    }

    /// As many want to be told of a task as may be, and one more; then they leave.
    async fn crowd_readers(&mut self) {
        let quiet = |id: &TaskId| self.model.outputs.kept.get(id).is_none_or(|output| output.newest() == 0);
        let live: Vec<TaskId> = self.model.live().map(|entry| entry.asked.id).filter(quiet).collect();
        let Some(id) = live.choose(&mut self.rng).copied() else { return };
        let names: Vec<String> = (0..17).map(|n| format!("c{n}.o")).collect();
        for name in &names {
            self.look_from(id, 0, name).await;
        }
        for name in &names {
            self.hush_inbox(id, name).await;
        }
    }

    /// Somebody reads an inbox.
    async fn hear_inbox(&mut self, inbox: &str) {
        let mut pop = redis::cmd("ZPOPMIN");
        pop.arg(format!("{}i:{inbox}", self.base)).arg(1_000);
        let notes: Vec<(Vec<u8>, u64)> = pop.query_async(&mut self.raw).await.expect("an inbox");
        let notes: BTreeSet<Vec<u8>> = notes.into_iter().map(|(note, _)| note).collect();
        let told = self.model.outputs.inboxes.remove(inbox).unwrap_or_default();
        assert_eq!(notes, told.iter().map(note_bytes).collect(), "what `{inbox}` was told");
    }

    /// All inboxes are read.
    pub(crate) async fn hear_all(&mut self) {
        for inbox in self.model.outputs.inboxes.keys().cloned().collect::<Vec<_>>() {
            self.hear_inbox(&inbox).await;
        }
    }
}
