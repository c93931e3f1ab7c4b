//! The rim of [`Agent`]: sends what it asks, tells it what came back, and tells whoever listens what has become different.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use inborn_fleet::RefusalCode;
use inborn_identity::{Clock, UnixTime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agent::{Agent, Event, Now};
use crate::ask::{Answer, Ask, Failure};
use crate::backoff::Dice;
use crate::client::{Address, Client};

/// The longest rest between two looks: the wall clock may be set, and the computer may sleep.
const REST_MAX: Duration = Duration::from_secs(1);

/// Why the talk is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The region has cut the host off.
    Evicted,
}

/// A host's talk with its region.
pub struct Talk {
    agent: Mutex<Agent>,
    client: Client,
    addresses: Vec<Address>,
    clock: Arc<dyn Clock>,
    begun: Instant,
    dice: Mutex<Box<dyn Dice>>,
}

impl core::fmt::Debug for Talk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Talk").field("agent", &*self.agent()).finish_non_exhaustive()
    }
}

impl Talk {
    /// A talk over `client` with whoever is at one of `addresses`, by what `make` makes of the moment and the dice.
    #[must_use]
    pub fn new(
        client: Client,
        addresses: Vec<Address>,
        clock: Arc<dyn Clock>,
        mut dice: Box<dyn Dice>,
        make: impl FnOnce(Now, &mut dyn Dice) -> Agent,
    ) -> Arc<Self> {
        let begun = Instant::now();
        let agent = make(Now { wall: clock.now(), up: Duration::ZERO }, &mut *dice);
        Arc::new(Self { agent: Mutex::new(agent), client, addresses, clock, begun, dice: Mutex::new(dice) })
    }

    /// The agent as it is now.
    pub fn agent(&self) -> MutexGuard<'_, Agent> {
        // Each change of it is one call, which leaves it consistent.
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What asks.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The host has kept its next certificate, which ends then.
    pub fn renewed(&self, certificate_ends: UnixTime) {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        self.agent().renewed(certificate_ends, &mut **dice);
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), up: self.begun.elapsed() }
    }

    /// Talks until `stop` turns true, or for as long as the region lets it. `tell` is told of what has become different, in
    /// order, and is waited for.
    pub async fn go_on(self: Arc<Self>, mut stop: watch::Receiver<bool>, tell: impl AsyncFn(Event)) -> Ended {
        let mut asked: JoinSet<(Ask, Result<Answer, Failure>)> = JoinSet::new();
        let mut report = Report::default();
        loop {
            let (asks, late, rest) = {
                let mut agent = self.agent();
                let now = self.now();
                let late = agent.look_at_the_time(now);
                let asks = agent.next(now);
                let asks: Vec<_> = asks.into_iter().map(|ask| (ask, agent.address())).collect();
                (asks, late, agent.rests_for(now).min(REST_MAX))
            };
            for event in late {
                tell(event).await;
            }
            for (ask, address) in asks {
                asked.spawn(Arc::clone(&self).ask(ask, address));
            }
            let heard = tokio::select! {
                Some(heard) = asked.join_next() => heard,
                () = tokio::time::sleep(rest) => continue,
                _ = stop.wait_for(|stop| *stop) => return Ended::Stopped,
            };
            // A question that could not be finished is one that this process has given up by itself.
            let Ok((ask, outcome)) = heard else { continue };
            report.on(&outcome);
            let events = {
                let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
                self.agent().heard(ask, outcome, self.now(), &mut **dice)
            };
            for event in events {
                let is_end = event == Event::Evicted;
                tell(event).await;
                if is_end {
                    return Ended::Evicted;
                }
            }
        }
    }

    async fn ask(self: Arc<Self>, ask: Ask, address: usize) -> (Ask, Result<Answer, Failure>) {
        let Some(at) = self.addresses.get(address) else {
            return (ask, Err(Failure::Unreachable("the region has no address".to_owned())));
        };
        let outcome = self.client.ask(at, &ask, || self.agent().connected()).await;
        (ask, outcome)
    }
}

/// Says once that the region is away, and once that it is back.
#[derive(Default)]
struct Report {
    is_away: bool,
}

impl Report {
    fn on(&mut self, outcome: &Result<Answer, Failure>) {
        match outcome {
            Ok(_) if self.is_away => {
                self.is_away = false;
                tracing::info!("the region is back");
            }
            Ok(_) => {}
            Err(error @ Failure::Unreachable(_)) => {
                if !self.is_away {
                    tracing::warn!(%error, "the region is away: what was prepared is served until it is back");
                }
                self.is_away = true;
            }
            Err(error @ Failure::Refused { code: RefusalCode::Busy | RefusalCode::Unavailable, .. }) => {
                tracing::debug!(%error, "the region asks to come again later");
            }
            Err(error) => tracing::error!(%error, "the region refuses this host"),
        }
    }
}
