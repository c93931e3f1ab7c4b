//! Agents and machines over several region servers: what was launched, registered or forgotten at one is so at the others, whatever their
//! clocks say, and what one server cannot read keeps it from nothing else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::agent::{Agent, session};
use common::commands::body;
use common::fleet::{Server, node, set_time, two, until};
use common::verdict::{expired, good, verdict, whoami};
use common::*;
use inborn_identity::{AccountId, InstanceId};
use inborn_store::{NodeId, Session, SessionQuery, SettingChange, Store};
use serde_json::{Value, json as value};

/// How far the clock of one of two servers is ahead.
const AHEAD_SECONDS: u64 = 20;

async fn told(at: &Running, operation: &str, input: Value) {
    let reply = at.ssm(operation, input).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// Sessions of before an agent was forgotten, or before its role was passed to nobody, stay ended when it comes back, also those that another
/// server has dated ahead.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_before_an_end_stays_ended_by_whichever_clock_it_was_issued() {
    let (fleet, a, b) = two().await;
    set_time(&[&a], NOW.plus(AHEAD_SECONDS)).await;
    let (id, mut agent, mut role) = a.managed().await;
    for is_forgotten in [true, false] {
        until("the agent is known", async || whoami(&b, &role).await == good()).await;
        if is_forgotten {
            told(&b, "DeregisterManagedInstance", value!({"InstanceId": id.to_string()})).await;
        } else {
            told(&b, "ResetServiceSetting", value!({"SettingId": SETTING})).await;
        }
        assert_eq!(verdict(&b, &role).await, expired());
        until("the end is known", async || whoami(&a, &role).await == expired()).await;
        // One that knows nothing of it but what is stored.
        let fresh = fleet.server("c").await;
        if is_forgotten {
            agent = Agent::new();
            assert_eq!(fresh.register(&agent, id).await.status, 200);
        } else {
            assert_eq!(fresh.pass_role(inborn_identity::MANAGEMENT_ROLE_NAME).await.status, 200);
        }
        let new = session(&fresh.role_token(&agent, id).await);
        for server in [&a, &b, &fresh] {
            until("what is new is good", async || whoami(server, &new).await == good()).await;
            assert_eq!(verdict(server, &role).await, expired());
        }
        role = new;
    }
}

/// A registration that is written only after another server has registered the same agent and has forgotten it is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_comes_after_an_end_revives_nothing() {
    let (_fleet, a, b) = two().await;
    let (id, agent) = (a.launch().await, Agent::new());
    until("the machine is known", async || b.region.machines().get(id).is_some()).await;
    assert_eq!(b.pass_role(inborn_identity::MANAGEMENT_ROLE_NAME).await.status, 200);
    let held = a.link.hold_changes().await;
    let late = a.register(&agent, id);
    let ended = async {
        until("it is about to write", async || a.link.held_changes() == 1).await;
        assert_eq!(b.register(&agent, id).await.status, 200);
        let role = session(&b.role_token(&agent, id).await);
        assert_eq!(verdict(&b, &role).await, good());
        told(&b, "DeregisterManagedInstance", value!({"InstanceId": id.to_string()})).await;
        drop(held);
        role
    };
    let (late, role) = tokio::join!(late, ended);
    assert_eq!(late.status, 200, "{}", late.body);
    let new = session(&a.role_token(&agent, id).await);
    for server in [&a, &b] {
        until("it is known", async || whoami(server, &new).await == good()).await;
        assert_eq!(verdict(server, &role).await, expired(), "what was given before the end");
    }
}

/// Each agent that is forgotten and comes back moves what its account is given a second ahead: not to where no clock is.
#[tokio::test(flavor = "multi_thread")]
async fn agents_come_back_ahead_of_the_clock_below_at_and_above_the_most() {
    const AHEAD_SECONDS_MAX: u64 = 600;
    let (fleet, a, _b) = two().await;
    assert_eq!(a.pass_role(inborn_identity::MANAGEMENT_ROLE_NAME).await.status, 200);
    // What is compared is there from the first registration on.
    let first = a.launch().await;
    assert_eq!(a.register(&Agent::new(), first).await.status, 200);
    let mut stored = Some(vec![0; 8]);
    for (ended, status) in [(598, 200), (599, 200), (600, 400)] {
        let id = a.launch().await;
        let value = NOW.plus(ended).as_secs().to_be_bytes().to_vec();
        let name = "ssm/registrations-ended/123456789012".to_owned();
        let change = SettingChange { name, expected: stored.replace(value.clone()), value };
        fleet.store.put_setting(change).await.unwrap();
        let agent = Agent::new();
        let reply = a.register(&agent, id).await;
        assert_eq!(reply.status, status, "{ended}: {}", reply.body);
        if status == 200 {
            assert_eq!(whoami(&a, &session(&a.role_token(&agent, id).await)).await, good(), "{ended}");
        } else {
            assert!(reply.body.contains("TooManyUpdates"), "{}", reply.body);
            set_time(&[&a], NOW.plus(ended + 1 - AHEAD_SECONDS_MAX)).await;
            assert_eq!(a.register(&agent, id).await.status, 200, "as soon as the clock has come nearer");
        }
    }
}

/// What an agent says at a server whose clock is behind the one that dated its machine's launch is said after the launch.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_has_spoken_since_its_launch_is_online() {
    let (_fleet, a, b) = two().await;
    set_time(&[&a], NOW.plus(AHEAD_SECONDS)).await;
    let (id, _agent, role) = a.managed().await;
    until("the agent is known", async || whoami(&b, &role).await == good()).await;
    b.speaks(id, &role, "Linux").await;
    for server in [&a, &b] {
        let named = value!({"Filters": [{"Key": "InstanceIds", "Values": [id.to_string()]}]});
        until("it is online", async || {
            let reply = server.ssm("DescribeInstanceInformation", named.clone()).await;
            let list = &body(&reply)["InstanceInformationList"];
            // Known, it is so at once.
            assert!(list[0].is_null() || list[0]["PingStatus"] == "Online", "{list}");
            !list[0].is_null()
        })
        .await;
    }
}

/// Nobody is told that a machine is not there, or not connected, by a server that has not heard of it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_launched_elsewhere_is_known_at_once() {
    let (_fleet, a, b) = two().await;
    a.region.advertise(&format!("http://{}", a.address));
    node(&a, &b).await;
    b.link.deafen().await;
    let (id, role) = a.node().await;
    let _control = a.control_channel(&role, id).await;
    let (target, named) = (value!({"Target": id.to_string()}), value!({"InstanceId": id.to_string()}));
    let filter = value!({"Filters": [{"Key": "InstanceIds", "Values": [id.to_string()]}]});
    let calls = [
        ("StartSession", target.clone()),
        ("GetConnectionStatus", target),
        ("DescribeInstanceInformation", filter.clone()),
        ("DescribeInstanceProperties", value!({"FiltersWithOperator": filter["Filters"]})),
        ("ListInventoryEntries", value!({"InstanceId": id.to_string(), "TypeName": "AWS:Application"})),
        ("DeregisterManagedInstance", named),
    ];
    for (operation, input) in &calls {
        let reply = b.ssm(operation, input.clone()).await;
        assert_eq!(reply.status, 503, "{operation}: {}", reply.body);
    }
    b.link.silence(false);
    for (operation, input) in &calls {
        let mut reply = b.ssm(operation, input.clone()).await;
        while reply.status == 503 {
            reply = b.ssm(operation, input.clone()).await;
        }
        assert_eq!(reply.status, 200, "{operation}: {}", reply.body);
        if *operation == "GetConnectionStatus" {
            assert_eq!(body(&reply)["Status"], "connected");
        }
        assert!(!reply.body.contains(":[]") || *operation == "ListInventoryEntries", "{operation}: {}", reply.body);
    }
}

fn left(id: &str, instance: InstanceId, account: AccountId) -> Session {
    Session {
        id: id.to_owned(),
        account,
        instance,
        owner: "arn:aws:iam::123456789012:user/operator".to_owned(),
        document_name: "SSM-SessionManagerRunShell".to_owned(),
        reason: String::new(),
        started_at: NOW,
        end: None,
        carrier: Some(NodeId::random()),
    }
}

/// A server comes up beside records that it cannot read, knows all others, and ends the sessions that a server that has gone has left.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_read_keep_no_server_from_its_start() {
    let (fleet, a, b) = two().await;
    let (lost, known) = (node(&a, &b).await.0, node(&a, &b).await.0);
    let account = a.region.machines().get(known).unwrap().account;
    for id in ["unreadable", "readable"] {
        fleet.store.put_session(left(id, known, account)).await.unwrap();
    }
    for server in [a, b] {
        let Server { running, link } = server;
        drop((running, link));
    }
    let damaged = ["nodes", &lost.to_string(), "documents", "sessions", "unreadable"];
    let c = fleet.server_that_cannot_read("c", &damaged).await;
    let reply = c.ssm("DescribeInstanceInformation", value!({})).await;
    let list = body(&reply)["InstanceInformationList"].clone();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["InstanceId"]), (1, &value!(known.to_string())));
    assert!(c.region.machines().get(lost).is_some(), "the machine itself is known");
    let documents = body(&c.ssm("ListDocuments", value!({})).await)["DocumentIdentifiers"].clone();
    assert!(!documents.as_array().unwrap().is_empty(), "those that every account has");
    until("what was left is ended", async || {
        let query = SessionQuery { account: None, has_ended: false, after: None, limit: SessionQuery::LIMIT_MAX };
        let open = fleet.store.sessions(query).await.unwrap();
        open.iter().map(|session| session.id.as_str()).eq(["unreadable"])
    })
    .await;
}
