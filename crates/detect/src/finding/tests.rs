use super::{
    Action, AwsApiCall, Finding, FindingType, IpDetails, ProcessDetails, Recorded, Resource, RuleReference,
    RuntimeDetails, Severity, TEXT_BYTES_MAX, count_up, cut,
};
use inborn_identity::{Partition, UnixTime};
use serde_json::json;

pub(super) fn finding() -> Finding {
    Finding {
        kind: FindingType::named("Execution:Runtime/ReverseShell").unwrap(),
        severity: Severity::High,
        title: "A shell speaks to the network".to_owned(),
        description: "bash has 10.0.0.9:4444 as its standard input.".to_owned(),
        partition: Partition::Aws,
        account: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        resource: Resource::machine("i-0123456789abcdef0".parse().unwrap()),
        action: None,
        runtime: Some(RuntimeDetails {
            process: Some(ProcessDetails {
                name: Some("bash".to_owned()),
                executable_path: Some("/usr/bin/bash".to_owned()),
                pid: Some(7),
                start_time: Some(1_700_000_000),
                ..ProcessDetails::default()
            }),
            context: None,
        }),
        threat_lists: Vec::new(),
        rule: Some(RuleReference { id: "r1".to_owned(), title: "Reverse shell".to_owned() }),
        subject: "/usr/bin/bash".to_owned(),
        count: 1,
        first_seen: UnixTime::from_secs(1_700_000_000),
        last_seen: UnixTime::from_secs(1_700_000_000),
    }
}

pub(crate) fn recorded() -> Recorded {
    Recorded {
        detector: "12abc34d567e8fa901bc2d34e56789f0".into(),
        id: "0ab1c2d3e4f5061728394a5b6c7d8e9f".into(),
        created_at: UnixTime::from_secs(1_700_000_001),
        updated_at: UnixTime::from_secs(1_700_000_001),
        archived: false,
        first: true,
    }
}

#[test]
fn the_document_has_the_members_of_the_model() {
    assert_eq!(
        finding().document(&recorded()),
        json!({
            "accountId": "123456789012",
            "arn": "arn:aws:guardduty:us-east-1:123456789012:detector/12abc34d567e8fa901bc2d34e56789f0/finding/0ab1c2d3e4f5061728394a5b6c7d8e9f",
            "createdAt": "2023-11-14T22:13:21.000Z",
            "customDetectionRuleName": "Reverse shell",
            "description": "bash has 10.0.0.9:4444 as its standard input.",
            "id": "0ab1c2d3e4f5061728394a5b6c7d8e9f",
            "partition": "aws",
            "region": "us-east-1",
            "resource": { "resourceType": "Instance", "instanceDetails": { "instanceId": "i-0123456789abcdef0" } },
            "schemaVersion": "2.0",
            "service": {
                "additionalInfo": { "type": "default", "value": "{\"ruleId\":\"r1\",\"ruleTitle\":\"Reverse shell\"}" },
                "archived": false,
                "count": 1,
                "detectorId": "12abc34d567e8fa901bc2d34e56789f0",
                "eventFirstSeen": "2023-11-14T22:13:20.000Z",
                "eventLastSeen": "2023-11-14T22:13:20.000Z",
                "featureName": "RuntimeMonitoring",
                "resourceRole": "TARGET",
                "runtimeDetails": {
                    "process": { "name": "bash", "executablePath": "/usr/bin/bash", "pid": 7, "startTime": 1_700_000_000 }
                },
                "serviceName": "guardduty",
            },
            "severity": 8.0,
            "title": "A shell speaks to the network",
            "type": "Execution:Runtime/ReverseShell",
            "updatedAt": "2023-11-14T22:13:21.000Z",
        })
    );
}

#[test]
fn the_same_thing_on_the_same_machine_is_one_finding() {
    let key = finding().key();
    let mut other = finding();
    other.title = "told otherwise".to_owned();
    other.last_seen = UnixTime::from_secs(1_800_000_000);
    assert_eq!(other.key(), key);
    other.subject = "/usr/bin/dash".to_owned();
    assert_ne!(other.key(), key);
    let mut elsewhere = finding();
    elsewhere.resource = Resource::machine("i-0123456789abcdef1".parse().unwrap());
    assert_ne!(elsewhere.key(), key);
}

#[test]
fn occurrences_are_counted_in_values_and_in_documents_alike() {
    let mut later = finding();
    later.count = 2;
    later.first_seen = UnixTime::from_secs(1_700_000_100);
    later.last_seen = UnixTime::from_secs(1_700_000_200);
    let update = Recorded { updated_at: UnixTime::from_secs(1_700_000_201), first: false, ..recorded() };

    let mut document = finding().document(&recorded());
    document["service"]["userFeedback"] = json!("USEFUL");
    count_up(&mut document, &later, &update);
    let mut value = finding();
    value.absorb(later.clone());
    let mut expected = value.document(&update);
    expected["service"]["userFeedback"] = json!("USEFUL");
    assert_eq!(document, expected);
    assert_eq!(document["service"]["count"], 3);
    assert_eq!(document["service"]["eventFirstSeen"], "2023-11-14T22:13:20.000Z");
    assert_eq!(document["service"]["eventLastSeen"], "2023-11-14T22:16:40.000Z");
    assert_eq!(document["createdAt"], "2023-11-14T22:13:21.000Z");

    // What arrives late moves the beginning, not the end.
    let mut early = finding();
    early.first_seen = UnixTime::from_secs(1_600_000_000);
    early.last_seen = early.first_seen;
    count_up(&mut document, &early, &update);
    assert_eq!(document["service"]["eventFirstSeen"], "2020-09-13T12:26:40.000Z");
    assert_eq!(document["service"]["eventLastSeen"], "2023-11-14T22:16:40.000Z");
}

#[test]
fn texts_are_whole_below_and_at_the_limit_and_cut_above_it() {
    for (length, kept) in [(TEXT_BYTES_MAX - 1, TEXT_BYTES_MAX - 1), (TEXT_BYTES_MAX, TEXT_BYTES_MAX)] {
        assert_eq!(cut(&"x".repeat(length)).len(), kept);
    }
    assert_eq!(cut(&"x".repeat(TEXT_BYTES_MAX + 1)).len(), TEXT_BYTES_MAX);
    // Never within a character.
    assert_eq!(cut(&"é".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
    assert_eq!(cut(&format!("x{}", "é".repeat(TEXT_BYTES_MAX))).len(), TEXT_BYTES_MAX - 1);
}

#[test]
fn credentials_make_the_resource_an_access_key() {
    let mut finding = finding();
    finding.kind = FindingType::EXFILTRATION_OUTSIDE;
    finding.runtime = None;
    finding.rule = None;
    finding.resource.access_key = Some(super::AccessKeyDetails {
        access_key_id: "ASIAIOSFODNN7EXAMPLE".to_owned(),
        principal_id: "123456789012:aws:ec2-instance:i-0123456789abcdef0".to_owned(),
        user_name: "aws:ec2-instance".to_owned(),
        user_type: "AssumedRole".to_owned(),
    });
    finding.action = Some(Action::AwsApiCall(AwsApiCall {
        api: "GetCallerIdentity".to_owned(),
        service: "sts.amazonaws.com".to_owned(),
        user_agent: Some("curl".to_owned()),
        remote: IpDetails("192.0.2.1".parse().unwrap()),
        error_code: None,
    }));
    let document = finding.document(&recorded());
    assert_eq!(document["resource"]["resourceType"], "AccessKey");
    assert_eq!(document["resource"]["accessKeyDetails"]["accessKeyId"], "ASIAIOSFODNN7EXAMPLE");
    assert_eq!(
        document["service"]["action"],
        json!({
            "actionType": "AWS_API_CALL",
            "awsApiCallAction": {
                "api": "GetCallerIdentity",
                "callerType": "Remote IP",
                "remoteIpDetails": { "ipAddressV4": "192.0.2.1" },
                "serviceName": "sts.amazonaws.com",
                "userAgent": "curl",
            }
        })
    );
}

#[test]
fn the_event_of_ocsf_says_whether_it_is_new() {
    let created = finding().to_ocsf(&recorded());
    assert_eq!(created["class_uid"], 2004);
    assert_eq!(created["type_uid"], 200_401);
    assert_eq!(created["finding_info"]["uid"], "0ab1c2d3e4f5061728394a5b6c7d8e9f");
    assert_eq!(created["finding_info"]["types"], json!(["Execution:Runtime/ReverseShell"]));
    assert_eq!(created["evidences"][0]["process"]["file"]["path"], "/usr/bin/bash");
    assert_eq!(finding().to_ocsf(&Recorded { first: false, ..recorded() })["type_uid"], 200_402);
    assert_eq!(finding().to_ocsf(&Recorded { archived: true, ..recorded() })["type_uid"], 200_403);
}
