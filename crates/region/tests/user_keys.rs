//! Keys for logins through the whole gateway: what is refused and how, what is sent, when it ends, what the audit says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use common::*;
use inborn_identity::{Clock, InstanceId};
use inborn_region::USER_KEY_SECONDS;
use serde_json::{Value, json as value};

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMd6eplFJygDaby7l9CC2zxVE3VP1nuDKDnsXxR4W99/ me@laptop";
const ANOTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+B+SbCCpqmqWo1SiUG3HGZbz4NyvXcZzIrWV/Hz4Qz";
const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBSm1uQD9zUXhQ3Hs4VUOiy0oxGbjzcNPYEYwwlU1+cWVeQRsaPdBiM8pZZMBoK6FfN7rVqqcOCrWrpSRfKBcKM= a";

fn body(id: InstanceId, user: &str, key: &str) -> Value {
    value!({ "InstanceId": id.to_string(), "InstanceOSUser": user, "SSHPublicKey": key })
}

fn changed(id: InstanceId, name: &str, member: Value) -> Value {
    let mut body = body(id, "root", ED25519);
    body[name] = member;
    body
}

impl Running {
    async fn call(&self, operation: &str, body: &Value) -> Reply {
        let target = format!("AWSEC2InstanceConnectService.{operation}");
        self.send(&self.operator(), &json("ec2-instance-connect", &target, &body.to_string())).await
    }

    async fn send_key(&self, id: InstanceId, user: &str, key: &str) -> Reply {
        self.call("SendSSHPublicKey", &body(id, user, key)).await
    }

    /// The keys that there are, by user.
    fn keys(&self, id: InstanceId) -> Vec<(String, String)> {
        let sent = self.region.sent_keys(id, self.clock.now());
        let keys = sent.into_iter().flat_map(|sent| sent.keys);
        keys.map(|key| (key.user, key.block.lines().find(|line| line.starts_with("ssh-")).unwrap().to_owned()))
            .collect()
    }
}

async fn ready() -> Running {
    let running = start().await;
    running.region.complete_signers().await.unwrap();
    running
}

/// Status, code and text of a refusal, whose members are those of the model.
fn refused(reply: &Reply) -> (u16, String, String) {
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{}", reply.body)).to_owned();
    (reply.status, text("__type"), text("Message"))
}

#[tokio::test]
async fn a_key_is_sent_for_a_minute() {
    let running = ready().await;
    let id = running.launch().await;
    assert!(running.region.sent_keys(id, NOW).is_none());
    let reply = running.send_key(id, "ec2-user", ED25519).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-amz-json-1.1")));
    let answer: Value = serde_json::from_str(&reply.body).unwrap();
    let request_id = reply.header("x-amzn-requestid").unwrap();
    assert_eq!(answer, value!({ "RequestId": request_id, "Success": true }));

    let sent = running.region.sent_keys(id, NOW).unwrap();
    let block = &sent.keys[0].block;
    let (lines, signature) = block.trim_end().rsplit_once('\n').unwrap();
    let expected = format!(
        "#Timestamp={}\n#Instance={id}\n#Caller=arn:aws:iam::123456789012:user/operator\n#Request={request_id}\n\
         #User=ec2-user\n{ED25519}",
        NOW.plus(USER_KEY_SECONDS).as_secs()
    );
    assert_eq!(lines, expected);
    assert!(block.ends_with(&format!("{signature}\n\n")) && signature.len() == 344, "{block}");
    assert_eq!(sent.signer_chain.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(sent.staples.len(), 1, "one for each certificate but the root");

    let record = running.audit().into_iter().rfind(|line| line["eventName"] == "SendSSHPublicKey").unwrap();
    assert_eq!(record["eventSource"], "ec2-instance-connect.amazonaws.com");
    let parameters = value!({ "instanceId": id.to_string(), "osUser": "ec2-user", "SSHKey": { "publicKey": ED25519 } });
    assert_eq!((&record["requestParameters"], &record["readOnly"]), (&parameters, &value!(false)));
    assert_eq!((&record["responseElements"], &record["requestID"]), (&Value::Null, &value!(request_id)));

    running.clock.advance(USER_KEY_SECONDS - 1);
    assert_eq!(running.keys(id).len(), 1);
    running.clock.advance(1);
    assert!(running.keys(id).is_empty());
}

#[tokio::test]
async fn several_keys_at_once_each_for_its_user_and_machine() {
    let running = ready().await;
    let (id, other) = (running.launch().await, running.launch().await);
    for (user, key) in [("root", ED25519), ("root", ANOTHER), ("me", ED25519), ("root", ED25519)] {
        assert_eq!(running.send_key(id, user, key).await.status, 200);
    }
    let expected = [("root", ANOTHER), ("me", ED25519), ("root", ED25519)];
    assert_eq!(running.keys(id), expected.map(|(user, key)| (user.to_owned(), key.to_owned())));
    assert!(running.keys(other).is_empty());
}

#[tokio::test]
async fn more_keys_than_there_may_be_are_refused_and_the_others_stay() {
    let running = ready().await;
    let id = running.launch().await;
    let with_comment = |n: u8| {
        // Eight different keys: another byte of the point in each.
        let mut line = ED25519.to_owned();
        line.replace_range(60..61, &char::from(b'A' + n).to_string());
        line
    };
    for n in 0..8 {
        assert_eq!(running.send_key(id, "root", &with_comment(n)).await.status, 200, "{n}");
    }
    let (status, code, message) = refused(&running.send_key(id, "root", &with_comment(8)).await);
    assert_eq!((status, code.as_str()), (400, "ThrottlingException"));
    assert!(message.contains("wait for one to expire"), "{message}");
    assert_eq!(running.keys(id).len(), 8);
    assert_eq!(running.send_key(id, "me", &with_comment(8)).await.status, 200);
}

#[tokio::test]
async fn what_breaks_the_model_is_an_invalid_argument() {
    let running = ready().await;
    let id = running.launch().await;
    let constraint = |value: &str, place: &str, rule: &str| {
        format!(
            "1 validation error detected: Value {value} at '{place}' failed to satisfy constraint: Member must {rule}"
        )
    };
    let key_is = "Invalid input parameter received for Illegal argument exception: RSA - SSH Public key is invalid: ";
    let bare = ANOTHER;
    let cases = [
        // As AWS answered it: mludvig/aws-ssm-tools#44.
        (
            changed(id, "InstanceId", value!("mi-048afb7f6460a110d")),
            constraint("'mi-048afb7f6460a110d'", "instanceId", "satisfy regular expression pattern: ^i-[a-f0-9]+$"),
        ),
        (changed(id, "InstanceId", Value::Null), constraint("null", "instanceId", "not be null")),
        (
            changed(id, "InstanceId", value!("i-0123456")),
            constraint("'i-0123456'", "instanceId", "have length greater than or equal to 10"),
        ),
        (changed(id, "InstanceOSUser", Value::Null), constraint("null", "instanceOSUser", "not be null")),
        (
            changed(id, "InstanceOSUser", value!("")),
            constraint("''", "instanceOSUser", "have length greater than or equal to 1"),
        ),
        (
            changed(id, "InstanceOSUser", value!("u".repeat(33))),
            constraint(&format!("'{}'", "u".repeat(33)), "instanceOSUser", "have length less than or equal to 32"),
        ),
        (
            changed(id, "SSHPublicKey", value!("k".repeat(79))),
            constraint(&format!("'{}'", "k".repeat(79)), "sSHPublicKey", "have length greater than or equal to 80"),
        ),
        (changed(id, "SSHPublicKey", Value::Null), constraint("null", "sSHPublicKey", "not be null")),
        (
            changed(id, "AvailabilityZone", value!("lab-1a")),
            constraint("'lab-1a'", "availabilityZone", r"satisfy regular expression pattern: ^(\w+-){2,3}\d+\w+$"),
        ),
        (
            changed(id, "SSHPublicKey", value!("k".repeat(80))),
            format!("{key_is}this is not a public key in OpenSSH's form (TYPE BASE64 COMMENT)"),
        ),
        (changed(id, "SSHPublicKey", value!(ECDSA)), format!("{key_is}keys of type ecdsa-sha2-nistp256 are not taken")),
    ];
    for (body, expected) in cases {
        let reply = running.call("SendSSHPublicKey", &body).await;
        assert_eq!(refused(&reply), (400, "InvalidArgsException".to_owned(), expected), "{body}");
    }
    for comment in ["a\"b", "a\\b", "a\nssh-ed25519 AAAA", "a\u{1b}[2J", "a\u{0}", &"c".repeat(257)] {
        let reply = running.send_key(id, "root", &format!("{bare} {comment}")).await;
        assert_eq!(refused(&reply).1, "InvalidArgsException", "{comment:?}");
    }
    for user in ["a/b", "../root", "a b", "a\nb", ".a", "ü"] {
        assert_eq!(refused(&running.send_key(id, user, ED25519).await).1, "InvalidArgsException", "{user:?}");
    }
    let reply = running.send_key(id, "root", &"k".repeat(4097)).await;
    assert!(refused(&reply).2.ends_with("Member must have length less than or equal to 4096"));
    let many = vec![ED25519; 10_000].join("\n");
    let reply = running.send_key(id, "root", &many).await;
    assert_eq!((reply.status, running.keys(id).len()), (413, 0), "ten thousand keys in one");
    let list = running.call("SendSSHPublicKey", &changed(id, "SSHPublicKey", value!([ED25519, ANOTHER]))).await;
    assert_eq!(list.status, 400, "{}", list.body);
    assert!(list.body.contains("SerializationException"), "{}", list.body);
    assert!(running.keys(id).is_empty());
}

#[tokio::test]
async fn a_key_is_sent_to_a_machine_that_runs_and_is_where_it_is_said_to_be() {
    let running = ready().await;
    let id = running.launch().await;
    let here = changed(id, "AvailabilityZone", value!("eu-central-1a"));
    assert_eq!(running.call("SendSSHPublicKey", &here).await.status, 200);
    for body in [
        changed(id, "AvailabilityZone", value!("eu-central-1b")),
        changed(id, "InstanceId", value!("i-00000000000000000")),
        changed(id, "InstanceId", value!("i-01234567")),
    ] {
        let (status, code, message) = refused(&running.call("SendSSHPublicKey", &body).await);
        assert_eq!((status, code.as_str()), (400, "EC2InstanceNotFoundException"), "{body}");
        assert!(message.contains(body["InstanceId"].as_str().unwrap()), "{message}");
    }
    for action in ["StopInstances", "TerminateInstances"] {
        let reply = running.send(&running.operator(), &ec2(&format!("Action={action}&InstanceId.1={id}"))).await;
        assert_eq!(reply.status, 200);
        let (status, code, message) = refused(&running.send_key(id, "root", ED25519).await);
        assert_eq!((status, code.as_str()), (400, "EC2InstanceStateInvalidException"));
        assert!(message.starts_with("Unable to connect because the instance is not in a valid state."), "{message}");
        assert!(running.keys(id).is_empty(), "what was sent before is gone");
    }
}

#[tokio::test]
async fn keys_end_with_the_boot_that_they_were_sent_to() {
    let running = ready().await;
    let id = running.launch().await;
    running.send_key(id, "root", ED25519).await;
    for action in ["StopInstances", "StartInstances"] {
        assert_eq!(running.keys(id).len(), usize::from(action == "StopInstances"));
        running.send(&running.operator(), &ec2(&format!("Action={action}&InstanceId.1={id}"))).await;
    }
    assert!(running.keys(id).is_empty());
    running.send_key(id, "root", ANOTHER).await;
    assert_eq!(running.keys(id), [("root".to_owned(), ANOTHER.to_owned())]);
}

#[tokio::test]
async fn a_region_that_has_no_signer_yet_asks_for_patience() {
    let running = start().await;
    let id = running.launch().await;
    let reply = running.send_key(id, "root", ED25519).await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    running.region.complete_signers().await.unwrap();
    assert_eq!(running.send_key(id, "root", ED25519).await.status, 200);
}

#[tokio::test]
async fn there_is_no_serial_console() {
    let running = ready().await;
    let id = running.launch().await;
    let console = |port: Value| value!({ "InstanceId": id.to_string(), "SSHPublicKey": ED25519, "SerialPort": port });
    let call = async |body: Value| refused(&running.call("SendSerialConsoleSSHPublicKey", &body).await);
    for port in [value!(0), Value::Null] {
        let (status, code, message) = call(console(port)).await;
        assert_eq!((status, code.as_str()), (400, "SerialConsoleAccessDisabledException"));
        assert!(message.starts_with("Your account is not authorized to use the EC2 Serial Console."), "{message}");
    }
    let (_, code, message) = call(console(value!(1))).await;
    assert_eq!(code, "InvalidArgsException");
    assert!(message.ends_with("Member must have value less than or equal to 0"), "{message}");
    let missing = value!({ "InstanceId": "i-00000000000000000", "SSHPublicKey": ED25519 });
    assert_eq!(call(missing).await.1, "EC2InstanceNotFoundException");
    let record = running.audit().pop().unwrap();
    assert_eq!(
        (&record["eventName"], &record["errorCode"]),
        (&value!("SendSerialConsoleSSHPublicKey"), &value!("EC2InstanceNotFoundException"))
    );
    assert_eq!(record["requestParameters"]["SSHKey"]["publicKey"], ED25519);
    assert!(running.keys(id).is_empty());
}
