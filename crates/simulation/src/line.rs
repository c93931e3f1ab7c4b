//! What lies between who asks and a region server: questions and answers are lost or come late, singly, while both sides are there.
//!
//! It is what TCP makes of that. Within a connection everything comes in its order, or nothing does any more: what is lost breaks the
//! connection, or leaves it silent, and who waits for it waits until its own patience is over. What is late may come when who asked
//! has given up and asked again over another connection: a question is then answered after a later one, and its answer finds nobody.
//! Of a host's two connections one may overtake the other.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use inborn_host_agent::Lane;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::time::sleep;

use crate::host::Host;
use crate::server::Running;
use crate::world::World;

/// The longest that something is late, every second one less.
const LATE_MAX: Duration = Duration::from_secs(20);
const SOON_MAX: Duration = Duration::from_secs(2);
/// How long until the far side hears that who asked has given up, where what was asked came late.
const LEFT_MAX: Duration = Duration::from_secs(2);
/// How long a silent connection stays open at a server: longer than anybody waits.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// How often what does not get through is sent again.
const AGAIN: Duration = Duration::from_millis(500);
const PIPE_BYTES: usize = 64 * 1024;

/// Whose messages are counted: those of hosts, and those of operators and machines.
pub(crate) const HOSTS: usize = 0;
pub(crate) const CALLERS: usize = 1;

/// Of a thousand messages, how many are lost, and how many are late.
#[derive(Clone, Copy, Default)]
pub(crate) struct Losses {
    pub(crate) lost_per_mille: u32,
    pub(crate) late_per_mille: u32,
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Arrives,
    Late(Duration),
    /// It is lost, and both sides find the connection broken.
    Broken,
    /// It is lost, and nothing comes over its connection any more.
    Silent,
}

impl Losses {
    /// What becomes of the next one. Nothing is drawn where nothing can happen.
    pub(crate) fn draw(self, random: &mut fastrand::Rng) -> Fate {
        let Self { lost_per_mille, late_per_mille } = self;
        if lost_per_mille + late_per_mille == 0 {
            return Fate::Arrives;
        }
        let drawn = random.u32(0..1000);
        if drawn < lost_per_mille {
            return if random.u32(0..3) == 0 { Fate::Silent } else { Fate::Broken };
        }
        if drawn < lost_per_mille + late_per_mille {
            let most = if random.bool() { SOON_MAX } else { LATE_MAX };
            return Fate::Late(most.mul_f64(random.f64()));
        }
        Fate::Arrives
    }
}

impl Fate {
    pub(crate) const fn is_lost(self) -> bool {
        matches!(self, Self::Broken | Self::Silent)
    }

    pub(crate) const fn is_late(self) -> bool {
        matches!(self, Self::Late(_))
    }
}

/// How many messages did not come as they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Messages {
    /// Questions that no server saw.
    pub questions_lost: usize,
    /// Questions that a server saw late.
    pub questions_late: usize,
    /// Answers that nobody got, though what was asked for was done.
    pub answers_lost: usize,
    /// Answers that came late.
    pub answers_late: usize,
    /// Answers that found that who asked had given up.
    pub given_up: usize,
    /// Answers that came after one that was given later.
    pub overtaken: usize,
}

impl Messages {
    pub(crate) fn count_question(&mut self, fate: Fate) {
        self.questions_lost += usize::from(fate.is_lost());
        self.questions_late += usize::from(fate.is_late());
    }

    pub(crate) fn count_answer(&mut self, fate: Fate) {
        self.answers_lost += usize::from(fate.is_lost());
        self.answers_late += usize::from(fate.is_late());
    }
}

/// A host's connection to a server for one of its lanes; gives the host's end of it.
pub(crate) fn connect(world: &Rc<World>, host: usize, lane: Lane, server: Running) -> DuplexStream {
    let (near, near_end) = tokio::io::duplex(PIPE_BYTES);
    let (far_end, far) = tokio::io::duplex(PIPE_BYTES);
    world.hosts[host].is_served_at(&server, far);
    let line = Line { world: Rc::clone(world), host, lane, server, is_answering: Cell::new(false) };
    tokio::task::spawn_local(line.carry(near_end, far_end));
    near
}

struct Line {
    world: Rc<World>,
    host: usize,
    lane: Lane,
    server: Running,
    /// Whether an answer is on its way.
    is_answering: Cell<bool>,
}

/// How a connection has ended.
#[derive(PartialEq, Eq)]
enum End {
    /// Both sides are told.
    Closed,
    /// Nobody is.
    Silent,
}

impl Line {
    async fn carry(self, near: DuplexStream, far: DuplexStream) {
        let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (split(near), split(far));
        let end = tokio::select! {
            biased;
            () = self.server.ends() => End::Closed,
            end = self.carry_questions(&mut near_in, &mut far_out) => end,
            end = self.carry_answers(&mut far_in, &mut near_out) => end,
        };
        if end == End::Silent {
            sleep(SILENT_FOR).await;
        }
    }

    fn host(&self) -> &Host {
        &self.world.hosts[self.host]
    }

    async fn carry_questions(&self, near: &mut ReadHalf<DuplexStream>, far: &mut WriteHalf<DuplexStream>) -> End {
        let (mut bytes, mut was_late) = (vec![0; PIPE_BYTES], false);
        loop {
            let length = near.read(&mut bytes).await.unwrap_or(0);
            if length == 0 {
                // Who asked has given up, or crashed. What came late may be done by the time that is known.
                let most = if was_late { LEFT_MAX } else { AGAIN };
                sleep(most.mul_f64(self.world.chance())).await;
                self.world.messages[HOSTS].borrow_mut().given_up += usize::from(self.is_answering.get());
                return End::Closed;
            }
            let fate = self.world.fate_of(self.host().losses.get());
            self.world.messages[HOSTS].borrow_mut().count_question(fate);
            was_late |= fate.is_late();
            if let Some(end) = self.pass(fate).await {
                return end;
            }
            if far.write_all(&bytes[..length]).await.is_err() {
                return End::Closed;
            }
        }
    }

    async fn carry_answers(&self, far: &mut ReadHalf<DuplexStream>, near: &mut WriteHalf<DuplexStream>) -> End {
        let mut bytes = vec![0; PIPE_BYTES];
        loop {
            let length = far.read(&mut bytes).await.unwrap_or(0);
            if length == 0 || !self.server.is_there() {
                return End::Closed;
            }
            let number = self.departs();
            let fate = self.world.fate_of(self.host().losses.get());
            self.world.messages[HOSTS].borrow_mut().count_answer(fate);
            let end = self.pass(fate).await;
            if end == Some(End::Closed) {
                // Of what breaks off a part may have come.
                let part = self.world.part_of(length);
                let _ = near.write_all(&bytes[..part]).await;
            }
            self.is_answering.set(false);
            if let Some(end) = end {
                return end;
            }
            if near.write_all(&bytes[..length]).await.is_err() {
                self.world.messages[HOSTS].borrow_mut().given_up += 1;
                return End::Closed;
            }
            self.arrives(number);
        }
    }

    /// Waits for as long as a message takes; gives the end of the connection, if it does not come.
    async fn pass(&self, fate: Fate) -> Option<End> {
        self.world.way().await;
        if let Fate::Late(by) = fate {
            sleep(by).await;
        }
        while self.host().is_cut() {
            sleep(AGAIN).await;
        }
        match fate {
            Fate::Broken => Some(End::Closed),
            Fate::Silent => Some(End::Silent),
            Fate::Arrives | Fate::Late(_) => None,
        }
    }

    /// An answer leaves the server; gives its number.
    fn departs(&self) -> u64 {
        let mut state = self.host().state.borrow_mut();
        self.is_answering.set(true);
        state.departed_at[index(self.lane)] = self.world.elapsed();
        state.departed += 1;
        state.departed
    }

    fn arrives(&self, number: u64) {
        let mut state = self.host().state.borrow_mut();
        self.world.messages[HOSTS].borrow_mut().overtaken += usize::from(number < state.arrived);
        state.arrived = state.arrived.max(number);
    }
}

/// The place of a lane among both.
pub(crate) const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Watch => 0,
        Lane::Work => 1,
    }
}
