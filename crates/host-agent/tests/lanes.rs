//! What a host makes of answers that are lost, late or broken off, over connections that exist in memory only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inborn_fleet::Renewed;
use inborn_host_agent::{Address, Answer, Ask, Failure, Lanes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

/// How long a connection may take, and how long it is used again after its last answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Longer than a question waits for its answer.
const TOO_LATE: Duration = Duration::from_secs(20);

fn answer(certificate: &str) -> String {
    let body = format!(r#"{{"certificate":"{certificate}"}}"#);
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A region whose connections answer so, one question each, after that time; counts the connections.
struct Region {
    answers: Vec<(Duration, String)>,
    connections: Arc<AtomicUsize>,
    connected: AtomicUsize,
    lanes: Lanes,
}

impl Region {
    fn new(answers: &[(Duration, &str)]) -> Self {
        let answers = answers.iter().map(|(after, answer)| (*after, (*answer).to_owned())).collect();
        Self { answers, connections: Arc::default(), connected: AtomicUsize::new(0), lanes: Lanes::default() }
    }

    /// Each connection goes on with the answers from its own number on.
    async fn connect(&self) -> Result<DuplexStream, Failure> {
        let (near, mut far) = duplex(64 * 1024);
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let answers = self.answers.get(number..).unwrap_or_default().to_vec();
        tokio::spawn(async move {
            let mut question = [0; 4096];
            for (after, answer) in answers {
                if far.read(&mut question).await.unwrap_or(0) == 0 {
                    return;
                }
                sleep(after).await;
                let _ = far.write_all(answer.as_bytes()).await;
            }
        });
        Ok(near)
    }

    async fn ask(&self, known_as: u64) -> Result<Answer, Failure> {
        let connected = || _ = self.connected.fetch_add(1, Ordering::SeqCst);
        self.lanes.ask(&address(), &Ask::Renew, known_as, self.connect(), connected).await
    }

    fn connections(&self) -> usize {
        assert_eq!(self.connected.load(Ordering::SeqCst), self.connections.load(Ordering::SeqCst));
        self.connections.load(Ordering::SeqCst)
    }
}

fn address() -> Address {
    "region.example:4544".parse().unwrap()
}

fn renewed(certificate: &str) -> Result<Answer, Failure> {
    Ok(Answer::Renewed(Renewed { certificate: certificate.to_owned() }))
}

fn lost(what: &str) -> Result<Answer, Failure> {
    Err(Failure::Unreachable(format!("region.example:4544: {what}")))
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_who_asks_as_the_same_and_soon() {
    let (soon, [a, b, c]) = (Duration::from_millis(10), ["a", "b", "c"].map(answer));
    let region = Region::new(&[(soon, &a), (soon, &b), (soon, &c)]);
    assert_eq!(region.ask(1).await, renewed("a"));
    assert_eq!(region.ask(1).await, renewed("b"));
    assert_eq!(region.connections(), 1);
    assert_eq!(region.ask(2).await, renewed("b"), "the second connection begins with the second answer");
    assert_eq!(region.connections(), 2);
    sleep(IDLE_MAX.saturating_sub(Duration::from_millis(20))).await;
    assert_eq!(region.ask(2).await, renewed("c"));
    assert_eq!(region.connections(), 2);
    sleep(IDLE_MAX).await;
    assert_eq!(region.ask(2).await, renewed("c"));
    assert_eq!(region.connections(), 3);
}

/// Else a host would take what it was told of one question for what it is told of the next.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_late_is_not_the_one_to_the_next_question() {
    let (late, next) = (answer("late"), answer("next"));
    let region = Region::new(&[(TOO_LATE, &late), (Duration::ZERO, &next)]);
    let begun = Instant::now();
    assert_eq!(region.ask(1).await, lost("no answer in time"));
    assert_eq!(begun.elapsed(), Ask::Renew.patience());
    sleep(TOO_LATE).await;
    assert_eq!(region.ask(1).await, renewed("next"));
    assert_eq!(region.connections(), 2);
}

/// The question was answered, and who asked cannot know.
#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_none() {
    let (whole, next) = (answer("broken"), answer("next"));
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        let mut region = Region::new(&[(Duration::ZERO, &whole[..end])]);
        let outcome = region.ask(1).await;
        assert!(matches!(&outcome, Err(Failure::Unreachable(_))), "{end}: {outcome:?}");
        region.answers = vec![(Duration::ZERO, String::new()), (Duration::ZERO, next.clone())];
        assert_eq!(region.ask(1).await, renewed("next"), "{end}");
        assert_eq!(region.connections(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_connection_waits_no_longer_than_that() {
    let (lanes, begun) = (Lanes::default(), Instant::now());
    let connecting = core::future::pending::<Result<DuplexStream, Failure>>();
    let outcome = lanes.ask(&address(), &Ask::Renew, 1, connecting, || panic!("it is not connected")).await;
    assert_eq!((outcome, begun.elapsed()), (lost("no connection in time"), CONNECT_TIMEOUT));
}
