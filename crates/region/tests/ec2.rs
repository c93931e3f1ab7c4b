//! EC2 operations over a real connection, as far as the AWS tools in `compat/` do not show them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;

#[tokio::test]
async fn tags_are_taken_away_by_key_by_value_and_all() {
    let running = start().await;
    let (one, two) = (running.launch().await, running.launch().await);
    let operator = running.operator();
    let both = format!("ResourceId.1={one}&ResourceId.2={two}");
    let done = async |parameters: String| {
        let reply = running.send(&operator, &ec2(&parameters)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    let tags = |id| running.region.machines().get(id).unwrap().tags.clone().into_iter().collect::<Vec<_>>();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    done(format!("Action=CreateTags&{both}&Tag.1.Key=a&Tag.1.Value=1&Tag.2.Key=b&Tag.2.Value=2&Tag.3.Key=c")).await;
    done(format!("Action=CreateTags&ResourceId.1={two}&Tag.1.Key=d&Tag.1.Value=4")).await;
    assert_eq!(tags(one), [pair("a", "1"), pair("b", "2"), pair("c", "")]);
    done(format!("Action=DeleteTags&{both}&Tag.1.Key=a&Tag.2.Key=b&Tag.2.Value=other")).await;
    assert_eq!(tags(one), [pair("b", "2"), pair("c", "")], "a value that differs saves its tag");
    assert_eq!(tags(two).len(), 3);
    done(format!("Action=DeleteTags&{both}")).await;
    assert_eq!((tags(one).len(), tags(two).len()), (0, 0));
    let missing = format!("Action=DeleteTags&ResourceId.1={one}&ResourceId.2=i-0123456789abcdef0&Tag.1.Key=x");
    let reply = running.send(&operator, &ec2(&missing)).await;
    assert_eq!(between(&reply.body, "<Code>", "</Code>"), "InvalidInstanceID.NotFound");
}

#[tokio::test]
async fn an_operation_that_does_not_exist_is_told_to_an_operator() {
    let running = start().await;
    let reply = running.send(&running.operator(), &call("sts", "Action=GetSurprise&Version=2011-06-15")).await;
    assert_eq!(reply.status, 400);
    assert_eq!(between(&reply.body, "<Code>", "</Code>"), "InvalidAction");
    assert_eq!(
        between(&reply.body, "<Message>", "</Message>"),
        "Could not find operation GetSurprise for version 2011-06-15"
    );
    let reply = running.send(&running.operator(), &ec2("Action=DescribeSurprises")).await;
    assert_eq!(between(&reply.body, "<Code>", "</Code>"), "InvalidAction");
}

#[tokio::test]
async fn a_launch_is_repeated_by_its_token_and_nothing_else() {
    let running = start().await;
    let operator = running.operator();
    let launch = "Action=RunInstances&ImageId=ami-12345678&MinCount=2&MaxCount=2&ClientToken=t";
    let first = running.send(&operator, &ec2(launch)).await;
    let again = running.send(&operator, &ec2(launch)).await;
    let id = |body: &str| between(body, "<instanceId>", "</instanceId>").to_owned();
    assert_eq!(id(&first.body), id(&again.body));
    assert_eq!(running.region.machines().count(), 2);
    let other = running.send(&operator, &ec2(&launch.replace("MaxCount=2", "MaxCount=3"))).await;
    assert_eq!((other.status, between(&other.body, "<Code>", "</Code>")), (400, "IdempotentParameterMismatch"));
}

const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOlTJMJoDD/x7uYfsWCFnQM8dlDxnG0oApd4x8YdNw8H me@host";

/// Sends an operator's call and gives its status, and its code if it was refused.
async fn outcome(running: &Running, parameters: &str) -> (u16, String) {
    let reply = running.send(&running.operator(), &ec2(parameters)).await;
    let code = if reply.status == 200 { "" } else { between(&reply.body, "<Code>", "</Code>") };
    (reply.status, code.to_owned())
}

fn refused(code: &str) -> (u16, String) {
    (400, code.to_owned())
}

const DONE: (u16, String) = (200, String::new());

#[tokio::test]
async fn a_machine_keeps_the_public_key_it_was_launched_with() {
    let running = start().await;
    let material = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, PUBLIC_KEY);
    let material = material.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let import = format!("Action=ImportKeyPair&KeyName=laptop&PublicKeyMaterial={material}");
    let launch = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&KeyName=laptop";
    assert_eq!(outcome(&running, launch).await, refused("InvalidKeyPair.NotFound"));
    assert_eq!(outcome(&running, &format!("{launch}&DryRun=true")).await, refused("InvalidKeyPair.NotFound"));
    assert_eq!(outcome(&running, &format!("{import}&DryRun=true")).await, (412, "DryRunOperation".to_owned()));
    assert_eq!(running.region.machines().count(), 0);
    assert_eq!(outcome(&running, &import).await, DONE);
    assert_eq!(outcome(&running, &import).await, refused("InvalidKeyPair.Duplicate"));
    assert_eq!(outcome(&running, launch).await, DONE);
    assert_eq!(outcome(&running, "Action=DeleteKeyPair&KeyName=laptop").await, DONE);
    assert_eq!(outcome(&running, "Action=DeleteKeyPair&KeyName=laptop").await, DONE, "as on EC2");
    assert_eq!(outcome(&running, launch).await, refused("InvalidKeyPair.NotFound"));
    let machine = running.region.machines().iter().next().unwrap().unpack();
    assert_eq!(machine.public_key.as_deref(), Some(PUBLIC_KEY.replace("me@host", "laptop").as_str()));
    assert_eq!(outcome(&running, "Action=DescribeKeyPairs&KeyName.1=laptop").await, refused("InvalidKeyPair.NotFound"));
    assert_eq!(
        outcome(&running, "Action=DescribeKeyPairs&KeyPairId.1=key-1").await,
        refused("InvalidKeyPair.NotFound")
    );
    assert_eq!(outcome(&running, "Action=DeleteKeyPair&KeyPairId=key-1").await, refused("InvalidKeyPair.NotFound"));
}

#[tokio::test]
async fn the_private_half_of_a_key_is_seen_once_and_is_in_no_record() {
    let running = start().await;
    let reply = running.send(&running.operator(), &ec2("Action=CreateKeyPair&KeyName=made&KeyType=ed25519")).await;
    let private = between(&reply.body, "<keyMaterial>", "</keyMaterial>");
    assert!(private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"), "{private}");
    let line = private.lines().nth(2).unwrap();
    assert!(!serde_json::to_string(&running.audit()).unwrap().contains(line));
    let described = running.send(&running.operator(), &ec2("Action=DescribeKeyPairs&IncludePublicKey=true")).await;
    assert!(described.body.contains("<publicKey>ssh-ed25519 AAAA"), "{}", described.body);
    assert!(!described.body.contains("keyMaterial") && !described.body.contains(line));
}

#[tokio::test]
async fn an_account_that_enforces_tokens_lets_nobody_give_them_up() {
    let running = start().await;
    let id = running.launch().await;
    let launch = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1";
    let optional = format!("{launch}&MetadataOptions.HttpTokens=optional");
    let modify = format!("Action=ModifyInstanceMetadataOptions&InstanceId={id}&HttpTokens=optional");
    assert_eq!(outcome(&running, "Action=ModifyInstanceMetadataDefaults&HttpTokensEnforced=enabled").await, DONE);
    for refusal in [&optional, &modify] {
        assert_eq!(outcome(&running, refusal).await, refused("UnsupportedOperation"), "{refusal}");
    }
    assert_eq!(outcome(&running, launch).await, DONE);
    assert_eq!(outcome(&running, "Action=ModifyInstanceMetadataDefaults&HttpTokens=optional").await, DONE);
    assert_eq!(outcome(&running, launch).await, refused("UnsupportedOperation"), "the account's own default");
    assert_eq!(outcome(&running, "Action=ModifyInstanceMetadataDefaults&HttpTokensEnforced=disabled").await, DONE);
    for allowed in [&optional, &modify, launch] {
        assert_eq!(outcome(&running, allowed).await, DONE, "{allowed}");
    }
    let optional = running
        .region
        .machines()
        .iter()
        .map(|machine| machine.unpack())
        .filter(|machine| machine.metadata_options.http_tokens == inborn_identity::HttpTokens::Optional);
    assert_eq!(optional.count(), 3);
}

#[tokio::test]
async fn tokens_and_hop_limit_need_an_endpoint_that_is_on() {
    let running = start().await;
    let id = running.launch().await;
    let modify = |what: &str| format!("Action=ModifyInstanceMetadataOptions&InstanceId={id}&{what}");
    for (what, expected) in [
        ("HttpEndpoint=disabled&HttpTokens=optional", refused("InvalidParameterCombination")),
        ("HttpEndpoint=disabled&HttpPutResponseHopLimit=2", refused("InvalidParameterCombination")),
        ("HttpPutResponseHopLimit=2", DONE),
        ("HttpEndpoint=disabled&InstanceMetadataTags=enabled", DONE),
        ("HttpTokens=optional", refused("InvalidParameterCombination")),
        ("HttpPutResponseHopLimit=3", refused("InvalidParameterCombination")),
        ("HttpProtocolIpv6=enabled", DONE),
        ("HttpEndpoint=enabled&HttpTokens=optional&HttpPutResponseHopLimit=64", DONE),
    ] {
        assert_eq!(outcome(&running, &modify(what)).await, expected, "{what}");
    }
}

#[tokio::test]
async fn user_data_is_changed_while_stopped_and_is_in_no_record() {
    let running = start().await;
    let id = running.launch().await;
    let base64 = "c2VjcmV0"; // "secret"
    let modify = format!("Action=ModifyInstanceAttribute&InstanceId={id}&");
    let set = format!("{modify}UserData.Value={base64}");
    assert_eq!(outcome(&running, &set).await, refused("IncorrectInstanceState"));
    running.send(&running.operator(), &ec2(&format!("Action=StopInstances&InstanceId.1={id}"))).await;
    for (change, expected) in [
        (set.clone(), Some(base64)),
        (format!("{modify}UserData.Value="), None),
        (format!("{modify}Attribute=userData&Value={base64}"), Some(base64)),
    ] {
        assert_eq!(outcome(&running, &change).await, DONE, "{change}");
        let ask = format!("Action=DescribeInstanceAttribute&InstanceId={id}&Attribute=userData");
        let reply = running.send(&running.operator(), &ec2(&ask)).await;
        assert_eq!(reply.body.contains(&format!("<value>{base64}</value>")), expected.is_some(), "{}", reply.body);
    }
    for (what, code) in [
        ("InstanceType.Value=m5.large", "UnsupportedOperation"),
        ("Attribute=instanceType&Value=m5.large", "UnsupportedOperation"),
        ("Attribute=userData", "MissingParameter"),
        ("UserData.Value=***", "InvalidUserData.Malformed"),
        ("", "InvalidParameterCombination"),
        ("Surprise=1&UserData.Value=", "UnknownParameter"),
    ] {
        assert_eq!(outcome(&running, &format!("{modify}{what}")).await, refused(code), "{what}");
    }
    assert!(!serde_json::to_string(&running.audit()).unwrap().contains(base64));
}
