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

    /// The call of a machine that proves the key and wants a certificate of it.
    fn proven(&self, id: InstanceId, now: UnixTime) -> Value {
        let mut call: Value = serde_json::from_str(&body(id, &[&self.line()])).unwrap();
        let set = HostKeySet::parse([self.line().as_str()]).unwrap();
        let message = proof_message(identity().account, id, now, &set);
        let signed = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, message.as_bytes()).unwrap();
        let signature = Signature::new(Algorithm::Ed25519, self.0.sign(&signed).as_ref()).unwrap();
        let proof = SshSig::new(self.data(), NAMESPACE, HashAlg::Sha512, signature).unwrap();
        call["Proofs"] = json!([proof.to_pem(LineEnding::LF).unwrap()]);
        call["ProofTime"] = json!(now.as_secs());
        call["Certificates"] = json!("wanted");
        call
    }
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

#[tokio::test]
async fn what_is_no_set_of_host_keys_is_refused_and_the_old_set_stays() {
    let running = start().await;
    let id = running.launch().await;
    running.put(id, &[ED25519]).await;
    let many = vec![ANOTHER; 65];
    let short = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7l0m1u1o1q1x1 root@a";
    for keys in [&[][..], &["ssh-ed25519 AAAA x"], &[short], &["hello"], &many, &["ssh-dss AAAA root@old"]] {
        let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &body(id, keys))).await;
        assert_eq!(code(&reply), "400 InvalidArgsException", "{keys:?}");
    }
    // As the script builds it when a comment holds a quotation mark.
    let broken = body(id, &[ANOTHER]).replace("root@b", "the \"second\" one");
    let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &broken)).await;
    assert_eq!(code(&reply), "400 SerializationException");
    let ten_thousand = vec![ANOTHER; 10_000];
    let reply = running.send(&running.machine(id), &scripted("PutEC2HostKeys", &body(id, &ten_thousand))).await;
    assert_eq!(reply.status, 413);
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
