//! GetCallerIdentity over a real connection: who is known, and how each fault is answered.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use inborn_credential::Delivery;
use inborn_identity::Clock;

#[tokio::test]
async fn a_machine_says_who_it_is_in_xml_and_json_by_post_and_get() {
    let running = start().await;
    let id = running.launch().await;
    let machine = running.machine(id);
    let reply = running.send(&machine, &call("sts", WHOAMI)).await;
    let request_id = reply.header("x-amzn-requestid").unwrap().to_owned();
    assert_eq!(
        reply.body,
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
             <GetCallerIdentityResult>\n    \
             <Arn>arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/{id}</Arn>\n    \
             <UserId>123456789012:aws:ec2-instance:{id}</UserId>\n    \
             <Account>123456789012</Account>\n  \
             </GetCallerIdentityResult>\n  \
             <ResponseMetadata>\n    <RequestId>{request_id}</RequestId>\n  </ResponseMetadata>\n\
             </GetCallerIdentityResponse>\n"
        )
    );
    assert_eq!(reply.header("content-type"), Some("text/xml"));
    assert_eq!(reply.header("date"), Some("Fri, 15 Jan 2027 08:00:00 GMT"));

    let mut json = call("sts", WHOAMI);
    json.headers.push(("accept", "application/json".to_owned()));
    let reply = running.send(&machine, &json).await;
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let result = &body["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    assert_eq!(result["UserId"], format!("123456789012:aws:ec2-instance:{id}"));

    let mut get = call("sts", "");
    get.method = "GET";
    get.target = format!("/?{WHOAMI}");
    get.headers.clear();
    assert_eq!(running.send(&machine, &get).await.status, 200);
}

#[tokio::test]
async fn both_deliveries_and_every_name_of_the_endpoint_work() {
    let running = start().await;
    let id = running.launch().await;
    let v1 = running.region.issue(id, Delivery::V1, NOW).unwrap().credential;
    let v2 = running.region.issue(id, Delivery::V2, NOW).unwrap().credential;
    assert_ne!(v1.access_key_id, v2.access_key_id);
    for credential in [&v1, &v2] {
        assert_eq!(running.send(&credential.into(), &call("sts", WHOAMI)).await.status, 200);
    }
    for (host, region) in [
        ("sts.eu-central-1.amazonaws.com", "eu-central-1"),
        ("sts.amazonaws.com", "us-east-1"),
        ("sts.amazonaws.com:443", "eu-central-1"),
        ("127.0.0.1:4580", "eu-central-1"),
        ("localhost", "us-east-1"),
    ] {
        let mut call = call("sts", WHOAMI);
        (call.host, call.region) = (host.to_owned(), region.to_owned());
        assert_eq!(running.send(&(&v2).into(), &call).await.status, 200, "{host} {region}");
    }
    let mut doubled = call("sts", WHOAMI);
    doubled.target = "/".to_owned();
    let text = running.signed(&(&v2).into(), &doubled).replacen("POST / ", "POST // ", 1);
    assert_eq!(exchange(running.address, &text).await.status, 200, "forwarding tools double the slash");
}

/// The faults of a caller that is otherwise fine, and what each is answered.
#[tokio::test]
async fn each_fault_has_its_answer() {
    let running = start().await;
    let id = running.launch().await;
    let machine = running.machine(id);
    let good = call("sts", WHOAMI);
    let check = async |name: &str, text: String, status: u16, code: &str, message: &str| {
        let reply = exchange(running.address, &text).await;
        assert_eq!(reply.status, status, "{name}: {}", reply.body);
        assert_eq!(between(&reply.body, "<Code>", "</Code>"), code, "{name}");
        assert!(reply.body.contains(message), "{name}: {}", reply.body);
        assert_eq!(reply.header("date"), Some(running.clock.now().http_date().as_str()), "{name}");
    };
    let signed = running.signed(&machine, &good);
    let without = |name: &str| {
        let lines: Vec<&str> = signed.split("\r\n").filter(|line| !line.starts_with(name)).collect();
        lines.join("\r\n")
    };
    let invalid = "The security token included in the request is invalid";

    check(
        "no authentication",
        without("authorization"),
        403,
        "MissingAuthenticationToken",
        "Request is missing Authentication Token",
    )
    .await;
    check(
        "tampered body",
        signed.replace("GetCallerIdentity&", "GetCallerIdentitY&"),
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated",
    )
    .await;
    check(
        "no date",
        without("x-amz-date"),
        400,
        "IncompleteSignature",
        "Authorization header requires existence of either",
    )
    .await;
    let mut other = machine.clone();
    other.secret = "A".repeat(40);
    check(
        "wrong secret",
        running.signed(&other, &good),
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated",
    )
    .await;
    let mut other = machine.clone();
    let token = other.token.as_mut().unwrap();
    let another = if &token[60..61] == "A" { "B" } else { "A" };
    token.replace_range(60..61, another);
    check("damaged token", running.signed(&other, &good), 403, "InvalidClientTokenId", invalid).await;
    let mut other = machine.clone();
    other.token = None;
    check("temporary key without its token", running.signed(&other, &good), 403, "InvalidClientTokenId", invalid).await;
    let mut wrong_region = good.clone();
    wrong_region.region = "eu-west-1".to_owned();
    check(
        "wrong region",
        running.signed(&machine, &wrong_region),
        403,
        "SignatureDoesNotMatch",
        "Credential should be scoped to a valid region, not 'eu-west-1'. ",
    )
    .await;
    let mut wrong_service = call("ec2", WHOAMI);
    wrong_service.host = "sts.eu-central-1.amazonaws.com".to_owned();
    let reply = running.send(&machine, &wrong_service).await;
    assert_eq!((reply.status, between(&reply.body, "<Code>", "</Code>")), (401, "AuthFailure"), "for ec2, sent to sts");

    running.clock.advance(900);
    assert_eq!(exchange(running.address, &signed).await.status, 200, "15 minutes are fine");
    running.clock.advance(1);
    check("too old", signed.clone(), 403, "SignatureDoesNotMatch", "Signature expired: ").await;
}

#[tokio::test]
async fn credentials_end_when_they_should_and_with_their_machine() {
    let running = start().await;
    let (kept, ended) = (running.launch().await, running.launch().await);
    let expires = running.region.issue(kept, Delivery::V2, NOW).unwrap().credential.expires_at;
    let (kept_now, ended_now) = (running.machine(kept), running.machine(ended));
    let whoami = call("sts", WHOAMI);
    assert_eq!(running.send(&ended_now, &whoami).await.status, 200);
    let terminated =
        running.send(&running.operator(), &ec2(&format!("Action=TerminateInstances&InstanceId.1={ended}"))).await;
    assert_eq!(terminated.status, 200);
    let reply = running.send(&ended_now, &whoami).await;
    assert_eq!((reply.status, between(&reply.body, "<Code>", "</Code>")), (403, "InvalidClientTokenId"));
    assert!(running.region.issue(ended, Delivery::V2, NOW).is_none());

    running.clock.set(expires.minus(1));
    assert_eq!(running.send(&kept_now, &whoami).await.status, 200);
    running.clock.set(expires);
    let reply = running.send(&kept_now, &whoami).await;
    assert_eq!((reply.status, between(&reply.body, "<Code>", "</Code>")), (403, "ExpiredToken"));
    assert_eq!(running.send(&running.machine(kept), &whoami).await.status, 200, "a new generation is good");
}

#[tokio::test]
async fn a_stop_ends_credentials_a_reboot_only_renews_them() {
    let running = start().await;
    let id = running.launch().await;
    let whoami = call("sts", WHOAMI);
    let first = running.machine(id);
    let change = async |action: &str| {
        let reply = running.send(&running.operator(), &ec2(&format!("Action={action}&InstanceId.1={id}"))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    change("RebootInstances").await;
    let second = running.machine(id);
    assert_ne!(first.access_key_id, second.access_key_id);
    assert_eq!(running.send(&first, &whoami).await.status, 200);
    change("StopInstances").await;
    assert!(running.region.issue(id, Delivery::V2, NOW).is_none(), "a machine that is off has no credentials");
    for old in [&first, &second] {
        let reply = running.send(old, &whoami).await;
        assert_eq!(between(&reply.body, "<Code>", "</Code>"), "ExpiredToken");
    }
    change("StartInstances").await;
    assert_eq!(running.send(&running.machine(id), &whoami).await.status, 200);
    assert_eq!(running.send(&second, &whoami).await.status, 403, "still ended");
}

#[tokio::test]
async fn every_call_is_in_the_audit_before_it_is_answered() {
    let running = start().await;
    let id = running.launch().await;
    let machine = running.machine(id);
    let reply = running.send(&machine, &call("sts", WHOAMI)).await;
    let line = running.audit().pop().unwrap();
    assert_eq!(line["requestID"], reply.header("x-amzn-requestid").unwrap());
    assert_eq!(line["eventName"], "GetCallerIdentity");
    assert_eq!(line["eventSource"], "sts.amazonaws.com");
    assert_eq!(line["eventVersion"], "1.11");
    assert_eq!(line["readOnly"], true);
    let who = &line["userIdentity"];
    assert_eq!(who["type"], "AssumedRole");
    assert_eq!(who["principalId"], format!("123456789012:aws:ec2-instance:{id}"));
    assert_eq!(who["arn"], format!("arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/{id}"));
    assert_eq!(who["accessKeyId"], machine.access_key_id);
    assert_eq!(
        who["sessionContext"],
        serde_json::json!({
            "sessionIssuer": {
                "type": "Role",
                "principalId": "123456789012:aws:ec2-instance",
                "arn": "arn:aws:iam::123456789012:role/aws:ec2-instance",
                "accountId": "123456789012",
                "userName": "aws:ec2-instance",
            },
            "attributes": { "creationDate": "2027-01-15T08:00:00Z", "mfaAuthenticated": "false" },
            "ec2RoleDelivery": "2.0",
        })
    );
    assert_eq!(who["inScopeOf"]["credentialsIssuedTo"], format!("arn:aws:ec2:eu-central-1:123456789012:instance/{id}"));

    let secret = "&UserData=aHVudGVyMg==";
    running
        .send(
            &running.operator(),
            &ec2(&format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1{secret}")),
        )
        .await;
    running.send(&machine, &call("sts", "Action=GetSessionToken&Version=2011-06-15")).await;
    let lines = running.audit();
    let launch = &lines[lines.len() - 2];
    assert_eq!(launch["requestParameters"]["UserData"], "<sensitiveDataRemoved>");
    assert_eq!((&launch["readOnly"], &launch["userIdentity"]["type"]), (&false.into(), &"IAMUser".into()));
    let refused = &lines[lines.len() - 1];
    assert_eq!(
        (&refused["errorCode"], &refused["eventName"]),
        (&"InvalidClientTokenId".into(), &"GetSessionToken".into())
    );
    let everything = std::fs::read_to_string(running.directory.path().join("audit.jsonl")).unwrap();
    for secret in [machine.secret.as_str(), machine.token.as_deref().unwrap(), "aHVudGVyMg"] {
        assert!(!everything.contains(secret));
    }
}
