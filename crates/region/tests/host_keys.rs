//! Host keys in and out, through the whole gateway: who may, what is refused, what becomes of a change.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use common::*;
use inborn_identity::{Clock, InstanceId, UnixTime};
use inborn_region::KeySource;
use inborn_ssh::{HostKeySet, NAMESPACE, proof_message};
use inborn_store::{SqliteStore, Store};
use serde_json::{Value, json};
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Algorithm, Certificate, HashAlg, LineEnding, Signature, SshSig};

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMd6eplFJygDaby7l9CC2zxVE3VP1nuDKDnsXxR4W99/ root@a";
const ANOTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+B+SbCCpqmqWo1SiUG3HGZbz4NyvXcZzIrWV/Hz4Qz root@b";

/// A call in the form of the scripts of AWS's package: named by its path, with a target that is not signed.
fn scripted(operation: &str, body: &str) -> Call {
    Call {
        target: format!("/{operation}/"),
        headers: vec![("content-type", "application/json".to_owned()), ("content-encoding", "amz-1.0".to_owned())],
        ..call("ec2-instance-connect", body)
    }
}

fn body(id: InstanceId, keys: &[&str]) -> String {
    json!({ "AccountID": "123456789012", "AvailabilityZone": "eu-central-1a", "HostKeys": keys,
        "InstanceId": id.to_string() })
    .to_string()
}

fn ours(operation: &str, body: &Value) -> Call {
    json_call(&format!("AWSEC2InstanceConnectService.{operation}"), &body.to_string())
}

fn json_call(target: &str, body: &str) -> Call {
    let headers = vec![("content-type", "application/x-amz-json-1.1".to_owned()), ("x-amz-target", target.to_owned())];
    Call { headers, ..call("ec2-instance-connect", body) }
}

impl Running {
    async fn put(&self, id: InstanceId, keys: &[&str]) -> Value {
        let reply = self.send(&self.machine(id), &scripted("PutEC2HostKeys", &body(id, keys))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    }

    async fn get(&self, id: InstanceId) -> String {
        let reply = self.send(&self.machine(id), &scripted("GetEC2HostKeys", &body(id, &[]))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    }

    async fn operate(&self, operation: &str, body: Value) -> Reply {
        self.send(&self.operator(), &ours(operation, &body)).await
    }
}

fn served(keys: &[&str]) -> String {
    json!({ "HostKeys": keys }).to_string()
}

fn code(reply: &Reply) -> String {
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let error = body.get("Output").unwrap_or(&body);
    format!("{} {}", reply.status, error["__type"].as_str().unwrap().rsplit('#').next().unwrap())
}

#[tokio::test]
async fn the_first_set_is_taken_and_a_change_waits_for_an_operator() {
    let running = start().await;
    let id = running.launch().await;
    assert_eq!(running.get(id).await, served(&[]));
    assert_eq!(running.put(id, &[ED25519]).await["Outcome"], "first");
    assert_eq!(running.get(id).await, served(&[ED25519]));
    assert_eq!(running.put(id, &[ED25519]).await["Outcome"], "same");

    let changed = running.put(id, &[ANOTHER]).await;
    assert_eq!(changed["Outcome"], "pending-not-by-old-key");
    assert_eq!(running.get(id).await, served(&[ED25519]));
    let line = running.audit().into_iter().rfind(|line| line["eventName"] == "PutEC2HostKeys").unwrap();
    assert_eq!(line["responseElements"]["outcome"], "pending-not-by-old-key");
    // Whoever watches the audit is told once of each set that waits, and what goes on serving.
    let digest = |keys: &[&str]| HostKeySet::parse(keys.iter().copied()).unwrap().digest();
    let raised = || -> Vec<Value> {
        let is_one = |line: &Value| line["eventName"] == "Inborn.HostKeysPending";
        running.audit().into_iter().filter(is_one).collect()
    };
    assert_eq!(running.put(id, &[ANOTHER]).await["Outcome"], "pending-not-by-old-key");
    let events = raised();
    assert_eq!(events.len(), 1, "{events:?}");
    let fingerprint = ssh_key::PublicKey::from_openssh(ANOTHER).unwrap().fingerprint(HashAlg::Sha256).to_string();
    assert_eq!(
        events[0]["requestParameters"],
        json!({ "instanceId": id.to_string(), "digest": changed["Digest"], "fingerprints": [fingerprint] })
    );
    assert_eq!(
        events[0]["responseElements"],
        json!({ "outcome": "pending-not-by-old-key", "servedDigest": digest(&[ED25519]) })
    );
    assert_eq!(events[0]["eventSource"], "ec2-instance-connect.amazonaws.com");
    assert_eq!(events[0]["userIdentity"]["arn"], line["userIdentity"]["arn"]);
    running.put(id, &[ED25519, ANOTHER]).await;
    assert_eq!(raised().len(), 2, "another set");
    running.put(id, &[ANOTHER]).await;
    assert_eq!(raised().len(), 3, "which took its place");

    let record = running.operate("Inborn.DescribeHostKeys", json!({ "InstanceId": id.to_string() })).await;
    let record: Value = serde_json::from_str(&record.body).unwrap();
    assert_eq!(record["Pending"]["Digest"], changed["Digest"]);
    assert_eq!((&record["Current"]["Basis"], &record["Served"]), (&json!("first"), &json!(true)));
    assert_eq!(record["Current"]["SourceAddress"], "127.0.0.1");

    // Not one that was not looked at.
    let decide = |digest: &Value, decision: &str| json!({ "InstanceId": id.to_string(), "Digest": digest, "Decision": decision });
    let reply = running.operate("Inborn.DecideHostKeys", decide(&record["Current"]["Digest"], "approve")).await;
    assert_eq!(code(&reply), "400 InvalidArgsException");
    assert_eq!(running.get(id).await, served(&[ED25519]));
    let reply = running.operate("Inborn.DecideHostKeys", decide(&changed["Digest"], "approve")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(running.get(id).await, served(&[ANOTHER]));

    running.put(id, &[ED25519]).await;
    let back = running.put(id, &[ED25519]).await;
    let reply = running.operate("Inborn.DecideHostKeys", decide(&back["Digest"], "reject")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(running.get(id).await, served(&[ANOTHER]));
    let reply = running.operate("Inborn.DecideHostKeys", decide(&back["Digest"], "approve")).await;
    assert_eq!(code(&reply), "400 InvalidArgsException");
}

#[tokio::test]
async fn a_machine_that_has_just_booted_may_have_new_keys_once() {
    let running = start().await;
    let id = running.launch().await;
    running.put(id, &[ED25519]).await;
    running.clock.advance(3600);
    let reboot = ec2(&format!("Action=RebootInstances&InstanceId.1={id}"));
    assert_eq!(running.send(&running.operator(), &reboot).await.status, 200);
    assert_eq!(running.put(id, &[ANOTHER]).await["Outcome"], "fresh-boot");
    assert_eq!(running.put(id, &[ED25519]).await["Outcome"], "pending-not-by-old-key");
    assert_eq!(running.get(id).await, served(&[ANOTHER]));
}

#[tokio::test]
async fn a_stricter_policy_holds_for_what_is_there() {
    let running = start().await;
    let (id, new) = (running.launch().await, running.launch().await);
    running.put(id, &[ED25519]).await;
    let reply = running.operate("Inborn.PutHostKeyPolicy", json!({ "Policy": "require-proof" })).await;
    let settings: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((&settings["Policy"], &settings["Certificates"]), (&json!("require-proof"), &json!("disabled")));
    assert_eq!(running.operate("Inborn.GetHostKeyPolicy", json!({})).await.body, reply.body);
    assert_eq!(running.get(id).await, served(&[]));
    let offered = running.put(new, &[ANOTHER]).await;
    assert_eq!(offered["Outcome"], "pending-unproven");
    let decision = json!({ "InstanceId": new.to_string(), "Digest": offered["Digest"], "Decision": "approve" });
    assert_eq!(running.operate("Inborn.DecideHostKeys", decision).await.status, 200);
    assert_eq!(running.get(new).await, served(&[ANOTHER]));
    let reply = running.operate("Inborn.PutHostKeyPolicy", json!({ "Policy": "trust" })).await;
    assert_eq!(code(&reply), "400 InvalidArgsException");
    running.operate("Inborn.PutHostKeyPolicy", json!({ "Policy": "accept-unproven" })).await;
    assert_eq!(running.get(id).await, served(&[ED25519]));
}

/// A host key whose private half is here.
struct HostKey(Ed25519KeyPair);

impl HostKey {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn data(&self) -> KeyData {
        KeyData::Ed25519(Ed25519PublicKey(self.0.public_key().as_ref().try_into().unwrap()))
    }

    fn line(&self) -> String {
        ssh_key::PublicKey::new(self.data(), "root@host").to_openssh().unwrap()
    }

    /// A proof by this key that the machine has exactly these keys.
    fn proof(&self, id: InstanceId, at: UnixTime, keys: &[&HostKey]) -> String {
        let lines: Vec<String> = keys.iter().map(|key| key.line()).collect();
        let set = HostKeySet::parse(lines.iter().map(String::as_str)).unwrap();
        let message = proof_message(identity().account, id, at, &set);
        let signed = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, message.as_bytes()).unwrap();
        let signature = Signature::new(Algorithm::Ed25519, self.0.sign(&signed).as_ref()).unwrap();
        SshSig::new(self.data(), NAMESPACE, HashAlg::Sha512, signature).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    /// The call of a machine that proves the key and wants a certificate of it.
    fn proven(&self, id: InstanceId, now: UnixTime) -> Value {
        let mut call = offer(id, &[self], &[self.proof(id, now, &[self])], now);
        call["Certificates"] = json!("wanted");
        call
    }
}

/// The call of a machine that publishes these keys, with these proofs.
fn offer(id: InstanceId, keys: &[&HostKey], proofs: &[String], at: UnixTime) -> Value {
    let lines: Vec<String> = keys.iter().map(|key| key.line()).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut call: Value = serde_json::from_str(&body(id, &lines)).unwrap();
    call["Proofs"] = json!(proofs);
    call["ProofTime"] = json!(at.as_secs());
    call
}

impl Running {
    async fn put_call(&self, id: InstanceId, call: &Value) -> Value {
        let reply = self.send(&self.machine(id), &scripted("PutEC2HostKeys", &call.to_string())).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    }
}

#[tokio::test]
async fn where_proof_is_demanded_a_boot_replaces_no_set_that_is_proven_or_approved() {
    let running = start().await;
    let [proven, approved, doubtful] = [running.launch().await, running.launch().await, running.launch().await];
    let (key, intruder) = (HostKey::new(1), HostKey::new(2));
    running.put(doubtful, &[ED25519]).await;
    running.operate("Inborn.PutHostKeyPolicy", json!({ "Policy": "require-proof" })).await;
    let first = running.put_call(proven, &key.proven(proven, running.clock.now())).await;
    assert_eq!(first["Outcome"], "first");
    let offered = running.put(approved, &[ED25519]).await;
    let decision = json!({ "InstanceId": approved.to_string(), "Digest": offered["Digest"], "Decision": "approve" });
    assert_eq!(running.operate("Inborn.DecideHostKeys", decision).await.status, 200);
    running.clock.advance(3600);
    for id in [proven, approved, doubtful] {
        let reboot = ec2(&format!("Action=RebootInstances&InstanceId.1={id}"));
        assert_eq!(running.send(&running.operator(), &reboot).await.status, 200);
    }
    let (line, old) = (intruder.line(), key.line());
    for (id, outcome, keys) in [
        (proven, "pending-not-by-old-key", old.as_str()),
        (approved, "pending-not-by-old-key", ED25519),
        // Nobody was told of the one that is replaced.
        (doubtful, "fresh-boot", line.as_str()),
    ] {
        let answer = running.put_call(id, &intruder.proven(id, running.clock.now())).await;
        assert_eq!(answer["Outcome"], outcome);
        assert_eq!(running.get(id).await, served(&[keys]));
    }
}

#[tokio::test]
async fn a_proof_that_was_made_for_something_else_is_refused_and_the_old_set_stays() {
    let running = start().await;
    let (id, other) = (running.launch().await, running.launch().await);
    let (old, new) = (HostKey::new(1), HostKey::new(2));
    let now = running.clock.now();
    assert_eq!(running.put_call(id, &old.proven(id, now)).await["Outcome"], "first");
    let vouched = |of: InstanceId, at: UnixTime| [old.proof(of, at, &[&new]), new.proof(of, at, &[&new])];
    let as_first = old.proof(id, now, &[&old]);
    for (what, call) in [
        ("another machine's", offer(id, &[&new], &vouched(other, now), now)),
        ("of another time", offer(id, &[&new], &vouched(id, now.minus(1)), now)),
        ("of other keys", offer(id, &[&new], &[as_first], now)),
        ("of a part of the keys", offer(id, &[&old, &new], &vouched(id, now), now)),
        ("too old", offer(id, &[&new], &vouched(id, now.minus(901)), now.minus(901))),
        ("of times to come", offer(id, &[&new], &vouched(id, now.plus(901)), now.plus(901))),
    ] {
        let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &call.to_string())).await;
        assert_eq!(code(&reply), "400 InvalidArgsException", "{what}");
        assert_eq!(running.get(id).await, served(&[&old.line()]), "{what}");
    }
    // Another machine sends what this one has sent: neither its name nor its own is signed by these keys.
    let stolen = offer(id, &[&new], &vouched(id, now), now).to_string();
    let reply = running.send(&running.machine(other), &scripted("PutEC2HostKeys", &stolen)).await;
    assert_eq!(code(&reply), "400 AuthException");
    let stolen = offer(other, &[&new], &vouched(id, now), now).to_string();
    let reply = running.send(&running.machine(other), &scripted("PutEC2HostKeys", &stolen)).await;
    assert_eq!(code(&reply), "400 InvalidArgsException");
    assert_eq!((running.get(other).await, running.get(id).await), (served(&[]), served(&[&old.line()])));
    assert_eq!(running.put_call(id, &offer(id, &[&new], &vouched(id, now), now)).await["Outcome"], "old-key");
}

/// A proof that was good once, sent again after the keys have changed: by whoever has seen it.
#[tokio::test]
async fn a_proof_that_was_sent_before_changes_nothing() {
    let running = start().await;
    let id = running.launch().await;
    let (first, second) = (HostKey::new(1), HostKey::new(2));
    let times: Vec<UnixTime> = (0..4).map(|minute| NOW.plus(60 * minute)).collect();
    let change = |from: &HostKey, to: &HostKey, at: UnixTime| {
        offer(id, &[to], &[from.proof(id, at, &[to]), to.proof(id, at, &[to])], at)
    };
    running.put_call(id, &first.proven(id, times[0])).await;
    let seen = change(&first, &second, times[1]);
    running.clock.set(times[1]);
    assert_eq!(running.put_call(id, &seen).await["Outcome"], "old-key");
    running.clock.set(times[2]);
    assert_eq!(running.put_call(id, &change(&second, &first, times[2])).await["Outcome"], "old-key");
    // The key that vouched for it is one of the machine's again.
    assert_eq!(running.put_call(id, &seen).await["Outcome"], "pending-not-by-old-key");
    assert_eq!(running.get(id).await, served(&[&first.line()]));

    // Nor is one of an earlier boot, though the key that made it was kept through the boot.
    running.clock.advance(3600);
    let before = running.clock.now();
    let made_before = change(&first, &second, before);
    running.clock.advance(60);
    let reboot = ec2(&format!("Action=RebootInstances&InstanceId.1={id}"));
    assert_eq!(running.send(&running.operator(), &reboot).await.status, 200);
    let (third, now) = (HostKey::new(3), running.clock.now());
    let both = [&first, &third];
    let proofs = [third.proof(id, now, &both)];
    assert_eq!(running.put_call(id, &offer(id, &both, &proofs, now)).await["Outcome"], "fresh-boot");
    assert_eq!(running.put_call(id, &made_before).await["Outcome"], "pending-not-by-old-key");
    let (a, b) = (first.line(), third.line());
    let mut lines = [a.as_str(), b.as_str()];
    lines.sort_unstable();
    assert_eq!(running.get(id).await, served(&lines));
}

#[tokio::test]
async fn proven_keys_that_serve_are_certified_where_the_account_has_it() {
    let running = start().await;
    let id = running.launch().await;
    let (key, now) = (HostKey::new(1), running.clock.now());
    assert_eq!(running.put_call(id, &key.proven(id, now)).await.get("Certificates"), None, "nobody has allowed it");
    let reply = running.operate("Inborn.PutHostKeyPolicy", json!({ "Certificates": "enabled" })).await;
    let settings: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((&settings["Policy"], &settings["Certificates"]), (&json!("accept-unproven"), &json!("enabled")));

    let answer = running.put_call(id, &key.proven(id, now)).await;
    let certificate = Certificate::from_openssh(answer["Certificates"][0].as_str().unwrap()).unwrap();
    assert_eq!((certificate.public_key(), certificate.cert_type().is_host()), (&key.data(), true));
    let machine = running.region.machines().get(id).unwrap();
    let [address, name] =
        [machine.private_address.to_string(), running.region.identity().private_dns_name(machine.private_address)];
    assert_eq!(certificate.valid_principals(), [id.to_string(), name, address.clone()]);
    assert_eq!(certificate.valid_before() - certificate.valid_after(), 3 * 24 * 3600 + 15 * 60);
    let authority = settings["CertificateAuthority"].as_str().unwrap();
    assert_eq!(ssh_key::PublicKey::from_openssh(authority).unwrap().key_data(), certificate.signature_key());
    let line = running.audit().into_iter().rfind(|line| line["eventName"] == "PutEC2HostKeys").unwrap();
    assert_eq!(line["responseElements"]["certificates"], 1);

    // Not without a proof, not without asking, not for a set that waits.
    let mut call = key.proven(id, now);
    call.as_object_mut().unwrap().remove("Proofs");
    assert_eq!(running.put_call(id, &call).await.get("Certificates"), None);
    let mut call = key.proven(id, now);
    call.as_object_mut().unwrap().remove("Certificates");
    assert_eq!(running.put_call(id, &call).await.get("Certificates"), None);
    let waits = running.put_call(id, &HostKey::new(2).proven(id, now)).await;
    assert_eq!((&waits["Outcome"], waits.get("Certificates")), (&json!("pending-not-by-old-key"), None));

    // Another machine with its address: neither is believed under it from now on.
    let launch = format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&PrivateIpAddress={address}");
    let twin = running.send(&running.operator(), &ec2(&launch)).await;
    let twin: InstanceId = between(&twin.body, "<instanceId>", "</instanceId>").parse().unwrap();
    for (id, key) in [(id, key), (twin, HostKey::new(3))] {
        let answer = running.put_call(id, &key.proven(id, now)).await;
        let certificate = Certificate::from_openssh(answer["Certificates"][0].as_str().unwrap()).unwrap();
        assert_eq!(certificate.valid_principals(), [id.to_string()]);
    }
    // And so with the other kind of address, each for itself.
    let launch =
        |parameter: &str| ec2(&format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&{parameter}"));
    let launched = async |parameter: &str| -> InstanceId {
        let reply = running.send(&running.operator(), &launch(parameter)).await;
        between(&reply.body, "<instanceId>", "</instanceId>").parse().unwrap()
    };
    let principals = async |id: InstanceId, seed: u8| {
        let answer = running.put_call(id, &HostKey::new(seed).proven(id, now)).await;
        let certificate = Certificate::from_openssh(answer["Certificates"][0].as_str().unwrap()).unwrap();
        certificate.valid_principals().to_vec()
    };
    let id6 = launched("Ipv6AddressCount=1").await;
    let machine = running.region.machines().get(id6).unwrap();
    let address = machine.ipv6_address.unwrap().to_string();
    assert_eq!(principals(id6, 4).await.last(), Some(&address));
    let twin = launched(&format!("Ipv6Address.1.Ipv6Address={address}")).await;
    for (id, seed) in [(id6, 4), (twin, 5)] {
        let names = principals(id, seed).await;
        assert!(names.len() == 3 && !names.contains(&address), "{names:?}");
    }
    for wrong in [json!({}), json!({ "Certificates": "yes" })] {
        let reply = running.operate("Inborn.PutHostKeyPolicy", wrong).await;
        assert_eq!(code(&reply), "400 InvalidArgsException");
    }
    let mut call = HostKey::new(1).proven(id, now);
    call["Certificates"] = json!("please");
    let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &call.to_string())).await;
    assert_eq!(code(&reply), "400 InvalidArgsException");
}

#[tokio::test]
async fn the_authority_of_certificates_is_kept() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let key = || KeySource::File(directory.path().join("epoch.key"));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let running = start_on(Arc::clone(&store), key()).await;
        seen.push(running.operate("Inborn.GetHostKeyPolicy", json!({})).await.body);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_machine_speaks_of_itself_only() {
    let running = start().await;
    let (id, other) = (running.launch().await, running.launch().await);
    running.put(other, &[ED25519]).await;
    let account = json!({ "AccountID": "999999999999", "AvailabilityZone": "eu-central-1a", "HostKeys": [ANOTHER],
        "InstanceId": id.to_string() });
    let zone = json!({ "AccountID": "123456789012", "AvailabilityZone": "eu-central-1b", "HostKeys": [ANOTHER],
        "InstanceId": id.to_string() });
    let nameless = json!({ "HostKeys": [ANOTHER], "InstanceId": id.to_string() });
    for (operation, text, expected) in [
        ("PutEC2HostKeys", body(other, &[ANOTHER]), "400 AuthException"),
        ("GetEC2HostKeys", body(other, &[]), "400 AuthException"),
        ("PutEC2HostKeys", account.to_string(), "400 AuthException"),
        ("PutEC2HostKeys", zone.to_string(), "400 AuthException"),
        ("PutEC2HostKeys", nameless.to_string(), "400 ValidationException"),
    ] {
        let reply = running.send(&running.machine(id), &scripted(operation, &text)).await;
        assert_eq!(code(&reply), expected, "{operation} {text}");
    }
    assert_eq!(running.get(other).await, served(&[ED25519]));
    // Operators read every machine's, publish none, and the machine decides about none.
    let reply = running.operate("GetEC2HostKeys", json!({ "InstanceId": other.to_string() })).await;
    assert_eq!((reply.status, reply.body), (200, served(&[ED25519])));
    let reply = running.send(&running.operator(), &scripted("PutEC2HostKeys", &body(other, &[ANOTHER]))).await;
    assert_eq!(code(&reply), "400 AccessDeniedException");
    let decision = ours("Inborn.DecideHostKeys", &json!({ "InstanceId": id.to_string() }));
    assert_eq!(code(&running.send(&running.machine(id), &decision).await), "400 UnrecognizedClientException");
    let reply = running.operate("GetEC2HostKeys", json!({ "InstanceId": "i-0123456789abcdef0" })).await;
    assert_eq!(code(&reply), "400 EC2InstanceNotFoundException");
}

/// The line of an RSA key whose modulus has so many bits.
fn rsa_line(bits: usize) -> String {
    let number = |bytes: &[u8]| ssh_key::Mpint::from_positive_bytes(bytes).unwrap();
    let key = ssh_key::public::RsaPublicKey { e: number(&[1, 0, 1]), n: number(&vec![0xc5; bits / 8]) };
    ssh_key::PublicKey::new(KeyData::Rsa(key), "root@a").to_openssh().unwrap()
}

#[tokio::test]
async fn what_is_no_set_of_host_keys_is_refused_and_the_old_set_stays() {
    let running = start().await;
    let id = running.launch().await;
    running.put(id, &[ED25519]).await;
    let many = vec![ANOTHER; 65];
    let short = rsa_line(1024);
    let short = short.as_str();
    for keys in [
        &[][..],
        &["ssh-ed25519 AAAA x"],
        &[short],
        &["hello"],
        &many,
        &["ssh-dss AAAA root@old"],
        // Good keys do not make it better.
        &[ANOTHER, short],
        &["hello", ANOTHER],
    ] {
        let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &body(id, keys))).await;
        assert_eq!(code(&reply), "400 InvalidArgsException", "{keys:?}");
    }
    // As the script builds it when a comment holds a quotation mark.
    let broken = body(id, &[ANOTHER]).replace("root@b", "the \"second\" one");
    let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &broken)).await;
    assert_eq!(code(&reply), "400 SerializationException");
    let ten_thousand = vec![ANOTHER; 10_000];
    let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &body(id, &ten_thousand))).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (
            413,
            concat!(
                r#"{"Output":{"__type":"com.amazon.coral.service#RequestEntityTooLarge","#,
                r#""message":"Request body is larger than this service takes."},"Version":"1.0"}"#
            )
        )
    );
    // What fits into a body, and is more than a machine has.
    let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &body(id, &many))).await;
    let answer: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(answer["Output"]["message"], "a machine has at most 16 host keys, in at most 64 lines");
    let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &body(id, &[ANOTHER, short]))).await;
    let answer: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(answer["Output"]["message"], "host key 2: an RSA key has 2048 to 8192 bits, this one has 1024");
    let mut with_proof: Value = serde_json::from_str(&body(id, &[ANOTHER])).unwrap();
    with_proof["Proofs"] = json!(["-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"]);
    for time in [json!(null), json!(NOW.as_secs()), json!(NOW.as_secs() + 901), json!(-1)] {
        with_proof["ProofTime"] = time;
        let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &with_proof.to_string())).await;
        assert_eq!(code(&reply), "400 InvalidArgsException");
    }
    assert_eq!(running.get(id).await, served(&[ED25519]));
}

#[tokio::test]
async fn the_path_names_the_operation_and_the_target_must_agree() {
    let running = start().await;
    let id = running.launch().await;
    let body = body(id, &[ED25519]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let unsigned = |target: &str| {
        let text = running.signed(&running.machine(id), &scripted("PutEC2HostKeys", &body));
        text.replacen("\r\n", &format!("\r\nx-amz-target: {target}\r\nx-amz-content-sha256: {hash}\r\n"), 1)
    };
    let prefix = "com.amazon.aws.sshaccessproxyservice.AWSEC2InstanceConnectService";
    let reply = exchange(running.address, &unsigned(&format!("{prefix}.PutEC2HostKeys"))).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    for target in [format!("{prefix}.GetEC2HostKeys"), "AWSEC2InstanceConnectService.SendSSHPublicKey".to_owned()] {
        let reply = exchange(running.address, &unsigned(&target)).await;
        assert_eq!(code(&reply), "400 UnrecognizedClientException", "{target}");
    }
}
