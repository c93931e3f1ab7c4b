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
