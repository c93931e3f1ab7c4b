//! Calls of JSON services over a real connection: how an operation is named, and what is refused before it is done.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use serde_json::{Value, json as value};

const GET: &str = "AmazonSSM.GetServiceSetting";

fn get() -> Call {
    json("ssm", GET, &format!(r#"{{"SettingId":"{SETTING}"}}"#))
}

fn kind(reply: &Reply) -> (u16, String) {
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{}", reply.body));
    (reply.status, body["__type"].as_str().unwrap_or_default().to_owned())
}

/// With a header that the signature does not cover.
fn with_unsigned(text: &str, header: &str) -> String {
    text.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
}

#[tokio::test]
async fn a_call_is_named_by_its_target_and_answered_in_json() {
    let running = start().await;
    let reply = running.send(&running.operator(), &get()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(reply.header("x-amzn-requestid").unwrap().len(), 36);
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(body["ServiceSetting"]["SettingId"], SETTING);
}

#[tokio::test]
async fn only_a_target_that_is_signed_names_an_operation() {
    let running = start().await;
    let operator = running.operator();
    let unnamed =
        (403, "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized");
    let mut without = get();
    without.headers.retain(|(name, _)| *name != "x-amz-target");
    let unsigned = with_unsigned(&running.signed(&operator, &without), &format!("X-Amz-Target: {GET}"));
    let twice = with_unsigned(&running.signed(&operator, &get()), "X-Amz-Target: AmazonSSM.UpdateServiceSetting");
    for (text, why) in [(running.signed(&operator, &without), "absent"), (unsigned, "not signed")] {
        let reply = exchange(running.address, &text).await;
        assert_eq!(reply.status, unnamed.0, "{why}: {}", reply.body);
        assert!(reply.body.starts_with(unnamed.1), "{why}: {}", reply.body);
    }
    let reply = exchange(running.address, &twice).await;
    assert_eq!(kind(&reply), (400, "InvalidSignatureException".to_owned()), "one signed, one added: {}", reply.body);
}

#[tokio::test]
async fn what_is_not_here_is_unknown() {
    let running = start().await;
    let operator = running.operator();
    let target = |target: &str| json("ssm", target, "{}");
    for name in
        ["AmazonSSM.Frobnicate", "AmazonSSM.", "Other.GetServiceSetting", "AmazonSSM.AmazonSSM.GetServiceSetting"]
    {
        let reply = running.send(&operator, &target(name)).await;
        assert_eq!(kind(&reply), (400, "UnknownOperationException".to_owned()), "{name:?}: {}", reply.body);
    }
    for name in ["AmazonSSM", "GetServiceSetting", ""] {
        let reply = running.send(&operator, &target(name)).await;
        assert_eq!(reply.status, 403, "{name:?} names nothing: {}", reply.body);
    }
    for (method, path) in [("GET", "/"), ("PUT", "/"), ("POST", "/GetServiceSetting")] {
        let call = Call { method, target: path.to_owned(), ..get() };
        let reply = running.send(&operator, &call).await;
        assert_eq!((reply.status, reply.body.as_str()), (404, "<UnknownOperationException/>\n"), "{method} {path}");
    }
}

#[tokio::test]
async fn bodies_are_read_after_it_is_known_who_asks() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    for body in ["{", "[]", "\u{0}", r#"{"SettingId":1}"#, r#"{"SettingId":"a","SettingId":"b"}"#] {
        let call = json("ssm", GET, body);
        let reply = running.send(&running.operator(), &call).await;
        assert_eq!(kind(&reply), (400, "SerializationException".to_owned()), "{body:?}: {}", reply.body);
        let reply = running.send(&machine, &call).await;
        assert_eq!(kind(&reply), (400, "UnrecognizedClientException".to_owned()), "{body:?}: {}", reply.body);
    }
    let reply = running.send(&running.operator(), &json("ssm", GET, "")).await;
    assert_eq!(
        reply.body,
        r#"{"__type":"ValidationException","message":"1 validation error detected: Value null at 'settingId' failed to satisfy constraint: Member must not be null"}"#
    );
}

#[tokio::test]
async fn a_call_is_recorded_with_its_members_as_cloudtrail_spells_them() {
    let running = start().await;
    running.pass_role("AWSSystemsManagerDefaultEC2InstanceManagementRole").await;
    let record = running.audit().pop().unwrap();
    assert_eq!(
        (&record["eventSource"], &record["eventName"]),
        (&value!("ssm.amazonaws.com"), &value!("UpdateServiceSetting"))
    );
    assert_eq!(
        record["requestParameters"],
        value!({"settingId": SETTING, "settingValue": "AWSSystemsManagerDefaultEC2InstanceManagementRole"})
    );
    assert_eq!(record["readOnly"], false);
}
