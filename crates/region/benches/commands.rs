//! How long a command takes to a thousand machines with open control channels, and back: sent once, taken, answered twice and
//! stored on disk. The floor is what the agents alone would take, which here do nothing: the figure is the region's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::agent::{Agent, session};
use common::channel::Socket;
use common::commands::reply;
use common::{Running, ec2, start_with};
use inborn_identity::InstanceId;
use inborn_region::{KeySource, Rate, Rates};
use inborn_store::SqliteStore;
use serde_json::{Value, json};

const MACHINES: usize = 1000;
const ROUNDS: usize = 5;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&directory.path().join("region.db")).unwrap());
    let no_limit = Rate { per_second: 1_000_000, burst: 1_000_000 };
    let rates = Rates { source: no_limit, principal: no_limit };
    let running = start_with(tempfile::tempdir().unwrap(), store, KeySource::Ephemeral, rates).await;
    assert_eq!(running.pass_role(inborn_identity::MANAGEMENT_ROLE_NAME).await.status, 200);
    let started = Instant::now();
    // Machines of one golden image have one key.
    let agent = Agent::new();
    for id in launch(&running).await {
        let channel = connect(&running, &agent, id).await;
        tokio::spawn(serve(channel));
    }
    println!("{MACHINES} machines registered and connected in {:.1} s", started.elapsed().as_secs_f64());
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let command = running
            .command(json!({"Targets": [{"Key": "tag-key", "Values": ["all"]}], "MaxConcurrency": "100%"}))
            .await;
        loop {
            let listed = running.listed(&command).await;
            assert_eq!(listed["TargetCount"], MACHINES);
            match listed["Status"].as_str().unwrap() {
                "Success" => break,
                "Pending" | "InProgress" => tokio::time::sleep(Duration::from_millis(5)).await,
                other => panic!("{other}"),
            }
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "a command to {MACHINES} connected machines, until all have succeeded, {ROUNDS} rounds: min / median / max\n  s  {:.2} / {:.2} / {:.2}",
        seconds[0],
        seconds[ROUNDS / 2],
        seconds[ROUNDS - 1]
    );
    assert!(seconds[ROUNDS / 2] <= 10.0, "the measure of the product");
}

async fn launch(running: &Running) -> Vec<InstanceId> {
    let tags =
        "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=all&TagSpecification.1.Tag.1.Value=yes";
    let call = format!("Action=RunInstances&ImageId=ami-12345678&MinCount={MACHINES}&MaxCount={MACHINES}&{tags}");
    let reply = running.send(&running.operator(), &ec2(&call)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body.split("<instanceId>").skip(1).map(|rest| rest.split('<').next().unwrap().parse().unwrap()).collect()
}

async fn connect(running: &Running, agent: &Agent, id: InstanceId) -> Socket {
    assert_eq!(running.register(agent, id).await.status, 200);
    let signer = session(&running.role_token(agent, id).await);
    running.speaks(id, &signer, "Linux").await;
    running.control_channel(&signer, id).await
}

/// An agent that takes every job, and says at once that it has begun and that it has done it.
async fn serve(mut channel: Socket) {
    loop {
        let received = channel.receive_ever().await;
        if received.message_type != "agent_job" {
            continue;
        }
        let job: Value = serde_json::from_str(&received.payload).unwrap();
        let ack = json!({"jobId": job["JobId"], "acknowledgedMessageId": received.id.to_string(), "statusCode": "200"});
        channel.frame("agent_job_ack", &ack.to_string()).await;
        for status in ["InProgress", "Success"] {
            let content = reply(status, 0, "done\n", "").to_string();
            channel.frame("agent_job_reply", &json!({"jobId": job["JobId"], "content": content}).to_string()).await;
        }
    }
}
