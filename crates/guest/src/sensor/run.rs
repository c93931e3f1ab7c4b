//! The sensor as a whole: sources started, events gathered, batches sent, until it is stopped or nothing more can be seen.

use std::future::Future;
use std::hash::BuildHasher;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::batch::Batch;
use super::courier::{Courier, OtherMachine, Report};
use super::ocsf::Stamp;
use super::outlet::{Counts, Line, outlet};
use super::post::{Post, PostError};
use super::sight::Sources;
use super::source::{Now, Source};
use super::spool::{Spool, SpoolError};
use crate::Settings;

/// How long an event waits for others to be sent with it.
pub(crate) const BATCH_DELAY: Duration = Duration::from_millis(500);
/// How often the region is told that the sensor is there.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(60);
/// How long the last events may take after a stop was asked for, and after the last source has ended by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);
const END_GRACE: Duration = Duration::from_secs(30);
/// The pause before a metadata service that does not answer is asked again; it doubles up to the last.
const FIND_BACK_OFF: Duration = Duration::from_millis(500);
const FIND_BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// How the sensor is to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where events wait while the region is away.
    pub spool: PathBuf,
    /// How many bytes of them.
    pub spool_bytes_max: u64,
}

/// Why the sensor has ended.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// Events cannot wait on disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The region cannot be found, and will not be.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The metadata service speaks of another instance now.
    #[error("this place was given to another machine, which has not seen what is told here; start the sensor anew")]
    OtherMachine,
    /// Standard output is gone.
    #[error("cannot write events: {0}")]
    Output(#[from] io::Error),
}

/// Watches by `sources` and sends to the region, until `stop` ends or all sources have. Says what goes wrong by `report`.
///
/// # Errors
/// See [`SensorError`]. That the region is away is not an error.
pub async fn run(
    settings: &Settings,
    options: &Options,
    sources: Sources,
    now: &Now,
    report: &Report,
    stop: impl Future<Output = ()>,
) -> Result<Arc<Counts>, SensorError> {
    let mut stop = pin!(stop);
    let counts = Arc::new(Counts::default());
    let post = tokio::select! {
        post = find(settings, now, report) => post?,
        () = &mut stop => return Ok(counts),
    };
    let spool = Spool::open(&options.spool, post.instance(), options.spool_bytes_max)?;
    let mut courier = Courier::new(post, spool, Arc::clone(&counts), Arc::clone(report));
    let (mut lines, mut running) = start(sources, now, &counts, report);
    let mut batch = Gathered::default();
    let mut heartbeats = interval(HEARTBEAT_EVERY);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let grace = loop {
        let due = courier.due();
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => batch.add(line, &mut courier),
                None => break END_GRACE,
            },
            () = at(batch.deadline) => batch.hand_over(&mut courier),
            () = at(due) => courier.send(),
            outcome = courier.fate() => courier.settle(outcome).map_err(|OtherMachine| SensorError::OtherMachine)?,
            _ = heartbeats.tick() => courier.heartbeat(),
            () = &mut stop => break STOP_GRACE,
        }
    };
    running.shutdown().await;
    lines.close();
    while let Some(line) = lines.recv().await {
        batch.add(line, &mut courier);
    }
    batch.hand_over(&mut courier);
    finish(&mut courier, grace, report).await?;
    Ok(counts)
}

/// Watches by `sources` and hands each event to `show`, as a line of JSON.
///
/// # Errors
/// [`SensorError::Output`].
pub async fn print(
    sources: Sources,
    now: &Now,
    report: &Report,
    show: &mut impl FnMut(&str) -> io::Result<()>,
    stop: impl Future<Output = ()>,
) -> Result<Arc<Counts>, SensorError> {
    let mut stop = pin!(stop);
    let counts = Arc::new(Counts::default());
    let (mut lines, mut running) = start(sources, now, &counts, report);
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => {
                    show(&line.json)?;
                    Counts::add(&counts.delivered, 1);
                }
                None => break,
            },
            () = &mut stop => break,
        }
    }
    running.shutdown().await;
    Ok(counts)
}

/// Early in a machine's life its metadata may not be there yet.
async fn find(settings: &Settings, now: &Now, report: &Report) -> Result<Post, PostError> {
    let mut pause = FIND_BACK_OFF;
    loop {
        match Post::find(settings, hostname(), Arc::clone(now)).await {
            Err(PostError::Metadata(error)) => {
                report(&format!("{error}; asking again in {} s", pause.as_secs_f32()));
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(FIND_BACK_OFF_MAX);
            }
            found => return found,
        }
    }
}

fn start(sources: Sources, now: &Now, counts: &Arc<Counts>, report: &Report) -> (mpsc::Receiver<Line>, JoinSet<()>) {
    let random = std::hash::RandomState::new().hash_one(std::process::id());
    let stamp = Stamp { run: format!("{:x}-{random:016x}", now()), hostname: hostname() };
    let (outlet, lines) = outlet(stamp, Arc::clone(counts));
    let mut running = JoinSet::new();
    for source in sources.open {
        let (outlet, report) = (outlet.clone(), Arc::clone(report));
        running.spawn(async move {
            let name = source.name();
            if let Err(error) = Source::run(source, outlet).await {
                report(&format!("{name} tells nothing any more: {error}"));
            }
        });
    }
    (lines, running)
}

fn hostname() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// Events that will be sent together, and when at the latest.
#[derive(Default)]
struct Gathered {
    batch: Batch,
    deadline: Option<Instant>,
}

impl Gathered {
    fn add(&mut self, line: Line, courier: &mut Courier) {
        self.deadline.get_or_insert_with(|| Instant::now() + BATCH_DELAY);
        self.batch.push(line.json);
        if self.batch.is_full() {
            self.hand_over(courier);
        }
    }

    fn hand_over(&mut self, courier: &mut Courier) {
        self.deadline = None;
        if !self.batch.is_empty() {
            courier.accept(std::mem::take(&mut self.batch));
        }
    }
}

/// Waits for a moment; without one, for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Sends what is left as far as the time goes; the rest waits on disk for the next start.
async fn finish(courier: &mut Courier, grace: Duration, report: &Report) -> Result<(), SensorError> {
    let sending = async {
        while courier.has_any() {
            if courier.due().is_some() {
                courier.send();
            }
            if courier.due().is_some() {
                // What was to be sent could not be read, and is no more.
                continue;
            }
            let outcome = courier.fate().await;
            courier.settle(outcome)?;
            if courier.is_away() {
                break;
            }
        }
        Ok(())
    };
    // The time being over is no failure.
    let sent = timeout(grace, sending).await.unwrap_or(Ok(()));
    if sent == Ok(()) {
        courier.put_on_disk();
        if courier.waiting() > 0 {
            report(&format!("{} events wait on disk for the next start", courier.waiting()));
        }
    }
    sent.map_err(|OtherMachine| SensorError::OtherMachine)
}
